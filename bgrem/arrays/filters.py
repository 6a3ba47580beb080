"""Filters of images in numpy alone: what the path needs of them, and no more.

SciPy has them all, but it would be a third of what an installation takes on the disk.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = [
    "gaussian_filter", "label", "lowest_joined", "maximum_filter", "median_filter", "members",
    "minimum_filter", "nearest_good",
]  # fmt: skip

TRUNCATED = 4.0  # sigma: where a Gaussian ends
AT_ONCE = 1 << 22  # numbers that are sorted, or compared, at once


def maximum_filter(values: np.ndarray, size: int) -> np.ndarray:
    """Highest of the ``size`` x ``size`` pixels around each that the image has.

    ``values``: of shape (ny, nx); bool or real numbers without NaN. ``size``: odd side of the
    window.
    Returns: of the shape and type of ``values``.
    """
    return _separable(values, size, np.maximum)


def minimum_filter(values: np.ndarray, size: int) -> np.ndarray:
    """Lowest of the ``size`` x ``size`` pixels around each; see `maximum_filter`."""
    return _separable(values, size, np.minimum)


def _separable(values: np.ndarray, size: int, extreme: np.ufunc) -> np.ndarray:
    for axis in (0, 1):
        found = values.copy()
        here, seen = (np.moveaxis(array, axis, 0) for array in (found, values))
        for k in range(1, min(size // 2 + 1, len(here))):
            extreme(here[k:], seen[:-k], out=here[k:])
            extreme(here[:-k], seen[k:], out=here[:-k])
        values = found
    return values


def median_filter(values: np.ndarray, size: int) -> np.ndarray:
    """Median of the ``size`` x ``size`` pixels around each; the edge goes on outside.

    ``values``: of shape (ny, nx). ``size``: odd side of the window.
    Returns: of the shape and type of ``values``.
    """
    windows = sliding_window_view(np.pad(values, size // 2, mode="edge"), (size, size))
    median = np.empty_like(values)
    step = max(AT_ONCE // (size**2 * values.shape[1]), 1)
    for row in range(0, len(values), step):
        part = windows[row : row + step]
        median[row : row + step] = np.median(part.reshape(*part.shape[:2], -1), axis=2)
    return median


def gaussian_filter(values: np.ndarray, sigma: float, *, outside: str = "zero") -> np.ndarray:
    """Smooth with a Gaussian of unit sum that ends at 4 sigma.

    ``values``: of shape (ny, nx), float32 or float64. ``sigma``: standard deviation in pixels.
    ``outside``: "zero" beyond the image, or "mirror": the image goes on as its reflection.
    Returns: of the shape and type of ``values``.
    """
    reach = int(TRUNCATED * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights = (weights / (weights[0] + 2 * weights[1:].sum())).astype(values.dtype)
    mode = {"zero": "constant", "mirror": "symmetric"}[outside]
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach, reach)
        values = _weighted(np.pad(values, padding, mode=mode), weights, axis)
    return values


def _weighted(padded: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Sums over pixels and their neighbours on both sides, the outermost left out."""
    reach = len(weights) - 1
    count = padded.shape[axis] - 2 * reach

    def shifted(k: int) -> np.ndarray:
        part = slice(reach + k, reach + k + count)
        return padded[part] if axis == 0 else padded[:, part]

    total = weights[0] * shifted(0)
    pair = np.empty_like(total)
    for k in range(1, reach + 1):
        np.add(shifted(-k), shifted(k), out=pair)
        pair *= weights[k]
        total += pair
    return total


def nearest_good(good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the good cell that is nearest to each cell.

    ``good``: bool of shape (ny, nx), True somewhere.
    Returns: rows and columns, int of shape (ny, nx).
    """
    rows, columns = np.indices(good.shape)
    above = _nearest_in_columns(good)
    # A column without a good cell is farther away than any other.
    height = np.where(above < 0, np.inf, (rows - above) ** 2.0)
    bad_rows, bad_columns = np.nonzero(~good)
    step = max(AT_ONCE // good.shape[1], 1)
    for first in range(0, len(bad_rows), step):
        part = slice(first, first + step)
        across = (bad_columns[part, None] - np.arange(good.shape[1])) ** 2.0
        columns[bad_rows[part], bad_columns[part]] = np.argmin(
            across + height[bad_rows[part]], axis=1
        )
    return above[rows, columns], columns


def _nearest_in_columns(good: np.ndarray) -> np.ndarray:
    """Row of the good cell of the same column that is nearest to each cell, -1 without one."""
    ny = len(good)
    rows = np.arange(ny)[:, None]
    far = 2 * ny  # farther than any row is
    before = np.maximum.accumulate(np.where(good, rows, -far), axis=0)
    after = np.minimum.accumulate(np.where(good, rows, ny + far)[::-1], axis=0)[::-1]
    nearest = np.where(rows - before <= after - rows, before, after)
    return np.where((nearest >= 0) & (nearest < ny), nearest, -1)


def label(where: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the regions of pixels that are True and share sides.

    ``where``: bool of shape (ny, nx).
    Returns: ``labels``: int32 of shape (ny, nx), from 1 in the regions, else 0; ``count``: how many
    regions there are.
    """
    ny, nx = where.shape
    # A column that is False between the rows, so that no run goes on in the next one.
    flat = np.zeros(ny * (nx + 1) + 1, np.int8)
    flat[1:].reshape(ny, nx + 1)[:, :nx] = where
    change = np.diff(flat)
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    whole = lowest_joined(len(starts), *_touching(starts, stops, nx + 1))
    numbers = np.cumsum(whole == np.arange(len(whole)), dtype=np.int32)[whole]
    labels = np.zeros((ny, nx), np.int32)
    labels[where] = np.repeat(numbers, stops - starts)
    return labels, int(numbers.max(initial=0))


def lowest_joined(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The lowest number that each is joined with, through others or not.

    ``count``: how many there are, from 0. ``one`` and ``other``: int of shape (n,), the pairs that
    are joined.
    Returns: int of shape (count,).
    """
    whole = np.arange(count)
    while len(one):
        # Of several that claim one number the last has it; the others come round again.
        whole[np.maximum(one, other)] = np.minimum(one, other)
        while (further := whole[whole] != whole).any():
            whole[further] = whole[whole[further]]
        one, other = whole[one], whole[other]
        apart = one != other
        one, other = one[apart], other[apart]
    return whole


def _touching(starts: np.ndarray, stops: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs, one under the other, that share a column."""
    first = np.searchsorted(stops, starts + width, side="right")
    last = np.searchsorted(starts, stops + width, side="left")
    return members(first, np.maximum(first, last))


def members(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in ranges, and of which range each is.

    ``first`` and ``last``: int of shape (n,); the last ones are left out, and no range is shorter
    than 0.
    Returns: ``range, number``: int of shape (m,), with m the sum of the lengths.
    """
    count = last - first
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) + np.repeat(first - np.cumsum(count) + count, count)
