"""The least error of a background that averages the sky: of a frame all of whose light is known.

The known light is taken away. A quadratic surface is fitted to means of 8 x 8 pixels, weighted by their noise, and
what it leaves is averaged with a Gaussian, or left out. The truth chooses the Gaussian. No method that averages
evenly does better; one that knows the kind of sky (the period of its fringes, the place of its step) can.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["least_error"]

BLOCK = 8  # px
SCALES = (
    0.35,
    0.7,
    1.4,
    2.8,
    5.6,
    11.2,
    22.4,
    44.8,
)  # blocks: standard deviations of the Gaussians


def least_error(data, light, sky, electrons):
    """Rms error of the best average.

    Parameters
    ----------
    data, light, sky : (ny, nx) array
        In sky rms: the frame, all light in it, and its true sky.
    electrons : float
        Rms of the sky in electrons.

    Returns
    -------
    float
    """
    weight = 1 / (1 + np.maximum(light, 0) / electrons)
    total = block_means(weight)
    mean, true = block_means(weight * (data - light)) / total, block_means(sky)
    surface = quadratic(mean, total)
    backgrounds = [surface]
    for scale in SCALES:
        smooth = gaussian_filter(total * (mean - surface), scale, mode="constant")
        backgrounds.append(surface + smooth / gaussian_filter(total, scale, mode="constant"))
    return float(min(np.sqrt(np.mean((one - true) ** 2)) for one in backgrounds))


def block_means(image):
    """Means over blocks; an incomplete last row or column of blocks is left out."""
    ny, nx = (n // BLOCK for n in image.shape)
    blocks = image[: ny * BLOCK, : nx * BLOCK].reshape(ny, BLOCK, nx, BLOCK)
    return blocks.mean(axis=(1, 3))


def quadratic(values, weight):
    """The weighted least-squares quadratic of a mesh."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in values.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y]).reshape(6, -1)
    root = np.sqrt(weight.ravel())
    coefficients = np.linalg.lstsq((terms * root).T, root * values.ravel(), rcond=None)[0]
    return (coefficients @ terms).reshape(values.shape)
