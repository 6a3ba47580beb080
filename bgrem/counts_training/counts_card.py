"""What the card of a counts model says of its significance and its variance, measured on simulated maps.

A separation is a function as in `bgrem.counts_training.counts_evaluation`.
"""

from dataclasses import replace

import numpy as np

from bgrem.counts_scenes.poisson_scene import draw_counts, random_counts_scene
from bgrem.counts_training.counts_froc import AREAS, field_fwhm, psf_area
from bgrem.detection.peaks import local_maxima
from bgrem.masks.areas import inner

__all__ = [
    "ALL_KNOWN", "CARD_RATES", "CHECKED_LEVELS", "WITHOUT_EXPOSURE", "WITH_EXPOSURE", "blank_skies", "false_alarm_rows", "known_of", "measure_false_alarms",
    "measure_variance_factors",
]  # fmt: skip

#: False detections per 1e4 PSF areas for which a card has significances, and those that are checked.
CARD_RATES = tuple(np.round(np.geomspace(0.3, 1000.0, 15), 3).tolist())
CHECKED_RATES, CHECKED_LEVELS = (1.0, 10.0, 100.0), (0.01, 0.1, 1.0, 10.0, 100.0)
#: What a user knows at best, at worst, and between.
ALL_KNOWN = ("exposure", "template", "psf")
WITH_EXPOSURE, WITHOUT_EXPOSURE = (ALL_KNOWN, ("exposure", "psf")), (("psf",), ())
KNOWN = WITH_EXPOSURE + WITHOUT_EXPOSURE
ASSUMED = 3.0  # px, FWHM of the PSF that bgrem assumes where none is given
BLANK_SEED, BLANK_SIDE, BLANK_NUMBER = 20261223, 160, 250
WORST_PART = 0.05  # of the maps without sources: it is left out of the card
TRIED = 600  # significances, between which those of the card are interpolated
NODES = 14  # of the table of factors of the variance
FEWEST_OF_MAP, FEWEST_MAPS = 20, 5  # of a map that counts for a factor, and of a factor


def known_of(sky, names):
    """What is given of a CountsSky, by name."""
    return {name: getattr(sky, name) for name in names}


def blank_skies(level, number, *, seed=BLANK_SEED):
    """Maps without sources, otherwise of the training's sky, ``number`` of them at ``level`` counts a pixel.

    Glowing edges and bright lines of a detector are left out: they are detected.
    """
    for i in range(number):
        rng = np.random.default_rng([seed, int(1e6 * level), i, 0])
        scene = random_counts_scene(rng, (BLANK_SIDE, BLANK_SIDE))
        empty = {"density": 0.0, "extended": 0.0, "edge_glow": 0.0, "bright_lines": 0.0}
        yield draw_counts(replace(scene, level=level, **empty), rng)


def _blank_maps(separate, skies, known):
    """Of each map without sources the significances of all detections, and the area in 1e4 PSF areas.

    From map to map less is known.
    """
    maps = []
    for i, sky in enumerate(skies):
        names = known[i % len(known)]
        fwhm = field_fwhm(sky) if "psf" in names else ASSUMED
        usable = (sky.exposure > 0).any(axis=0) & inner(sky.counts.shape[1:], int(np.ceil(fwhm)))
        plane = separate(sky.counts, **known_of(sky, names)).significance
        found = local_maxima(plane, threshold=-np.inf, usable=usable)["score"]
        maps.append((found, np.count_nonzero(usable) / (AREAS * psf_area(fwhm))))
    return maps


def _found_above(maps, threshold, *, left_out=WORST_PART):
    """Detections above a significance and the area, without the part of the maps that have the most of them."""
    found = np.array([np.count_nonzero(scores > threshold) for scores, _ in maps])
    areas = np.array([area for _, area in maps])
    kept = np.argsort(found / areas, kind="stable")[: len(maps) - int(left_out * len(maps))]
    return int(found[kept].sum()), float(areas[kept].sum())


