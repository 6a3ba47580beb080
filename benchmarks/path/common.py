"""What the commands of this folder share: frames, the local noise, a table and a JSON file."""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bgrem.inference.model import load_model
from bgrem.simulate import Scene, draw

# Photon noise of a source in units of the sky's is sqrt(1 + x / KNEE), x in units of the sky's rms:
# KNEE is the sky's rms in electrons, some tens for most frames.
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
    """Print rows (dicts of the same keys) as a table and write them, with what they were made by."""
    print(table(rows))
    card = {} if model is None else {"card": asdict(model.card), "sha256": model.sha256}
    content = {"rows": rows, **facts, **card, "machine": f"{platform.machine()}, {cores()} cores"}
    path = Path(chosen.output_dir) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=float) + "\n")
    print(f"\n{path}")


def table(rows):
    """Rows as text, columns aligned."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cell(value):
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "NO"
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def cores():
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
