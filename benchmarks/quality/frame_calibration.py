"""The calibration of the catalogue on the frame against the truth.

    python benchmarks/quality/frame_calibration.py --json results/frame_calibration.json

Simulated frames of seven kinds: MeerLICHT, resampled, with many defects, sharp stars, nearly empty, crowded, wide
seeing. A detection is real within the matching radius of a source of a S/N above 0.7; false, where no source is near
(`bgrem.evaluate.truth`); others are not scored.

*False per Mpix*: found above the threshold of the frame over asked for, at 3, 10 and 30; and above the threshold of the
model's card. *P_REAL*: in bins, its mean and the share of real ones, of all frames of a kind together, and the median
of the differences of single frames with 8 detections or more in a bin. *Completeness*: of isolated stars above the threshold
of 10 false per Mpix, by the curve of the frame less the true one. *UNCERT*: mean squared error over UNCERT squared by
brightness, before and after the factors of the frame; the median, least and largest frame.
"""

from functools import partial
from itertools import pairwise
from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream
from scipy.spatial import cKDTree

from bgrem.background import separate
from bgrem.catalogue.mirrored import lowest_threshold
from bgrem.catalogue.planted import calibrate_frame
from bgrem.catalogue.source_measurement import measure_sources
from bgrem.evaluate.truth import truth_of_sky
from bgrem.masks.areas import inside
from bgrem.simulate import Scene, draw
from bgrem.simulate.scene import STAR

KINDS = {
    "MeerLICHT": {}, "resampled": {"correlation": 1.2},
    "defects": {"hot_pixels": 300.0, "warm_pixels": 400.0, "cosmic_rays": 200.0, "tail_fraction": 3e-3},
    "sharp stars": {"fwhm": 1.8, "beta": 4.0}, "nearly empty": {"stars": 100.0, "galaxies": 50.0},
    "crowded": {"stars": 8000.0, "star_slope": 1.0}, "wide seeing": {"fwhm": 7.0},
}  # fmt: skip
RATES = (3.0, 10.0, 30.0)
CHANCES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
SNRS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 30.0)
BRIGHTNESSES = (-np.inf, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, np.inf)  # sky rms
ISOLATED_FROM = 4.0  # S/N of the sources beside which a star does not count
FEWEST = {"chances": 8, "stars": 20, "pixels": 100}


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--side", type=int, default=768, help="of a frame in pixels")
    parser.add_argument("--frames", type=int, default=4, help="of each kind (default: 4)")
    options = parser.parse_args(argv)
    began, model = perf_counter(), model_of(options)
    records = []
    for k, (kind, changes) in enumerate(KINDS.items()):
        for i in range(options.frames):
            show_progress(options, f"{kind} {i + 1}/{options.frames}")
            scene = Scene(shape=(options.side, options.side), **changes)
            record = judge(draw(scene, stream(options.seed, k, i)), model)
            records.append({"kind": kind, **record})
    tables = {
        "false per Mpix: found over asked for": false_rows(records),
        "P_REAL: mean, and share of real ones": chance_rows(records),
        "completeness of the frame's curve less the true one": completeness_rows(records),
        "UNCERT: mean squared pull": pull_rows(records),
        "time": [{"separation, s": mean_of(records, "separation"), "calibration, s": mean_of(records, "calibration")}],
    }  # fmt: skip
    finish(options, tables, model=model, began=began)


def judge(sky, model):
    """Calibrate the catalogue of a frame, and compare it with the truth."""
    began = perf_counter()
    again, gain = partial(separate, model=model), sky.scene.gain
    parts = again(sky.data, maps=("significance", "uncertainty"))
    separated = perf_counter()
    _, measuring = measure_sources(parts, threshold=parts.provenance.signif_10, gain=gain)
    measured = perf_counter()
    frame = calibrate_frame(parts, separate=again, card=model.card, measuring=measuring)
    done = perf_counter()
    lowest = lowest_threshold(model.card, parts.provenance.signif_10)
    columns, _ = measure_sources(parts, threshold=lowest, measuring=measuring)
    truth = truth_of_sky(sky, border=16)
    x, y, signif = (columns[name] for name in ("x", "y", "signif"))
    usable = inside(truth.usable, x, y)
    distance, _ = cKDTree(np.column_stack([truth.x, truth.y])).query(np.column_stack([x, y]))
    real = usable & (distance <= truth.radius)
    false = usable & ~real & inside(truth.blank, x, y)
    area, card = np.count_nonzero(truth.blank) / 1e6, model.card.calibration
    scored = real | false
    return {
        "separation": separated - began, "calibration": done - measured,
        "false": [rate_of(signif[false], frame.threshold_for(rate), area) / rate for rate in RATES],
        "of the card": [rate_of(signif[false], card.threshold_for(rate), area) / rate for rate in RATES],
        "chance": frame.p_real(signif[scored]) if frame.false.is_measured else np.zeros(0),
        "real": real[scored] if frame.false.is_measured else np.zeros(0, bool),
        "completeness": completeness_errors(sky, truth, frame, x, y, signif),
        "pulls": pulls_of(sky, truth, parts, frame),
    }  # fmt: skip


