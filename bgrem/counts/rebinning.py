"""Counts maps of summed pixels, and the way back."""

import numpy as np

__all__ = ["rebinned_psf", "spread_evenly", "spread_smoothly", "summed"]


def summed(images, factor):
    """Sums of factor x factor pixels of (k, ny, nx); the last ones may lack some. Counts stay counts."""
    more = [(0, -side % factor) for side in images.shape[1:]]
    whole = np.pad(images, [(0, 0), *more])
    k, ny, nx = whole.shape
    return whole.reshape(k, ny // factor, factor, nx // factor, factor).sum((2, 4))


def spread_evenly(images, factor, shape):
    """Values of summed pixels (k, my, mx) at their pixels, interpolated bilinearly; (k, ny, nx)."""
    down, across = (_weights(n, m, factor) for n, m in zip(shape, images.shape[1:], strict=True))
    return down @ np.asarray(images, np.float64) @ across.T


def spread_smoothly(images, factor, shape):
    """Light of summed pixels (k, my, mx) divided smoothly among their pixels, which keeps each sum."""
    light = np.maximum(spread_evenly(images, factor, shape), 0)
    total = summed(light, factor)
    ratio = np.where(total > 0, images / np.maximum(total, 1e-30), 0)
    ny, nx = shape
    return light * ratio.repeat(factor, 1).repeat(factor, 2)[:, :ny, :nx]


def _weights(length, coarse, factor):
    """Matrix (length, coarse) of bilinear interpolation between the centres of summed pixels."""
    place = np.clip((np.arange(length) + 0.5) / factor - 0.5, 0, coarse - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(coarse)[None]))


def rebinned_psf(image, factor):
    """The PSF of a map of summed pixels, in the mean over the places of a source in its pixel.

    Parameters
    ----------
    image : ndarray, (n, n)
        With n odd and sum 1.
    factor : int

    Returns
    -------
    ndarray, (m, m) float64
        With m odd and sum 1.
    """
    if factor == 1:
        return np.asarray(image, np.float64)
    half = image.shape[0] // 2
    coarse = -(-half // factor) + 1
    offsets, centres = np.arange(-half, half + 1), factor * np.arange(-coarse, coarse + 1)
    # Two boxes of factor pixels, the source's and the one that counts, overlap in a triangle.
    overlap = np.maximum(0, 1 - np.abs(centres[:, None] - offsets[None]) / factor)
    found = overlap @ np.asarray(image, np.float64) @ overlap.T
    return found / found.sum()
