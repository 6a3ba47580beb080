"""Areas of an image, as bool arrays: what is near, inside, or away from the edges."""

import numpy as np

__all__ = ["around", "grown", "inner", "inside", "pixels_of"]


def grown(area, radius):
    """The area and everything within a radius of it.

    Parameters
    ----------
    area : (ny, nx) bool
    radius : float
        Pixels.

    Returns
    -------
    (ny, nx) bool
    """
    from scipy.ndimage import distance_transform_edt

    if not area.any():
        return area
    return distance_transform_edt(~area) <= radius


def around(x, y, shape, radius):
    """The pixels within a radius of any point, to the accuracy of a pixel.

    Parameters
    ----------
    x, y : (n,) array
        Points in pixels; those outside the image have no effect.
    shape : tuple of int
        (ny, nx).
    radius : float
        Pixels.

    Returns
    -------
    (ny, nx) bool
    """
    return grown(pixels_of(x, y, shape), radius)


def pixels_of(x, y, shape):
    """The pixels that hold a point, (ny, nx) bool; the parameters are those of `around`."""
    spots = np.zeros(shape, dtype=bool)
    column, row = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    within = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    spots[row[within], column[within]] = True
    return spots


def inner(shape, border):
    """All pixels but a frame along the edges.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    border : int
        Width of the frame in pixels.

    Returns
    -------
    (ny, nx) bool
    """
    inside_border = np.zeros(shape, dtype=bool)
    inside_border[border : shape[0] - border, border : shape[1] - border] = True
    return inside_border


def inside(area, x, y):
    """Whether the pixel that holds each point is in an area.

    Parameters
    ----------
    area : (ny, nx) bool
    x, y : (n,) array
        Points in pixels; those outside the image are not in it.

    Returns
    -------
    (n,) bool
    """
    column, row = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    within = (row >= 0) & (row < area.shape[0]) & (column >= 0) & (column < area.shape[1])
    result = np.zeros(within.shape, dtype=bool)
    result[within] = area[row[within], column[within]]
    return result
