"""The zero-filled borders of an image: no data, though the pixels hold a number."""

from collections.abc import Iterator

import numpy as np

from bgrem.filters import label, lowest_joined
from bgrem.scratch import MEMORY, Memory
from bgrem.tiling import row_strips

__all__ = ["zero_border"]

RUN = 8  # zeros in a row along an edge: chance does not bring as many in a frame with noise
SMALLEST = 64  # pixels of a filled region
SOLID = 0.8  # part of the other pixels that stands in blocks without a filled one
LEAST = 0.05  # part of the image that must be left
BLOCK = 4
HEIGHT = 256 * BLOCK  # rows that are labelled at once


def zero_border(data: np.ndarray, store: Memory = MEMORY) -> np.ndarray | None:
    """Pixels of exactly 0 that fill the image from its edges inwards.

    Resampled frames and mosaics are filled so outside their field. In a map of few counts zeros
    reach the edges as well, but there they lie between all other pixels, and nothing is a border.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image of shape (ny, nx), real numbers.
    store : `~bgrem.scratch.Memory`
        Where the result is kept.

    Returns
    -------
    `~numpy.ndarray` or None
        bool of shape (ny, nx), True where there are no data; None where there is no such border.
    """
    ny, nx = data.shape
    sides = data[:, :: max(nx - 1, 1)]
    edges = *data[:: max(ny - 1, 1)], *sides.T
    if not any(_has_run(edge == 0) for edge in edges):
        return None
    filled = _from_the_edges(data)
    if not filled.any():
        return None
    border = store.empty(data.shape, bool)
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
    for rows in row_strips(data.shape, HEIGHT):
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
    large = np.bincount(whole, sizes, len(sizes)) >= SMALLEST
    reached = np.bincount(whole, touching, len(sizes)) > 0
    return (large & reached)[whole]


def _leaves_an_image(border: np.ndarray) -> bool:
    """Whether the other pixels are an image, and not grains in a sea of zeros."""
    left = solid = 0
    for rows in row_strips(border.shape, HEIGHT):
        strip = border[rows]
        left += strip.size - np.count_nonzero(strip)
        ny, nx = (n - n % BLOCK for n in strip.shape)
        blocks = strip[:ny, :nx].reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK)
        solid += BLOCK**2 * np.count_nonzero(~blocks.any(axis=(1, 3)))
    return LEAST * border.size <= left < border.size and solid >= SOLID * left
