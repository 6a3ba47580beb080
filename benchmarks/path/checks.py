"""What the commands of this folder share: options, frames, the local noise and the report."""

import platform
import sys
from pathlib import Path

import numpy as np

from bgrem.evaluate.tables import text_table, write_json
from bgrem.inference.engines import cores
from bgrem.simulate import Scene, draw

sys.path.append(str(Path(__file__).resolve().parents[1]))
from command import command_parser, made_with, model_of

__all__ = ["cores", "local_noise", "model_of", "options", "report", "simulated"]

# Photon noise of a source in units of the sky's is sqrt(1 + x / KNEE), x in units of the sky's rms:
# KNEE is the sky's rms in electrons, some tens for most frames.
KNEE = 30.0


def options(description):
    """The options that every command has."""
    parser = command_parser(description, threads=True)
    parser.add_argument("--output-dir", default="results", help="folder of the JSON file")
    return parser


def simulated(shape, *, seed, **scene):
    """A MeerLICHT frame, `bgrem.simulate.Sky`."""
    return draw(Scene(shape=tuple(shape), **scene), np.random.default_rng([20_260_401, seed]))


def local_noise(sources, rms):
    """Noise of a pixel with that much light, in the unit of both."""
    return rms * np.sqrt(1 + np.maximum(sources / rms, 0) / KNEE)


def report(name, rows, chosen, *, model=None, **facts):
    """Print rows (dicts of the same keys) as a table and write them, with the model's card."""
    print(text_table(rows, digits=3, no="NO"))
    card = {} if model is None else made_with(model)
    content = {"rows": rows, **facts, **card, "machine": f"{platform.machine()}, {cores()} cores"}
    print(f"\n{write_json(Path(chosen.output_dir) / f'{name}.json', content)}")
