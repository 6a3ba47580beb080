"""The realism gate: does the blank sky of a real frame look like that of the simulator?

It needs no truth. Some twenty statistics of patches without sources are measured, after the
sky normalisation that every frame goes through, on a real frame and on scenes of the training
sky. A network can only be trusted where the former lie within the range of the latter.
"""

from dataclasses import dataclass

import numpy as np

from bgrem.sky.clipped import SIGMA_PER_MAD
from bgrem.sky.estimate import center_and_scale, estimate_mesh
from bgrem.sky.objects import object_mask

__all__ = ["STATISTICS", "BlankSky", "Verdict", "blank_sky", "judge", "report", "simulated_skies"]

PATCH = 64  # px
PATCHES = 100  # the patches with most sky are enough
MOSTLY_SKY = 0.6  # of a patch's pixels must belong to no object
WINDOW = (0.02, 0.98)  # quantiles of the simulated scenes
BLOCK_SCALES = (2, 4, 8, 16)  # px: sides of the averages whose power is measured
FEWEST_BLOCKS = 6  # averages from which a variance is still one
FEWEST_PATCHES = 6  # patches from which a scatter is still one
LEAST_FRACTION = 1e-4  # lower limit of fractions and steps before their logarithm

#: What is measured on each patch, in the order of the columns, with its meaning.
PATCH_STATISTICS = {
    "level": "mean of the bulk",
    "spread": "log2 of the standard deviation of the bulk",
    "skewness": "third standardised moment of values within 8 sigma",
    "kurtosis": "log10(3 + excess of the fourth standardised moment) of values within 8 sigma",
    "high_tail": "log10 of the fraction above +3.5 sigma",
    "low_tail": "log10 of the fraction below -3.5 sigma",
    "sharp_tail": "log10 of the fraction of pixels that differ by over 4 sigma from their neighbours",
    "corr_x": "correlation with the next pixel along a row",
    "corr_y": "correlation with the next pixel along a column",
    "corr_x2": "correlation with the second pixel along a row",
    "corr_y2": "correlation with the second pixel along a column",
    "corr_xy": "correlation with the diagonal neighbour",
    "row_power": "log2 of the variance of row means over that of independent pixels",
    "column_power": "log2 of the variance of column means over that of independent pixels",
    "odd_even_x": "mean of odd less mean of even columns, absolute",
    "odd_even_y": "mean of odd less mean of even rows, absolute",
} | {
    f"power_{k}": f"log2 of the variance of {k} x {k} averages over that of independent pixels"
    for k in BLOCK_SCALES
}
#: What is measured on the whole frame.
FRAME_STATISTICS = {
    "rms_scatter": "scatter of the patches' standard deviations, relative",
    "level_scatter": "scatter of the patches' levels",
    "quantisation": "log10 of the step between data values",
}
STATISTICS = PATCH_STATISTICS | FRAME_STATISTICS
#: Amplitudes of faults: a frame that has less of them than any simulated one is no worry.
ONE_SIDED = ("odd_even_x", "odd_even_y", "rms_scatter", "level_scatter")


@dataclass(frozen=True, eq=False)
class BlankSky:
    """The source-free patches of one frame, measured.

    Attributes
    ----------
    table : ndarray, (p, k) float64
        `PATCH_STATISTICS` of each patch; amplitudes are in units of the sky's rms.
    step : float
        Step between data values in units of the sky's rms; 0 when none is seen.
    """

    table: np.ndarray
    step: float

    def statistics(self, patches=None):
        """The frame's statistics in the order of `STATISTICS`, (k,) float64.

        Parameters
        ----------
        patches : int, optional
            Use at most this number of patches, evenly chosen: a small frame is uncertain, and must
            be compared with frames that are as uncertain.

        Returns
        -------
        ndarray
            NaN where there are too few patches.
        """
        count = len(self.table)
        if count == 0:
            return np.full(len(STATISTICS), np.nan)
        chosen = np.unique(np.linspace(0, count - 1, min(patches or count, count)).astype(int))
        table = self.table[chosen]
        spread = 2.0 ** table[:, list(PATCH_STATISTICS).index("spread")]
        whole = [_scatter(spread) / np.median(spread), _scatter(table[:, 0])]
        return np.array([*_medians(table), *whole, np.log10(max(self.step, LEAST_FRACTION))])


