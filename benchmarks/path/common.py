"""What the commands of this folder share: options, frames, the local noise and the results."""

import argparse
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bgrem.evaluate.tables import text_table, write_json
from bgrem.inference.engines import cores
from bgrem.inference.model import load_model
from bgrem.simulate import Scene, draw

# Photon noise of a source in units of the sky's is sqrt(1 + x / KNEE), x in units of the sky's rms:
# KNEE is the sky's rms in electrons, of the order of ten for most frames.
KNEE = 30.0


def options(description):
    """The options that every command has."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--model", default="optical", help="name, or path of an .onnx file")
    parser.add_argument("--threads", type=int, help="of the network (default: one per core)")
    parser.add_argument("--output-dir", default="results", help="folder of the JSON file")
    return parser


def model_of(chosen):
    return load_model(chosen.model, threads=chosen.threads)


def simulated(shape, *, seed, **scene):
    """A MeerLICHT frame, `bgrem.simulate.Sky`."""
    return draw(Scene(shape=tuple(shape), **scene), np.random.default_rng([20_260_401, seed]))


def local_noise(sources, rms):
    """Noise of a pixel with that much light, in the unit of both."""
    return rms * np.sqrt(1 + np.maximum(sources / rms, 0) / KNEE)


def report(name, rows, chosen, *, model=None, **facts):
    """Print rows (dicts of the same keys) as a table and write them with the model and the machine."""
    print(text_table(rows))
    card = {} if model is None else {"card": asdict(model.card), "sha256": model.sha256}
    content = {"rows": rows, **facts, **card, "machine": f"{platform.machine()}, {cores()} cores"}
    print(f"\n{write_json(Path(chosen.output_dir) / f'{name}.json', content)}")
