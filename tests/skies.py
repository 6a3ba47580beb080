"""Skies, stars and frames that several tests draw."""

import numpy as np

# --- flat skies and stars


def flat_sky(shape, level=100.0, rms=5.0, *, seed=0, dtype=np.float32):
    """Normal noise on a level."""
    return np.random.default_rng(seed).normal(level, rms, shape).astype(dtype)


def white_noise(shape, *, seed=0):
    """Normal noise of unit rms."""
    return flat_sky(shape, 0.0, 1.0, seed=seed)


def gaussian_stars(shape, x, y, height, sigma):
    """Light of Gaussian stars of one height and width, float64."""
    rows, columns = np.indices(shape)
    light = np.zeros(shape)
    for a, b in zip(x, y, strict=True):
        light += height * np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / (2 * sigma**2))
    return light


def exponential_disc(shape, x, y, radius, height):
    """Light of a disc whose brightness falls exponentially, float32."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return height * np.exp(-np.hypot(columns - x, rows - y) / np.float32(radius))


def star_field(shape, *, level, rms, height, sigma, count=12, margin=20, seed=0):
    """Stars at random places on a noisy sky, float64."""
    rng = np.random.default_rng(seed)
    y, x = (rng.uniform(margin, length - margin, count) for length in shape)
    return rng.normal(level, rms, shape) + gaussian_stars(shape, x, y, height, sigma)
