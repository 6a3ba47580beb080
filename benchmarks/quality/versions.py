"""Two models side by side: true detections at equal false ones, of the same frames.

    git show 444c375:bgrem/models/optical.onnx > version-1.onnx
    python benchmarks/quality/versions.py --before version-1.onnx --pair single.fits deep.fits --json results/versions.json

`--before` is the model of an earlier version, here version 1, `--model` the one that is judged. Frames: the simulated
MeerLICHT frames of `meerlicht.toml`, the cells of `grid.toml` (all FWHM of a sky together, each cell at its own threshold), the control
field, and the pairs of an exposure and a deep stack that are given. `after / before` and `after / matched filter` have
68 % intervals of a bootstrap that draws the same blocks of a frame for both; `least` and `greatest` are those of the
cells of a sky, at the lowest rate that its area allows. The matched filter knows the PSF and works after astroscrappy.
"""

import tomllib
from pathlib import Path
from time import perf_counter

import numpy as np
from grid import EMPTY, FROZEN, read_grid
from report_card import MEERLICHT, finish, make_parser, model_of, show_progress, side_by_side

from bgrem.evaluate.comparison import evaluate_frames
from bgrem.evaluate.froc import FALSE_RATES, LEAST_FALSE
from bgrem.evaluate.methods import (
    MATCHED_FILTER,
    benchmark_frames,
    comparison_methods,
    detect_with_bgrem,
    pair_frame,
)
from bgrem.inference.model import load_model

BEFORE, AFTER = "before", "after"
CONTROL = Path(__file__).with_name("control.toml")


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--before", required=True, metavar="FILE", help="the other model")
    parser.add_argument(
        "--pair", nargs=2, action="append", default=[], metavar=("SINGLE", "DEEP"),
        help="FITS files of one exposure and of a deep stack of the same field (repeatable)",
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=8, help="of each toml file (default: 8)")
    parser.add_argument("--side", type=int, help="of a grid's frame in pixels, for a quick look")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    methods = _methods(load_model(options.before, threads=options.threads), model)
    rows = []
    for source in (MEERLICHT, CONTROL):
        show_progress(options, source.stem)
        settings = tomllib.loads(source.read_text(encoding="utf-8"))
        frames = benchmark_frames(options.frames, settings)
        rows += _rows(source.stem, _curves(frames, methods))
    for single, deep in options.pair:
        show_progress(options, Path(single).name)
        rows += _rows(Path(single).name.split(".")[0], _curves([pair_frame(single, deep)], methods))
    skies, cells = _grid(methods, options)
    tables = {"versions": rows, "grid by sky": skies, "grid: after / before": cells}
    finish(options, tables, model=model, began=began, before=options.before)


def _methods(before, after):
    """Functions of a frame, by name."""
    return {
        MATCHED_FILTER: comparison_methods(program=False)[MATCHED_FILTER],
        BEFORE: lambda frame: detect_with_bgrem(frame, model=before),
        AFTER: lambda frame: detect_with_bgrem(frame, model=after),
    }


def _curves(frames, methods):
    return evaluate_frames(list(frames), methods, title="versions").curves


def _rows(name, curves):
    rows = side_by_side(curves, AFTER, (BEFORE, MATCHED_FILTER))
    return [{"frames": name} | row for row in rows]


def _grid(methods, options):
    """Rows of the skies, and of their cells by FWHM."""
    cells = {}
    for cell in read_grid(FROZEN, side=options.side):
        if cell.sky != EMPTY:
            show_progress(options, f"{cell.sky} {cell.fwhm:g}")
            curves = _curves(cell.draw(), methods)
            rate = next(r for r in FALSE_RATES if r * curves[AFTER].area >= LEAST_FALSE)
            found = {name: curve.true_positives(rate) for name, curve in curves.items()}
            cells.setdefault(cell.sky, {})[f"{cell.fwhm:g} px"] = found
    by_sky = [{"sky": sky} | _spread(list(found.values())) for sky, found in cells.items()]
    every = [found for row in cells.values() for found in row.values()]
    by_sky.append({"sky": "all"} | _spread(every))
    ratios = [
        {"sky": sky} | {px: found[AFTER] / found[BEFORE] for px, found in row.items()}
        for sky, row in cells.items()
    ]
    return by_sky, ratios


def _spread(cells):
    """Least, median and greatest ratio of some cells to the earlier model, and the same to the matched filter."""
    row = {}
    for other in (BEFORE, MATCHED_FILTER):
        ratios = [found[AFTER] / max(found[other], 1.0) for found in cells]
        for name, value in (("least", min), ("median", np.median), ("greatest", max)):
            row[f"{name} / {other}"] = float(value(ratios))
    return row


if __name__ == "__main__":
    main()
