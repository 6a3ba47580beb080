"""Columns and rows, whole or in part, that stand out of those beside them in most frames."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bgrem.arrays.rows import Memory
from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.defects.chance import BINS, Likelihoods, bin_of, chances_of, prior_of
from bgrem.defects.exposures import STRIP_ROWS, spread_strips
from bgrem.defects.pointings import Pointings, median_of_known

__all__ = ["LEAST_OF_LINE", "LineDefect", "find_lines"]

# sky rms: a column of half an rms raises a matched filter of FWHM 3 by 1 rms.
LEAST_OF_LINE = 0.5
SEGMENT = STRIP_ROWS  # pixels along a line whose median is one value
BESIDE = 8  # lines on each side whose median is a level
# Classes by these levels in sky rms: beside bright stars everything is possible.
LEVELS = np.array([-0.5, 0.5, 2.0], np.float32)
KNOWN_PART = 0.5  # part of a segment that must be good
# Pixels of the shortest line: light of stars is shorter, and more so where it is not known to move.
SHORTEST, SHORTEST_OF_STILL = 128, 256
LONGEST_GAP = 2  # segments between bad ones
CERTAIN_LINE = 0.5  # chance from which a segment is bad, so that its ends are looked for
LEAST_LOOKED_AT = 0.6  # of the lowest value
OFFSET_OF_LINES = 0.15  # sky rms: standard deviation of the levels of good lines
NEAR_LINES = 4  # on each side, that give the level at the ends of a line


@dataclass(frozen=True)
class LineDefect:
    """A part of a column or a row.

    Attributes
    ----------
    axis : int
        0 for a part of a column, 1 for one of a row.
    line : int
        Index of the column or row.
    start, stop : int
        First pixel along the line, and the one after the last.
    value : float
        In sky rms, the median over its segments.
    chance : float
        That of its least certain segment.
    """

    axis: int
    line: int
    start: int
    stop: int
    value: float
    chance: float


def find_lines(pointings: Pointings, store: Memory) -> list[LineDefect]:
    """Find parts of columns and rows whose median stands out of those beside them in most frames."""
    shape = pointings.exposures[0].pixels.shape
    found = []
    for axis, profiles in enumerate(_profiles(pointings, store)):
        for line, first, last, value, chance in _bad_segments(profiles, pointings, store):
            start, stop = first * SEGMENT, min(last * SEGMENT, shape[axis])
            found.append(LineDefect(axis, line, start, stop, value, chance))
    bad = {(one.axis, one.line) for one in found}
    lines = []
    for one in found:
        if not {(one.axis, one.line - 1), (one.axis, one.line + 1)} & bad:
            one = _with_ends(one, pointings)
        if one.stop - one.start >= _shortest(one, pointings):
            lines.append(one)
    return lines


def _shortest(line: LineDefect, pointings: Pointings) -> int:
    """Length from which a line is reported; half of all along the edges, where one side is known."""
    shape = pointings.exposures[0].pixels.shape
    along, across = shape[line.axis], shape[1 - line.axis]
    shortest = SHORTEST if pointings.tell_stars else SHORTEST_OF_STILL
    if not BESIDE <= line.line < across - BESIDE:
        shortest = max(shortest, along // 2)
    return min(shortest, along)


def _profiles(pointings: Pointings, store: Memory) -> tuple:
    """Medians of segments of the columns and of the rows: (groups, segments, lines) of each."""
    ny, nx = pointings.exposures[0].pixels.shape
    number = len(pointings.groups)
    columns = store.empty((number, -(-ny // SEGMENT), nx), np.float16)
    rows = store.empty((number, -(-nx // SEGMENT), ny), np.float16)
    padding = -nx % SEGMENT
    for k in range(number):
        along = np.empty(rows.shape[1:], np.float16)
        down = np.empty(columns.shape[1:], np.float16)
        for j, strip in enumerate(spread_strips((ny, nx))):
            x = pointings.strip(k, strip)
            down[j] = _medians(x.T)
            wide = np.pad(x, ((0, 0), (0, padding)), constant_values=np.nan)
            along[:, strip] = _medians(wide.reshape(len(x), -1, SEGMENT)).T
        columns[k], rows[k] = down, along
    return columns, rows


def _medians(values: np.ndarray) -> np.ndarray:
    """Medians along the last axis; NaN where fewer than half of the values are known."""
    whole = ~np.isnan(values)
    if whole.all():
        return np.median(values, axis=-1)
    median = median_of_known(np.moveaxis(values, -1, 0))
    return np.where(whole.mean(axis=-1) >= KNOWN_PART, median, np.nan)


def _bad_segments(profiles, pointings: Pointings, store: Memory) -> Iterator[tuple]:
    """Runs of bad segments of one axis: line, first segment, the one after the last, value and chance."""
    number, segments, lines = profiles.shape
    if lines < 2 * BESIDE:
        return
    values = store.empty(profiles.shape, np.float16)
    classes = store.empty(profiles.shape, np.uint8)
    counts, scale = [], np.ones(number)
    for k in range(number):
        profile = np.asarray(profiles[k : k + 1])[0].astype(np.float32)
        above, level = _above_both_sides(profile)
        scale[k] = max(_spread_of(profile), 1e-3)
        values[k : k + 1], classes[k : k + 1] = (
            (above / scale[k])[None],
            np.digitize(level, LEVELS)[None],
        )
        place = np.digitize(level, LEVELS) * (BINS + 1) + bin_of(above / scale[k])
        count = np.bincount(place.ravel(), minlength=(len(LEVELS) + 1) * (BINS + 1))
        counts.append(count.reshape(-1, BINS + 1)[:, :BINS])
    likelihoods = Likelihoods(
        counts,
        pointings.patterns(),
        LEAST_OF_LINE / scale,
        OFFSET_OF_LINES / float(np.median(scale)),
    )
    median = np.empty((segments, lines), np.float32)
    ratio = np.full((segments, lines), -np.inf)
    for j in range(segments):
        own, kind = np.asarray(values[:, j]), np.asarray(classes[:, j])
        median[j] = median_of_known(own.astype(np.float32) * scale[:, None].astype(np.float32))
        chosen = np.abs(median[j]) > LEAST_LOOKED_AT * LEAST_OF_LINE
        ratio[j, chosen] = likelihoods.log_ratio(bin_of(own[:, chosen]), kind[:, chosen])
    chance = chances_of(ratio, prior_of(ratio, ratio.size))
    bad = (chance > CERTAIN_LINE) & (np.abs(median) > LEAST_OF_LINE)
    for line in np.flatnonzero(bad.any(axis=0)):
        yield from _runs(int(line), bad[:, line], median[:, line], chance[:, line])


def _spread_of(profile: np.ndarray) -> float:
    """Noise of the segments, from the differences of lines."""
    return SIGMA_PER_MAD * float(np.nanmedian(np.abs(np.diff(profile, axis=1)))) / np.sqrt(2)


def _above_both_sides(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What lines have above the higher level beside them, or below the lower one; and the larger level.

    Between the two levels it is 0, as at the step between two amplifiers. The edge has one side.
    """
    medians = _medians(sliding_window_view(profile, BESIDE, axis=1))
    left, right = np.full_like(profile, np.nan), np.full_like(profile, np.nan)
    left[:, BESIDE:], right[:, :-BESIDE] = medians[:, :-1], medians[:, 1:]
    high, low = np.fmax(left, right), np.fmin(left, right)
    above = profile - np.clip(profile, low, high)
    return above, np.where(np.abs(high) > np.abs(low), high, low)


