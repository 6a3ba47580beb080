"""Which images are mosaics of a colour filter array, and the cell that its pattern repeats.

Cells of up to 8 x 8 pixels are found: Bayer (2 x 2), X-Trans (6 x 6), CYGM (2 x 4), quad Bayer (4 x 4).
"""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.io.reading import as_planes
from bgrem.options import SMALLEST_IMAGE

__all__ = ["BAYER_CELL", "mosaic_cell"]

BAYER_CELL = (2, 2)
SIDES = (2, 3, 4, 6, 8)  # pixels, of cells that are looked for in the pixels
# Cards in which programs of cameras name the colours of the cell, row by row.
PATTERN_CARDS = ("BAYERPAT", "COLORTYP", "CFA-PAT", "CFA_PAT", "CFAPAT")
COLOURS = "RGBCMYEW"
# By the number of letters. Eight are a CYGM matrix of interlaced detectors, four rows of two columns.
NAMED_CELLS = {4: (2, 2), 8: (4, 2), 9: (3, 3), 16: (4, 4), 36: (6, 6), 64: (8, 8)}
X_TRANS = (6, 6)
COLOUR_IMAGES = (3, 4)  # planes
PATTERN_BLOCKS = 4  # along each axis, in each of which the pattern must show
BLOCK_SIDE = 96  # pixels, at most
CELLS_PER_BLOCK = 4  # at least, along each axis
KNOWN_BLOCKS = 12  # at least, of 16: others lie in a border without data
# Sky rms by which the levels of a cell differ beyond differences of rows and of columns: 1.2 in frames of a
# camera with a Bayer filter under a bright sky, below 0.03 in all others of the project's real images.
PATTERN = 0.15
# A smaller cell may leave this part of the pattern, or this part of the noise, unexplained; or what chance
# leaves, in standard deviations of the mean of all pixels.
UNEXPLAINED, UNSEEN_PATTERN, CHANCE = 0.04, 0.1, 10.0
SMALLEST_PLANE = 8  # pixels along each axis of the pixels of one position in the cell


def mosaic_cell(data: np.ndarray, header: Mapping[str, Any]) -> tuple[int, int] | None:
    """The cell of a mosaic, in rows and columns; None if the image is no mosaic.

    ``data`` has the stored shape of an image; the first plane of a cube stands for all.
    The pixels decide, else a card such as BAYERPAT. The medians of the positions of a cell differ by a good
    part of the noise, and alike in every part of the image. Differences of rows and of columns do not
    count: those are a detector's. A card counts where the pixels show no pattern, or one whose repetition
    is the cell that it names.
    """
    planes = as_planes(data)
    shape = planes.shape[1:]
    if min(shape) < 2 * SMALLEST_IMAGE:
        return None
    shown = _shown_cell(planes[0])
    # The card of the camera is still there in its images of three colours, which are no mosaics.
    named = None if len(planes) in COLOUR_IMAGES else _named_cell(header)
    if named is None or min(shape) < SMALLEST_PLANE * max(named):
        return shown
    if shown is None or not any(n % m for n, m in zip(named, shown, strict=True)):
        return named
    return shown


def _named_cell(header: Mapping[str, Any]) -> tuple[int, int] | None:
    """The cell that a card names."""
    for card in PATTERN_CARDS:
        letters = re.sub(r"[^A-Z]", "", str(header.get(card, "")).upper()).removeprefix("BAYER")
        if letters == "XTRANS":
            return X_TRANS
        if len(letters) in NAMED_CELLS and 1 < len(set(letters)) and not set(letters) - {*COLOURS}:
            return NAMED_CELLS[len(letters)]
    return None


