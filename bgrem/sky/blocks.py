"""Statistics of blocks of pixels: what the sky network sees of a frame."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bgrem.arrays.rows import Rows
from bgrem.arrays.statistics import SIGMA_PER_IQR
from bgrem.arrays.tiling import over_strips
from bgrem.options import IN_MEMORY, Run

__all__ = ["BLOCK", "LARGEST_GRID", "PLANES", "BlockStatistics", "block_statistics", "gathered"]

BLOCK = 8  # px: side of a block of a small frame
PLANES = ("lower_decile", "lower_quartile", "median", "trimmed_mean", "spread", "good")
# Blocks of frames wider than SMALL_FRAME pixels are gathered 2 x 2, and such that there are at most LARGEST_GRID along
# an axis: at 4096 pixels the network takes about as long as a mesh (`python benchmarks/speed/sky.py`).
SMALL_FRAME, LARGEST_GRID = 1024, 256
# Spreads that the trimmed mean of a block may be below its median, as no light makes it lower; and above it, where
# the block has bad pixels.
MEAN_REACH = 2.0
SPIKE = 4.0  # standard deviations of the image that a pixel is above its highest neighbour
DARK_PIXEL = 8.0  # spreads below the median of its block: a pixel that saw no light
TRIMMED = 1 / 16  # part of the values that the trimmed mean leaves out at each end
BLOCK_QUANTILES = (0.1, 0.25, 0.5, 0.75)
# A sequence that fills the plane evenly: powers of 1 / 1.3247, the plastic number (Roberts 2018, "The unreasonable
# effectiveness of quasirandom sequences").
EVEN_X, EVEN_Y = 0.7548776662466927, 0.5698402909980532
# Pixels of a block, or blocks of a group, that must be good, as a part.
LEAST_GOOD = 0.1


@dataclass(frozen=True, eq=False)
class BlockStatistics:
    """Statistics of square blocks of an image.

    Parameters
    ----------
    planes : `~numpy.ndarray`
        float32 of shape (6, by, bx), in the order of `PLANES`. "spread" is the standard deviation from
        the quartiles, "good" the fraction of good pixels; where it is 0, the others are 0.
    side : int
        Side of a block in pixels.
    first : tuple of int
        Row and column of the first pixel of the first block, at most 0: the blocks reach beyond the image
        by as much on both sides.
    shape : tuple of int
        Shape (ny, nx) of the image.
    """

    planes: np.ndarray
    side: int
    first: tuple[int, int]
    shape: tuple[int, int]

    @cached_property
    def good(self) -> np.ndarray:
        """Whether a block has statistics, bool of shape (by, bx)."""
        return self.planes[-1] > 0

    def gathered(self, k: int) -> "BlockStatistics":
        """Medians of the statistics over groups of k x k blocks, and the mean of their good fractions.

        The numbers of blocks along both axes must be multiples of k.
        """
        return replace(self, planes=gathered(self.planes, k), side=k * self.side)


def block_statistics(
    x: Rows,
    bad: Rows | None = None,
    *,
    step: float = 0.0,
    gathering: int | None = None,
    run: Run = IN_MEMORY,
) -> BlockStatistics:
    """Statistics of the blocks of an image, of at most 256 a side.

    Parameters
    ----------
    x : Rows
        Image of shape (ny, nx), float32.
    bad : Rows of bool, optional
        True where a pixel is bad.
    step : float
        Distance of the values that the image can take; 0 if they are continuous.
    gathering : int, optional
        Blocks along an axis that are gathered to one. Default: as many as the size of the image asks for.
    run : `~bgrem.options.Run`

    Returns
    -------
    BlockStatistics
    """
    ny, nx = x.shape
    k = gathering or _gathering(max(x.shape))
    # An even number of gathered blocks: two of them are a cell of the network.
    by, bx = (-(-n // (2 * k * BLOCK)) * 2 * k for n in x.shape)
    top, left = ((m * BLOCK - n) // 2 for m, n in zip((by, bx), x.shape, strict=True))
    planes = np.zeros((len(PLANES), by // k, bx // k), np.float32)

    def measure(cells: slice) -> None:
        blocks = slice(k * cells.start, k * cells.stop)
        rows = slice(max(blocks.start * BLOCK - top, 0), min(blocks.stop * BLOCK - top, ny))
        if rows.stop <= rows.start:  # beyond the image
            return
        strip = _without_spikes(x, bad, rows)
        if step:
            strip += np.float32(step) * _filling(rows, nx)
        above = rows.start + top - blocks.start * BLOCK
        below = blocks.stop * BLOCK - top - rows.stop
        around = ((above, below), (left, bx * BLOCK - nx - left))
        if any(map(any, around)):
            strip = np.pad(strip, around, constant_values=np.nan)
        planes[:, cells] = gathered(_statistics(_groups(strip[None], BLOCK)[0]), k)

    over_strips(measure, planes.shape[1:], height=max(4 // k, 1), threads=run.threads)
    _leave_out_filling(planes)
    return BlockStatistics(planes, k * BLOCK, (-top, -left), (ny, nx))


def _without_spikes(x: Rows, bad: Rows | None, rows: slice) -> np.ndarray:
    """Rows of an image whose bad pixels are NaN, and whose hot pixels have the mean of those beside them.

    These are far above all four neighbours: they and the peaks of the sharpest stars are no sky.
    """
    first = max(rows.start - 1, 0)
    strip = np.array(x[first : rows.stop + 1], np.float32)
    if bad is not None:
        strip[bad[first : rows.stop + 1]] = np.nan
    padded = np.pad(strip, 1, mode="edge")
    beside = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    limit = np.maximum.reduce(beside)
    limit += SPIKE
    own = slice(rows.start - first, rows.stop - first)
    above, below, left, right = beside
    mean = ((above + below) + (left + right)) / 4
    return np.where(strip > limit, mean, strip)[own]


def _leave_out_filling(planes: np.ndarray) -> None:
    """Take blocks of one value for filled gaps or saturated cores, unless all are such."""
    flat = planes[4] == 0
    if not flat.all():
        planes[:, flat] = 0


def _gathering(side: int) -> int:
    """Blocks along an axis that are gathered to one in an image of a largest side in pixels."""
    least = 1 if side <= SMALL_FRAME else 2
    return max(least, -(-side // (BLOCK * LARGEST_GRID)))


def gathered(planes: np.ndarray, k: int) -> np.ndarray:
    """Medians of (6, by, bx) statistics over groups of k x k blocks, and the mean of their good fractions."""
    if k == 1:
        return planes
    groups = _groups(planes, k)
    known = groups[-1] > 0
    number = np.count_nonzero(known, axis=-1)
    values = np.sort(np.where(known, groups[:-1], np.float32(np.nan)), axis=-1)  # NaN comes last
    middle = np.maximum(number - 1, 0) / 2
    medians = [_between_of(one, middle) for one in values]
    good = groups[-1].mean(axis=-1, dtype=np.float32)
    return np.where(number >= LEAST_GOOD * k * k, [*medians, good], np.float32(0))


def _filling(rows: slice, nx: int) -> np.ndarray:
    """Numbers that fill -0.5 to 0.5 evenly in every block: values in steps have the quantiles of continuous ones."""
    y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(nx)
    return ((y * EVEN_Y + x * EVEN_X) % 1 - 0.5).astype(np.float32)


def _groups(planes: np.ndarray, side: int) -> np.ndarray:
    """(c, by, bx, side**2) values of the blocks of (c, ny, nx) planes."""
    count, ny, nx = planes.shape
    blocks = planes.reshape(count, ny // side, side, nx // side, side)
    return blocks.swapaxes(2, 3).reshape(count, ny // side, nx // side, side**2)


def _statistics(values: np.ndarray) -> np.ndarray:
    """(6, ...) statistics of the last axis; values that are NaN, or far below the others, do not count."""
    values = np.sort(values, axis=-1)  # NaN comes last
    dark = _dark_values(values)
    if dark.any():
        values[dark] = np.nan
        values.sort(axis=-1)
    number = np.full(values.shape[:-1], values.shape[-1])
    if np.isnan(values[..., -1]).any():
        number -= np.count_nonzero(np.isnan(values), axis=-1)
        return _of_few(values, number)
    return _of_all(values, number)


def _dark_values(values: np.ndarray) -> np.ndarray:
    """Where sorted values are so far below the median that they saw no light, as dead pixels do."""
    quarter = values.shape[-1] // 4
    low, median, high = (values[..., k * quarter] for k in (1, 2, 3))
    limit = median - DARK_PIXEL * np.float32(SIGMA_PER_IQR) * (high - low)
    if not (values[..., 0] < limit).any():
        return np.zeros(1, bool)
    return values < limit[..., None]


def _of_all(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    size = values.shape[-1]
    out = np.empty((len(PLANES), *number.shape), np.float32)
    quantiles = [_between(values, q * (size - 1)) for q in BLOCK_QUANTILES]
    cut = int(TRIMMED * size)
    mean = values[..., cut : size - cut].mean(axis=-1)
    out[4], out[5] = np.float32(SIGMA_PER_IQR) * (quantiles[3] - quantiles[1]), 1
    out[:3], out[3] = quantiles[:3], np.maximum(mean, quantiles[2] - MEAN_REACH * out[4])
    return out


def _between(values: np.ndarray, place: float) -> np.ndarray:
    low, part = int(place), np.float32(place % 1)
    return values[..., low] + part * (values[..., low + 1] - values[..., low])


def _of_few(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    size = values.shape[-1]
    good = number >= LEAST_GOOD * size
    last = np.maximum(number - 1, 0)
    out = np.zeros((len(PLANES), *number.shape), np.float32)
    quantiles = [_between_of(values, q * last) for q in BLOCK_QUANTILES]
    cut = np.ceil(TRIMMED * number).astype(int)[..., None]
    index = np.arange(size)
    kept = (index >= cut) & (index < number[..., None] - cut)
    mean = np.where(kept, values, 0).sum(axis=-1) / np.maximum(kept.sum(axis=-1), 1)
    out[4] = np.float32(SIGMA_PER_IQR) * (quantiles[3] - quantiles[1])
    # Of few pixels, a pair of outliers would be the mean.
    reach = MEAN_REACH * out[4]
    out[:3], out[3] = quantiles[:3], np.clip(mean, quantiles[2] - reach, quantiles[2] + reach)
    out[5] = number / size
    return np.where(good, out, np.float32(0))


def _between_of(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    low = place.astype(int)
    part = (place - low).astype(np.float32)
    at, after = (
        np.take_along_axis(values, np.minimum(low + k, values.shape[-1] - 1)[..., None], -1)[..., 0]
        for k in (0, 1)
    )
    return np.where(part > 0, at + part * (after - at), at)
