"""What the commands of this folder share: options, streams of random numbers, and their report."""

import sys
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bgrem.evaluate.bootstrap import compare
from bgrem.evaluate.tables import text_table, write_json
from bgrem.simulate.scene_files import make_scene

sys.path.append(str(Path(__file__).resolve().parents[1]))
from command import command_parser, made_with, model_of

__all__ = [
    "ADVISED_RATE",
    "add_seed",
    "add_threshold",
    "finish",
    "make_parser",
    "meerlicht_scene",
    "model_of",
    "show_progress",
    "side_by_side",
    "stream",
    "threshold_of",
]

MEERLICHT = Path(__file__).with_name("meerlicht.toml")
#: First number of every stream of random numbers here; training's seeds are small numbers.
STREAM = 20_261_122
#: False detections per Mpix at which users are advised to detect ...
ADVISED_RATE = 1.0
#: ... and the significance that is taken for it where the model's card knows none.
THRESHOLD = -1.0
RESAMPLES = 1000  # of the bootstrap of `side_by_side`


def make_parser(description):
    """The options that every command has."""
    parser = command_parser(description, threads=True)
    parser.add_argument(
        "--json", metavar="FILE", help="write the results there, too, and a plot beside them"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def add_threshold(parser, rate=ADVISED_RATE):
    """The option of commands that take detections: by default those at one rate of false detections per Mpix."""
    parser.add_argument(
        "--threshold", type=float,
        help="significance from which a detection counts (default: what the model's card says for "
        f"{rate:g} false detection(s) per Mpix, {THRESHOLD:g} where it says nothing)",
    )  # fmt: skip
    parser.set_defaults(rate=rate)


def threshold_of(options, model):
    """The significance from which a detection counts."""
    if options.threshold is not None:
        return options.threshold
    known = model.card.calibration
    return known.threshold_for(options.rate) if known else THRESHOLD


def add_seed(parser):
    """The option of commands whose scenes stand in no file."""
    parser.add_argument("--seed", type=int, default=0, help="of the scenes (default: 0)")


def stream(seed, *numbers):
    """Random numbers of a scene: they depend on nothing but these."""
    return np.random.default_rng([STREAM, seed, *numbers])


def meerlicht_scene(rng, side):
    """One of the scenes that `meerlicht.toml` varies."""
    settings = tomllib.loads(MEERLICHT.read_text(encoding="utf-8"))
    varied = {
        name: float(np.exp(rng.uniform(*np.log(limits))))
        for name, limits in sorted(settings["vary"].items())
    }
    return make_scene({**settings["scene"], **varied, "shape": [side, side]}, MEERLICHT.name)


def show_progress(options, text):
    """Progress."""
    if not options.quiet:
        print(text, file=sys.stderr, flush=True)


def side_by_side(curves, of, others):
    """Rows of true detections at each rate of false ones, and their ratios with intervals of 68 %.

    Parameters
    ----------
    curves : dict of str to bgrem.evaluate.froc.Froc
        Of the same frames, by method.
    of : str
        The method whose counts are divided by those of the others.
    others : sequence of str

    Returns
    -------
    list of dict
    """
    ratios = {
        # The same blocks for all.
        other: compare(curves[of], curves[other], rng=np.random.default_rng(0), resamples=RESAMPLES)
        for other in others
    }
    rows = []
    for i, entry in enumerate(ratios[others[0]]):
        row = {"false/Mpix": entry.rate}
        row |= {name: round(curve.true_positives(entry.rate)) for name, curve in curves.items()}
        for other, entries in ratios.items():
            low, high = entries[i].ratio_interval
            row[f"{of} / {other}"] = f"{entries[i].ratio:.3f} ({low:.3f}-{high:.3f})"
        rows.append(row)
    return rows


def finish(options, tables, *, model, began, plot=None, **facts):
    """Print tables (title -> rows) and write them, with what they were made by.

    Parameters
    ----------
    options : argparse.Namespace
    tables : dict of str to list of dict
    model : bgrem.inference.model.Model
    began : float
        `time.perf_counter` at the start.
    plot : callable, optional
        Draws the tables (first) on a `matplotlib.figure.Figure` (second), which goes beside the JSON
        file.
    **facts
        Further entries of the JSON file.
    """
    for title, rows in tables.items():
        print(f"{title}\n{text_table(rows) if rows else 'nothing'}\n")
    seconds = time.perf_counter() - began
    print(f"{seconds:.0f} s, model {model.card.name} {model.sha256[:12]}")
    if options.json:
        print(
            write_json(
                options.json, {"tables": tables, **facts, **made_with(model), "seconds": seconds}
            )
        )
        if plot and find_spec("matplotlib"):
            print(picture(Path(options.json).with_suffix(".png"), plot, tables))


def picture(path, plot, tables):
    """Write a PNG of what `plot` draws of the tables, small enough for the documentation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    plot(tables, figure)
    figure.savefig(path, dpi=90)
    return path