def _shown_cell(data: np.ndarray) -> tuple[int, int] | None:
    """The cell that the pixels show, the smallest that explains their pattern."""
    blocks = list(_blocks(data))
    if len(blocks) < KNOWN_BLOCKS:
        return None
    least = min(min(block.shape) for _, block in blocks)
    sides = [side for side in SIDES if side * CELLS_PER_BLOCK <= least]
    # A pattern shows in cells of a multiple of its size.
    largest = [side for side in sides if not any(n % side == 0 for n in sides if n > side)]
    strengths = {cell: _strength(blocks, cell) for cell in product(largest, largest)}
    best = max(strengths, key=lambda cell: strengths[cell])
    noises = _noises(blocks, best)
    if not _shows_everywhere(_patterns(blocks, best), noises):
        return None
    pixels = sum(block.size for _, block in blocks)
    missed = _missed(strengths[best], float(np.median(noises)), pixels)
    smaller = sorted(product(sides, sides), key=lambda cell: (cell[0] * cell[1], cell))
    return next(
        (cell for cell in smaller if strengths[best] - _strength(blocks, cell) <= missed), best
    )


def _missed(strength: float, noise: float, pixels: int) -> float:
    """The mean square by which the pattern of a smaller cell may fall short: of no effect, or by chance."""
    chance = CHANCE * noise * np.sqrt(strength / pixels)
    return max(UNEXPLAINED**2 * strength, (UNSEEN_PATTERN * noise) ** 2, chance)


def _blocks(data: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Parts of an image with their first row and column, without those that hold one value."""
    down, across = (n // PATTERN_BLOCKS for n in data.shape)
    height, width = min(down, BLOCK_SIDE), min(across, BLOCK_SIDE)
    for i, j in np.ndindex(PATTERN_BLOCKS, PATTERN_BLOCKS):
        top, left = i * down + (down - height) // 2, j * across + (across - width) // 2
        block = np.asarray(data[top : top + height, left : left + width], np.float64)
        block = np.where(np.isfinite(block), block, np.nan)
        good = block[np.isfinite(block)]
        if 2 * good.size > block.size and np.percentile(good, 25) < np.percentile(good, 75):
            yield (top, left), block


def _by_position(first: tuple[int, int], block: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """The pixels of a block by their position in the cell, of shape (rows, columns, n)."""
    skipped = [-n % side for n, side in zip(first, cell, strict=True)]
    block = block[skipped[0] :, skipped[1] :]
    down, across = (n // side for n, side in zip(block.shape, cell, strict=True))
    block = block[: down * cell[0], : across * cell[1]]
    return block.reshape(down, cell[0], across, cell[1]).transpose(1, 3, 0, 2).reshape(*cell, -1)


def _median(values: np.ndarray) -> np.ndarray:
    """Medians along the last axis; NaN is left out."""
    return np.nanmedian(values, axis=-1) if np.isnan(values).any() else np.median(values, axis=-1)


def _patterns(blocks, cell: tuple[int, int]) -> np.ndarray:
    """The levels of the cell in each block, without the means of its rows and of its columns."""
    levels = np.stack([_median(_by_position(*block, cell)) for block in blocks])
    levels = np.nan_to_num(levels, nan=float(np.nanmedian(levels)))
    return (
        levels
        - levels.mean(axis=1, keepdims=True)
        - levels.mean(axis=2, keepdims=True)
        + levels.mean(axis=(1, 2), keepdims=True)
    )


def _strength(blocks, cell: tuple[int, int]) -> float:
    """Mean square of the pattern that two halves of the blocks share: on average 0 for noise."""
    patterns = _patterns(blocks, cell)
    return float(np.mean(patterns[::2].mean(axis=0) * patterns[1::2].mean(axis=0)))


def _noises(blocks, cell: tuple[int, int]) -> np.ndarray:
    """The noise of each block, its pattern left out."""
    values = [_by_position(*block, cell) for block in blocks]
    deviations = (abs(part - _median(part)[..., None]) for part in values)
    return np.array([SIGMA_PER_MAD * _median(part.reshape(-1)) for part in deviations])


def _shows_everywhere(patterns: np.ndarray, noises: np.ndarray) -> bool:
    """Whether the mean pattern stands out of the noise of each block."""
    mean = patterns.mean(axis=0)
    rms = np.sqrt(np.mean(mean**2))
    shown = (patterns * mean).mean(axis=(1, 2))
    return bool((shown > PATTERN * noises * rms).all() and (noises > 0).all())
