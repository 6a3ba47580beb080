"""Noise schedule and reverse diffusion.

The noise of this diffusion is the residual background of the frame. With b everything in an
image except its sources, x_r = sources + r b is the image at the noise rate r, and the observed
image is x_1. The network estimates b; this module uses it only as ``network(x, rate)``.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

__all__ = ["noise_rates", "reverse_diffusion"]


def noise_rates(steps: int) -> np.ndarray:
    """Noise rates of the cosine schedule, from exactly 1 down to exactly 0.

    Signal and noise rates are the cosine and sine of an angle that falls linearly, as in
    Nichol & Dhariwal (2021, arXiv:2102.09672) and BGRem (Nicolaas et al. 2025,
    arXiv:2510.04718). Their schedules do not reach the ends; here the first rate is that of the
    observed image and the last is that of the image without noise.

    Parameters
    ----------
    steps : int
        Number of diffusion steps, at least 1.

    Returns
    -------
    `~numpy.ndarray`
        float64 of shape (steps + 1,).

    Raises
    ------
    ValueError
        If ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f"the number of steps must be at least 1, not {steps}")
    rates = np.sin(np.linspace(np.pi / 2, 0.0, steps + 1))
    rates[0], rates[-1] = 1.0, 0.0
    return rates


def reverse_diffusion(
    network: Callable[[np.ndarray, float], np.ndarray], x: np.ndarray, *, steps: int
) -> np.ndarray:
    """Remove the noise from images in a number of steps.

    Inversion by direct iteration (Delbracio & Milanfar 2023, arXiv:2303.11435): each
    step estimates b, subtracts all of it, and adds back the part at the next, lower rate.

    Parameters
    ----------
    network : callable
        ``network(x, rate)`` with x float32 of shape (n, 1, h, w) and rate a float gives
        float32 of shape (n, c, h, w), whose first channel is the estimate of b. Each call must
        return a new array: that of the first call is the result, its first channel overwritten.
    x : `~numpy.ndarray`
        The observed images, float32 of shape (n, 1, h, w).
    steps : int
        Number of diffusion steps, at least 1.

    Returns
    -------
    `~numpy.ndarray`
        float32 of shape (n, c, h, w). The first channel holds the sources. The others are those
        of the first step, whose input is the observed image.
    """
    first = None
    for rate, lower in pairwise(noise_rates(steps)):
        channels = network(x, float(rate))
        first = channels if first is None else first
        sources = channels[:, :1]
        sources *= np.float32(-rate)
        sources += x
        if lower:
            x = sources + np.float32(lower / rate) * (x - sources)
    first[:, :1] = sources
    return first
