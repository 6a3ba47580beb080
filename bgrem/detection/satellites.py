"""Trails of satellites and aircraft: straight light of about one brightness, from one edge of a frame to another.

Bad columns and rows that a network left in the sources are such lines, too.

A network sees a part of a frame, in which a galaxy seen edge-on, a filament or a spike looks like a trail. It marks such
pixels as artefacts, or leaves their light in the sources. Lines of such pixels across the whole frame are looked for with
a Hough transform (Duda & Hart 1972, Comm. ACM 15, 11). Where their profile is that of a trail, it becomes noise.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.arrays.tiling import row_strips
from bgrem.masks.flags import ARTEFACT, UNSEEN

__all__ = ["Trail", "find_trails", "move_trails"]

# The frame is looked at in cells: this many along an axis at most, of SMALLEST_CELL pixels at least. A cell counts if as
# many of its pixels as a line through it has are artefacts or hold sources above LIT_PIXEL rms. Where more than
# CROWDED_CELLS of the cells count only artefacts do.
MOST_CELLS, SMALLEST_CELL, LIT_PIXEL, CROWDED_CELLS = 256, 8, 2.0, 0.25
# A line must be as long as this in pixels, and this part of its cells must count.
SHORTEST_TRAIL, COVERED_PART = 256.0, 0.7
HOUGH_ANGLES, MOST_SATELLITES, MOST_CANDIDATES = 800, 20, 30
# The profile across a trail is the median along TRAIL_SEGMENT pixels, as far as TRAIL_REACH to both sides of the line,
# above the median of the outermost SKY_BINS; it ends where that of the whole trail falls below FAINTEST_TRAIL of the rms.
TRAIL_SEGMENT, TRAIL_REACH, SKY_BINS, FAINTEST_TRAIL = 64, 30, 8, 0.25
ONE_SIDE, OTHER_SIDE = slice(0, SKY_BINS), slice(-SKY_BINS, None)
WIDEST_TRAIL = TRAIL_REACH - SKY_BINS - 4  # px from the line: no trail has light beyond
# The sources hold a trail or not in pieces of TRAIL_PIECE pixels. What else they hold there stays if it is above
# STAR_ON_TRAIL times the noise.
TRAIL_PIECE, STAR_ON_TRAIL = 16, 4.0
# The lower tenth of a trail is brighter than this part of its upper tenth; that of a flashing one than FLASHING, if it
# does not fade away from its brightest place, as a galaxy does, in FADING of the steps. The sky on one side of a trail
# differs from that on the other by less than UNEVEN_SKY of its brightness.
CONSTANT_LIGHT, FLASHING, FADING, UNEVEN_SKY = 0.5, 0.2, 0.8, 0.3


@dataclass(frozen=True)
class Trail:
    """A line ``x cos(angle) + y sin(angle) = distance`` across a frame.

    Attributes
    ----------
    angle : float
        Of its normal, in radians from the x axis.
    distance : float
        From the centre of the first pixel, in pixels.
    start, end : tuple of float
        Where it enters and leaves the frame, (x, y) from 0.
    """

    angle: float
    distance: float
    start: tuple[float, float]
    end: tuple[float, float]

    @property
    def length(self) -> float:
        """In pixels."""
        return float(np.hypot(*np.subtract(self.end, self.start)))

    def coordinates(self, y, x):
        """Distances of places across the line, and along it from its start."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        across = x * cosine + y * sine - self.distance
        return across, (y - self.start[1]) * cosine - (x - self.start[0]) * sine


def find_trails(mask, sources, rms) -> list[Trail]:
    """The lines of artefacts and light from edge to edge of an image: those that may be trails.

    Parameters
    ----------
    mask : `~bgrem.arrays.rows.Rows`
        uint8 of shape (ny, nx), `bgrem.masks.flags`.
    sources, rms : `~bgrem.arrays.rows.Rows`
        In the same unit, of that shape.

    Returns
    -------
    list of Trail
        At most `MOST_SATELLITES`; none in frames narrower than a profile.
    """
    if min(mask.shape) <= 2 * TRAIL_REACH:
        return []
    cells, side = _cells_of_lines(mask, sources, rms)
    y, x = np.nonzero(cells)
    found: list[Trail] = []
    for _ in range(MOST_SATELLITES):
        rough = _best_line(y, x, cells.shape, SHORTEST_TRAIL / side)
        if rough is None:
            break
        rest = np.abs(rough.coordinates(y, x)[0]) > 2
        y, x = y[rest], x[rest]
        trail = _fitted(partial(_hits, mask, sources, rms), rough, mask.shape, side)
        found += [] if trail is None else [trail]
    return found


