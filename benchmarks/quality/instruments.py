"""How deep each method goes on frames of many instruments, with known sources drawn into them.

    python benchmarks/quality/instruments.py folder/*.fits --json results/instruments.json

One row a frame, as `bgrem-evaluate --inject` measures it: the S/N at which half of the injected stars
are found, with lists of equal length, by each method; how much fainter, in magnitudes, that is for
bgrem than for SExtractor's default and for the matched filter; bgrem's measured over true flux. The
last row is the median instrument. Of large frames the middle is taken. What cannot be judged (no
stars, too small) is reported and left out.
"""

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress

from bgrem.evaluate.inject import evaluate_injected
from bgrem.evaluate.injection_report import DEPTH_REFERENCES, summary_rows
from bgrem.evaluate.target import read_target
from bgrem.inference.model import load_model


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument(
        "--side", type=int, default=1024, help="longest side of what is looked at (default: 1024)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="frames at once (default: 2)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = judged(options)
    results = [row for row in rows if not isinstance(row, dict)]
    left_out = [row for row in rows if isinstance(row, dict)]
    tables = {"depth by instrument": summary_rows(results) if results else []}
    if left_out:
        tables["left out"] = left_out
    finish(
        options, tables, model=model, began=began, plot=draw_gains,
        reports=[asdict(result) for result in results],
    )  # fmt: skip


def judged(options):
    """Of each frame what was measured, or a row that says why it was left out, in their order."""
    work = partial(judge, model=options.model, side=options.side, seed=options.seed)
    if options.jobs == 1:
        return list(map(work, options.files))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(work, path): path for path in options.files}
        for done in as_completed(waiting):
            show_progress(options, waiting[done])
        return [future.result() for future in waiting]


def judge(path, *, model, side, seed):
    """One frame; a loaded model cannot travel to another process."""
    model = load_model(model, threads=1)
    # The sources depend on the name of the frame, not on its place in the list.
    rng = np.random.default_rng([seed, *Path(path).name.encode()])
    try:
        return evaluate_injected(read_target(path, largest=side), model=model, rng=rng)
    except (OSError, ValueError) as error:
        return {"frame": Path(path).name, "left out": _without_folder(error, path)}


def _without_folder(error, path):
    """What went wrong, in one line, without the file's folder."""
    return " ".join(str(error).split()).replace(str(path), Path(path).name)


def draw_gains(tables, figure):
    """bgrem's depth gains, a line for each frame."""
    rows = tables["depth by instrument"]
    axes = figure.subplots()
    place = np.arange(len(rows))
    for short in DEPTH_REFERENCES:
        axes.plot([row[f"mag on {short}"] for row in rows], place, "o", label=f"on {short}")
    axes.axvline(0.0, color="0.7", lw=0.8)
    axes.set_yticks(place, [row["frame"] for row in rows], fontsize=5)
    axes.set(xlabel="depth gain of bgrem, mag")
    axes.legend()


if __name__ == "__main__":
    main()
