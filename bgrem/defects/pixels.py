"""Pixels that stand out of their neighbours in most frames."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.rows import Memory, Rows
from bgrem.defects.chance import BINS, Likelihoods, bin_of, chances_of, prior_of
from bgrem.defects.exposures import STRIP_ROWS, spread_strips
from bgrem.defects.neighbours import above_neighbours, is_above_all
from bgrem.defects.pointings import Pointings, median_of_known, sharpest_star

__all__ = ["LEAST_VALUE", "PixelDefects", "find_pixels"]

# sky rms. Fainter defects change no detection, and the flat field has as much.
LEAST_VALUE = 2.0
# A pixel is looked at if its median is above this, and above CERTAIN standard deviations of a median.
LOWEST_MEDIAN, CERTAIN, OF_A_MEDIAN = 1.2, 2.5, 1.36
# Classes of pixels by the median of their neighbours in sky rms: beside stars everything is possible.
CLASSES = np.array([-1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0], np.float32)
EDGE_CLASS = len(CLASSES) + 1
LOOKED_AT = 1 << 25  # pixels of all groups that are worked on at once
MOST_COUNTED = 4e6  # pixels of a frame that give its distribution
EMPTY = 1.0  # sky rms, of the median of the neighbours where there is no star
LARGEST_OFFSET = 3.0  # sky rms, of pixels from which the offsets of good ones are measured
LEAST_LOG_RATIO = -5.0  # of the pixels that are kept


@dataclass(frozen=True, eq=False)
class PixelDefects:
    """Values of all pixels and chances of some.

    Attributes
    ----------
    value : Rows
        Median over the frames of what each pixel has above its neighbours, in sky rms, float32 of shape
        (ny, nx); NaN where too few frames show it.
    rows, columns : `~numpy.ndarray`
        Of the pixels that may be defects, int of shape (n,).
    chance : `~numpy.ndarray`
        Of these, float64 of shape (n,).
    prior : float
        Part of all pixels that is defective.
    offset : float
        Standard deviation of the offsets of good pixels in sky rms.
    """

    value: Rows
    rows: np.ndarray
    columns: np.ndarray
    chance: np.ndarray
    prior: float
    offset: float


@dataclass(frozen=True, eq=False)
class _Strip:
    """Some rows of all groups of frames, (groups, ny, nx) each: values, medians of the neighbours, classes.

    Where stars stay in their pixels, ``peaks`` are the pixels above all neighbours, (ny, nx).
    """

    rows: slice
    above: np.ndarray
    around: np.ndarray
    classes: np.ndarray
    peaks: np.ndarray | None


def find_pixels(pointings: Pointings, known: Rows, store: Memory) -> PixelDefects:
    """Find pixels that stand out of their neighbours in most frames.

    Parameters
    ----------
    pointings : Pointings
    known : Rows of bool
        Pixels of bad columns and rows: they are nobody's neighbours and are not looked at.
    store : `~bgrem.arrays.rows.Memory`
        Where the map of values is kept.
    """
    counts, offset = _distributions(pointings, known)
    likelihoods = Likelihoods(counts, pointings.patterns(), LEAST_VALUE, offset)
    shape = pointings.exposures[0].pixels.shape
    value = store.empty(shape, np.float32)
    places, ratios, seen = [], [], 0
    for strip in _strips(pointings, known):
        median = median_of_known(strip.above)
        count = np.count_nonzero(np.isfinite(strip.above), axis=0)
        shown = count >= max(3, len(pointings.groups) / 2)
        seen += np.count_nonzero(shown)
        median[~shown] = np.nan
        value[strip.rows] = median
        limit = np.maximum(LOWEST_MEDIAN, CERTAIN * OF_A_MEDIAN / np.sqrt(np.maximum(count, 1)))
        chosen = np.abs(median) > limit
        if not pointings.tell_stars:
            chosen &= _sharper_than_stars(strip, median, pointings)
        if not chosen.any():
            continue
        ratio = likelihoods.log_ratio(bin_of(strip.above[:, chosen]), strip.classes[:, chosen])
        kept = ratio > LEAST_LOG_RATIO
        y, x = (place[kept] for place in np.nonzero(chosen))
        places.append(np.stack([y + strip.rows.start, x]))
        ratios.append(ratio[kept])
    rows, columns = np.concatenate(places, axis=1) if places else np.empty((2, 0), np.int64)
    ratio = np.concatenate(ratios) if ratios else np.empty(0)
    prior = prior_of(ratio, seen)
    return PixelDefects(value, rows, columns, chances_of(ratio, prior), prior, offset)


def _strips(pointings: Pointings, known: Rows, most: float = np.inf) -> Iterator[_Strip]:
    """Strips of rows of all groups, all or some."""
    cell = pointings.exposures[0].cell
    shape, number = pointings.exposures[0].pixels.shape, len(pointings.groups)
    height = int(np.clip(LOOKED_AT // (number * shape[1]), 1, STRIP_ROWS))
    for rows in spread_strips(shape, most, height):
        top, bottom = max(rows.start - cell[0], 0), min(rows.stop + cell[0], shape[0])
        own = slice(rows.start - top, rows.stop - top)
        hidden = np.asarray(known[slice(top, bottom)])
        both = np.empty((2, number, rows.stop - rows.start, shape[1]), np.float32)
        classes = np.empty(both.shape[1:], np.uint8)
        whole = []
        for k in range(number):
            x = pointings.strip(k, slice(top, bottom))
            x[hidden] = np.nan
            whole += [] if pointings.tell_stars else [x]
            above, around = above_neighbours(x, cell)
            both[0, k], both[1, k] = above[own], around[own]
            classes[k] = np.digitize(around[own], CLASSES)
        _set_edges(classes, rows, shape)
        peaks = is_above_all(median_of_known(np.stack(whole)), cell)[own] if whole else None
        yield _Strip(rows, *both, classes, peaks)


def _set_edges(classes: np.ndarray, rows: slice, shape: tuple[int, int]) -> None:
    """Give pixels along the edges, which have five neighbours only, a class of their own."""
    classes[..., [0, -1]] = EDGE_CLASS
    if rows.start == 0:
        classes[:, 0] = EDGE_CLASS
    if rows.stop == shape[0]:
        classes[:, -1] = EDGE_CLASS


def _distributions(pointings: Pointings, known: Rows) -> tuple[list[np.ndarray], float]:
    """Histograms of the values of each group, by class; and the standard deviation of fixed offsets."""
    number = EDGE_CLASS + 1
    counts = np.zeros((len(pointings.groups), number * (BINS + 1)), np.int64)
    shared = []
    for strip in _strips(pointings, known, MOST_COUNTED):
        for count, kind, above in zip(counts, strip.classes, strip.above, strict=True):
            place = kind.astype(np.int64) * (BINS + 1) + bin_of(above)
            count += np.bincount(place.ravel(), minlength=len(count))
        halves = [median_of_known(strip.above[k::2]) for k in range(2)]
        quiet = np.abs(halves[0] + halves[1]) < 2 * LARGEST_OFFSET
        quiet &= np.median(strip.around, axis=0) < EMPTY
        products = np.clip(halves[0], -3, 3) * np.clip(halves[1], -3, 3)
        if quiet.any():
            shared.append(float(products[quiet].mean()))
    offset = float(np.sqrt(max(np.median(shared), 0))) if shared else 0.0
    tables = counts.reshape(-1, number, BINS + 1)[:, :, :BINS]
    return list(tables), offset


def _sharper_than_stars(strip: _Strip, median: np.ndarray, pointings: Pointings) -> np.ndarray:
    """Where no star could be as sharp; below their neighbours are also pixels beside bright stars."""
    around = median_of_known(strip.around)
    spread = OF_A_MEDIAN / np.sqrt(len(strip.around)) / 2  # of a median of eight, over the frames
    star = sharpest_star(pointings.fwhm) * np.maximum(around + 2 * spread, 0)
    sharper = np.where(median < 0, np.abs(around) < EMPTY, strip.peaks & (median > star))
    # Pixels along the edges have too few neighbours to distinguish a star.
    sharper[:, [0, -1]] = False
    if strip.rows.start == 0:
        sharper[0] = False
    if strip.rows.stop == pointings.exposures[0].pixels.shape[0]:
        sharper[-1] = False
    return sharper
