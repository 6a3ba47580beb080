"""True detections at equal false ones, for every PSF and sky of a frozen grid.

    python benchmarks/quality/grid.py --output-dir results

Each cell of `grid.toml` gives, at 10 false detections per megapixel (or at the lowest rate that the
cell's area allows), bgrem's true detections over those of SExtractor's best configuration (default,
scanned, cleaned or tuned, chosen by the truth in each cell) and over those of the matched filter
that knows the PSF; and by how much fainter the sources are that it finds half of, in magnitudes.
Intervals (68 %) are a bootstrap over blocks of 128 pixels. The sky `empty` holds no source: its row
gives the false detections per megapixel of each method at a usual threshold.
"""

import tomllib
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
from report_card import add_threshold, finish, make_parser, model_of, show_progress, threshold_of

from bgrem.detection.point_sources import detect_matched_filter
from bgrem.detection.sextractor import detect_sextractor_default
from bgrem.evaluate.bootstrap import compare, depth_gain
from bgrem.evaluate.comparison import evaluate_frames
from bgrem.evaluate.froc import FALSE, FALSE_RATES, LEAST_FALSE, match
from bgrem.evaluate.methods import (
    MATCHED_FILTER,
    comparison_methods,
    detect_with_bgrem,
    has_false,
    simulated_frame,
)
from bgrem.evaluate.tables import write_json
from bgrem.inference.model import load_model
from bgrem.simulate.scene import Scene
from bgrem.simulate.scene_files import make_scene

FROZEN = Path(__file__).with_name("grid.toml")
EMPTY, CONTROL = "empty", "white"
SEXTRACTOR = ("sextractor default", "sextractor scanned", "sextractor cleaned", "sextractor tuned")
NAMES = (*SEXTRACTOR, MATCHED_FILTER, "bgrem")
#: A list that holds this many times the allowed false detections is deep enough for the bootstrap.
DEEP = 3.0
#: S/N that a careful user of a matched filter asks for.
FIVE_SIGMA = 5.0
RESAMPLES = 200
#: The columns that are printed as a matrix of sky and FWHM.
FIGURES = {
    "ratio to SExtractor's best": "true detections over those of SExtractor's best configuration",
    "ratio to the matched filter": "true detections over those of the matched filter",
    "depth gain on SExtractor": "depth gain over SExtractor's best configuration, mag",
    "depth gain on the matched filter": "depth gain over the matched filter, mag",
}


@dataclass(frozen=True)
class Cell:
    """One PSF under one sky: a scene, and the stream that its frames are drawn from."""

    sky: str
    fwhm: float
    scene: Scene
    frames: int
    stream: tuple

    def draw(self):
        """The cell's frames, with their truth."""
        for i in range(self.frames):
            rng = np.random.default_rng([*self.stream, i])
            yield simulated_frame(self.scene, rng, name=f"{self.sky} {self.fwhm:g}")


def main(argv=None):
    parser = make_parser(__doc__)
    add_threshold(parser)
    parser.add_argument("--grid", default=FROZEN, metavar="FILE", help="TOML file of the cells")
    parser.add_argument("--sky", nargs="+", help="only these skies")
    parser.add_argument("--fwhm", nargs="+", type=float, help="only these FWHM")
    parser.add_argument("--side", type=int, help="of a frame in pixels, for a quick look")
    parser.add_argument("--jobs", type=int, default=2, help="cells at once (default: 2)")
    parser.add_argument("--output-dir", metavar="DIR", help="write grid.json and grid.png there")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    chosen = [
        cell
        for cell in read_grid(options.grid, side=options.side)
        if cell.sky in (options.sky or [cell.sky]) and cell.fwhm in (options.fwhm or [cell.fwhm])
    ]
    if not chosen:
        parser.error("no cell of the grid has that sky and FWHM")
    rows = list(judged(chosen, model, options))
    scored = [row for row in rows if row["sky"] != EMPTY]
    empty = [row for row in rows if row["sky"] == EMPTY]
    tables = {title: matrix(scored, figure) for figure, title in FIGURES.items() if scored}
    if empty:
        tables["empty sky: false detections per Mpix at a usual threshold"] = empty
    if scored:
        tables["all cells"] = summary(scored)
    finish(options, tables, model=model, began=began, cells=rows)
    if options.output_dir:
        folder = Path(options.output_dir)
        print(write_json(folder / "grid.json", {"cells": rows, "sha256": model.sha256}))
        if scored and find_spec("matplotlib"):
            print(heat_map(scored, folder / "grid.png"))


