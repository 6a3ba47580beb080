"""The value at which a sample crowds."""

import numpy as np

__all__ = ["half_sample_mode"]


def half_sample_mode(values):
    """Mode of a sample: the densest half of it, again and again.

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
