"""Time and memory of the sky: of the sky network beside the mesh, and beside the whole separation.

    python benchmarks/speed/sky.py --json results/sky.json

Frames of 1024, 4096 and 10560 pixels a side, made of one block of noise and stars. Each way goes through in a process
of its own, in memory, without files: the sky alone (the best of some runs), and then the whole separation. The peaks
are those of the operating system, when the sky is known and at the end; the image and its standardised copy, 8 bytes a
pixel, are in both. `share` is the time of the network's sky in the separation. Nothing else should run.
"""

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from memory import BLOCK, sky_block
from process import measure

from bgrem.background import separate
from bgrem.evaluate.tables import text_table, write_json
from bgrem.inference.denoiser import Denoiser
from bgrem.inference.model import load_model
from bgrem.options import SKY_METHODS, Options, Run
from bgrem.sky.standard import measure_sky, standardise

SIDES = (1024, 4096, 10560)  # px


def main(argv=None):
    """Measure, print and write."""
    options = make_parser().parse_args(argv)
    if options.one:
        return write_json(options.json, one(options))
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row_of(side, options, Path(folder)) for side in options.sides]
    print(f"{text_table(rows)}\n\n{perf_counter() - began:.0f} s")
    if options.json:
        print(write_json(options.json, {"rows": rows}))


def make_parser():
    """The options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), metavar="N")
    parser.add_argument("--repeat", type=int, default=3, help="runs of the sky; the best counts")
    parser.add_argument("--model", default="optical", help="name, or path of an .onnx file")
    parser.add_argument("--threads", type=int, help="of the network (default: one per core)")
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    parser.add_argument("--one", choices=SKY_METHODS, help=argparse.SUPPRESS)
    return parser


def row_of(side, options, folder):
    """Both ways on a frame of a side, each in its process."""
    seen = {}
    for sky in SKY_METHODS:
        path = folder / f"{side}_{sky}.json"
        command = [
            sys.executable, __file__, "--one", sky, "--sides", side, "--repeat", options.repeat,
            "--model", options.model, "--json", path,
        ]  # fmt: skip
        measure([*command, *(["--threads", options.threads] if options.threads else [])])
        seen[sky] = json.loads(path.read_text())
    network, mesh = seen["network"], seen["mesh"]
    return {
        "side, px": side, "network, s": network["sky"], "mesh, s": mesh["sky"],
        "network / mesh": network["sky"] / mesh["sky"], "share": network["sky"] / network["all"],
        "separation, s": network["all"], "separation, with / without": network["all"] / mesh["all"],
        **{f"peak of the {name} sky, GB": one["peak of the sky"] for name, one in seen.items()},
        **{f"peak with {name}, GB": one["peak"] for name, one in seen.items()},
    }  # fmt: skip


def one(options):
    """Seconds and peaks of one way, in this process."""
    (side,) = options.sides
    data = frame_of(side)
    model = load_model(options.model, threads=options.threads)
    asked = Options(sky=options.one, maps=())
    run = Run(threads=Denoiser(model, data.shape, asked, Run()).calls)
    image = standardise(data, None, None, run)
    seconds = []
    for _ in range(options.repeat):
        began = perf_counter()
        measure_sky(image, None, None, asked, box=model.card.box, network=model.sky, run=run)
        seconds.append(perf_counter() - began)
    of_sky = peak()
    del image
    began = perf_counter()
    separate(data, model=model, options=asked)
    return {"sky": min(seconds), "peak of the sky": of_sky, "all": perf_counter() - began,
            "peak": peak()}  # fmt: skip


def peak():
    """Most memory that this process has held, GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def frame_of(side):
    """Noise and stars, float32."""
    block = sky_block().astype(np.float32)
    count = -(-side // BLOCK)
    data = np.empty((side, side), np.float32)
    for top in range(0, side, BLOCK):
        data[top : top + BLOCK] = np.tile(block, (1, count))[: side - top, :side]
    return data


if __name__ == "__main__":
    main()
