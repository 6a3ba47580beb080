"""Block statistics in the units and the size that a sky network takes."""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.filters import median_filter
from bgrem.sky.blocks import gathered

__all__ = ["SKY_MULTIPLE", "SKY_OUTPUTS", "SkyInput", "is_in_range", "network_input"]

SKY_MULTIPLE = 32  # blocks: both sides of the input are multiples of it
#: What a sky network gives for each cell, in this order.
SKY_OUTPUTS = ("background", "rms", "log_error", "wide")
# A level this far from the median, in units of the noise, is beyond the training; a block whose spread is below
# SPREAD_OF_SKY of these units holds sky. A part MOST_FAR of such blocks is too much.
LARGEST_LEVEL, SPREAD_OF_SKY, MOST_FAR = 150.0, 3.0, 0.01
# A block whose lower decile is DARK of the frame's noise below the median of the 3 x 3 squares of AROUND blocks around
# it, or whose mean is BRIGHT_BLOCK above it, cannot show the sky.
DARK, BRIGHT_BLOCK, AROUND = 30.0, 1000.0, 8
UNIT_QUANTILE = 0.3  # of the blocks' spreads: of those without bright sources


@dataclass(frozen=True, eq=False)
class SkyInput:
    """Input of a sky network.

    Attributes
    ----------
    planes : `~numpy.ndarray`
        float32 of shape (8, by, bx): five statistics less ``level`` and over ``unit``, the fraction of good
        pixels, and the places along x and y from -1 to 1. Blocks are added around the frame up to multiples
        of 32, by as much on both sides; they have no good pixel.
    level, unit : float
        Level and noise of the frame, roughly.
    first : tuple of int
        Row and column of the frame's first block in ``planes``.
    """

    planes: np.ndarray
    level: float
    unit: float
    first: tuple[int, int]


def network_input(statistics: np.ndarray) -> SkyInput:
    """Input of a sky network from block statistics, float32 of shape (6, by, bx).

    ``statistics`` are the planes of a `bgrem.sky.blocks.BlockStatistics`, which must have a good block.
    """
    good = statistics[-1] > 0
    level = float(np.median(statistics[2][good]))
    unit = _noise(statistics[4][good])
    shape = tuple(-(-n // SKY_MULTIPLE) * SKY_MULTIPLE for n in good.shape)
    # An even number: the blocks of a cell stay together.
    first = tuple((m - n) // 4 * 2 for m, n in zip(shape, good.shape, strict=True))
    planes = np.zeros((8, *shape), np.float32)
    inside = np.s_[first[0] : first[0] + good.shape[0], first[1] : first[1] + good.shape[1]]
    scaled = np.concatenate(
        [(statistics[:4] - level) / unit, statistics[4:5] / unit, statistics[5:]]
    )
    good &= ~_is_no_sky(np.where(good, scaled, 0))
    unknown = np.array([0, 0, 0, 0, 1, 0], np.float32)[:, None, None]
    planes[(slice(0, 6), *inside)] = np.where(good, scaled, unknown)
    y, x = (
        2 * (np.arange(m) - a + 0.5) / n - 1
        for m, a, n in zip(shape, first, good.shape, strict=True)
    )
    planes[6], planes[7] = x, y[:, None]
    return SkyInput(planes, level, unit, first)


def _is_no_sky(statistics: np.ndarray) -> np.ndarray:
    """Blocks with pixels far below the level around them, which saw no light, and blocks far above it."""
    shape = statistics.shape[1:]
    squares = np.pad(statistics, ((0, 0), *((0, -n % AROUND) for n in shape)))
    level = gathered(squares, AROUND)[2]
    level = median_filter(np.pad(level, 1, mode="edge"), 3)[1:-1, 1:-1]
    around = level.repeat(AROUND, axis=0).repeat(AROUND, axis=1)
    above = statistics[:4] - around[: shape[0], : shape[1]]
    no_sky = (above.min(axis=0) < -DARK) | (above[3] > BRIGHT_BLOCK)
    return (statistics[5] > 0) & no_sky


def _noise(spreads: np.ndarray) -> float:
    """The noise of blocks without bright sources, above 0; a block of one value shows none."""
    shown = spreads[spreads > 0]
    return float(np.quantile(shown, UNIT_QUANTILE)) if shown.size else 1.0


def is_in_range(statistics: np.ndarray) -> bool:
    """Whether the levels of a frame's sky are near enough to each other for a sky network.

    They are not in raw frames of amplifiers whose biases differ by more than 150 of the noise.
    """
    given = network_input(statistics)
    good = given.planes[5] > 0
    far = np.abs(given.planes[2]) > LARGEST_LEVEL
    of_sky = given.planes[4] < SPREAD_OF_SKY
    return bool(np.count_nonzero(good & far & of_sky) < MOST_FAR * np.count_nonzero(good))
