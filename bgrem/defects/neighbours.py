"""What a pixel has above its eight neighbours: defects are sharper than stars."""

import numpy as np

from bgrem.masks.filling import filled

__all__ = ["above_neighbours", "is_above_all"]

# Comparators that bring the fourth and the fifth lowest of eight numbers to their places: Batcher's odd-even
# merge sort (Knuth 1998, The Art of Computer Programming 3, 5.3.4) without the last ones.
COMPARATORS = (
    (0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (1, 2), (5, 6),
    (0, 4), (1, 5), (2, 6), (3, 7), (2, 4), (3, 5), (3, 4),
)  # fmt: skip


def above_neighbours(
    x: np.ndarray, cell: tuple[int, int] = (1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """What each pixel has above the median of its eight neighbours, and that median.

    Parameters
    ----------
    x : `~numpy.ndarray`
        Image of shape (ny, nx), float32, in units of the sky's rms; NaN in bad pixels. These are filled
        from the good ones around them before they are anybody's neighbours.
    cell : tuple of int
        Rows and columns of a mosaic of a colour filter array: neighbours are those of one colour.

    Returns
    -------
    above, around : `~numpy.ndarray`
        float32 of shape (ny, nx); ``above`` is NaN in bad pixels.
    """
    bad = ~np.isfinite(x)
    whole = filled(x, bad) if bad.any() else x
    around = _median_of_neighbours(whole, cell)
    return x - around, around


def is_above_all(x: np.ndarray, cell: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Where a pixel is higher than all of its eight neighbours, bool of the shape of ``x``; NaN is not."""
    neighbours = _neighbours(x, cell)
    return np.logical_and.reduce([~(x <= one) for one in neighbours]) & np.isfinite(x)


def _neighbours(x: np.ndarray, cell: tuple[int, int]) -> list[np.ndarray]:
    """The eight neighbours of each pixel; the image is continued by reflection."""
    (down, across), (ny, nx) = cell, x.shape
    padded = np.pad(x, ((down, down), (across, across)), mode="reflect")
    places = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    return [
        padded[i * down : i * down + ny, j * across : j * across + nx].copy() for i, j in places
    ]


def _median_of_neighbours(x: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    values = _neighbours(x, cell)
    spare = np.empty_like(values[0])
    for low, high in COMPARATORS:
        np.minimum(values[low], values[high], out=spare)
        np.maximum(values[low], values[high], out=values[high])
        values[low], spare = spare, values[low]
    return 0.5 * (values[3] + values[4])
