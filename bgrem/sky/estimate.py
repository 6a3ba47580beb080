"""The coarse sky: level and noise of an image on a mesh, objects left out.

Everything here reads its image a strip of rows at a time, and what it returns
is a small mesh that is evaluated strip by strip, so that the size of an image
is a matter of reading it, not of memory.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from bgrem.arrays.filters import median_filter, nearest_good
from bgrem.arrays.rows import Rows
from bgrem.arrays.statistics import SIGMA_PER_MAD, median_and_deviation
from bgrem.options import IN_MEMORY, Run
from bgrem.sky.clipped import COARSE_STEP, clipped_mean, clipped_modes
from bgrem.sky.mesh import Mesh, cell_edges
from bgrem.sky.objects import SKY_BLOCK, average_blocks, expand, object_blocks

__all__ = [
    "center_and_scale", "estimate_mesh", "fill_cells", "one_count", "quantisation_step",
]  # fmt: skip

# Chosen by hand, tested in tests/sky; `python benchmarks/quality/level.py` measures what they give.
# A mesh cell with a smaller part of good pixels is interpolated from its neighbours.
MINIMUM_GOOD = 0.3
# Cells that deviate from their neighbours by more than this many sigma are replaced.
OUTLYING_CELL = 3.0
# From this number of cells on, of this side or larger, a third of the rows is enough for the first pass.
MANY_CELLS, LARGE_BOX = 1000, 64
# Cells that show fewer counts than this do not measure a level each, but one together: its error is a fifth.
FEWEST_COUNTS = 25
SOLID_SIDE = 8  # pixels


def center_and_scale(
    data: Rows, bad: Rows | None = None, *, samples: int = 1 << 20
) -> tuple[float, float]:
    """The global median of an image and its robust standard deviation, above 0, in data units.

    They only bring the image to numbers that single precision can hold, whatever the unit and the bias
    level; the mesh measures the sky. Pixels that are bad or not finite are left out. At most about
    ``samples`` pixels, evenly spaced, are used. Raises ValueError if the image has no good pixel, or is
    constant.
    """
    values, good = _sample(data, bad, samples)
    if not good.any():
        raise ValueError("the image has no good pixel")
    center, scale = median_and_deviation(values[good])
    if scale == 0:
        rest = good & (values != center)
        # More than half of the pixels hold one value. Beside a filled gap the others have
        # a level and a noise; in a map of few counts they have not.
        if _is_solid(rest) and median_and_deviation(values[rest])[1] > 0:
            return median_and_deviation(values[rest])
        scale = clipped_mean(values[good], _count_between(values, good))[1]
        scale = scale or float(np.std(values[good]))
    if not scale > 0:
        raise ValueError("the image is constant")
    return center, scale


def estimate_mesh(
    x: Rows, bad: Rows | None = None, *, box: int = 256, run: Run = IN_MEMORY
) -> Mesh:
    """Sky level and noise of an image on a coarse mesh, in two passes.

    Each cell gives SExtractor's clipped mode and standard deviation. The first
    pass serves to find the objects; the second leaves them out, measures what the
    first has left over, so that a gradient inside a cell is not taken for noise,
    and interpolates the cells of which too little sky is seen.

    Parameters
    ----------
    x : Rows
        Image of shape (ny, nx), float32, centred and scaled (see `center_and_scale`).
    bad : Rows of bool, optional
        True where a pixel is bad; such pixels may hold anything.
    box : int
        Side of a mesh cell in pixels. Cells share each axis evenly: their number is
        the nearest to its length / box, and at least 1.
    run : `~bgrem.options.Run`
        Its threads measure rows of cells at once.

    Returns
    -------
    Mesh
        In the units of ``x``.
    """
    blocks = average_blocks(x, bad, run)
    step, hidden = quantisation_step(x, bad), blocks.filling
    if count := one_count(x, bad):
        step, hidden = count, np.zeros_like(hidden)  # blocks without a count are sky
    first = _measure(x, _Hidden(bad, hidden), box, step, None, run)
    objects = object_blocks(blocks, first)
    return _measure(x, _Hidden(bad, hidden | objects), box, step, first, run)


def _sample(data: Rows, bad: Rows | None, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """About ``samples`` pixels at most, evenly spaced, float64 of shape (n, m); and where they are good."""
    ny, nx = data.shape
    stride = int(np.ceil(np.sqrt(ny * nx / samples)))
    stride += 1 - stride % 2  # an even one would see one colour of a Bayer mosaic only
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = np.asarray(data[::stride, ::stride], dtype=np.float64)
    good = np.isfinite(values)
    if bad is not None:
        good &= ~np.asarray(bad[::stride, ::stride], dtype=bool)
    return values, good


def _is_solid(where: np.ndarray) -> bool:
    """Whether most of the pixels that are True fill whole blocks, as those of an image do and counts do not."""
    ny, nx = (n - n % SOLID_SIDE for n in where.shape)
    blocks = where[:ny, :nx].reshape(ny // SOLID_SIDE, SOLID_SIDE, nx // SOLID_SIDE, SOLID_SIDE)
    return 2 * SOLID_SIDE**2 * np.count_nonzero(blocks.all(axis=(1, 3))) > np.count_nonzero(where)


def one_count(x: Rows, bad: Rows | None = None) -> float:
    """The value of one count in a map of few: more than half of its pixels hold none. 0 in another image."""
    return _count_between(*_sample(x, bad, 1 << 18))


def quantisation_step(x: Rows, bad: Rows | None = None) -> float:
    """Distance of neighbouring values in the core of their distribution, 0 if continuous."""
    return _step_between(*_sample(x, bad, 1 << 14))


def _count_between(values: np.ndarray, good: np.ndarray) -> float:
    if not good.any():
        return 0.0
    center, spread = median_and_deviation(values[good])
    rest = good & (values != center)
    if spread > 0 or not rest.any() or _is_solid(rest):
        return 0.0
    return float(np.quantile(np.abs(values[rest] - center), 0.1, method="lower"))


def _step_between(values: np.ndarray, good: np.ndarray) -> float:
    if not good.any():
        return 0.0
    center, spread = median_and_deviation(values[good])
    if spread == 0:
        return _step_between(values, good & (values != center))
    values = np.sort(values[good])
    # Levels that differ by rounding only are one level.
    levels = values[np.append(True, np.diff(values) > 1e-4 * max(spread, 1e-3))]
    low, high = np.searchsorted(levels, [center - 1.5 * spread, center + 1.5 * spread])
    core = levels[max(low - 1, 0) : high + 2]
    if core.size < 2 or core.size > values.size / 50:
        return 0.0
    return float(np.median(np.diff(core)))


def _measure(
    x: Rows, hidden: "_Hidden", box: int, step: float, first: Mesh | None, run: Run
) -> Mesh:
    """A mesh of ``x``, or of what ``first`` leaves of it, without the hidden pixels."""
    ny, nx = x.shape
    my, mx = (max(1, round(n / box)) for n in x.shape)
    level = np.zeros((my, mx))
    spread = np.zeros((my, mx))
    seen = np.zeros((my, mx))
    across = cell_edges(nx, mx)
    down = cell_edges(ny, my)
    # The second pass corrects the first; three is odd, so that odd and even rows, which may differ, are both seen.
    every = 3 if first is None and my * mx >= MANY_CELLS and box >= LARGE_BOX else 1

    def measure_strip(j: int) -> None:
        top, bottom = down[j], down[j + 1]
        strip = np.asarray(x[top:bottom:every], dtype=np.float32)
        rest = strip if first is None else strip - first.background[top:bottom]
        bad = hidden.rows(top, bottom, nx)
        bad = bad if bad is None else bad[::every]
        level[j], spread[j], seen[j] = clipped_modes(rest, bad, across, step)
        for i in np.flatnonzero((step > COARSE_STEP * spread[j]) & (seen[j] > 0)):
            cell = slice(across[i], across[i + 1])
            # Where no count fell, the slope of the first pass is left, which is no noise.
            values = strip[:, cell] if bad is None else strip[:, cell][~bad[:, cell]]
            if np.ptp(values) == 0:
                spread[j, i] = 0

    with ThreadPoolExecutor(run.threads, "mesh", np.seterr, ("ignore",)) as pool:
        list(pool.map(measure_strip, range(my)))
    if first is not None:
        level += first.background_mesh
    area = seen * np.outer(np.diff(down), np.diff(across))
    pooled = step > 0 and np.median(area * (spread / step) ** 2) < FEWEST_COUNTS
    if pooled:
        level[:], spread[:] = _pooled(level, spread, area)
    # Where hardly any cell shows enough sky, the best fifth of the cells is used.
    good = (seen >= min(MINIMUM_GOOD, np.quantile(seen, 0.8))) & (seen > 0) & (spread > 0)
    if not good.any():
        return first or Mesh(*_flat_mesh(level, seen, step), box, (ny, nx), step)
    level, spread = (_median_filter(fill_cells(values, good)) for values in (level, spread))
    spread = np.maximum(spread, 1e-3 * np.median(spread[spread > 0]))
    level, spread = level.astype(np.float32), spread.astype(np.float32)
    # The cells of a pooled mesh have absorbed nothing.
    hidden = None if pooled else (1 - seen).astype(np.float32)
    return Mesh(level, spread, box, (ny, nx), step, hidden)


def _pooled(level: np.ndarray, spread: np.ndarray, area: np.ndarray) -> tuple[float, float]:
    """Level and noise of all cells together, weighted by the pixels that they show."""
    weight = area / max(area.sum(), 1)
    return float(np.sum(weight * level)), float(np.sqrt(np.sum(weight * spread**2)))


def _flat_mesh(level: np.ndarray, seen: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """One level everywhere and a noise of 1, for an image that shows no noise at all."""
    value = np.median(level[seen > 0]) if seen.any() else 0.0
    noise = step or 1.0
    return np.full(level.shape, value, np.float32), np.full(level.shape, noise, np.float32)


class _Hidden(NamedTuple):
    """Pixels that do not count: bad ones, and those of some blocks."""

    bad: Rows | None
    blocks: np.ndarray

    def rows(self, top: int, bottom: int, nx: int) -> np.ndarray | None:
        """The hidden pixels of some rows, None where there is none."""
        blocks = self.blocks[top // SKY_BLOCK : -(-bottom // SKY_BLOCK)]
        hidden = None
        if blocks.any():
            offset = top % SKY_BLOCK
            hidden = expand(blocks, SKY_BLOCK)[offset : offset + bottom - top, :nx]
        if self.bad is not None:
            bad = np.asarray(self.bad[top:bottom], dtype=bool)
            if bad.any():
                hidden = bad if hidden is None else hidden | bad
        return hidden


def fill_cells(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Interpolate the cells that are not good: each is the mean of its neighbours.

    If all cells are good, or none, the values stay as they are.
    """
    if good.all() or not good.any():
        return values
    values = values[nearest_good(good)]
    for _ in range(4 * max(values.shape)):
        mean = _neighbours_mean(np.pad(values, 1, mode="edge"))
        values = np.where(good, values, mean)
    return values


def _median_filter(values: np.ndarray) -> np.ndarray:
    """Replace cells that stand out of their 3 x 3 neighbours by the median of these.

    Unlike SExtractor's, the filter spares the cells that deviate no more than most do,
    or than the bend of the mesh explains: the top of a smooth vignetting is no outlier,
    a cell full of a galaxy is. The mesh is continued so that a gradient does not
    deviate at all.
    """
    padded = np.pad(values, 1, mode="reflect", reflect_type="odd")
    median = median_filter(padded, 3)[1:-1, 1:-1]
    deviation = np.abs(values - median)
    bend = np.abs(values - _neighbours_mean(padded))
    usual = SIGMA_PER_MAD * np.median(deviation)
    # On a paraboloid the median of 3 x 3 is off by at most twice the bend.
    tolerance = OUTLYING_CELL * usual + 4 * np.median(bend)
    return np.where(deviation > tolerance, median, values)


def _neighbours_mean(padded: np.ndarray) -> np.ndarray:
    """Mean of the four neighbours of each cell of a mesh that is padded by one."""
    vertical = padded[:-2, 1:-1] + padded[2:, 1:-1]
    return (vertical + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
