"""Averages of small blocks of pixels: the scale at which objects stand out of the noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.tiling import over_strips

__all__ = ["BLOCK", "Blocks", "expand", "reduce_blocks", "strips_of", "survey"]

BLOCK = 4  # px: side of a block
HEIGHT = 64 * BLOCK  # rows that are averaged at once


@dataclass(frozen=True, eq=False)
class Blocks:
    """Averages of BLOCK x BLOCK pixels: their mean, which have one, and filled gaps."""

    mean: np.ndarray
    known: np.ndarray
    filling: np.ndarray


def strips_of(shape: tuple[int, int], rows: int = HEIGHT) -> Iterator[tuple[int, int]]:
    """First and last row of strips of blocks."""
    return ((y, min(y + rows, shape[0])) for y in range(0, shape[0], rows))


def survey(x, mask, threads: int = 1) -> Blocks:
    """Averages over blocks; a block counts where at least a quarter of it is good.

    Parameters
    ----------
    x : array_like
        Image of shape (ny, nx) that slices into strips of rows.
    mask : array_like of bool, or None
        True where a pixel is bad.
    threads : int
        Strips that are averaged at once.

    Returns
    -------
    Blocks
    """
    shape = tuple(-(-n // BLOCK) for n in x.shape)
    mean, known, flat = (np.empty(shape, kind) for kind in (np.float32, bool, bool))

    def average(pixels: slice) -> None:
        top, bottom = pixels.start, pixels.stop
        rows = slice(top // BLOCK, -(-bottom // BLOCK))
        strip = _pad_to_blocks(np.asarray(x[top:bottom], dtype=np.float32))
        bad = np.zeros((bottom - top, x.shape[1]), dtype=bool)
        if mask is not None:
            bad |= np.asarray(mask[top:bottom], dtype=bool)
        bad = _pad_to_blocks(bad)
        flat[rows] = reduce_blocks(strip, np.maximum) == reduce_blocks(strip, np.minimum)
        if bad.any():
            count = BLOCK**2 - reduce_blocks(bad.astype(np.float32), np.add)
            total = reduce_blocks(np.where(bad, np.float32(0), strip), np.add)
        else:
            count = np.full(flat[rows].shape, BLOCK**2, dtype=np.float32)
            total = reduce_blocks(strip, np.add)
        mean[rows] = total / np.maximum(count, 1)
        known[rows] = count >= BLOCK**2 / 4

    over_strips(average, x.shape, height=HEIGHT, threads=threads)
    return Blocks(mean, known, _filling(x, mask, flat))


def _pad_to_blocks(strip: np.ndarray) -> np.ndarray:
    padding = [(0, -n % BLOCK) for n in strip.shape]
    return np.pad(strip, padding, mode="edge") if any(p for _, p in padding) else strip


def reduce_blocks(strip: np.ndarray, function: np.ufunc, block: int = BLOCK) -> np.ndarray:
    """Reduce blocks of pixels, rows first: that runs along contiguous memory."""
    ny, nx = strip.shape
    rows = function.reduce(strip.reshape(ny // block, block, nx), axis=1)
    columns = rows.reshape(ny // block, nx // block, block)
    return function.reduce([columns[:, :, k] for k in range(block)], axis=0)


def expand(blocks: np.ndarray, block: int) -> np.ndarray:
    """Each value as a square of ``block`` pixels."""
    return np.repeat(np.repeat(blocks, block, axis=0), block, axis=1)


def _filling(x, mask, flat: np.ndarray) -> np.ndarray:
    """Blocks in filled gaps and saturated cores: 2 x 2 blocks of one value.

    In a map of few counts most blocks are such, and they are the sky; there the
    other pixels are mostly of one value as well.
    """
    filling = _in_square(flat)
    if not filling.any():
        return filling
    stride = (int(np.sqrt(x.shape[0] * x.shape[1] / (1 << 16))) + 1) | 1
    rows, columns = (np.arange(0, n, stride) for n in x.shape)
    values = np.asarray(x[::stride, ::stride])
    kept = np.isfinite(values) & ~filling[np.ix_(rows // BLOCK, columns // BLOCK)]
    if mask is not None:
        kept &= ~np.asarray(mask[::stride, ::stride], dtype=bool)
    if not kept.any() or np.ptp(np.percentile(values[kept], [25, 75])) == 0:
        return np.zeros_like(filling)
    return filling


def _in_square(flat: np.ndarray) -> np.ndarray:
    """Blocks that belong to a square of 2 x 2 such blocks; the edge goes on outside."""
    corner = np.pad(flat, ((1, 0), (1, 0)), mode="edge")
    corner = corner[:-1] & corner[1:]
    corner = np.pad(corner[:, :-1] & corner[:, 1:], ((0, 1), (0, 1)), mode="edge")
    corner = corner[:-1] | corner[1:]
    return corner[:, :-1] | corner[:, 1:]
