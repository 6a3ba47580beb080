"""Robust statistics of samples."""

import numpy as np

__all__ = [
    "FWHM_PER_SIGMA", "SIGMA_PER_IQR", "SIGMA_PER_MAD", "half_sample_mode", "median_and_deviation",
]  # fmt: skip

# Of a normal distribution: its standard deviation over its median absolute deviation and over its
# interquartile range, and the full width at half maximum over its standard deviation.
SIGMA_PER_MAD = 1.4826
SIGMA_PER_IQR = 0.7413
FWHM_PER_SIGMA = 2.3548


def half_sample_mode(values):
    """Mode of a sample: the densest half of it, repeatedly.

    The half-sample mode of Bickel & Fruehwirth (2006, CSDA 50, 3500).

    Parameters
    ----------
    values : ndarray, (n,) float
        At least one, in any order.

    Returns
    -------
    float
        The mean of the last one to three values.
    """
    sample = np.sort(values)
    while sample.size > 3:
        half = -(-sample.size // 2)
        widths = sample[half - 1 :] - sample[: sample.size - half + 1]
        start = int(np.argmin(widths))
        sample = sample[start : start + half]
    return float(sample.mean())


def median_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Median of a sample, and the standard deviation from its median absolute deviation."""
    center = np.median(values)
    return float(center), float(SIGMA_PER_MAD * np.median(np.abs(values - center)))
