"""The zero-filled borders of an image: no data, though the pixels hold a number."""

import numpy as np
from scipy import ndimage

__all__ = ["zero_border"]

RUN = 8  # zeros in a row along an edge: chance does not bring as many in a frame with noise
SMALLEST = 64  # pixels of a filled region
SOLID = 0.8  # part of the other pixels that stands in blocks without a filled one
LEAST = 0.05  # part of the image that must be left
BLOCK = 4


def zero_border(data: np.ndarray) -> np.ndarray | None:
    """Pixels of exactly 0 that fill the image from its edges inwards.

    Resampled frames and mosaics are filled so outside their field. In a map of few counts zeros
    reach the edges as well, but there they lie between all other pixels, and nothing is a border.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image of shape (ny, nx), real numbers.

    Returns
    -------
    `~numpy.ndarray` or None
        bool of shape (ny, nx), True where there are no data; None where there is no such border.
    """
    edges = data[0], data[-1], data[:, 0], data[:, -1]
    if not any(_has_run(edge == 0) for edge in edges):
        return None
    border = _from_the_edges(data == 0)
    return border if _leaves_an_image(border) else None


def _has_run(zero: np.ndarray) -> bool:
    """Whether ``RUN`` neighbours are all True."""
    total = np.cumsum(zero, dtype=np.int64)
    return bool(np.any(total[RUN:] - total[:-RUN] == RUN) or total[:RUN][-1] == RUN)


def _from_the_edges(zero: np.ndarray) -> np.ndarray:
    """The connected regions of some size that touch an edge."""
    labels, count = ndimage.label(zero)
    touching = np.zeros(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[edge] = True
    touching[0] = False
    large = np.bincount(labels.ravel(), minlength=count + 1) >= SMALLEST
    return (touching & large)[labels]


def _leaves_an_image(border: np.ndarray) -> bool:
    """Whether the other pixels are an image, and not grains in a sea of zeros."""
    left = border.size - np.count_nonzero(border)
    if left == border.size or left < LEAST * border.size:
        return False
    ny, nx = (n - n % BLOCK for n in border.shape)
    blocks = border[:ny, :nx].reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK)
    whole = BLOCK**2 * np.count_nonzero(~blocks.any(axis=(1, 3)))
    return bool(whole >= SOLID * left)