def measure_false_alarms(separate, skies, *, rates=CARD_RATES, known=WITH_EXPOSURE):
    """Significances above which a number of false detections is expected, for a model's card.

    One map in twenty is left out, that with the most detections: structure of the background that nobody knows, as
    clouds of hundreds of counts a pixel that a template lacks, has more of them than all other maps together.

    Parameters
    ----------
    separate : callable
    skies : iterable of CountsSky
        Without sources.
    rates : sequence of float
        False detections per 1e4 PSF areas.
    known : sequence of tuple of str
        What is given of the maps, one after the other.

    Returns
    -------
    list of (float, float)
        Significance and rate, the significance ascending. Rates that the maps do not reach, or for which they hold less
        than one false detection, are left out.
    """
    maps = _blank_maps(separate, skies, known)
    scores = _thinned(np.unique(np.concatenate([found for found, _ in maps])))
    found, areas = np.array([_found_above(maps, score) for score in scores]).T
    reached = found > 0
    # Which maps are left out changes with the significance, and with it the area by a little.
    logs = np.maximum.accumulate(-np.log(found[reached] / areas[reached]))
    scores = scores[reached]
    return sorted(
        (float(np.interp(-np.log(rate), logs, scores)), float(rate))
        for rate in rates
        if logs[0] < -np.log(rate) <= logs[-1]
    )


def _thinned(scores):
    """At most `TRIED` of ascending scores, the highest more densely."""
    places = np.unique(np.rint((len(scores) - 1) * (1 - np.geomspace(1, 1e-5, TRIED))).astype(int))
    return scores[places]


def false_alarm_rows(
    separate, threshold_for, *, levels=CHECKED_LEVELS, number=BLANK_NUMBER, progress=None
):
    """False detections on maps without sources at the card's thresholds, per 1e4 PSF areas.

    Parameters
    ----------
    separate : callable
    threshold_for : callable
        A rate of false detections per 1e4 PSF areas, and ``exposure``, whether it is given -> significance.
    levels : sequence of float
        Counts a pixel.
    number : int
        Of maps of each level.
    progress : callable, optional

    Returns
    -------
    list of dict
        With each number stands the square root of the number of detections, on the same scale. It is that of 19 maps
        of 20, as in the card; beside it stands that of all maps.
    """
    rows = []
    for level in levels:
        if progress:
            progress(f"no sources, {level:g} counts a pixel")
        for given, known in ((True, WITH_EXPOSURE), (False, WITHOUT_EXPOSURE)):
            # The maps of the card have another seed.
            skies = blank_skies(level, number, seed=BLANK_SEED + 1)
            maps = _blank_maps(separate, skies, known)
            row = {"counts/px": f"{level:g}", "exposure": "given" if given else "not given"}
            for rate in CHECKED_RATES:
                threshold = threshold_for(rate, exposure=given)
                found, area = _found_above(maps, threshold)
                row[f"card {rate:g}"] = f"{found / area:.2f} +- {max(found, 1) ** 0.5 / area:.2f}"
                every, area = _found_above(maps, threshold, left_out=0.0)
                row[f"all maps, {rate:g}"] = every / area
            rows.append(row)
    return rows


def measure_variance_factors(separate, skies):
    """Squared errors of the sources over the variance, by the sources, for a model's card.

    Parameters
    ----------
    separate : callable
        Its variance is not corrected.
    skies : iterable of CountsSky

    Returns
    -------
    list of (float, float)
        Logarithm (base 10) of the expected counts of the sources in a pixel, ascending, and the mean squared error of
        the pixels over their mean variance, in the median map.
    """
    edges = np.linspace(-6.0, 4.0, NODES + 1)
    ratios = [[] for _ in range(NODES)]
    for i, sky in enumerate(skies):
        parts = separate(sky.counts, **known_of(sky, KNOWN[i % len(KNOWN)]))
        seen = sky.exposure > 0
        error = (parts.sources - sky.sources)[seen].astype(np.float64) ** 2
        node = np.digitize(np.log10(np.maximum(parts.sources[seen], 1e-12)), edges[1:-1])
        sums = [
            np.bincount(node, weights=values, minlength=NODES)
            for values in (error, parts.variance[seen], np.ones_like(error))
        ]
        for k in np.flatnonzero((sums[2] >= FEWEST_OF_MAP) & (sums[1] > 0)):
            ratios[k].append(sums[0][k] / sums[1][k])
    middles = 0.5 * (edges[1:] + edges[:-1])
    return [
        (float(place), float(np.median(found)))
        for place, found in zip(middles, ratios, strict=True)
        if len(found) >= FEWEST_MAPS
    ]
