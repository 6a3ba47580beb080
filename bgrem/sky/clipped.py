"""Level and noise of the sky in cells of an image: SExtractor's clipped mode, of a row of cells at once.

SEP gives the same cell by cell, in twice the time of a mesh (docs/experiments.rst, 30).
"""

from functools import lru_cache

import numpy as np

from bgrem.arrays.statistics import SIGMA_PER_IQR, SIGMA_PER_MAD

__all__ = ["clipped_mean", "clipped_modes"]

# Sigma about the median, by quartiles, to which values are limited before any clipping, and the bins of
# their histogram in that range.
LIMIT, HISTOGRAM_BINS = 8.0, 256
# Pixels along each side of a cell from which its quartiles are measured; where fewer than FEWEST_SAMPLED of
# them are good, all pixels of the cell are used.
SAMPLED_SIDE, FEWEST_SAMPLED = 24, 128
# SExtractor (Bertin & Arnouts 1996) takes mean and sigma within 2 sigma of the mean, keeps 5 of these,
# clips at 3 sigma about the median until sigma stays, and takes the median itself for the mode where it
# is further from the mean than 0.3 sigma: a crowd.
FIRST_CLIP, SECOND_CLIP, CLIP, SKEWED = 2.0, 5.0, 3.0, 0.3
CLIPPING_ROUNDS, STAYS = 100, 1e-3
# Objects make the upper half of the sky's values wider. A lower half wider than the upper by this
# factor holds pixels that saw no light: then the noise is that of the upper half.
DARK_RATIO = 3.0
# A still larger ratio occurs only where most pixels are saturated.
SATURATED_RATIO = 1000.0
# Values in steps above this many sigma have their clipped mean taken, not their mode; finer ones down to
# the second are filled.
COARSE_STEP, FINE_STEP = 0.3, 0.02
GOLDEN_RATIO = 0.6180339887498949