def read_grid(path, *, side=None):
    """The cells of a grid's file, skies first.

    Parameters
    ----------
    path : path
    side : int, optional
        Other than the file's, pixels.

    Returns
    -------
    list of Cell
    """
    settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    shape = [side, side] if side else settings["shape"]
    cells = []
    for sky, changes in settings["sky"].items():
        for i, fwhm in enumerate(settings["fwhm"]):
            values = {name: _value_at(name, value, i)
                      for name, value in {**settings["scene"], **changes}.items()}  # fmt: skip
            scene = make_scene({**values, "fwhm": fwhm, "shape": shape}, str(path))
            # The stream of a cell depends on its name alone: other cells do not change it.
            stream = (settings["seed"], zlib.crc32(f"{sky} {fwhm:g}".encode()))
            cells.append(Cell(sky, fwhm, scene, settings["frames"], stream))
    return cells


def _value_at(name, value, i):
    """A list holds a value for each FWHM, but for fields that are pairs themselves."""
    is_pair = isinstance(getattr(Scene, name, None), tuple)
    return value[i] if isinstance(value, list) and not is_pair else value


def judged(cells, model, options):
    """A row for each cell, in the order of the cells."""
    threshold = threshold_of(options, model)
    work = partial(row_of, model=options.model, threshold=threshold)
    if options.jobs == 1:
        for cell in cells:
            show_progress(options, f"{cell.sky} {cell.fwhm:g}")
            yield work(cell)
        return
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(work, cell): cell for cell in cells}
        for done in as_completed(waiting):
            show_progress(options, f"{waiting[done].sky} {waiting[done].fwhm:g}")
        yield from (future.result() for future in waiting)


def row_of(cell, *, model, threshold):
    """What is measured in one cell; a loaded model cannot travel to another process."""
    model = load_model(model, threads=1)
    if cell.sky == EMPTY:
        return false_alarms(cell, model, threshold)
    return compared(cell, model)


def compared(cell, model):
    """bgrem against the baselines at equal false detections, as a row."""
    frames = list(cell.draw())
    area = sum(frame.truth.area for frame in frames)
    rate = next((rate for rate in FALSE_RATES if rate * area >= LEAST_FALSE), None)
    if rate is None:
        raise ValueError(f"{area:.3f} Mpix are too few for {LEAST_FALSE} false detections")
    enough = partial(has_false, limit=DEEP * rate)
    methods = comparison_methods(model=model, program=False, enough=enough)
    methods = {name: methods[name] for name in NAMES}
    curves = evaluate_frames(frames, methods, title=cell.sky).curves
    ours = curves["bgrem"]
    best = max(SEXTRACTOR, key=lambda name: curves[name].true_positives(rate))
    deepest = min(SEXTRACTOR, key=lambda name: _or_inf(curves[name].limiting_snr(rate)))
    row = {"sky": cell.sky, "fwhm": cell.fwhm, "rate": rate, "area": area, "sources": ours.count}
    row |= {name: curves[name].true_positives(rate) for name in NAMES}
    row |= {f"{name}, S/N at 50 %": curves[name].limiting_snr(rate) for name in NAMES}
    row |= {"best": best, "deepest": deepest}
    for figure, name in (("SExtractor's best", best), ("the matched filter", "matched filter")):
        against = _compare(ours, curves[name], rate)
        row[f"ratio to {figure}"] = against.ratio
        row[f"ratio to {figure}, interval"] = against.ratio_interval
    for figure, name in (("SExtractor", deepest), ("the matched filter", "matched filter")):
        gain, interval = depth_gain(
            ours, curves[name], rate=rate, rng=np.random.default_rng(0), resamples=RESAMPLES
        )
        row |= {f"depth gain on {figure}": gain, f"depth gain on {figure}, interval": interval}
    return row