def _runs(
    line: int, bad: np.ndarray, median: np.ndarray, chance: np.ndarray
) -> Iterator[tuple[int, int, int, float, float]]:
    """Bad segments one after another, with short gaps.

    The chance is that at least one of them is bad.
    """
    places = np.flatnonzero(bad)
    for run in np.split(places, np.flatnonzero(np.diff(places) > LONGEST_GAP + 1) + 1):
        value = float(np.median(median[run]))
        yield line, int(run[0]), int(run[-1]) + 1, value, float(1 - np.prod(1 - chance[run]))


def _with_ends(line: LineDefect, pointings: Pointings) -> LineDefect:
    """A line whose ends are those of its light: a segment may be bad in part."""
    length = pointings.exposures[0].pixels.shape[line.axis]
    start, stop = line.start, line.stop
    if start > 0:
        start = _end_in(
            line, max(start - SEGMENT, 0), min(start + SEGMENT, stop), pointings, rising=True
        )
    if stop < length:
        stop = _end_in(
            line, max(stop - SEGMENT, start), min(stop + SEGMENT, length), pointings, rising=False
        )
    return LineDefect(line.axis, line.line, start, stop, line.value, line.chance)


def _end_in(line: LineDefect, low: int, high: int, pointings: Pointings, *, rising: bool) -> int:
    """The pixel at which a line begins, or the one after its last, between two pixels."""
    lines = pointings.exposures[0].pixels.shape[1 - line.axis]
    around = slice(max(line.line - NEAR_LINES, 0), min(line.line + NEAR_LINES + 1, lines))
    own = line.line - around.start
    values = []
    for k in range(len(pointings.groups)):
        if line.axis == 0:
            x = pointings.strip(k, slice(low, high))[:, around].T
        else:
            x = pointings.strip(k, around)[:, low:high]
        values.append(x[own] - median_of_known(np.delete(x, own, axis=0)))
    excess = np.sign(line.value) * np.nan_to_num(median_of_known(np.stack(values)))
    # The change of level that is likeliest in white noise (Page 1954, Biometrika 41, 100).
    gain = np.cumsum(np.clip(excess, -1, abs(line.value) + 1) - 0.5 * abs(line.value))
    gain = np.concatenate([[0.0], gain])
    return low + int(np.argmin(gain) if rising else np.argmax(gain))