def clipped_modes(
    strip: np.ndarray, bad: np.ndarray | None, edges: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level, standard deviation and seen part of the sky in cells side by side, float64 of shape (cells,).

    SExtractor's estimate (clipping about the median, mode = 2.5 median - 1.5 mean) needs a continuous
    distribution: of values in steps of 0.3 to 1 sigma it is wrong by as much as 0.6 sigma. So a step is
    first filled evenly, by a sequence and not by chance, and its variance is subtracted again. Coarser
    steps are those of few counts, whose noise is skewed: the mode is not its mean, and the clipped mean is
    the remaining estimate.

    ``strip`` holds rows of an image, float32 of shape (rows, nx), ``bad`` is True for pixels that do not
    count. ``edges``, int of shape (cells + 1,), are the columns between cells, 0 and nx included; ``step``
    is the distance of the possible values, 0 if they are continuous. All three results are 0 for a cell
    without a pixel that counts.
    """
    seen = _seen(bad, edges, len(strip))
    median, spread = _quartiles(strip, bad, edges)
    level = np.zeros(seen.size)
    coarse = (step > COARSE_STEP * spread) | (spread == 0)
    smooth = ~coarse & (seen > 0)
    if smooth.any():
        filled = np.where(smooth & (step > FINE_STEP * spread), step, 0.0)
        counts = _histograms(strip, bad, edges, median, np.where(smooth, spread, 1.0), filled)
        position, deviation = _modes(counts)
        width = 2 * LIMIT * spread / HISTOGRAM_BINS
        level = np.where(smooth, median + (position - HISTOGRAM_BINS / 2) * width, 0.0)
        variance = np.maximum((deviation * width) ** 2 - filled**2 / 12, 0.0)
        spread = np.where(smooth, np.sqrt(variance), spread)
    for i in np.flatnonzero(coarse & (seen > 0)):
        values = _of_cell(strip, bad, edges, i)
        level[i], spread[i] = clipped_mean(values, step)
    return level, np.where(seen > 0, spread, 0.0), seen


def clipped_mean(values: np.ndarray, step: float) -> tuple[float, float]:
    """Mean and standard deviation of values within 3 sigma, and within 2 steps at least.

    ``step`` is the distance of the possible values, 0 if they are continuous.
    """
    values = values.astype(np.float64)
    mean, spread = np.mean(values), np.std(values)
    for _ in range(20):
        kept = values[np.abs(values - mean) <= max(CLIP * spread, 2 * step)]
        previous, mean, spread = spread, np.mean(kept), np.std(kept)
        if spread >= 0.999 * previous:
            break
    return float(mean), float(spread)


def _of_cell(strip, bad, edges, i: int) -> np.ndarray:
    """The values of one cell that count."""
    columns = slice(edges[i], edges[i + 1])
    cell = strip[:, columns]
    return cell.ravel() if bad is None else cell[~bad[:, columns]]


def _seen(bad, edges, rows: int) -> np.ndarray:
    """The part of the pixels of each cell that counts."""
    if bad is None:
        return np.ones(edges.size - 1)
    lost = np.add.reduceat(np.count_nonzero(bad, axis=0), edges[:-1])
    return 1 - lost / (rows * np.diff(edges))


def _quartiles(strip, bad, edges) -> tuple[np.ndarray, np.ndarray]:
    """Median of a sample of each cell, and the standard deviation from its quartiles."""
    rows = np.unique(np.linspace(0, len(strip) - 1, SAMPLED_SIDE).round().astype(int))
    widths = np.diff(edges)
    side = min(SAMPLED_SIDE, int(widths.min()))
    places = (np.arange(side) + 0.5) / side * widths[:, None]
    columns = edges[:-1, None] + places.astype(int)
    sample = np.ix_(rows, columns.ravel())
    values = strip[sample] if bad is None else np.where(bad[sample], np.nan, strip[sample])
    values = values.reshape(rows.size, widths.size, side).transpose(1, 0, 2)
    values = np.sort(values.reshape(widths.size, -1), axis=1)  # NaN comes last
    count = values.shape[1] - np.count_nonzero(np.isnan(values), axis=1)
    cell = np.arange(widths.size)
    quarters = [values[cell, k * count // 4].astype(np.float64) for k in (1, 2, 3)]
    for i in np.flatnonzero(count < min(FEWEST_SAMPLED, values.shape[1])):
        rest = np.sort(_of_cell(strip, bad, edges, i))
        for k, quarter in enumerate(quarters, 1):
            quarter[i] = rest[k * rest.size // 4] if rest.size else 0.0
    lower, median, upper = quarters
    spread = SIGMA_PER_IQR * (upper - lower)
    ratio = (median - lower) / np.maximum(upper - median, 1e-30)
    dark = (ratio > DARK_RATIO) & (ratio < SATURATED_RATIO)
    return median, np.where(dark, SIGMA_PER_MAD * (upper - median), spread)


def _histograms(strip, bad, edges, median, spread, filled) -> np.ndarray:
    """Numbers of the values within `LIMIT` of each cell, (cells, HISTOGRAM_BINS).

    Higher values count in the last bin: left out before any clipping, they would leave the median
    of a crowd too low. Lower ones do not count: no sky is so far below its median, overscan
    and dark borders are.
    """
    widths = np.diff(edges)
    scale = HISTOGRAM_BINS / (2 * LIMIT * spread)

    def to_columns(values):
        return np.repeat(values.astype(np.float32), widths)

    place = strip - to_columns(median)
    if filled.any():
        place += to_columns(filled) * _even_filling(strip.size).reshape(strip.shape)
    place *= to_columns(scale)
    place += np.float32(HISTOGRAM_BINS / 2 + 1)
    np.clip(place, 0, HISTOGRAM_BINS, out=place)  # 0 is below
    if bad is not None:
        np.copyto(place, 0, where=bad)
    number = place.astype(np.intp)
    number += np.repeat(np.arange(widths.size) * (HISTOGRAM_BINS + 1), widths)
    counts = np.bincount(number.ravel(), minlength=widths.size * (HISTOGRAM_BINS + 1))
    return counts.reshape(widths.size, HISTOGRAM_BINS + 1)[:, 1:]


def _modes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mode and standard deviation of each row of a histogram, in bins from its lower end."""
    sums = _Sums(counts)
    before = np.zeros(len(counts))
    mean, deviation = sums.moments(*sums.within(0.0, np.full(len(counts), np.inf)))
    mean, deviation = sums.moments(*sums.within(mean, FIRST_CLIP * deviation))
    part = sums.within(mean, SECOND_CLIP * deviation)
    for _ in range(CLIPPING_ROUNDS):
        median = sums.median(*part)
        mean, deviation = sums.moments(*part)
        if np.all(np.abs(deviation - before) <= STAYS * deviation):
            break
        before = deviation
        part = sums.within(median, CLIP * deviation)
    skewed = np.abs(mean - median) >= SKEWED * deviation
    return np.where(skewed, median, 2.5 * median - 1.5 * mean), deviation


class _Sums:
    """Moments of parts of histograms; values are spread evenly over their bin.

    Parameters
    ----------
    counts : ndarray, (cells, bins) int
    """

    def __init__(self, counts: np.ndarray) -> None:
        centre = np.arange(counts.shape[1]) + 0.5
        self._below = np.zeros((3, len(counts), counts.shape[1] + 1))
        for power, below in enumerate(self._below):
            np.cumsum(counts * centre**power, axis=1, out=below[:, 1:])
        self._rows = np.arange(len(counts))

    def within(self, middle: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The places up to ``reach`` from ``middle``, no further than the histograms."""
        last = float(self._below.shape[2] - 1)
        return np.clip(middle - reach, 0.0, last), np.clip(middle + reach, 0.0, last)

    def _to(self, place: np.ndarray) -> np.ndarray:
        """Sums of the powers 0 to 2 below a place of each row, (3, cells)."""
        whole = np.minimum(place.astype(int), self._below.shape[2] - 2)
        at, after = (self._below[:, self._rows, whole + k] for k in (0, 1))
        return at + (place - whole) * (after - at)

    def moments(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation between two places of each row."""
        number, total, square = self._to(high) - self._to(low)
        number = np.maximum(number, 1e-30)
        mean = total / number
        return mean, np.sqrt(np.maximum(square / number - mean**2, 0.0))

    def median(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Median between two places of each row."""
        half = 0.5 * (self._to(low)[0] + self._to(high)[0])
        below = self._below[0]
        whole = np.clip(np.count_nonzero(below <= half[:, None], axis=1) - 1, 0, below.shape[1] - 2)
        at, after = (below[self._rows, whole + k] for k in (0, 1))
        return whole + np.clip((half - at) / np.maximum(after - at, 1e-30), 0, 1)


@lru_cache(maxsize=2)
def _long_filling(size: int) -> np.ndarray:
    return (np.arange(size) * GOLDEN_RATIO % 1 - 0.5).astype(np.float32)


def _even_filling(size: int) -> np.ndarray:
    """Numbers that fill -0.5 to 0.5 evenly, whatever the order of the values they are added to."""
    return _long_filling(1 << (size - 1).bit_length())[:size]
