"""What the commands of all folders share: their parser, their model, and what a result was made with."""

import argparse
from dataclasses import asdict

__all__ = ["command_parser", "made_with", "model_of"]


def command_parser(description, *, model=True, threads=False):
    """The parser of a command, with the options of the model."""
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if model:
        parser.add_argument("--model", default="optical", help="name, or path of an .onnx file")
    if threads:
        parser.add_argument("--threads", type=int, help="of the network (default: one per core)")
    return parser


def model_of(options):
    """The model that the options name."""
    from bgrem.inference.model import load_model

    return load_model(options.model, threads=options.threads)


def made_with(model):
    """The card and the SHA-256 of a model, for the JSON file."""
    return {"card": asdict(model.card), "sha256": model.sha256}
