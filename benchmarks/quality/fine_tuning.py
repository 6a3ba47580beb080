"""What training on one's own frames gives: real exposures before and after, against deep stacks.

    python benchmarks/quality/fine_tuning.py --pair single.fits deep.fits --json results/fine_tuning.json

For each pair `bgrem-train --from-fits SINGLE` makes a model (in the folder of --models; one that is there
is taken), and true detections at equal false ones are counted (see `bgrem-evaluate --pair`) by the model
of the package, by that one, and by the matched filter. The ratio of the two models has a 68 % interval
from a bootstrap that draws the same blocks of the frame for both. The training sees the exposure alone,
never the stack.
"""

import subprocess
import sys
from pathlib import Path
from time import perf_counter

from report_card import finish, make_parser, model_of, show_progress, side_by_side

from bgrem.evaluate.comparison import evaluate_frames
from bgrem.evaluate.methods import MATCHED_FILTER, SEXTRACTOR, comparison_methods, pair_frame
from bgrem.inference.model import load_model

BEFORE, AFTER = "before", "after"


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument(
        "--pair", nargs=2, action="append", required=True, metavar=("SINGLE", "DEEP"),
        help="FITS files of one exposure and of a deep stack of the same field (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--models",
        default="results/fine_tuning",
        help="folder of the trainings (default: %(default)s)",
    )
    parser.add_argument("--minutes", help="of each training at most (default: until it is done)")
    options = parser.parse_args(argv)
    began = perf_counter()
    before = model_of(options)
    rows, digests = [], {}
    for single, deep in options.pair:
        name = Path(single).name.split(".")[0]
        show_progress(options, name)
        after = load_model(trained_on(single, name, options), threads=options.threads)
        digests[name] = after.sha256
        models = {BEFORE: before, AFTER: after}
        rows += [{"frame": name} | row for row in before_and_after(single, deep, models)]
    finish(options, {"before and after": rows}, model=before, began=began, after=digests)


def trained_on(single, name, options):
    """The model that was, or is now, trained on an exposure."""
    folder = Path(options.models) / name
    model = folder / f"{name}.onnx"
    if not model.exists():
        show_progress(options, f"training on {name}")
        command = [sys.executable, "-m", "bgrem.cli.train", "--from-fits", single, "--name", name,
                   "--output-dir", folder]  # fmt: skip
        command += ["--stop-after", options.minutes] if options.minutes else []
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return model


def before_and_after(single, deep, models):
    """Rows of a pair: one for each rate of false detections."""
    known = comparison_methods(program=False)
    chosen = {name: known[name] for name in (SEXTRACTOR, MATCHED_FILTER)}
    for name, model in models.items():
        chosen[name] = comparison_methods(model=model, program=False)["bgrem"]
    curves = evaluate_frames([pair_frame(single, deep)], chosen, title=single).curves
    return side_by_side(curves, AFTER, (BEFORE, MATCHED_FILTER, SEXTRACTOR))


if __name__ == "__main__":
    main()
