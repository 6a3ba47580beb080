"""Which frames show the same stars in the same pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.filters import maximum_filter
from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.defects.exposures import DetectorFrame, spread_strips
from bgrem.defects.neighbours import above_neighbours

__all__ = ["FEWEST_POINTINGS", "Pointings", "median_of_known", "pointings_of", "sharpest_star"]

# Frames are of one pointing if this part of their stars, beyond what chance brings together, is within
# SAME_PLACE FWHM of each other. A star two FWHM away has 2e-3 of its peak left.
SAME_STARS, SAME_PLACE, TYPICAL_STAR = 0.3, 1.0, 3.0
MOST_PEAKS, FAINTEST_STAR = 400, 3.0  # of a frame; in rms, of the median of the neighbours
MOST_IN_A_LINE = 5  # stars in one column or row; more are those of a defect
MOST_SEARCHED = 6e6  # pixels of a frame in which stars are looked for
FEWEST_POINTINGS = 3
SHARPER = 2.0  # than a Gaussian star of the FWHM whose centre is that of a pixel


@dataclass(frozen=True, eq=False)
class Pointings:
    """Frames by the places of their stars.

    Attributes
    ----------
    exposures : list of DetectorFrame
    groups : list of list of int
        The frames whose values are one value: those of one pointing, or each alone if there are too few
        pointings to distinguish stars from defects.
    count : int
        Number of pointings.
    """

    exposures: list[DetectorFrame]
    groups: list[list[int]]
    count: int

    @property
    def tell_stars(self) -> bool:
        """Whether stars move enough between the frames to be distinguished from defects by it."""
        return self.count >= FEWEST_POINTINGS

    @property
    def fwhm(self) -> float:
        """That of the sharpest frame in pixels; NaN where unknown."""
        known = [one.fwhm for one in self.exposures if np.isfinite(one.fwhm)]
        return min(known, default=np.nan)

    def strip(self, group: int, rows: slice) -> np.ndarray:
        """Rows of the median of the frames of a group, float32 with NaN in bad pixels."""
        found = [_single_rows(self.exposures[i], rows) for i in self.groups[group]]
        return found[0] if len(found) == 1 else median_of_known(np.stack(found))

    def patterns(self) -> list[np.ndarray]:
        """How the value of a defect may go with the frames, in rms, each pattern with a median of 1.

        It is constant, or constant in data units, or goes with the exposure time.
        """
        rms = np.array([one.rms for one in self.exposures])
        time = np.array([one.time for one in self.exposures])
        known = np.isfinite(time).all()
        of_frames = [np.ones_like(rms), 1 / rms, *([time / rms] if known else [])]
        patterns: list[np.ndarray] = []
        for values in of_frames:
            pattern = np.array([values[group].mean() for group in self.groups])
            pattern = pattern / np.median(pattern)
            if all(np.abs(np.log(pattern / other)).max() > np.log(1.1) for other in patterns):
                patterns.append(pattern)
        return patterns


def _single_rows(exposure: DetectorFrame, rows: slice) -> np.ndarray:
    return np.asarray(exposure.pixels[rows]).astype(np.float32)


def median_of_known(values: np.ndarray) -> np.ndarray:
    """Median along the first axis without NaN, of two numbers their mean; NaN where nothing is known."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    count = np.count_nonzero(~np.isnan(values), axis=0)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, len(values) - 1)
    take = np.take_along_axis
    return 0.5 * (take(ordered, low[None], axis=0)[0] + take(ordered, high[None], axis=0)[0])


def pointings_of(exposures: Sequence[DetectorFrame]) -> Pointings:
    """Group frames whose stars are in the same pixels."""
    peaks = [_brightest(exposure) for exposure in exposures]
    shape = exposures[0].pixels.shape
    area = sum(rows.stop - rows.start for rows in spread_strips(shape, MOST_SEARCHED)) * shape[1]
    fwhm = [one.fwhm for one in exposures if np.isfinite(one.fwhm)]
    radius = SAME_PLACE * max(TYPICAL_STAR, float(np.median(fwhm)) if fwhm else 0.0)
    groups: list[list[int]] = []
    for i, own in enumerate(peaks):
        for group in groups:
            if _have_the_same(peaks[group[0]], own, radius, area):
                group.append(i)
                break
        else:
            groups.append([i])
    count = len(groups)
    if count < FEWEST_POINTINGS:
        groups = [[i] for i in range(len(exposures))]
    return Pointings(list(exposures), groups, count)


def _brightest(exposure: DetectorFrame) -> np.ndarray:
    """Rows and columns of the brightest stars, (n, 2): their neighbours are bright, those of defects are not."""
    found = []
    for rows in spread_strips(exposure.pixels.shape, MOST_SEARCHED):
        x = _single_rows(exposure, rows)
        if not np.isfinite(x).any():
            continue
        _, around = above_neighbours(x, exposure.cell)
        around[~np.isfinite(x)] = 0
        peak = (around > FAINTEST_STAR) & (around == maximum_filter(around, 5))
        y, column = np.nonzero(peak)
        found.append(np.stack([y + rows.start, column, around[peak]], axis=1))
    whole = np.concatenate(found) if found else np.empty((0, 3))
    for axis, length in enumerate(exposure.pixels.shape):
        # Wide bad columns and rows are bright beside their middle, and stay in their place.
        line = whole[:, axis].astype(np.int64)
        count = np.bincount(line, minlength=length)
        whole = whole[count[line] <= max(MOST_IN_A_LINE, 5 * count.mean())]
    return whole[np.argsort(-whole[:, 2], kind="stable")[:MOST_PEAKS], :2]


def _have_the_same(one: np.ndarray, other: np.ndarray, radius: float, area: int) -> bool:
    """Whether two lists of stars share more than chance brings together."""
    if not len(one) or not len(other):
        return False
    few, many = sorted((one, other), key=len)
    distance = np.hypot(*(few[:, None] - many[None]).transpose(2, 0, 1))
    shared = np.mean(distance.min(axis=1) <= radius)
    chance = 1 - np.exp(-len(many) * np.pi * radius**2 / area)
    return bool(shared - chance > SAME_STARS * (1 - chance))


def sharpest_star(fwhm: float) -> float:
    """Highest ratio of what a star has above the median of its neighbours to that median, with a margin.

    A Gaussian of the FWHM centred on a pixel is the sharpest that stars may be.
    """
    sigma = (fwhm if np.isfinite(fwhm) else TYPICAL_STAR) / FWHM_PER_SIGMA
    beside, across = np.exp(-0.5 / sigma**2), np.exp(-1 / sigma**2)
    around = 0.5 * (beside + across)
    return float(SHARPER * (1 - around) / around)