def _medians(table):
    """Median of each column; a column without any number gives NaN."""
    known = np.isfinite(table).any(axis=0)
    medians = np.full(table.shape[1], np.nan)
    medians[known] = np.nanmedian(table[:, known], axis=0)
    # A pattern has the same sign on all patches, chance has not.
    for name in ("odd_even_x", "odd_even_y"):
        column = list(PATCH_STATISTICS).index(name)
        medians[column] = abs(medians[column])
    return medians


def _scatter(values):
    """Robust standard deviation; NaN for a few values."""
    if len(values) < FEWEST_PATCHES:
        return np.nan
    return SIGMA_PER_MAD * float(np.median(np.abs(values - np.median(values))))


@dataclass(frozen=True, eq=False)
class Verdict:
    """One frame against the simulator.

    Attributes
    ----------
    values, low, high : ndarray, (k,) float64
        The frame's statistics in the order of `STATISTICS` and the limits of the simulated ones.
    rank : ndarray, (k,) float64
        Fraction of the simulated scenes below the frame's value.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rank: np.ndarray

    @property
    def outside(self):
        """The statistics that lie outside: name -> "above" or "below"."""
        sides = np.where(self.values > self.high, "above", "below")
        out = (self.values > self.high) | (self.values < self.low)
        return {
            name: str(side)
            for name, side, is_out in zip(STATISTICS, sides, out, strict=True)
            if is_out
        }


def blank_sky(data, mask=None, *, box=256):
    """Measure a frame's source-free patches after the sky normalisation.

    Parameters
    ----------
    data : ndarray, (ny, nx)
        In any unit; pixels that are not finite are left out.
    mask : ndarray, (ny, nx) bool, optional
        True where a pixel is bad.
    box : int
        Side of the sky mesh's boxes in pixels.

    Returns
    -------
    BlankSky

    Raises
    ------
    ValueError
        If the image is constant or holds no good pixel.
    """
    bad = ~np.isfinite(data) if mask is None else ~np.isfinite(data) | np.asarray(mask, bool)
    center, scale = center_and_scale(data, bad)
    x = ((np.asarray(data, np.float64) - center) / scale).astype(np.float32)
    x[bad] = 0.0
    mesh = estimate_mesh(x, bad if bad.any() else None, box=box)
    good = ~(bad | object_mask(x, bad if bad.any() else None, mesh))
    x -= mesh.background[:]
    x /= mesh.rms[:]
    patches = [patch_statistics(x[place], good[place]) for place in _patches(good)]
    return BlankSky(np.reshape(patches, (-1, len(PATCH_STATISTICS))), mesh.quantisation)


def _patches(good):
    """Slices of the patches that are mostly sky, those with most of it first."""
    ny, nx = (size // PATCH * PATCH for size in good.shape)
    blocks = good[:ny, :nx].reshape(ny // PATCH, PATCH, nx // PATCH, PATCH)
    seen = blocks.mean(axis=(1, 3))
    order = np.argsort(seen, axis=None, kind="stable")[::-1]
    chosen = [index for index in order[:PATCHES] if seen.flat[index] >= MOSTLY_SKY]
    rows, columns = np.unravel_index(chosen, seen.shape) if chosen else ((), ())
    return [
        np.s_[j * PATCH : (j + 1) * PATCH, i * PATCH : (i + 1) * PATCH]
        for j, i in zip(rows, columns, strict=True)
    ]


def patch_statistics(x, good):
    """The statistics of one patch, in the order of `PATCH_STATISTICS`.

    Parameters
    ----------
    x : ndarray, (n, n) float32
        In units of the sky's rms.
    good : ndarray, (n, n) bool
        True on blank sky.

    Returns
    -------
    list of float
    """
    level, spread = _level_and_spread(x[good].astype(np.float64))
    z = np.where(good, (x - np.float32(level)) / np.float32(spread), 0.0).astype(np.float64)
    core = z[good & (np.abs(z) < 8.0)]
    core = (core - core.mean()) / max(core.std(), 1e-6)
    # Correlations and powers of the bulk: one particle must not set them.
    quiet = good & (np.abs(z) < 4.0)
    calm = np.where(quiet, z - z[quiet].mean(), 0.0)
    variance = max(float((calm[quiet] ** 2).mean()), 1e-6)
    return [
        level,
        np.log2(spread),
        float((core**3).mean()),
        np.log10(max(float((core**4).mean()), 1.0)),
        _log_fraction(z[good] > 3.5),
        _log_fraction(z[good] < -3.5),
        _log_fraction(_sharp(z, good)),
        *(_correlation(calm, quiet, lag, variance) for lag in _LAGS),
        *(_line_power(calm, quiet, axis, variance) for axis in (1, 0)),
        *(_odd_even(calm, quiet, axis) for axis in (1, 0)),
        *(_block_power(calm, quiet, k, variance) for k in BLOCK_SCALES),
    ]


def _level_and_spread(values):
    """Mean and standard deviation of the bulk: those of quantised values are not quantised."""
    median = np.median(values)
    deviation = np.abs(values - median)
    bulk = values[deviation <= 4.0 * max(SIGMA_PER_MAD * float(np.median(deviation)), 1e-3)]
    return float(bulk.mean()), max(float(bulk.std()), 1e-3)


_LAGS = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 1))  # rows and columns between the two pixels


def _log_fraction(condition):
    return float(np.log10(max(float(np.mean(condition)), LEAST_FRACTION)))


def _sharp(z, good):
    """Pixels that differ from the mean of their four neighbours by 4 of its deviations."""
    neighbours = (z[:-2, 1:-1] + z[2:, 1:-1] + z[1:-1, :-2] + z[1:-1, 2:]) / 4
    inner = good[1:-1, 1:-1] & good[:-2, 1:-1] & good[2:, 1:-1] & good[1:-1, :-2] & good[1:-1, 2:]
    difference = np.abs(z[1:-1, 1:-1] - neighbours)[inner]
    if difference.size == 0:
        return np.zeros(1, bool)
    return difference > 4.0 * max(SIGMA_PER_MAD * float(np.median(difference)), 1e-3)


def _correlation(calm, quiet, lag, variance):
    dy, dx = lag
    ny, nx = calm.shape
    near, far = np.s_[: ny - dy, : nx - dx], np.s_[dy:, dx:]
    both = (quiet[near] & quiet[far]).sum()
    return float((calm[near] * calm[far]).sum() / max(both, 1) / variance)


def _line_power(calm, quiet, axis, variance):
    """Variance of the means of rows (axis 1) or columns (axis 0), 0 for independent pixels.

    Without the mean of their neighbours, so that a gradient does not count.
    """
    count = quiet.sum(axis=axis)
    mean = calm.sum(axis=axis) / np.maximum(count, 1)
    inner = (count[1:-1] > 8) & (count[:-2] > 8) & (count[2:] > 8)
    if inner.sum() < FEWEST_BLOCKS:
        return np.nan
    difference = (mean[1:-1] - (mean[:-2] + mean[2:]) / 2)[inner]
    inverse = 1 / np.maximum(count, 1)
    error = (inverse[1:-1] + (inverse[:-2] + inverse[2:]) / 4)[inner]
    return float(np.log2(max((difference**2).sum() / (error.sum() * variance), 1e-3)))


def _odd_even(calm, quiet, axis):
    """Mean of the odd less the mean of the even columns (axis 1) or rows (axis 0)."""
    parts = [np.take(calm, range(k, calm.shape[axis], 2), axis=axis).sum() for k in (0, 1)]
    counts = [np.take(quiet, range(k, calm.shape[axis], 2), axis=axis).sum() for k in (0, 1)]
    return float(parts[1] / max(counts[1], 1) - parts[0] / max(counts[0], 1))


def _block_power(calm, quiet, k, variance):
    """Variance of the means of k x k pixels over that of independent pixels, log2."""
    n = calm.shape[0] // k
    shape = (n, k, calm.shape[1] // k, k)
    count = quiet.reshape(shape).sum(axis=(1, 3))
    mean = calm.reshape(shape).sum(axis=(1, 3)) / np.maximum(count, 1)
    known = count >= 0.6 * k**2
    if known.sum() < FEWEST_BLOCKS:
        return np.nan
    excess = ((mean[known] - mean[known].mean()) ** 2).sum() / (1 / count[known]).sum()
    return float(np.log2(max(excess * known.sum() / (known.sum() - 1) / variance, 1e-3)))


def simulated_skies(count, *, seed=0, shape=(512, 512)):
    """Blank sky of random scenes of the training sky, one scene at a time.

    Parameters
    ----------
    count : int
        Number of scenes; those without a source-free patch are drawn anew.
    seed : int
        Scene number i depends on the seed and i alone.
    shape : tuple of int
        (ny, nx) of the scenes in pixels.

    Yields
    ------
    BlankSky
    """
    from bgrem.simulate import draw, random_scene
    from bgrem.simulate.scene import GAP_BIT

    for index in range(count):
        rng = np.random.default_rng([seed, index])
        found = 0
        while not found:
            sky = draw(random_scene(rng, shape=shape), rng)
            gap = sky.mask & GAP_BIT > 0
            if gap.mean() > 0.8 or np.ptp(sky.data[~gap]) == 0:
                continue
            measured = blank_sky(sky.data, gap)
            found = len(measured.table)
        yield measured


def judge(frame, simulated):
    """Compare a frame with simulated scenes.

    Parameters
    ----------
    frame : BlankSky
    simulated : sequence of BlankSky

    Returns
    -------
    Verdict
        A statistic that could not be measured is not outside.
    """
    values = frame.statistics()
    others = np.array([sky.statistics(len(frame.table)) for sky in simulated])
    known = np.isfinite(others)
    below = (others < values).sum(axis=0) + 0.5 * (others == values).sum(axis=0)
    limits = np.full((2, len(STATISTICS)), np.nan)
    measured = known.any(axis=0)
    limits[:, measured] = np.nanquantile(others[:, measured], WINDOW, axis=0)
    limits[0, [list(STATISTICS).index(name) for name in ONE_SIDED]] = 0.0
    rank = np.where(np.isfinite(values), below / np.maximum(known.sum(axis=0), 1), np.nan)
    return Verdict(values=values, low=limits[0], high=limits[1], rank=rank)


def report(verdicts):
    """A table of what lies outside, frame by frame.

    Parameters
    ----------
    verdicts : dict of str to Verdict

    Returns
    -------
    str
    """
    lines = [f"{'statistic':14s} {'frame':>8s}         {'2 %':>8s} {'98 %':>8s}  meaning"]
    for name, verdict in verdicts.items():
        outside = verdict.outside
        measured = int(np.isfinite(verdict.values).sum())
        lines.append(f"{name}: {len(outside)} of {measured} outside")
        for place, statistic in enumerate(STATISTICS):
            if statistic in outside:
                value, low, high = verdict.values[place], verdict.low[place], verdict.high[place]
                lines.append(
                    f"{statistic:14s} {value:8.3f} {outside[statistic]:7s} {low:8.3f} {high:8.3f}"
                    f"  {STATISTICS[statistic]}"
                )
    unlike = sum(bool(verdict.outside) for verdict in verdicts.values())
    lines.append(f"{len(verdicts) - unlike} of {len(verdicts)} frames are like the training sky")
    return "\n".join(lines)
