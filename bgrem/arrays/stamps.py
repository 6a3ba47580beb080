"""Small images of sources, moved by parts of a pixel and added to larger ones."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["add_stamp", "add_stamps", "moved_psf"]


def moved_psf(psf, x, y):
    """A PSF centred on a place between pixels, by a cubic spline.

    Returns
    -------
    stamp : (k, k) float64
    left, bottom : int
        The pixel of the image that the stamp's first one falls on.
    """
    from scipy.ndimage import shift

    half = psf.shape[0] // 2
    column, row = round(float(x)), round(float(y))
    stamp = shift(np.asarray(psf, np.float64), (y - row, x - column), order=3)
    return stamp, column - half, row - half


def add_stamps(image, stamps, left, bottom):
    """Add equally large stamps (n, k, k) with their first pixel at (`left`, `bottom`), in place.

    Parts of a stamp that lie outside the image are left out.
    """
    ny, nx = image.shape
    size = stamps.shape[1]
    inside = (left >= 0) & (bottom >= 0) & (left + size <= nx) & (bottom + size <= ny)
    windows = sliding_window_view(image, (size, size), writeable=True)
    for k in np.flatnonzero(inside):
        windows[bottom[k], left[k]] += stamps[k]
    for k in np.flatnonzero(~inside):
        add_stamp(image, stamps[k], left[k], bottom[k])


def add_stamp(image, stamp, left, bottom):
    """Add one stamp, clipped at the image's borders, in place."""
    ny, nx = image.shape
    height, width = stamp.shape
    x0, x1 = max(left, 0), min(left + width, nx)
    y0, y1 = max(bottom, 0), min(bottom + height, ny)
    if x0 < x1 and y0 < y1:
        image[y0:y1, x0:x1] += stamp[y0 - bottom : y1 - bottom, x0 - left : x1 - left]
