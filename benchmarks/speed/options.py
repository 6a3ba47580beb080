"""The options that the commands of this folder share."""

import argparse


def make_parser(description):
    """A parser with the options of the model, the folder of the work and the results."""
    parser = argparse.ArgumentParser(
        description=description, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", default="optical", help="name, or path of an .onnx file")
    parser.add_argument("--folder", help="for frames and outputs (default: a temporary one)")
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    return parser