def _compare(ours, reference, rate):
    return compare(
        ours, reference, rng=np.random.default_rng(0), rates=(rate,), resamples=RESAMPLES
    )[0]


def _or_inf(value):
    return value if np.isfinite(value) else np.inf


def false_alarms(cell, model, threshold):
    """False detections per Mpix of an empty sky, at the thresholds that users take."""
    area, counts = 0.0, dict.fromkeys(("bgrem", MATCHED_FILTER, "sextractor default"), 0)
    for frame in cell.draw():
        area += frame.truth.area
        mask, found = frame.mask, {}
        found["bgrem"] = detect_with_bgrem(frame, model=model)
        found["bgrem"] = found["bgrem"][found["bgrem"]["score"] >= threshold]
        found[MATCHED_FILTER] = detect_matched_filter(
            frame.data, frame.psf, mask=mask, gain=frame.gain, threshold=FIVE_SIGMA
        )
        found["sextractor default"] = detect_sextractor_default(frame.data, mask=mask)
        for name, table in found.items():
            counts[name] += np.count_nonzero(match(table, frame.truth)[0] == FALSE)
    row = {"sky": cell.sky, "fwhm": cell.fwhm, "area": area}
    levels = {"bgrem": threshold, MATCHED_FILTER: FIVE_SIGMA, "sextractor default": 1.5}
    return row | {f"{name} at {levels[name]:.3g}": count / area for name, count in counts.items()}


def matrix(rows, figure):
    """One figure as rows of skies with a column for each FWHM, and the rate of the row."""
    out = []
    for sky in dict.fromkeys(row["sky"] for row in rows):
        mine = [row for row in rows if row["sky"] == sky]
        rates = sorted({row["rate"] for row in mine})
        cells = {f"{row['fwhm']:g} px": round(row[figure], 3) for row in mine}
        out.append({"sky": sky, "false/Mpix": "/".join(f"{rate:g}" for rate in rates), **cells})
    return out


def summary(rows):
    """Least, median and greatest of each figure; the control stands for itself."""
    out = []
    for part, title in ((False, "all but the control"), (True, "control")):
        mine = [row for row in rows if (row["sky"] == CONTROL) == part]
        for figure in FIGURES:
            values = np.array([row[figure] for row in mine], dtype=np.float64)
            values = values[np.isfinite(values)]
            if values.size:
                low, middle, high = np.min(values), np.median(values), np.max(values)
                out.append({"figure": figure, "cells": title, "least": low, "median": middle,
                            "greatest": high, "number": values.size})  # fmt: skip
    return out


def heat_map(rows, path):
    """The four figures as coloured matrices, PNG."""
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    skies = list(dict.fromkeys(row["sky"] for row in rows))
    widths = sorted({row["fwhm"] for row in rows})
    place = {(row["sky"], row["fwhm"]): row for row in rows}
    picture = Figure(figsize=(12.0, 7.5), layout="constrained")
    for axes, (figure, title) in zip(picture.subplots(2, 2).ravel(), FIGURES.items(), strict=True):
        neutral = 1.0 if figure.startswith("ratio") else 0.0
        values = np.array(
            [[place.get((sky, width), {figure: np.nan})[figure] for width in widths]
             for sky in skies]
        )  # fmt: skip
        axes.imshow(values - neutral, cmap="RdBu", vmin=-0.6, vmax=0.6, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(widths)), [f"{width:g}" for width in widths])
        axes.set_yticks(range(len(skies)), skies)
        axes.set(xlabel="FWHM, px", title=title)
        axes.title.set_fontsize(9)
    picture.savefig(path, dpi=80)
    return path


if __name__ == "__main__":
    main()
