"""Measure on simulated frames what a model's uncertainty and significance are worth."""

from dataclasses import replace

import numpy as np

from bgrem.background import separate
from bgrem.detection.detect import detect_peaks
from bgrem.detection.photometry import (
    aperture_fluxes,
    aperture_uncertainties,
    circles_on_a_grid,
    uncertainty_of_model,
)
from bgrem.evaluate.froc import froc
from bgrem.evaluate.truth import truth_of_sky
from bgrem.network.calibration import Calibration
from bgrem.options import ERROR_SIDES
from bgrem.simulate.scene import FULL_WELL_BIT, GAP_BIT
from bgrem.sky.blocks import BLOCK, BlockStatistics
from bgrem.sky.measured import sky_of_network
from bgrem.train.parents import simulated_sky
from bgrem.train.sky_frames import block_means
from bgrem.train.validate import SCORED_BORDER

__all__ = ["calibrate", "fit_factors", "sky_error_factors"]

STREAM = 3  # of random numbers: 0 are the training's scenes, 1 its tiles, 2 the validation
# Errors beyond OUTLYING_ERROR corrected deviations are artefacts that were taken for sources, or
# sources for artefacts; no Gaussian uncertainty describes them.
OUTLYING_ERROR = 10.0
LEAST_IN_BIN = 2000  # pixels in a bin that is used
FEWEST_IN_BIN = 50  # pixels of one frame in a bin that counts
FITTING_ROUNDS = 12  # of the fit, which then changes by less than 1e-3
SIGMA_EDGES = np.geomspace(0.003, 300.0, 41)
BRIGHTNESS_EDGES = np.sinh(np.linspace(np.arcsinh(-5.0), np.arcsinh(3000.0), 31))
UNUSUAL = 0.5
SIGNIFICANCE_FLOOR = -30.0  # lower significances are not counted
RANKING_RATE = 100.0  # false detections per Mpix at which frames are compared
CIRCLES = (0.25, 0.5, 1.0, 2.0, 4.0)  # radii, FWHM
# The factor changes tenfold between circles that hold nothing and those that hold a tenth of the noise.
CIRCLE_EDGES = 0.1 * np.sinh(np.linspace(np.arcsinh(-10.0), np.arcsinh(30000.0), 33))
FEWEST_CIRCLES, FEWEST_IN_FRAME = 60, 3
GATHERINGS = (1, 2, 4)  # blocks of 8 pixels along a side of those that a sky network sees
TABLE_RATES = np.geomspace(0.3, 3000.0, 41)  # false detections per Mpix in the table


def calibrate(model, *, seed, scenes=80, size=768, draw_sky=simulated_sky):
    """Calibrate a model on scenes that neither its training nor its validation has seen.

    Parameters
    ----------
    model : `~bgrem.inference.model.Model`
        With or without a calibration, which is not used.
    seed : int
        Of the training.
    scenes, size : int
        How many frames are drawn, and their side in pixels.
    draw_sky : callable
        As `bgrem.train.parents.simulated_sky`.

    Returns
    -------
    `~bgrem.network.calibration.Calibration`
    """
    counts, detections, truths, indices = [], [], [], []
    for index in range(1, scenes + 1):
        if (frame := _separated(model, seed, index, size, draw_sky)) is None:
            continue
        sky, gap, parts = frame
        counts.append(_tally(parts, sky))
        detections.append(detect_peaks(parts.significance, threshold=SIGNIFICANCE_FLOOR, mask=gap))
        truths.append(truth_of_sky(sky, border=SCORED_BORDER))
        indices.append(index)
    usual = _usual(detections, truths)
    curve = froc([detections[i] for i in usual], [truths[i] for i in usual])
    thresholds = np.array([curve.threshold(rate) for rate in TABLE_RATES])
    pixels = Calibration(**_factors(np.stack([counts[i] for i in usual])), **_alarms(thresholds))
    # Frames are drawn again: those of all scenes would fill the memory.
    frames = (_separated(model, seed, indices[i], size, draw_sky) for i in usual)
    pulls = [(frame[0].scene.fwhm, _circle_pulls(*frame, calibration=pixels)) for frame in frames]
    return replace(pixels, **_circle_correlations(pulls))


def _separated(model, seed, index, size, draw_sky):
    """A drawn scene, its gaps and what the model makes of it; None where no model could."""
    rng = np.random.default_rng([seed, STREAM, index])
    sky = draw_sky(rng, size)
    gap = sky.mask & GAP_BIT > 0
    if gap.mean() > 0.5 or np.ptp(sky.data[~gap]) == 0:
        return None
    return sky, gap, separate(sky.data, mask=gap, model=model, calibrated=False)