def _hits(mask, sources, rms, rows):
    """Artefacts, and where the sources hold light, in the seen pixels of some rows, bool each."""
    level, flags = LIT_PIXEL * rms[rows.start : rows.start + 1], mask[rows]
    seen = (flags & UNSEEN) == 0
    return seen & ((flags & ARTEFACT) > 0), seen & (np.asarray(sources[rows]) > level)


def _cells_of_lines(mask, sources, rms):
    """Which cells of the frame have as many artefacts or lit pixels as a line through them, and their side in pixels."""
    ny, nx = mask.shape
    side = max(SMALLEST_CELL, -(-max(ny, nx) // MOST_CELLS))
    counts = np.zeros((2, -(-ny // side), -(-nx // side)), np.int64)
    edges = np.arange(0, nx, side)
    for rows in row_strips(mask.shape):
        row = np.arange(rows.start, rows.stop) // side
        artefact, lit = _hits(mask, sources, rms, rows)
        for count, hit in zip(counts, (artefact, artefact | lit), strict=True):
            if hit.any():
                np.add.at(count, row, np.add.reduceat(hit.astype(np.int64), edges, axis=1))
    artefacts, all_hits = counts >= side
    return artefacts if all_hits.mean() > CROWDED_CELLS else all_hits, side


def _best_line(y, x, shape, shortest) -> Trail | None:
    """The line that the largest part of some cells covers, in cells; None where none is covered enough."""
    candidates = []
    for angle in np.pi * np.arange(HOUGH_ANGLES) / HOUGH_ANGLES if y.size else ():
        distance = np.rint(x * np.cos(angle) + y * np.sin(angle)).astype(int)
        low = distance.min() - 1
        votes = np.convolve(np.bincount(distance - low, minlength=3), np.ones(3), mode="same")
        best = int(votes.argmax())
        candidates.append((votes[best], angle, float(best + low)))
    for _, angle, distance in sorted(candidates, reverse=True)[:MOST_CANDIDATES]:
        line = _across(angle, distance, shape)
        if line is not None and line.length >= shortest:
            across, along = line.coordinates(y, x)
            covered = np.unique(np.rint(along[np.abs(across) <= 1.5]))
            if covered.size >= COVERED_PART * line.length:
                return line
    return None


def _across(angle, distance, shape) -> Trail | None:
    """The line of an angle and a distance from edge to edge of a frame of some shape."""
    cosine, sine = np.cos(angle), np.sin(angle)
    low, high = -np.inf, np.inf
    for place, step, size in (
        (distance * cosine, -sine, shape[1]),
        (distance * sine, cosine, shape[0]),
    ):
        if abs(step) < 1e-9:
            if not 0 <= place <= size - 1:
                return None
            continue
        ends = sorted(((0 - place) / step, (size - 1 - place) / step))
        low, high = max(low, ends[0]), min(high, ends[1])
    if low >= high:
        return None
    start, end = ((distance * cosine - t * sine, distance * sine + t * cosine) for t in (low, high))
    return Trail(float(angle), float(distance), start, end)


def _fitted(hits, rough, shape, side) -> Trail | None:
    """The line through the artefacts and lit pixels near a line that is known in cells; None beyond the frame."""
    offset = (side - 1) / 2 * (np.cos(rough.angle) + np.sin(rough.angle))
    trail = _across(rough.angle, side * rough.distance + offset, shape)
    for reach in (2.0 * side, side, 0.5 * side):
        if trail is None:
            return None
        places = [np.zeros((2, 0))]
        for rows, y, x, *_ in _near(trail, shape, max(reach, 6.0)):
            artefact, lit = (one[y - rows.start, x] for one in hits(rows))
            hit = artefact | lit
            places.append(np.stack([x[hit], y[hit]]))
        places = np.concatenate(places, axis=1)
        if places.shape[1] < SHORTEST_TRAIL / 2:
            return None
        _, axes = np.linalg.eigh(np.cov(places))
        angle, middle = np.arctan2(axes[1, 0], axes[0, 0]), np.median(places, axis=1)
        trail = _across(angle, middle @ axes[:, 0], shape)
    return trail if trail is not None and trail.length >= SHORTEST_TRAIL / 2 else None


def _near(trail, shape, reach):
    """Rows, and in them y, x, and the distances across and along of the pixels within reach of a line."""
    nx = shape[1]
    cosine, sine = np.cos(trail.angle), np.sin(trail.angle)
    for rows in row_strips(shape):
        ends = [
            y * sine - trail.distance + x * cosine
            for y in (rows.start, rows.stop - 1)
            for x in (0, nx)
        ]
        if min(ends) > reach or max(ends) < -reach:
            continue
        columns = slice(0, nx)
        if abs(cosine) > 1e-6:
            at = (trail.distance - np.array([rows.start, rows.stop - 1]) * sine) / cosine
            beyond = reach / abs(cosine) + 1
            columns = slice(
                int(np.clip(at.min() - beyond, 0, nx)), int(np.clip(at.max() + beyond, 0, nx))
            )
        y, x = np.mgrid[rows, columns]
        across, along = trail.coordinates(y, x)
        inside = np.abs(across) <= reach
        if inside.any():
            yield rows, y[inside], x[inside], across[inside], along[inside]


def move_trails(sources, mask, data, background, rms, significance=None) -> list[str]:
    """Move the light of the trails of satellites from the sources to the noise, in place.

    Where the sources hold the light of a trail, its median profile is taken off: stars on it stay. What is
    brighter than the noise is an artefact in the mask, and no source is detected there but on such a star.

    Parameters
    ----------
    sources, mask : array_like, (ny, nx)
        In data units, and uint8 `bgrem.masks.flags`.
    data, background, rms : Rows
        In data units.
    significance : array_like, (ny, nx), optional
        SIGNIF.

    Returns
    -------
    list of str
        What a user must know: at most one short sentence.
    """
    moved = [
        trail
        for trail in find_trails(mask, sources, rms)
        if _moved(trail, sources, mask, data, background, rms, significance)
    ]
    if not moved:
        return []
    longest = max(moved, key=lambda trail: trail.length)
    ends = " to ".join(f"x={round(x)}, y={round(y)}" for x, y in (longest.start, longest.end))
    if len(moved) == 1:
        return [f"a line of light from {ends} is in the noise, as a trail or a bad column"]
    return [
        f"{len(moved)} lines of light, the longest from {ends}, are in the noise, as trails or bad columns"
    ]


def _is_trail(light, tilt, unit) -> bool:
    """Whether the light along and across a line is that of a trail; arguments as `_profiles` returns them."""
    typical = np.median(light, axis=0)
    heights = light[:, typical.argmax()]
    low, high = np.quantile(heights, (0.1, 0.9))
    far = np.abs(np.arange(typical.size) - TRAIL_REACH) > WIDEST_TRAIL
    least = FLASHING if _fading(heights) < FADING else CONSTANT_LIGHT
    constant = low >= max(least * high, FAINTEST_TRAIL * unit)
    return bool(constant and tilt <= UNEVEN_SKY * high and not typical[far].any())


def _fading(heights):
    """Part of the steps along a line, away from its brightest place, in which the light falls."""
    brightest = int(heights.argmax())
    steps = np.diff(heights[brightest:]), np.diff(heights[brightest::-1])
    return float(np.mean(np.concatenate(steps) < 0))


def _moved(trail, sources, mask, data, background, rms, significance) -> bool:
    """Take one trail out of the sources; false, and nothing done, if it is none."""
    light, kept, noise, tilt, unit = _profiles(trail, sources, mask, data, background, rms)
    if not _is_trail(light, tilt, unit):
        return False
    for rows, y, x, across, along in _near(trail, mask.shape, TRAIL_REACH):
        y, bins = y - rows.start, across + TRAIL_REACH
        there = _interpolated(light, along / TRAIL_SEGMENT - 0.5, bins)
        held = _interpolated(kept, along / TRAIL_PIECE - 0.5, bins)
        strip, bits = np.array(sources[rows]), np.array(mask[rows])
        rest = strip[y, x] - np.clip(held, 0, there)
        star = rest > STAR_ON_TRAIL * np.interp(bins, np.arange(noise.size), noise)
        mine = (there > 0) & (held > 0.2 * there)
        strip[y, x] = np.where(mine, np.where(star, rest, 0), strip[y, x])
        bits[y, x] |= np.where(there > unit, np.uint8(ARTEFACT), np.uint8(0))
        sources[rows], mask[rows] = strip, bits
        if significance is not None:
            _lower(significance, rows, y, x, (there > unit) & ~star)
    return True


def _lower(significance, rows, y, x, where) -> None:
    """Give some pixels of a strip the significance of its sky, if theirs is higher."""
    strip = np.array(significance[rows])
    sky = np.nanmedian(strip)
    strip[y, x] = np.where(where, np.minimum(strip[y, x], sky), strip[y, x])
    significance[rows] = strip


def _profiles(trail, sources, mask, data, background, rms):
    """What a trail is, in data units.

    Returns
    -------
    light, kept : ndarray, (segments, 2 TRAIL_REACH + 1) and (pieces, 2 TRAIL_REACH + 1) float64
        Along and across the trail: its light above the sky beside it, and the sources there.
    noise : ndarray, (2 TRAIL_REACH + 1,) float64
        Deviation of the pixels from the light.
    tilt, unit : float
        How far the sky on its sides differs, and the rms of the sky.
    """
    # Bins are not whole numbers: k is the middle of bin k.
    signal, held, along, bins, unit = ([] for _ in range(5))
    for rows, y, x, across, place in _near(trail, mask.shape, TRAIL_REACH):
        y = y - rows.start
        seen = (mask[rows][y, x] & UNSEEN) == 0
        y, x = y[seen], x[seen]
        signal.append(np.asarray(data[rows], np.float64)[y, x] - background[rows][y, x])
        held.append(np.asarray(sources[rows])[y, x])
        along.append(place[seen])
        bins.append(across[seen] + TRAIL_REACH)
        unit.append(rms[rows][y, x])
    signal, held, along, bins, unit = map(np.concatenate, (signal, held, along, bins, unit))
    unit = float(np.median(unit))
    light = _medians(signal, along, bins, trail.length, TRAIL_SEGMENT)
    sides = light[:, ONE_SIDE], light[:, OTHER_SIDE]
    left, right = (np.median(side, axis=1, keepdims=True) for side in sides)
    light = light - (left + right) / 2
    typical = np.median(light, axis=0)
    there = _around_peak(typical > FAINTEST_TRAIL * unit, typical.argmax())
    seen = _interpolated(light, along / TRAIL_SEGMENT - 0.5, bins)
    off = np.abs(signal - np.median(left + right) / 2 - seen)
    noise = SIGMA_PER_MAD * _medians(off, along, bins, trail.length, np.inf)[0]
    kept = _medians(held, along, bins, trail.length, TRAIL_PIECE)
    return np.where(there, light, 0).clip(0), kept, noise, np.median(abs(left - right)), unit


def _around_peak(seen, peak):
    """Which of the places next to each other around a peak are seen."""
    gaps = np.flatnonzero(~seen)
    first, last = gaps[gaps <= peak].max(initial=-1), gaps[gaps >= peak].min(initial=seen.size)
    place = np.arange(seen.size)
    return (place > first) & (place < last)


def _medians(values, along, bins, length, step):
    """Medians of values in pieces of a trail and in bins across it, 0 where there are none."""
    size, pieces = 2 * TRAIL_REACH + 1, max(1, round(length / step))
    labels = np.clip(along / step, 0, pieces - 1).astype(int) * size + np.rint(bins).astype(int)
    values = values[np.lexsort((values, labels))]
    number = np.bincount(labels, minlength=pieces * size)
    start = np.cumsum(number) - number
    middle = [values[np.clip(start + (number - 1 + k) // 2, 0, values.size - 1)] for k in (0, 1)]
    return np.where(number > 0, np.mean(middle, axis=0), 0.0).reshape(pieces, size)


def _interpolated(table, row, column):
    """Values between the entries of a table, linearly; beyond it those of its edge."""
    ny, nx = table.shape
    row, column = np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)
    y, x = (np.minimum(place.astype(int), n - 1) for place, n in ((row, ny), (column, nx)))
    below, right = np.minimum(y + 1, ny - 1), np.minimum(x + 1, nx - 1)
    upper = table[y, x] + (column - x) * (table[y, right] - table[y, x])
    lower = table[below, x] + (column - x) * (table[below, right] - table[below, x])
    return upper + (row - y) * (lower - upper)
