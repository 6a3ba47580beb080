"""Bad pixels filled from their neighbours, so that a hole does not make a star look like a particle.

The values are seen by the network only: no part of the image holds them.
"""

import numpy as np

from bgrem.arrays.filters import gaussian_filter
from bgrem.arrays.rows import Rows
from bgrem.arrays.tiling import over_strips
from bgrem.options import IN_MEMORY, Run

__all__ = ["fill_bad_pixels", "filled"]

# Pixels that are averaged to one before they are smoothed by SMOOTHING of these: narrow holes are filled from
# the pixels beside them, the middle of wide ones from farther away. Chosen by
# `python benchmarks/quality/holes.py`.
FILLING_BLOCKS, SMOOTHING = (1, 2, 4, 8), 0.8
LEAST_WEIGHT = 0.05  # part of the Gaussian that must lie on good pixels
# Rows around a strip from which it is filled: as far as the widest Gaussian reaches, in whole blocks.
REACH = 32
WIDTH = 256  # columns that are filled at once, where any of them is bad


def fill_bad_pixels(
    pixels: np.ndarray, bad: Rows, background: Rows, rms: Rows, run: Run = IN_MEMORY
) -> None:
    """Fill the bad pixels of an image from the good ones around them, in place.

    Parameters
    ----------
    pixels : `~numpy.ndarray`
        Image of shape (ny, nx), float32. Its bad pixels may hold anything finite.
    bad : Rows of bool
        True where a pixel is bad.
    background, rms : Rows
        Level and noise of the sky, in the units of the image. Far from any good pixel the level is
        what is filled in.
    run : `~bgrem.options.Run`
    """

    def fill(rows: slice) -> None:
        lost = bad[rows]
        if not lost.any():
            return
        top, bottom = max(rows.start - REACH, 0), min(rows.stop + REACH, len(pixels))
        around = slice(top, bottom)
        x = (pixels[around] - background[around]) / rms[around]
        own = slice(rows.start - top, rows.stop - top)
        x = filled(x, bad[around])[own]
        strip = pixels[rows]
        strip[lost] = (x * rms[rows] + background[rows])[lost]
        pixels[rows] = strip

    over_strips(fill, pixels.shape, height=4 * REACH, threads=run.threads)


def filled(x: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """An image with its bad pixels filled: a mean of the good ones, weighted by their distance.

    The weights are a Gaussian of a standard deviation of 0.8 pixels. Where less than a twentieth of it
    lies on good pixels it is twice as wide, up to eight times; farther from any good pixel the value is 0.

    Parameters
    ----------
    x : `~numpy.ndarray`
        Image without its sky, float32 of shape (ny, nx). Its bad pixels may hold anything.
    bad : `~numpy.ndarray`
        bool of that shape.

    Returns
    -------
    `~numpy.ndarray`
        float32 of that shape. The good pixels are those of ``x``.
    """
    x = np.where(bad, np.float32(0), x)
    columns = np.flatnonzero(bad.any(axis=0))
    for first in np.unique(columns // WIDTH) * WIDTH:
        around = slice(max(first - REACH, 0), first + WIDTH + REACH)
        own = np.s_[:, first - around.start : first - around.start + WIDTH]
        part, lost = x[:, around], bad[:, around]
        x[:, first : first + WIDTH] = np.where(lost, _means(part, ~lost), part)[own]
    return x


def _means(x: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The weighted mean around each pixel, of an image that is 0 where it is not good."""
    mean, known = np.zeros_like(x), np.zeros(x.shape, bool)
    for block in FILLING_BLOCKS:
        total, weight = (
            gaussian_filter(_block_means(part, block), SMOOTHING)
            for part in (x, good.astype(np.float32))
        )
        near = weight > LEAST_WEIGHT
        near, value = (
            part.repeat(block, axis=0).repeat(block, axis=1)[: x.shape[0], : x.shape[1]]
            for part in (near, np.where(near, total / np.maximum(weight, LEAST_WEIGHT), 0))
        )
        mean = np.where(known, mean, value)
        known |= near
        if (known | good).all():
            break
    return mean


def _block_means(values: np.ndarray, block: int) -> np.ndarray:
    """Means of ``block`` x ``block`` pixels; those outside the image count as 0."""
    if block == 1:
        return values
    ny, nx = (-(-n // block) for n in values.shape)
    padded = np.pad(values, [(0, -n % block) for n in values.shape])
    return padded.reshape(ny, block, nx, block).mean(axis=(1, 3))
