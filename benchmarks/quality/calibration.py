"""Whether bgrem's uncertainty and significance are worth what they say.

    python benchmarks/quality/calibration.py --json results/calibration.json

On frames of the scenes of `meerlicht.toml` and of the training sky (drawn from streams that training
never uses), the pull is (true - measured sources) / uncertainty of a pixel. By predicted uncertainty
and by predicted brightness, in units of the sky's rms: the mean squared pull, which should be 1; the
share of the pixels within one sigma, which should be 68 %; and the share beyond ten sigma, which is
left out of the mean: these are artefacts taken for sources, or the reverse, and no error bar's width
shows them. The mean squared pull of the median frame is what a model is calibrated to; in all frames
together those count most that have most pixels, or circles, in a bin. The same for sums in circles of
radius 1 and 2 FWHM around the points of a regular grid, with the uncertainty of
`bgrem.detection.photometry.sum_uncertainties`. Saturated pixels and gaps are left out. Last, false detections per
megapixel against what the model's card says of the threshold.
"""

from itertools import pairwise
from time import perf_counter

import numpy as np
from report_card import (
    add_seed,
    finish,
    make_parser,
    meerlicht_scene,
    model_of,
    show_progress,
    stream,
)

from bgrem.background import separate
from bgrem.detection.photometry import (
    aperture_fluxes,
    aperture_uncertainties,
    circles_on_a_grid,
    sum_uncertainties,
)
from bgrem.evaluate.froc import froc
from bgrem.evaluate.methods import detections_of
from bgrem.evaluate.truth import known_defects, truth_of_sky
from bgrem.simulate import draw, random_scene
from bgrem.simulate.scene import FULL_WELL_BIT, GAP_BIT

OUTLIER = 10.0  # sigma
LEAST = 100  # pixels or circles: bins with fewer are left out
LEAST_IN_FRAME = 20  # nor does a frame with fewer in it
UNCERTAINTY_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, np.inf)
BRIGHTNESS_EDGES = (-np.inf, -0.1, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0, np.inf)
CIRCLES = (1.0, 2.0)  # radii, FWHM
BRIGHT = 3.0  # rms: above it the 68 % interval is to hold
THRESHOLDS = tuple(np.arange(-6.0, 6.01, 0.5))


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=16, help="of each kind (default: 16)")
    parser.add_argument("--side", type=int, default=768, help="of a frame in pixels")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    tables, alarms, coverage = {}, {}, []
    for kind, draw_scene in SCENES.items():
        seen = []
        for i in range(options.frames):
            show_progress(options, f"{kind} {i + 1}/{options.frames}")
            rng = stream(options.seed, list(SCENES).index(kind), i)
            seen.append(look(draw(draw_scene(rng, options.side), rng), model))
        for name in seen[0]["pulls"]:
            frames = [one["pulls"][name] for one in seen]
            tables |= {f"{kind}: {name} by {by}": rows for by, rows in binned(frames).items()}
            coverage.append({"frames": kind, "what": name, **covered(frames)})
        alarms[kind] = froc([one["found"] for one in seen], [one["truth"] for one in seen])
    tables["where the predicted brightness exceeds 3 rms, or 3 sigma in circles"] = coverage
    tables["false detections per Mpix"] = alarm_rows(alarms, model.card.calibration)
    finish(options, tables, model=model, began=began, plot=draw_calibration)


def draw_calibration(tables, figure):
    """Squared pulls against the uncertainty, and false alarms against what the card says."""
    left, right = figure.subplots(1, 2)
    for kind in SCENES:
        for what in ("pixels", *(f"circles of {radius:g} FWHM" for radius in CIRCLES)):
            rows = tables[f"{kind}: {what} by uncertainty"]
            edges = [float(row["uncertainty"].split(" to ")[0]) for row in rows]
            pulls = [row["mean squared pull"] for row in rows]
            left.plot(np.maximum(edges, 0.01), pulls, "o-", ms=3, label=f"{kind}: {what}")
    left.axhline(1.0, color="0.7", lw=0.8)
    left.set(xscale="log", yscale="log", xlabel="predicted uncertainty from, rms")
    left.set(ylabel="mean squared pull")
    left.legend(fontsize=6)
    rows = tables["false detections per Mpix"]
    for name in list(rows[0])[1:]:
        right.plot([row["threshold"] for row in rows], [row[name] or np.nan for row in rows],
                   label=name)  # fmt: skip
    right.set(yscale="log", xlabel="significance", ylabel="false detections per Mpix")
    right.legend()