def rate_of(signif, threshold, area):
    return np.count_nonzero(signif > threshold) / area


def completeness_errors(sky, truth, frame, x, y, signif):
    """By S/N, the completeness of isolated stars by the frame's curve less the true one."""
    threshold = frame.threshold_for(10.0)
    table = sky.truth
    stars = table[(table["kind"] == STAR) & (table["snr"] >= SNRS[0])]
    stars = stars[inside(truth.usable, stars["x"], stars["y"])]
    bright = table[table["snr"] > ISOLATED_FROM]
    place = np.column_stack([stars["x"], stars["y"]])
    if len(bright) > 1:
        near, _ = cKDTree(np.column_stack([bright["x"], bright["y"]])).query(place, k=2)
        beside = np.where(stars["snr"] > ISOLATED_FROM, near[:, 1], near[:, 0])
        stars, place = stars[beside > truth.radius], place[beside > truth.radius]
    kept = signif > threshold
    hit = np.zeros(len(stars), bool)
    if kept.any():
        distance, _ = cKDTree(np.column_stack([x, y])[kept]).query(place)
        hit = distance <= truth.radius
    points = frame.planted[frame.planted["radius"] == 0]
    errors = []
    for low, high in pairwise(SNRS):
        chosen = (stars["snr"] >= low) & (stars["snr"] < high)
        if np.count_nonzero(chosen) < FEWEST["stars"] or not len(points):
            errors.append(np.nan)
            continue
        unit = np.median(points["flux"] / points["snr"])
        stated = frame.completeness_at(stars["flux"][chosen] / unit, threshold)
        errors.append(stated.mean() - hit[chosen].mean())
    return errors


def pulls_of(sky, truth, parts, frame):
    """By brightness, the mean squared pull before and after the factors of the frame."""
    brightness = parts.sources / parts.rms
    square = np.square((parts.sources - sky.sources) / parts.uncertainty)
    after = square / np.square(frame.uncertainty_scale(brightness))
    good = truth.usable & (parts.mask == 0)
    rows = []
    for low, high in pairwise(BRIGHTNESSES):
        chosen = good & (brightness >= low) & (brightness < high)
        enough = np.count_nonzero(chosen) > FEWEST["pixels"]
        rows.append((square[chosen].mean(), after[chosen].mean()) if enough else (np.nan, np.nan))
    return rows


# ---- tables ----------------------------------------------------------------------------------------------------


def false_rows(records):
    rows = []
    for source in ("false", "of the card"):
        ratios = np.array([record[source] for record in records])
        for k, rate in enumerate(RATES):
            values = ratios[:, k]
            name = "frame" if source == "false" else "card"
            rows.append({"threshold of the": name, "asked for": rate, "median": np.median(values), "mean": values.mean(),
                         "least": values.min(), "largest": values.max()})  # fmt: skip
    return rows


def chance_rows(records):
    rows = []
    for low, high in pairwise(CHANCES):
        row = {"P_REAL": f"{low:g}-{min(high, 1):g}"}
        differences = []
        for record in records:
            chosen = (record["chance"] >= low) & (record["chance"] < high)
            if np.count_nonzero(chosen) >= FEWEST["chances"]:
                differences.append(record["real"][chosen].mean() - record["chance"][chosen].mean())
        for kind in (*KINDS, "all"):
            chance, real = (
                np.concatenate([r[name] for r in records if kind in (r["kind"], "all")])
                for name in ("chance", "real")
            )
            chosen = (chance >= low) & (chance < high)
            if kind == "all":
                row["mean"] = chance[chosen].mean() if chosen.any() else np.nan
            row[kind] = (
                real[chosen].mean() if np.count_nonzero(chosen) >= FEWEST["chances"] else np.nan
            )
        row["median difference of a frame"] = np.median(differences) if differences else np.nan
        row["largest"] = np.max(np.abs(differences)) if differences else np.nan
        rows.append(row)
    return rows


def completeness_rows(records):
    errors = np.array([record["completeness"] for record in records])
    return [
        {"S/N": f"{low:g}-{high:g}", "median": np.nanmedian(values), "median of abs": np.nanmedian(np.abs(values)),
         "largest abs": np.nanmax(np.abs(values))}
        for (low, high), values in zip(pairwise(SNRS), errors.T, strict=True)
        if np.isfinite(values).any()
    ]  # fmt: skip


def pull_rows(records):
    pulls = np.array([record["pulls"] for record in records])
    rows = []
    for k, (low, high) in enumerate(pairwise(BRIGHTNESSES)):
        before, after = pulls[:, k, 0], pulls[:, k, 1]
        rows.append({"sources, rms": f"{low:g} to {high:g}", "before": np.nanmedian(before), "after": np.nanmedian(after),
                     "least": np.nanmin(after), "largest": np.nanmax(after)})  # fmt: skip
    return rows


def mean_of(records, name):
    return float(np.mean([record[name] for record in records]))


if __name__ == "__main__":
    main()
