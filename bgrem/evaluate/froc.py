"""Detections against truth: the free-response curve (FROC) with intervals, completeness and depth.

Use::

    from bgrem.evaluate.froc import froc
    from bgrem.evaluate.truth import truth_of_sky
    from bgrem.evaluate.bootstrap import compare, depth_gain
    from bgrem.detection.detect import detect_peaks

    curve = froc(detections, truth)                   # one frame, or two lists of equal length
    curve.true_positives(10.0)                        # true positives at 10 false per Mpix
    curve.limiting_snr(10.0)                          # S/N of 50 % completeness there
    compare(curve, reference, rng=rng)                # counts and ratios with 68 % intervals
    depth_gain(curve, reference, rate=10.0, rng=rng)  # in magnitudes

`froc(detections, truths)`: `detections` is a structured array with fields x, y, score (or a list of
them, one per frame), `truths` a `bgrem.evaluate.truth.Truth` (or a list).  The result is a `Froc`.

A detection is matched to at most one source and a source to at most one detection, the best score
first (Bunch et al. 1978 for the curve).  Intervals are a bootstrap over blocks of 128 pixels: errors
of neighbouring pixels are correlated (a halo makes many false peaks at once), those of blocks hardly.
Both methods of a ratio get the same blocks, so that what is hard for both cancels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from bgrem.evaluate.truth import Truth
from bgrem.masks.areas import inside

__all__ = ["FALSE", "FALSE_RATES", "LEAST_FALSE", "TRUE", "UNSCORED", "Froc", "froc", "match"]

#: False detections per megapixel at which methods are compared.
FALSE_RATES = (10.0, 30.0, 100.0, 300.0)
#: A rate is reported where the area allows this many false detections: fewer measure chance.
LEAST_FALSE = 10
#: Side of the bootstrap's blocks, pixels.
BOOTSTRAP_BLOCK = 128
#: Width of the completeness kernel in dex of S/N (an eighth of a magnitude).
COMPLETENESS_WIDTH = 0.05
#: S/N from 1 to 100 at which the limit of 50 % completeness is looked for.
LIMIT_GRID = 2.0 * 25.0 ** (np.arange(-30, 171) / 140)
#: A sum of areas is exact to this many detections.
ROUNDING = 1e-6
TRUE, FALSE, UNSCORED = 1, -1, 0


@dataclass(frozen=True)
class Froc:
    """The scored detections of a method on a set of frames, best score first.

    Attributes
    ----------
    score : (n,) float64
        Descending.  Detections that are not scored are absent.
    source : (n,) int64
        Index of the matched source, -1 where the detection is false.
    block : (n,) int64
        Bootstrap block of each detection (a true one stands in the block of its source).
    source_snr, source_block : (m,) float64, int64
        The sources that count.
    block_area : (b,) float64
        Usable area of each block in megapixels.
    chance : float
        Part of the area within the matching radius of a source that counts: the probability that a
        random position is taken for true.
    """

    score: np.ndarray
    source: np.ndarray
    block: np.ndarray
    source_snr: np.ndarray
    source_block: np.ndarray
    block_area: np.ndarray
    chance: float

    @property
    def area(self):
        """Usable area in megapixels."""
        return float(self.block_area.sum())

    @property
    def count(self):
        """Number of sources that count."""
        return self.source_snr.size

    def allowed(self, rate):
        """Whether the area is large enough to measure at a rate (false detections per Mpix)."""
        return bool(rate * self.area >= LEAST_FALSE - ROUNDING)

    def reaches(self, rate):
        """Whether the list holds as many false detections as a rate (per Mpix) allows."""
        return np.count_nonzero(self.source < 0) > rate * self.area + ROUNDING

    def length(self, rate, weights=None):
        """Number of leading detections that hold no more false ones than a rate allows.

        Parameters
        ----------
        rate : float
            False detections per megapixel.
        weights : (b,) array, optional
            Weight of each block: how often the bootstrap drew it.

        Returns
        -------
        int
        """
        block_weight = np.ones(self.block_area.size) if weights is None else weights
        false = np.cumsum(block_weight[self.block] * (self.source < 0))
        budget = rate * (block_weight @ self.block_area) + ROUNDING
        return int(np.searchsorted(false, budget, side="right"))

    def true_positives(self, rate, weights=None):
        """Sources found at `rate` false detections per Mpix.

        Parameters
        ----------
        rate : float
            False detections per megapixel.
        weights : (b,) array, optional
            Weight of each block: how often the bootstrap drew it.

        Returns
        -------
        float
        """
        true = self.source[: self.length(rate, weights)] >= 0
        if weights is None:
            return float(np.count_nonzero(true))
        return float(weights[self.block[: true.size]] @ true)

    def threshold(self, rate):
        """Lowest score that is used at a rate.

        Parameters
        ----------
        rate : float
            False detections per megapixel.

        Returns
        -------
        float
            nan where nothing is allowed.
        """
        length = self.length(rate)
        return float(self.score[length - 1]) if length else np.nan

    def chance_matches(self, rate):
        """Expected number of true positives that are noise on a source by chance.

        Noise peaks fall anywhere; the false ones are those that missed every source.

        Parameters
        ----------
        rate : float
            False detections per megapixel.

        Returns
        -------
        float
        """
        false = np.count_nonzero(self.source[: self.length(rate)] < 0)
        return float(false * self.chance / (1.0 - self.chance))

    def found(self, rate, weights=None):
        """Which sources are found at a rate.

        Parameters
        ----------
        rate : float
            False detections per megapixel.
        weights : (b,) array, optional
            Weight of each block: how often the bootstrap drew it.

        Returns
        -------
        (m,) bool
        """
        found = np.zeros(self.count, dtype=bool)
        source = self.source[: self.length(rate, weights)]
        found[source[source >= 0]] = True
        return found

    def completeness(self, rate, snr, weights=None):
        """Share of the sources found as a function of their S/N.

        A running mean over log S/N with a Gaussian kernel of `COMPLETENESS_WIDTH` dex.

        Parameters
        ----------
        rate : float
            False detections per megapixel.
        snr : (k,) array
            S/N at which the completeness is wanted.
        weights : (b,) array, optional
            Weight of each block.

        Returns
        -------
        (k,) float64
            nan where no source is near.
        """
        return self._completeness(rate, self._kernel(snr), weights)

    def _kernel(self, snr):
        """(k, m) weight of each source for the completeness at each S/N."""
        distance = np.log10(np.asarray(snr)[:, None] / self.source_snr) / COMPLETENESS_WIDTH
        return np.where(np.abs(distance) < 3, np.exp(-0.5 * distance**2), 0.0)

    @cached_property
    def _limit_kernel(self):
        # It does not depend on what was found, and the bootstrap asks for it again and again.
        return self._kernel(LIMIT_GRID)

    def _completeness(self, rate, kernel, weights):
        weight = np.ones(self.count) if weights is None else weights[self.source_block]
        total = kernel @ weight
        with np.errstate(invalid="ignore"):
            share = (kernel @ (weight * self.found(rate, weights))) / total
        return np.where(total > 0, share, np.nan)

    def limiting_snr(self, rate, *, level=0.5, weights=None):
        """S/N at which the completeness reaches a level.

        It is the lowest S/N from which on the completeness stays above `level`, up to twice that
        S/N: in crowded fields the completeness of bright sources never is 1, and may dip.

        Parameters
        ----------
        rate : float
            False detections per megapixel.
        level : float
            Completeness, 0 to 1.
        weights : (b,) array, optional
            Weight of each block: how often the bootstrap drew it.

        Returns
        -------
        float
            nan where the completeness never reaches the level.
        """
        grid = LIMIT_GRID
        above = self._completeness(rate, self._limit_kernel, weights) - level
        octave = int(np.log(2.0) / np.log(grid[1] / grid[0]))
        for i in np.flatnonzero((above[1:] >= 0) & (above[:-1] < 0)):
            if np.nanmin(above[i + 1 : i + 1 + octave]) >= -0.1 * level:
                share = -above[i] / (above[i + 1] - above[i])
                return float(grid[i] * (grid[i + 1] / grid[i]) ** share)
        return np.nan


def match(detections, truth):
    """Match detections to sources one to one, the best score first.

    Each detection takes the nearest source that counts, is free and lies within the radius.  One that
    finds none is not scored where a source that does not count is near or the pixel is not blank.

    Parameters
    ----------
    detections : structured array
        Fields x, y, score.
    truth : Truth

    Returns
    -------
    outcome : (n,) int8
        TRUE, FALSE or UNSCORED for each detection.
    source : (n,) int64
        Index into the sources of `truth`; -1 where not TRUE.
    """
    outcome = np.full(detections.size, UNSCORED, dtype=np.int8)
    source = np.full(detections.size, -1, dtype=np.int64)
    position = np.column_stack([detections["x"], detections["y"]])
    usable = inside(truth.usable, *position.T)
    outcome[usable & inside(truth.blank, *position.T)] = FALSE
    catalogue = np.column_stack([truth.x, truth.y])
    if not catalogue.size or not detections.size:
        return outcome, source
    free = truth.counted.copy()
    neighbours = cKDTree(catalogue).query_ball_point(position, truth.radius)
    for i in np.argsort(-detections["score"], kind="stable"):
        near = np.asarray(neighbours[i], dtype=np.int64)
        if not usable[i] or not near.size:
            continue
        candidates = near[free[near]]
        if candidates.size:
            distance = np.hypot(*(catalogue[candidates] - position[i]).T)
            source[i] = candidates[np.argmin(distance)]
            free[source[i]] = False
            outcome[i] = TRUE
        elif not truth.counted[near].all():
            outcome[i] = UNSCORED
    return outcome, source


def froc(detections, truths):
    """Score a method's detections on one or many frames.

    Parameters
    ----------
    detections : structured array or list of them
        Fields x, y, score; one array per frame, any order.
    truths : Truth or list of Truth

    Returns
    -------
    Froc

    Raises
    ------
    ValueError
        If the lists differ in length or the frames have no usable pixel.
    """
    if isinstance(truths, Truth):
        detections, truths = [detections], [truths]
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} detection lists for {len(truths)} frames")
    parts, snrs, source_blocks, areas = [], [], [], []
    first_source = first_block = 0
    for table, truth in zip(detections, truths, strict=True):
        block_of, area = _blocks(truth)
        outcome, source = match(table, truth)
        number = np.full(truth.x.size, -1)
        number[truth.counted] = first_source + np.arange(np.count_nonzero(truth.counted))
        true = outcome == TRUE
        x = np.where(true, truth.x[source], table["x"]) if truth.x.size else table["x"]
        y = np.where(true, truth.y[source], table["y"]) if truth.y.size else table["y"]
        scored = outcome != UNSCORED
        index = np.full(table.size, -1)
        index[true] = number[source[true]]
        block = first_block + block_of(x[scored], y[scored])
        parts.append((table["score"][scored].astype(np.float64), index[scored], block))
        snrs.append(truth.snr[truth.counted])
        source_blocks.append(first_block + block_of(truth.x[truth.counted], truth.y[truth.counted]))
        areas.append(area)
        first_source += snrs[-1].size
        first_block += area.size
    score, source, block = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Of equal scores the false one comes first: a threshold takes both.
    order = np.lexsort((source >= 0, -score))
    block_area = np.concatenate(areas)
    if not block_area.sum() > 0:
        raise ValueError("no usable pixel in any frame")
    return Froc(
        score[order], source[order], block[order],
        np.concatenate(snrs), np.concatenate(source_blocks), block_area, _chance(truths),
    )  # fmt: skip


def _blocks(truth):
    """Function from (x, y) to the block's number, and the usable area of each block in Mpix."""
    ny, nx = truth.usable.shape
    across = -(-nx // BOOTSTRAP_BLOCK)

    def block_of(x, y):
        column = np.clip(np.rint(x), 0, nx - 1).astype(np.int64)
        row = np.clip(np.rint(y), 0, ny - 1).astype(np.int64)
        return row // BOOTSTRAP_BLOCK * across + column // BOOTSTRAP_BLOCK

    rows = np.add.reduceat(
        truth.usable.astype(np.float64), np.arange(0, ny, BOOTSTRAP_BLOCK), axis=0
    )
    area = np.add.reduceat(rows, np.arange(0, nx, BOOTSTRAP_BLOCK), axis=1) / 1e6
    return block_of, area.ravel()


def _chance(truths):
    """Part of the usable area within the matching radius of a source that counts."""
    covered = total = 0
    for truth in truths:
        x, y = truth.x[truth.counted], truth.y[truth.counted]
        total += np.count_nonzero(truth.usable)
        # The union of the discs, from an even grid of points: discs of blends overlap.
        row, column = np.nonzero(truth.usable)
        sample = slice(None, None, max(1, row.size // 200_000))
        points = np.column_stack([column[sample], row[sample]])
        if not x.size or not points.size:
            continue
        distance, _ = cKDTree(np.column_stack([x, y])).query(
            points, distance_upper_bound=truth.radius
        )
        covered += np.isfinite(distance).mean() * row.size
    return covered / max(total, 1)
