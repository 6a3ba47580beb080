"""The borders of an image that hold no data, though their pixels hold a number.

They are filled with zeros outside the field, or saw no light: the overscan of a detector.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.filters import label, lowest_joined
from bgrem.arrays.rows import Rows
from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.arrays.tiling import row_strips
from bgrem.options import IN_MEMORY, Run

__all__ = ["Edges", "unlit_border", "zero_border"]

# Chosen by hand on real frames with filled borders and overscan, tested in tests/masks/test_borders.py.
RUN = 8  # zeros in a row along an edge: chance does not bring as many in a frame with noise
SMALLEST_REGION = 64  # pixels of a filled region
SOLID_PART = 0.8  # part of the other pixels that stands in blocks without a filled one
LEAST_LEFT = 0.05  # part of the image that must be left
SOLID_BLOCK = 4
LABELLED_HEIGHT = 256 * SOLID_BLOCK  # rows that are labelled at once
# Of a line that saw no light nearly all pixels (DARK_PART) are below nearly all of those in the frame's middle
# (the percentile BELOW); its level is DEPTH deviations lower, and most of that is gone within ONSET lines.
# It has no photon noise: its own deviation is below QUIET of theirs, while an amplifier whose level is
# lower, but which sees the sky, has as much. Overscan of real frames has 0.2.
DARK_PART, BELOW, DEPTH, ONSET, QUIET = 0.9, 1.0, 5.0, 4, 0.6
LARGEST_STRIP = 4  # part of the frame that a strip may take: a quarter
# Pixels of the middle, and of a line, that are looked at.
MIDDLE_SAMPLES, LINE_SAMPLES = 1 << 16, 1 << 11


def zero_border(data: Rows, run: Run = IN_MEMORY) -> np.ndarray | None:
    """Where pixels of exactly 0 fill the image from its edges inwards, bool; None if nowhere.

    Resampled frames and mosaics are filled so outside their field. In a map of few counts zeros
    reach the edges as well, but there they lie between all other pixels, and nothing is a border.
    """
    ny, nx = data.shape
    sides = data[:, :: max(nx - 1, 1)]
    edges = *data[:: max(ny - 1, 1)], *sides.T
    if not any(_has_run(edge == 0) for edge in edges):
        return None
    filled = _from_the_edges(data)
    if not filled.any():
        return None
    border = run.empty(data.shape, bool)
    for rows, labels, first in _labelled(data):
        border[rows] = filled[np.where(labels, labels + first, 0)]
    return border if _leaves_an_image(border) else None


def _has_run(zero: np.ndarray) -> bool:
    """Whether ``RUN`` neighbours are all True."""
    total = np.cumsum(zero, dtype=np.int64)
    return bool(np.any(total[RUN:] - total[:-RUN] == RUN) or total[:RUN][-1] == RUN)


def _labelled(data: np.ndarray) -> Iterator[tuple[slice, np.ndarray, int]]:
    """The regions of zeros in each strip, numbered from 1; and how many came before."""
    before = 0
    for rows in row_strips(data.shape, LABELLED_HEIGHT):
        labels, count = label(data[rows] == 0)
        yield rows, labels, before
        before += count


def _from_the_edges(data: np.ndarray) -> np.ndarray:
    """Whether each region of `_labelled` is of some size and touches an edge, through others or not.

    The first, 0, is all the rest of the image.
    """
    sizes, touching, joints = [np.zeros(1, np.int64)], [np.zeros(1, bool)], []
    above = None  # the last row of the strip before
    for rows, labels, first in _labelled(data):
        sizes.append(np.bincount(labels.ravel())[1:])
        touches = np.zeros(labels.max() + 1, bool)
        touches[labels[:, [0, -1]]] = True
        if rows.start == 0:
            touches[labels[0]] = True
        if rows.stop == data.shape[0]:
            touches[labels[-1]] = True
        touching.append(touches[1:])
        numbers = np.where(labels[[0, -1]], labels[[0, -1]] + first, 0)
        if above is not None:
            joints.append(np.stack([above, numbers[0]])[:, (above > 0) & (numbers[0] > 0)])
        above = numbers[1]
    sizes, touching = np.concatenate(sizes), np.concatenate(touching)
    pairs = np.concatenate(joints, axis=1) if joints else np.empty((2, 0), np.int64)
    whole = lowest_joined(len(sizes), *pairs)
    large = np.bincount(whole, sizes, len(sizes)) >= SMALLEST_REGION
    reached = np.bincount(whole, touching, len(sizes)) > 0
    return (large & reached)[whole]


def _leaves_an_image(border: np.ndarray) -> bool:
    """Whether the other pixels are an image, and not single pixels among zeros."""
    left = solid = 0
    for rows in row_strips(border.shape, LABELLED_HEIGHT):
        strip = border[rows]
        left += strip.size - np.count_nonzero(strip)
        ny, nx = (n - n % SOLID_BLOCK for n in strip.shape)
        blocks = strip[:ny, :nx].reshape(
            ny // SOLID_BLOCK, SOLID_BLOCK, nx // SOLID_BLOCK, SOLID_BLOCK
        )
        solid += SOLID_BLOCK**2 * np.count_nonzero(~blocks.any(axis=(1, 3)))
    return LEAST_LEFT * border.size <= left < border.size and solid >= SOLID_PART * left


@dataclass(frozen=True)
class Edges:
    """Strips along the edges of an image, True where one is sliced into rows.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the image.
    first, last : tuple of int
        Rows and columns of the strips at the beginning of both axes, and at their ends.
    """

    shape: tuple[int, int]
    first: tuple[int, int]
    last: tuple[int, int]

    def __getitem__(self, rows: slice) -> np.ndarray:
        down, across = (
            (place < first) | (place >= length - last)
            for place, length, first, last in zip(
                map(np.arange, self.shape), self.shape, self.first, self.last, strict=True
            )
        )
        return down[rows, None] | across


def unlit_border(data: np.ndarray) -> Edges | None:
    """Strips along the edges that saw no light: overscan, or rows that a detector covers; None without one.

    Pixels that are not finite are ignored.
    """
    middle = tuple(slice(n // 4, -(-3 * n // 4)) for n in data.shape)
    step = int(np.ceil(np.sqrt(data.shape[0] * data.shape[1] / 4 / MIDDLE_SAMPLES))) | 1
    lit = np.asarray(data[tuple(slice(part.start, part.stop, step) for part in middle)])
    lit = lit[np.isfinite(lit)].astype(np.float64)
    if not lit.size:
        return None
    lowest, level = np.percentile(lit, [BELOW, 50])
    spread = _spread(lit)
    first, last = (
        tuple(_unlit_lines(_lines(data, axis, backwards), lowest, level, spread, data.shape[axis])
              for axis in (0, 1))
        for backwards in (False, True)
    )  # fmt: skip
    return Edges(data.shape, first, last) if any((*first, *last)) else None


def _lines(data: np.ndarray, axis: int, backwards: bool) -> Iterator[np.ndarray]:
    """Finite values of the rows, or columns, of an image from one of its edges inwards."""
    length, along = data.shape[axis], data.shape[1 - axis]
    seen = slice(None, None, -(-along // LINE_SAMPLES) | 1)
    for start in range(0, length, SOLID_BLOCK):
        stop = min(start + SOLID_BLOCK, length)
        some = slice(length - stop, length - start) if backwards else slice(start, stop)
        lines = np.asarray(data[some, seen]) if axis == 0 else np.asarray(data[seen, some]).T
        for line in lines[::-1] if backwards else lines:
            yield line[np.isfinite(line)]


def _spread(values: np.ndarray) -> float:
    return SIGMA_PER_MAD * float(np.median(np.abs(values - np.median(values))))


def _unlit_lines(lines, lowest: float, level: float, spread: float, length: int) -> int:
    """How many lines from the edge saw no light; 0 where it fades, as in a vignetted image."""
    levels: list[float] = []
    spreads: list[float] = []
    for line in lines:
        if line.size and np.mean(line < lowest) < DARK_PART:
            break
        levels.append(float(np.median(line)) if line.size else np.nan)
        spreads.append(_spread(line) if line.size else np.nan)
        if len(levels) > length // LARGEST_STRIP:
            return 0
    last = [value for value in levels[-ONSET:] if np.isfinite(value)]
    after = [np.median(line) for _, line in zip(range(ONSET), lines, strict=False) if line.size]
    if not last or not after:
        return 0
    dark = np.median(last)
    abrupt = np.median(after) > 0.5 * (dark + level)
    quiet = np.nanmedian(spreads) < QUIET * spread
    return len(levels) if abrupt and quiet and level - dark > DEPTH * spread else 0