def _usual(detections, truths):
    """Which frames are not of the `UNUSUAL` part with the most false detections.

    The training sky holds many bad frames, with a hundred times the false detections of a sound one and
    larger errors. With them the tables would describe their artefacts only.

    Returns
    -------
    ndarray of int
        Their numbers.
    """
    threshold = froc(detections, truths).threshold(RANKING_RATE)
    curves = [froc([found], [truth]) for found, truth in zip(detections, truths, strict=True)]
    rates = [np.sum((c.source < 0) & (c.score >= threshold)) / max(c.area, 1e-9) for c in curves]
    return np.argsort(rates, kind="stable")[: max(1, round((1 - UNUSUAL) * len(rates)))]


def _tally(parts, sky):
    """Number of pixels and sums of log sigma, sources and squared pull by bin, (4, i, j)."""
    good = sky.mask & (GAP_BIT | FULL_WELL_BIT) == 0
    own = uncertainty_of_model(parts)
    sigma = (own / parts.rms)[good].astype(np.float64)
    bright = (parts.sources / parts.rms)[good].astype(np.float64)
    error = ((parts.sources - sky.sources) / own)[good].astype(np.float64)
    place = np.digitize(sigma, SIGMA_EDGES) * (BRIGHTNESS_EDGES.size + 1)
    place += np.digitize(bright, BRIGHTNESS_EDGES)
    usual = np.abs(error) < OUTLYING_ERROR
    shape = SIGMA_EDGES.size + 1, BRIGHTNESS_EDGES.size + 1
    columns = np.ones_like(sigma), np.log(sigma), np.arcsinh(bright), error**2
    return np.stack(
        [
            np.bincount(place[usual], column[usual], minlength=shape[0] * shape[1]).reshape(shape)
            for column in columns
        ]
    )


def _factors(counts):
    """Nodes and factors of both tables, as keywords of a `Calibration`; counts are (frame, 4, i, j)."""
    number, log_sigma, bright, _ = counts.sum(axis=0)
    rows, columns = (number.sum(axis) >= LEAST_IN_BIN for axis in (1, 0))
    numbers, squares = (counts[:, k][:, rows][:, :, columns] for k in (0, 3))
    sigma_factor, bright_factor = fit_factors(numbers, squares)
    number = number[rows][:, columns]
    sigma_nodes = np.exp(log_sigma[rows][:, columns].sum(1) / number.sum(1))
    bright_nodes = np.sinh(bright[rows][:, columns].sum(0) / number.sum(0))
    return {
        "sigma": _numbers(sigma_nodes),
        "sigma_factor": _numbers(sigma_factor),
        "brightness": _numbers(bright_nodes),
        "brightness_factor": _numbers(bright_factor),
    }


def fit_factors(number, squared):
    """Factors of rows and of columns that bring the mean squared pull of the median frame to 1.

    The mean over all frames would be that of the few in which the errors are largest.

    Parameters
    ----------
    number, squared : ndarray, (frames, i, j) float64
        Pixels and the sum of their squared pulls by bin.

    Returns
    -------
    rows, columns : ndarray, (i,) and (j,) float64
        Their product is the true over the given standard deviation.
    """
    rows, columns = np.ones(number.shape[1]), np.ones(number.shape[2])
    for _ in range(FITTING_ROUNDS):
        rows = np.sqrt(_median_ratio((squared / columns**2).sum(2), number.sum(2)))
        columns = np.sqrt(_median_ratio((squared / rows[:, None] ** 2).sum(1), number.sum(1)))
    return rows, columns


def _median_ratio(total, number):
    """Of each bin the median over the frames that have it, weighted by the root of their pixels."""
    medians = []
    for column, weight in zip(total.T, number.T, strict=True):
        kept = weight >= min(FEWEST_IN_BIN, weight.max())
        # A frame with a thousand times the pixels, for one large galaxy, is one frame still.
        share = np.sqrt(weight[kept])
        ratio = column[kept] / weight[kept]
        order = np.argsort(ratio)
        reached = np.cumsum(share[order]) / share.sum()
        medians.append(np.interp(0.5, reached - 0.5 * share[order] / share.sum(), ratio[order]))
    return np.array(medians)


def _circle_pulls(sky, gap, parts, *, calibration):
    """Brightness and pull, as if pixels were independent, of sums in circles: per radius, (2, n)."""
    rms = parts.rms
    sigma = rms * calibration.uncertainty(uncertainty_of_model(parts) / rms, parts.sources / rms)
    error = parts.sources - sky.sources
    good = sky.mask & (GAP_BIT | FULL_WELL_BIT) == 0
    pulls = []
    for radius in CIRCLES:
        circle = (*circles_on_a_grid(good, radius * sky.scene.fwhm), radius * sky.scene.fwhm)
        flux = aperture_fluxes(parts.sources, *circle) / aperture_uncertainties(rms, *circle)
        pull = aperture_fluxes(error, *circle) / aperture_uncertainties(sigma, *circle)
        pulls.append(np.stack([flux, pull]))
    return pulls


