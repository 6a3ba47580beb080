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
    """Maximum of the ``size`` x ``size`` pixels around each, as far as the image has them.

    ``values`` have the shape (ny, nx) and hold no NaN; ``size`` is odd. The type of the values is kept.
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
    """Median of the ``size`` x ``size`` pixels around each; the edge continues outside the image.

    ``values`` have the shape (ny, nx); ``size`` is odd. The type of the values is kept.
    """
    windows = sliding_window_view(np.pad(values, size // 2, mode="edge"), (size, size))
    median = np.empty_like(values)
    step = max(AT_ONCE // (size**2 * values.shape[1]), 1)
    for row in range(0, len(values), step):
        part = windows[row : row + step]
        median[row : row + step] = np.median(part.reshape(*part.shape[:2], -1), axis=2)
    return median


def gaussian_filter(values: np.ndarray, sigma: float, *, outside: str = "zero") -> np.ndarray:
    """Smooth with a Gaussian of unit sum and a standard deviation of ``sigma`` pixels, cut at 4 sigma.

    ``values`` have the shape (ny, nx), float32 or float64, and their type is kept. ``outside`` is "zero"
    beyond the image, or "mirror" for its reflection.
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
    """Rows and columns of the good cell that is nearest to each cell, both int of shape (ny, nx).

    ``good`` is bool of shape (ny, nx) and True somewhere.
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

    Of ``where``, bool of shape (ny, nx), it gives the labels, int32 of that shape, from 1 in the regions
    and 0 elsewhere, and the number of regions.
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
    """For each number from 0 to ``count`` - 1 the lowest one to which pairs join it, directly or not.

    ``one`` and ``other``, int of shape (n,), are the joined pairs. The result is int of shape (count,).
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
    """The integers in ranges, and the range to which each belongs, both int of shape (m,), ranges first.

    ``first`` and ``last``, int of shape (n,), limit the ranges; the last integer is left out.
    """
    count = last - first
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) + np.repeat(first - np.cumsum(count) + count, count)