def training_scene(rng, side):
    """A scene of the kind that networks are trained on, never one of them."""
    return random_scene(rng, shape=(side, side))


SCENES = {"MeerLICHT": meerlicht_scene, "training sky": training_scene}


def look(sky, model):
    """Predictions and errors of a frame, its detections and its truth.

    Returns
    -------
    dict
        ``pulls``: "pixels", "circles of 1 FWHM" ... -> (3, n) array of uncertainty, brightness (both
        in units of the sky's rms; of circles, of the noise of the sum) and pull.
    """
    gap = known_defects(sky)
    parts = separate(sky.data, mask=gap, model=model)
    left_out = gap | (sky.mask & (GAP_BIT | FULL_WELL_BIT) != 0)
    error = sky.sources.astype(np.float64) - parts.sources
    sigma = parts.uncertainty.astype(np.float64)
    good = ~left_out
    pulls = {"pixels": np.stack([part[good] for part in (
        sigma / parts.rms, parts.sources / parts.rms, error / sigma)])}  # fmt: skip
    for radius in CIRCLES:
        circles = _circles(radius * sky.scene.fwhm, error, parts, good, model, sky.scene.fwhm)
        pulls[f"circles of {radius:g} FWHM"] = circles
    found = detections_of(parts, gap)
    truth = truth_of_sky(sky, border=int(np.ceil(2.0 * sky.scene.fwhm)))
    return {"pulls": pulls, "found": found, "truth": truth}


def _circles(radius, error, parts, good, model, fwhm):
    """The same three numbers for sums in circles that touch no pixel that is left out."""
    x, y = circles_on_a_grid(good, radius)
    noise = aperture_uncertainties(parts.rms, x, y, radius)
    sigma = aperture_uncertainties(parts.uncertainty, x, y, radius)
    if model is not None and (calibration := model.card.calibration) and calibration.circle_radius:
        sigma = sum_uncertainties(parts, x, y, radius, calibration=calibration, fwhm=fwhm)
    flux = aperture_fluxes(parts.sources, x, y, radius)
    return np.stack([sigma / noise, flux / noise, aperture_fluxes(error, x, y, radius) / sigma])


def binned(frames):
    """Rows of bins of the uncertainty and of the brightness; frames are (3, n) arrays."""
    tables = {}
    for row, (name, edges) in enumerate(
        (("uncertainty", UNCERTAINTY_EDGES), ("brightness", BRIGHTNESS_EDGES))
    ):
        places = [np.digitize(columns[row], edges) for columns in frames]
        bins = (
            [columns[2][place == i] for columns, place in zip(frames, places, strict=True)]
            for i in range(1, len(edges))
        )
        tables[name] = [
            {name: f"{low:g} to {high:g}", **statistics_of(pulls)}
            for (low, high), pulls in zip(pairwise(edges), bins, strict=True)
            if sum(pull.size for pull in pulls) >= LEAST
        ]
    return tables


def statistics_of(pulls):
    """Those of all frames together, and the mean squared pull of the median frame."""
    each = [
        pull_statistics(pull)["mean squared pull"] for pull in pulls if pull.size >= LEAST_IN_FRAME
    ]
    median = float(np.median(each)) if each else np.nan
    return {**pull_statistics(np.concatenate(pulls)), "median frame": median}


def pull_statistics(pull):
    """Number, mean squared pull without outliers, share within one sigma, share of outliers."""
    usual = np.abs(pull) < OUTLIER
    return {
        "n": pull.size,
        "mean squared pull": float(np.mean(pull[usual] ** 2)) if usual.any() else np.nan,
        "within 1 sigma": float(np.mean(np.abs(pull) < 1)) if pull.size else np.nan,
        "beyond 10 sigma": float(np.mean(~usual)) if pull.size else np.nan,
    }


def covered(frames):
    """The statistics where the predicted source is bright."""
    return statistics_of([columns[2][columns[1] > BRIGHT] for columns in frames])


def alarm_rows(alarms, calibration):
    """Rows of thresholds: false detections per Mpix as measured, and as the card says."""
    rows = []
    for threshold in THRESHOLDS:
        row = {"threshold": float(threshold)}
        for kind, curve in alarms.items():
            false = np.count_nonzero((curve.source < 0) & (curve.score >= threshold))
            row[kind] = false / curve.area
        if calibration:
            row["card"] = calibration.false_alarms_above(threshold)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
