"""What training on one's own frames gives: a real exposure before and after, against a deep stack.

    bgrem-train --from-fits single.fits --output-dir mine
    python benchmarks/quality/fine_tuning.py --tuned mine/own.onnx --pair single.fits deep.fits

True detections at equal false ones (see `bgrem-evaluate --pair`) by the model of the package, by the
one that was trained further, and by the matched filter; the ratio of the two models, its 68 % interval
from a bootstrap that draws the same blocks of the frame for both. The training saw the exposure, or
others of its telescope, and never the stack.
"""

from pathlib import Path
from time import perf_counter

import numpy as np
from report_card import finish, make_parser, model_of, tell

from bgrem.evaluate import compare
from bgrem.model import load_model
from bgrem.report import MATCHED_FILTER, SEXTRACTOR, evaluate_frames, methods, pair_frame

BEFORE, AFTER = "before", "after"
RESAMPLES = 1000


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--tuned", required=True, metavar="MODEL", help="name, or .onnx file")
    parser.add_argument(
        "--pair", nargs=2, action="append", required=True, metavar=("SINGLE", "DEEP"),
        help="FITS files of one exposure and of a deep stack of the same field (repeatable)",
    )  # fmt: skip
    options = parser.parse_args(argv)
    began = perf_counter()
    before = model_of(options)
    models = {BEFORE: before, AFTER: load_model(options.tuned, threads=options.threads)}
    tables = {}
    for single, deep in options.pair:
        tell(options, single)
        tables[Path(single).name.split(".")[0]] = before_and_after(single, deep, models)
    finish(options, tables, model=before, began=began, tuned=models[AFTER].sha256)


def before_and_after(single, deep, models):
    """Rows of a pair: one for each rate of false detections."""
    chosen = methods(program=False)
    chosen = {name: chosen[name] for name in (SEXTRACTOR, MATCHED_FILTER)}
    for name, model in models.items():
        chosen[name] = methods(model=model, program=False)["bgrem"]
    curves = evaluate_frames([pair_frame(single, deep)], chosen, title=single).curves
    columns = {name: _compared(curves, name, AFTER) for name in curves}
    rows = []
    for i, gain in enumerate(columns[BEFORE]):
        row = {"false/Mpix": gain.rate}
        row |= {name: round(curves[name].true_positives(gain.rate)) for name in curves}
        for name in (BEFORE, MATCHED_FILTER, SEXTRACTOR):
            ratio = columns[name][i]
            low, high = ratio.ratio_interval
            row[f"after / {name}"] = f"{ratio.ratio:.3f} ({low:.3f}-{high:.3f})"
        rows.append(row)
    return rows


def _compared(curves, reference, name):
    rng = np.random.default_rng(0)  # the same blocks for all
    return compare(curves[name], curves[reference], rng=rng, resamples=RESAMPLES)


if __name__ == "__main__":
    main()
