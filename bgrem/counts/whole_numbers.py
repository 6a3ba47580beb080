"""Is an image a map of counts?"""

import numpy as np

from bgrem.arrays.tiling import row_strips
from bgrem.options import SMALLEST_IMAGE

__all__ = ["is_counts_map", "why_no_counts"]

MOST_COUNTS = 1000.0  # a pixel, in the mean
TESTED_SIDE = 1024  # px, of the middle of a map, on which the noise is compared with the mean
FEWEST = 30  # counts of a map
GATHERED = 12  # counts of a block, in the median
BLOCK_SIDES = (4, 8, 16, 32, 64)  # px, of the blocks
# Variance over mean, in the lower quartile of the blocks (of a chi-square of 16 degrees of freedom: 0.74 of its mean).
# Many counts a pixel are also in frames of cameras: there the range is narrower. The quartile of n blocks has an error
# of QUARTILE_ERROR / sqrt(n).
FEW_RANGE, MANY_RANGE, MANY, QUARTILE_ERROR = (0.6, 1.25), (0.7, 0.93), 30.0, 1.2
COUNT_UNITS = {"ct", "count", "counts", "photon", "photons", "ph"}
CAMERA_UNITS = {"adu", "dn", "electron", "electrons", "e", "e-"}


def why_no_counts(data) -> str | None:
    """Why a model of counts maps cannot be used on an image, in a few words; None where it can.

    Parameters
    ----------
    data : array_like
        Any shape.
    """
    fractions = negative = False
    for part in _strips(data):
        finite = part[np.isfinite(part)] if part.dtype.kind == "f" else part
        negative = negative or bool((finite < 0).any())
        fractions = fractions or bool((finite != np.rint(finite)).any())
        if negative:
            return (
                "it has negative pixels, so a background was subtracted: give the counts themselves"
            )
    if fractions:
        return (
            "its pixels are not whole numbers, so it was weighted, smoothed or divided by an exposure: give "
            "the counts themselves, and the exposure with --exposure"
        )
    return None


def is_counts_map(data, unit: str = "") -> bool:
    """Whether an image holds few counts with the noise of Poisson's distribution.

    Its pixels are whole numbers, not negative, with a mean of at most 1000, and where the map is smooth the variance of
    neighbours over their mean is near 1. A frame of a camera has a bias level, a gain and read noise, flags have
    values of their own: both differ from 1. Where the map is smooth is not known: of small blocks, the lower quartile
    is taken, in the direction, along rows or columns, in which it is smaller.

    Parameters
    ----------
    data : array_like
        (..., ny, nx).
    unit : str
        Of the pixels, as BUNIT. What is in ADU or electrons is a frame of a camera.

    Returns
    -------
    bool
    """
    unit = unit.strip().lower()
    if data.dtype.kind not in "iuf" or data.ndim < 2 or min(data.shape[-2:]) < SMALLEST_IMAGE:
        return False
    if unit in CAMERA_UNITS:
        return False
    middle = _middle(data)
    if _refuses(middle):
        return False
    total, pixels, highest = float(middle.sum()), middle.size, float(middle.max())
    named = unit in COUNT_UNITS
    # A mask is of zeros and ones, and so is a map of very few counts, which must say what it is.
    if total < FEWEST or total > MOST_COUNTS * pixels or (highest < 2 and not named):
        return False
    low, high = MANY_RANGE if total > MANY * pixels else FEW_RANGE
    quartiles = []
    for image in (middle, middle.T):
        ratios = _variance_over_mean(image)
        error = QUARTILE_ERROR / np.sqrt(len(ratios))
        quartiles.append((float(np.quantile(ratios, 0.25)), error))
    quartile, error = min(quartiles)
    return low - error < quartile < high + error and not any(map(_refuses, _strips(data)))


def _refuses(part) -> bool:
    finite = part if part.dtype.kind != "f" else part[np.isfinite(part)]
    return bool((finite < 0).any() or (finite != np.rint(finite)).any())


def _strips(data):
    flat = data.reshape(-1, *data.shape[-2:]) if data.ndim > 2 else [data]
    for plane in flat:
        for rows in row_strips(plane.shape):
            yield np.asarray(plane[rows])


def _middle(data) -> np.ndarray:
    """The middle of the plane, or of the sum of the planes; 0 where it is not finite, or the plane is not seen."""
    window = tuple(
        slice(max((n - TESTED_SIDE) // 2, 0), max((n - TESTED_SIDE) // 2, 0) + TESTED_SIDE)
        for n in data.shape[-2:]
    )
    if data.ndim == 2:
        part = np.asarray(data[window[0]])[:, window[1]].astype(np.float64)
    else:
        planes = data.reshape(-1, *data.shape[-2:])
        part = sum(np.asarray(p[window[0]])[:, window[1]].astype(np.float64) for p in planes)
    return np.where(np.isfinite(part), part, 0)


def _variance_over_mean(image) -> np.ndarray:
    """Sixth of the squared second differences of neighbours along rows over their mean, of each block with counts.

    Of independent pixels with the same variance and means on a line, the square has the expectation 6 variances.
    """
    threes = image[:, : image.shape[1] // 3 * 3].reshape(len(image), -1, 3)
    squares = (threes[..., 0] - 2 * threes[..., 1] + threes[..., 2]) ** 2 / 6
    means = threes.sum(2) / 3
    ratios = np.array([np.inf])
    for side in BLOCK_SIDES:
        ny, nx = (n // side * side for n in means.shape)
        if not ny or not nx:
            break
        square, mean = (
            part[:ny, :nx].reshape(ny // side, side, nx // side, side).sum((1, 3))
            for part in (squares, means)
        )
        filled = mean > 0
        if not filled.any():
            break
        ratios = square[filled] / mean[filled]
        if np.median(mean[filled]) >= GATHERED:
            break
    return ratios
