"""Methods compared on one curve each: counts, ratios and depths, with 68 % intervals by bootstrap.

The bootstrap draws blocks of the frames. Both methods of a ratio get the same blocks.
"""

from dataclasses import dataclass

import numpy as np

from bgrem.evaluate.froc import FALSE_RATES

__all__ = ["Comparison", "block_weights", "compare", "depth_gain", "interval"]


def block_weights(curve, resamples, rng):
    """How often each bootstrap resample holds each block.

    Blocks without a usable pixel are never drawn.

    Parameters
    ----------
    curve : Froc
    resamples : int
        Number of bootstrap resamples.
    rng : numpy.random.Generator

    Returns
    -------
    (resamples, b) float64
    """
    blocks = curve.block_area.size
    used = curve.block_area > 0
    probability = used / used.sum()
    return (
        rng.multinomial(used.sum(), probability, size=resamples).reshape(-1, blocks).astype(float)
    )


def interval(samples):
    """Central 68 % of bootstrap samples.

    Parameters
    ----------
    samples : (k,) array_like
        Those that are nan are left out.

    Returns
    -------
    tuple of float
        (low, high); nan where no sample is left.
    """
    samples = np.asarray(samples, dtype=np.float64)
    if not np.isfinite(samples).any():
        return (np.nan, np.nan)
    return tuple(float(value) for value in np.nanpercentile(samples, (16.0, 84.0)))


@dataclass(frozen=True)
class Comparison:
    """One row of a report: a method at one false rate, against a reference.

    Attributes
    ----------
    rate : float
        False detections per megapixel.
    false_allowed : float
        False detections that the rate allows on the area.
    true, ratio : float
        True positives, and their number over the reference's.
    true_interval, ratio_interval : tuple of float
        Their 68 % intervals (low, high).
    chance : float
        Expected number of true positives that are noise.
    complete : bool
        Whether the method's list holds as many false detections as the rate allows.
    """

    rate: float
    false_allowed: float
    true: float
    true_interval: tuple
    ratio: float
    ratio_interval: tuple
    chance: float
    complete: bool


def compare(curve, reference, *, rng, rates=FALSE_RATES, resamples=1000):
    """Counts of a method and their ratio to a reference, at the rates that the area allows.

    Parameters
    ----------
    curve, reference : Froc
        Scored on the same frames.
    rng : numpy.random.Generator
        Draws the bootstrap.
    rates : sequence of float
        False detections per megapixel.
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    list of Comparison
    """
    weights = block_weights(curve, resamples, rng)
    rows = []
    for rate in rates:
        if not curve.allowed(rate):
            continue
        ours = np.array([curve.true_positives(rate, weight) for weight in weights])
        theirs = np.array([reference.true_positives(rate, weight) for weight in weights])
        true, base = curve.true_positives(rate), reference.true_positives(rate)
        rows.append(
            Comparison(
                rate=float(rate),
                false_allowed=rate * curve.area,
                true=true,
                true_interval=interval(ours),
                ratio=float(_quotient(true, base)),
                ratio_interval=interval(_quotient(ours, theirs)),
                chance=curve.chance_matches(rate),
                complete=bool(curve.reaches(rate)),
            )
        )
    return rows


def _quotient(numerator, denominator):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(numerator, denominator, dtype=np.float64)


def depth_gain(curve, reference, *, rate=10.0, level=0.5, rng, resamples=200):
    """How much fainter the sources are that a method still finds, in magnitudes.

    2.5 log10 of the ratio of the S/N at which the completeness reaches `level`, the reference's over
    the method's, at equal false detections per Mpix.

    Parameters
    ----------
    curve, reference : Froc
        Scored on the same frames.
    rate : float
        False detections per megapixel.
    level : float
        Completeness, 0 to 1.
    rng : numpy.random.Generator
        Draws the bootstrap.
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    gain : float
        Positive where the method goes deeper; nan where a completeness never reaches the level.
    interval : tuple of float
        68 %, by bootstrap over blocks.
    """

    def gain(weights=None):
        ours = curve.limiting_snr(rate, level=level, weights=weights)
        theirs = reference.limiting_snr(rate, level=level, weights=weights)
        return 2.5 * np.log10(theirs / ours)

    samples = [gain(weight) for weight in block_weights(curve, resamples, rng)]
    return float(gain()), interval(samples)