def _circle_correlations(pulls):
    """The tables of circles, as keywords of a `Calibration`, from the FWHM and the pulls of every frame."""
    fwhm = [width for width, _ in pulls]
    radii = list(zip(*(rows for _, rows in pulls), strict=True))
    places = [[np.digitize(flux, CIRCLE_EDGES) for flux, _ in frames] for frames in radii]
    bins = range(CIRCLE_EDGES.size + 1)
    counts = np.array([[sum(np.sum(p == b) for p in frames) for b in bins] for frames in places])
    kept = np.flatnonzero(counts.min(axis=0) >= FEWEST_CIRCLES)
    if not kept.size:
        return {}
    flux, place = (np.concatenate([a for frames in arrays for a in frames])
                   for arrays in ([[f for f, _ in frames] for frames in radii], places))  # fmt: skip
    correlations = tuple(
        _numbers(_circle_correlation(fwhm, frames, where, b) for b in kept)
        for frames, where in zip(radii, places, strict=True)
    )
    return {
        "circle_radius": CIRCLES,
        "circle_brightness": _numbers(np.median(flux[place == b]) for b in kept),
        "circle_correlation": correlations,
    }


def _circle_correlation(fwhm, frames, places, number):
    """Of the circles in one bin, how far errors go together in FWHM; of the median frame.

    Frames count alike: most circles that hold much light are in the few crowded ones, where errors are
    larger than elsewhere.
    """
    pulls = [pull[place == number] for (_, pull), place in zip(frames, places, strict=True)]
    fewest = min(FEWEST_IN_FRAME, max(pull.size for pull in pulls))
    return float(
        np.median(
            [
                np.sqrt(max(_clipped_rms(pull) ** 2 - 1, 0)) / width
                for width, pull in zip(fwhm, pulls, strict=True)
                if pull.size >= fewest
            ]
        )
    )


def _clipped_rms(pull):
    """Root mean square without what is beyond `OUTLYING_ERROR` times it."""
    # The median holds against any outlier; of pulls that are mostly near 0 it is too small.
    rms = max(np.median(np.abs(pull)) / 0.6745, np.quantile(np.abs(pull), 0.95) / 2)
    for _ in range(FITTING_ROUNDS):
        rms = np.sqrt(np.mean(pull[np.abs(pull) <= OUTLYING_ERROR * rms] ** 2))
    return rms


def _alarms(thresholds):
    """The table of false alarms: thresholds ascend, where the list of detections reaches them."""
    known = np.isfinite(thresholds)
    rates, thresholds = TABLE_RATES[known][::-1], thresholds[known][::-1]
    rising = np.append(True, np.diff(np.maximum.accumulate(thresholds)) > 0)
    return {"threshold": _numbers(thresholds[rising]), "false_alarms": _numbers(rates[rising])}


def _numbers(values):
    """Plain numbers of five digits: a card is read by people, too."""
    return tuple(float(f"{value:.5g}") for value in values)


def sky_error_factors(network, small, large):
    """Factors of a sky network's error with which its mean squared pull is 1 in the median frame.

    Parameters
    ----------
    network : callable
        As `bgrem.inference.sky_model.SkyModel`, without factors of its own.
    small, large : dict of ndarray
        As of `bgrem.train.sky_frames.load_examples`: frames whose blocks are seen one by one, and gathered.

    Returns
    -------
    dict of int to list of float
        By the number of blocks of 8 pixels that are gathered along a side, for means over squares of
        `bgrem.options.ERROR_SIDES`.
    """
    pulls = {k: [] for k in GATHERINGS}
    for k in GATHERINGS:
        examples = small if k == 1 else large
        for planes, background in zip(examples["planes"], examples["background"], strict=True):
            shape = tuple(BLOCK * n for n in background.shape)
            blocks = BlockStatistics(planes, BLOCK, (0, 0), shape)
            gathered = blocks.gathered(k)
            if gathered.good.any():
                sky = sky_of_network(gathered, network, box=max(shape))
                pulls[k].append(_sky_pulls(sky, background, blocks.good))
    return {
        k: [_root_of_median(of_side) for of_side in zip(*found, strict=True)]
        for k, found in pulls.items()
    }


def _root_of_median(pulls):
    """1 where no frame is large enough."""
    shown = [pull for pull in pulls if np.isfinite(pull)]
    return float(np.sqrt(np.median(shown))) if shown else 1.0


def _sky_pulls(sky, background, good):
    """Mean squared pulls of means over squares of `ERROR_SIDES` that show blocks."""
    error = block_means(sky.background[:], BLOCK) - background
    sigma = block_means(sky.error[:], BLOCK)
    pulls = []
    for side in (wide // BLOCK for wide in ERROR_SIDES):
        number, off, expected = (
            block_means(np.where(good, plane, np.float32(0)), side)
            for plane in (np.float32(1), error, sigma)
        )
        seen = number > 0
        pulls.append(np.mean((off[seen] / expected[seen]) ** 2) if seen.any() else np.nan)
    return pulls
