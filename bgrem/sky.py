"""The coarse sky: level and noise of an image on a mesh, objects left out.

Everything here reads its image a strip of rows at a time, and what it returns
is a small mesh that is evaluated strip by strip, so that the size of an image
is a matter of reading it, not of memory.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from bgrem.clipped import COARSE_STEP, SIGMA_PER_MAD, clipped_mean, clipped_modes
from bgrem.filters import maximum_filter, median_filter, nearest_good
from bgrem.tiling import over_strips

__all__ = ["Mesh", "cell_edges", "center_and_scale", "estimate_mesh", "object_mask"]

# Objects are looked for on averages of BLOCK x BLOCK pixels, and their faint
# halos on averages of HALO x HALO of those blocks.
BLOCK = 4
HALO = 4
HEIGHT = 64 * BLOCK  # rows that are averaged at once
# Thresholds in units of the noise of the smoothed averages.
OBJECT_THRESHOLD = 2.5
HALO_THRESHOLD = 3.0
# Noise of an average of white noise after the [1, 2, 1] / 4 smoothing of both axes.
SMOOTHING_GAIN = 0.375
# A mesh cell with a smaller part of good pixels is interpolated from its neighbours.
MINIMUM_GOOD = 0.3
# Cells that deviate from their neighbours by more than this many sigma are replaced.
OUTLIER = 3.0
# Of so many cells, of such a side at least, a third of the rows tell the first pass enough.
MANY_CELLS, LARGE_BOX = 1000, 64
# Averages that tell the noise of all of them: those of a frame of 4096 pixels.
AVERAGES = 1 << 20
# So many counts in a block are no object, however rare counts are.
CHANCE_COUNTS = 3


@dataclass(frozen=True, eq=False)
class Mesh:
    """Sky level and noise on a coarse mesh, evaluated a strip of rows at a time.

    Parameters
    ----------
    background : `~numpy.ndarray`
        Sky level of each cell, float32 of shape (my, mx).
    rms : `~numpy.ndarray`
        Standard deviation of the noise of each cell, same shape, above 0.
    box : int
        The side in pixels that was asked for; the cells share the image evenly.
    shape : tuple of int
        Shape (ny, nx) of the image.
    step : float
        Distance of the values that the image can take; 0 if they are continuous.
    hidden : `~numpy.ndarray`, optional
        Part of each cell that bad pixels and objects hide, same shape as ``rms``.
    """

    background: np.ndarray
    rms: np.ndarray
    box: int
    shape: tuple[int, int]
    step: float = 0.0
    hidden: np.ndarray | None = None

    def background_rows(self, start: int, stop: int) -> np.ndarray:
        """Sky level of the rows ``start`` to ``stop``, float32 of shape (stop - start, nx).

        A natural cubic spline through the centres of the cells, as in SExtractor
        (Bertin & Arnouts 1996), and straight lines outside the outermost centres.
        """
        return _cubic(self._nodes[0], *self._background_along_x, np.arange(start, stop))

    def rms_rows(self, start: int, stop: int) -> np.ndarray:
        """Noise of the rows ``start`` to ``stop``, float32 of shape (stop - start, nx).

        Linear between the centres of the cells, which never falls below the
        smallest of them, and constant outside the outermost centres.
        """
        return _linear(self._nodes[0], self._rms_along_x, np.arange(start, stop))

    @property
    def quantisation(self) -> float:
        """Distance of the values that the image can take in units of its noise."""
        return self.step / float(np.median(self.rms))

    @cached_property
    def _nodes(self) -> list[np.ndarray]:
        """Centres of the cells along y and along x, in pixels."""
        return [_centers(n, m) for n, m in zip(self.shape, self.rms.shape, strict=True)]

    @cached_property
    def _background_along_x(self) -> tuple[np.ndarray, np.ndarray]:
        """The level at every column of each row of cells, and its curvature along y."""
        down, across = self._nodes
        level = _spline(across, self.background.T, np.arange(self.shape[1])).T
        return level, _curvature(down, level)

    @cached_property
    def _rms_along_x(self) -> np.ndarray:
        """The noise at every column of each row of cells."""
        return _linear(self._nodes[1], self.rms.T, np.arange(self.shape[1])).T


def center_and_scale(data, mask=None, *, samples: int = 1 << 20) -> tuple[float, float]:
    """The global median of an image and its robust standard deviation.

    They only bring the image to numbers that single precision can hold, whatever
    the unit and the bias level; the mesh does the rest.

    Parameters
    ----------
    data : array_like
        Image of shape (ny, nx), any numeric type.
    mask : array_like of bool, optional
        True where a pixel is bad. Pixels that are not finite are always left out.
    samples : int
        About the largest number of pixels that are looked at, evenly spaced.

    Returns
    -------
    center, scale : float
        In data units; ``scale`` is above 0.

    Raises
    ------
    ValueError
        If the image has no good pixel, or is constant.
    """
    values = _sample(data, mask, samples)
    if values.size == 0:
        raise ValueError("the image has no good pixel")
    center, scale = _median_and_mad(values)
    if scale == 0:
        # More than half of the pixels hold one value. A filled gap leaves others that
        # tell the level and the noise; a counts map of mostly zeros does not.
        rest = values[values != center]
        if rest.size > 0.01 * values.size and _median_and_mad(rest)[1] > 0:
            return _median_and_mad(rest)
        scale = clipped_mean(values, 0.0)[1] or float(np.std(values))
    if not scale > 0:
        raise ValueError("the image is constant")
    return center, scale


def estimate_mesh(x, mask=None, *, box: int = 256, threads: int = 1) -> Mesh:
    """Sky level and noise of an image on a coarse mesh, in two passes.

    Each cell gives SExtractor's clipped mode and standard deviation. The first
    pass serves to find the objects; the second leaves them out, measures what the
    first has left over, so that a gradient inside a cell is not taken for noise,
    and interpolates the cells of which too little sky is seen.

    Parameters
    ----------
    x : array_like
        Image of shape (ny, nx) that slices into strips of rows, float32, centred
        and scaled (see `center_and_scale`).
    mask : array_like of bool, optional
        True where a pixel is bad; such pixels may hold anything.
    box : int
        Side of a mesh cell in pixels. Cells share each axis evenly: their number is
        the nearest to its length / box, and at least 1.
    threads : int
        Rows of cells that are measured at once.

    Returns
    -------
    Mesh
        In the units of ``x``.
    """
    blocks = _survey(x, mask, threads)
    step = _quantisation_step(_sample(x, mask, 1 << 14))
    first = _measure(x, mask, blocks.filling, box, step, None, threads)
    objects = _object_blocks(blocks, first)
    return _measure(x, mask, blocks.filling | objects, box, step, first, threads)


def object_mask(x, mask, mesh: Mesh) -> np.ndarray:
    """Pixels that belong to objects, faint halos included.

    The image less its background is averaged over blocks of 4 and of 16 pixels
    and lightly smoothed; what stands out of the noise of these averages is
    widened by one block.

    Parameters
    ----------
    x : array_like
        Image of shape (ny, nx) that slices into strips of rows.
    mask : array_like of bool, or None
        True where a pixel is bad.
    mesh : Mesh
        Sky level and noise, in the units of ``x``.

    Returns
    -------
    `~numpy.ndarray`
        bool of shape (ny, nx).
    """
    ny, nx = x.shape
    return _expand(_object_blocks(_survey(x, mask), mesh), BLOCK)[:ny, :nx]


# ---- statistics of a set of pixels --------------------------------------------------


def _sample(data, mask, samples: int) -> np.ndarray:
    """At most about ``samples`` good pixels, evenly spaced, as float64."""
    ny, nx = data.shape
    stride = int(np.ceil(np.sqrt(ny * nx / samples)))
    stride += 1 - stride % 2  # an even one would see one colour of a Bayer mosaic only
    values = np.asarray(data[::stride, ::stride], dtype=np.float64)
    good = np.isfinite(values)
    if mask is not None:
        good &= ~np.asarray(mask[::stride, ::stride], dtype=bool)
    return values[good]


def _median_and_mad(values: np.ndarray) -> tuple[float, float]:
    center = np.median(values)
    return float(center), float(SIGMA_PER_MAD * np.median(np.abs(values - center)))


def _quantisation_step(values: np.ndarray) -> float:
    """Distance of neighbouring values in the core of their distribution, 0 if continuous."""
    if values.size == 0:
        return 0.0
    values = np.sort(values)
    center, spread = _median_and_mad(values)
    rest = values[values != center]
    # In a map of few counts the rest are mostly of one value as well; in a filled gap they are not.
    if spread == 0 and rest.size and _median_and_mad(rest)[1] > 0:
        return _quantisation_step(rest)
    # Levels that differ by rounding only are one level.
    levels = values[np.append(True, np.diff(values) > 1e-4 * max(spread, 1e-3))]
    low, high = np.searchsorted(levels, [center - 1.5 * spread, center + 1.5 * spread])
    core = levels[max(low - 1, 0) : high + 2]
    if core.size < 2 or core.size > values.size / 50:
        return 0.0
    return float(np.median(np.diff(core)))


# ---- the mesh ----------------------------------------------------------------------


def cell_edges(length: int, cells: int) -> np.ndarray:
    """Borders of cells that share an axis evenly: no sliver is left at the end.

    Parameters
    ----------
    length : int
        Pixels along the axis.
    cells : int

    Returns
    -------
    `~numpy.ndarray`
        ``cells`` + 1 integers, from 0 to ``length``.
    """
    return np.round(np.linspace(0, length, cells + 1)).astype(int)


def _centers(length: int, cells: int) -> np.ndarray:
    edges = cell_edges(length, cells)
    return (edges[:-1] + edges[1:] - 1) / 2


def _spline(nodes: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Natural cubic spline along the first axis, straight outside its nodes."""
    return _cubic(nodes, values, _curvature(nodes, values), at)


def _curvature(nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Second derivatives at the nodes of the natural cubic spline along the first axis.

    They are 0 at both ends; between, eq. 3.3.7 of Press et al. (2007, Numerical Recipes). SciPy
    has such splines, in a module whose import takes as long as the sky of a Mpix.
    """
    m = nodes.size
    gaps = np.diff(nodes)
    matrix, differences = np.eye(m), np.zeros((m, m))
    for i in range(1, m - 1):
        before, after = gaps[i - 1], gaps[i]
        matrix[i, i - 1 : i + 2] = before / 6, (before + after) / 3, after / 6
        differences[i, i - 1 : i + 2] = 1 / before, -1 / before - 1 / after, 1 / after
    return (np.linalg.solve(matrix, differences) @ values).astype(np.float32)


def _cubic(nodes, values, curvature, at) -> np.ndarray:
    """Cubics between nodes, from values and second derivatives along the first axis.

    Eqs. 3.3.3 and 3.3.4 of Press et al. (2007) in powers of the distance from the node before.
    Outside the nodes their tangent, eq. 3.3.5.
    A product of matrices would be shorter, but its threads wait for those of the network.
    """
    if nodes.size == 1:
        return np.repeat(values, at.size, axis=0)
    result = np.empty((at.size, *values.shape[1:]), np.float32)
    for rows, k, gap, t in _between(nodes, at):
        square = np.float32(gap**2 / 6)
        first, second = curvature[k] * square, curvature[k + 1] * square
        rise = values[k + 1] - values[k]
        inside, beyond = np.clip(t, 0, 1), t - np.clip(t, 0, 1)
        # Horner's scheme, in place: what is gone through is as large as the image.
        part = result[rows]
        np.multiply(inside, second - first, out=part)
        part += 3 * first
        part *= inside
        part += rise - 2 * first - second
        part *= inside
        part += values[k]
        if beyond.any():
            at_end = np.where(beyond < 0, -2 * first - second, first + 2 * second)
            part += beyond * (rise + at_end)
    return result


def _linear(nodes, values, at) -> np.ndarray:
    """Straight lines between nodes along the first axis, constant outside them."""
    if nodes.size == 1:
        return np.repeat(values, at.size, axis=0)
    result = np.empty((at.size, *values.shape[1:]), np.float32)
    for rows, k, _, t in _between(nodes, at):
        part = result[rows]
        np.multiply(np.clip(t, 0, 1), values[k + 1] - values[k], out=part)
        part += values[k]
    return result


def _between(nodes: np.ndarray, at: np.ndarray) -> Iterator[tuple]:
    """Places in order by the nodes they lie between, or nearest to.

    Yields
    ------
    rows : slice
        Of the places.
    k : int
        The node before them.
    gap : float
        Distance to the next node.
    t : ndarray, (n, 1) float32
        The part of it gone; below 0 and above 1 outside the nodes.
    """
    before = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, nodes.size - 2)
    starts = np.flatnonzero(np.diff(before, prepend=-1))
    for start, stop in pairwise([*starts, at.size]):
        k = before[start]
        gap = nodes[k + 1] - nodes[k]
        t = (at[start:stop] - nodes[k])[:, None] / gap
        yield slice(start, stop), k, gap, t.astype(np.float32)


def _measure(
    x, mask, excluded: np.ndarray, box: int, step: float, first: Mesh | None, threads: int
) -> Mesh:
    """A mesh of ``x``, or of what ``first`` leaves of it, without the excluded blocks."""
    ny, nx = x.shape
    my, mx = (max(1, round(n / box)) for n in x.shape)
    level = np.zeros((my, mx))
    spread = np.zeros((my, mx))
    seen = np.zeros((my, mx))
    across = cell_edges(nx, mx)
    down = cell_edges(ny, my)
    # What the first pass finds, the second mends; of odd and even rows, which may differ, it sees both.
    every = 3 if first is None and my * mx >= MANY_CELLS and box >= LARGE_BOX else 1

    def measure_strip(j: int) -> None:
        top, bottom = down[j], down[j + 1]
        strip = np.asarray(x[top:bottom:every], dtype=np.float32)
        rest = strip if first is None else strip - first.background_rows(top, bottom)
        bad = _bad_rows(mask, excluded, top, bottom, nx)
        bad = bad if bad is None else bad[::every]
        level[j], spread[j], seen[j] = clipped_modes(rest, bad, across, step)
        for i in np.flatnonzero((step > COARSE_STEP * spread[j]) & (seen[j] > 0)):
            cell = slice(across[i], across[i + 1])
            # Where no count fell, the slope of the first pass is left, which is no noise.
            values = strip[:, cell] if bad is None else strip[:, cell][~bad[:, cell]]
            if np.ptp(values) == 0:
                spread[j, i] = 0

    with ThreadPoolExecutor(threads, "mesh") as pool:
        list(pool.map(measure_strip, range(my)))
    if first is not None:
        level += first.background
    # Where hardly any cell shows enough sky, the best fifth of them must do.
    good = (seen >= min(MINIMUM_GOOD, np.quantile(seen, 0.8))) & (seen > 0) & (spread > 0)
    if not good.any():
        return first or Mesh(*_flat_mesh(level, seen, step), box, (ny, nx), step)
    level, spread = (_median_filter(_fill(values, good)) for values in (level, spread))
    spread = np.maximum(spread, 1e-3 * np.median(spread[spread > 0]))
    level, spread = level.astype(np.float32), spread.astype(np.float32)
    return Mesh(level, spread, box, (ny, nx), step, (1 - seen).astype(np.float32))


def _flat_mesh(level: np.ndarray, seen: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """One level everywhere and a noise of 1, for an image that shows no noise at all."""
    value = np.median(level[seen > 0]) if seen.any() else 0.0
    noise = step or 1.0
    return np.full(level.shape, value, np.float32), np.full(level.shape, noise, np.float32)


def _bad_rows(mask, excluded, top: int, bottom: int, nx: int) -> np.ndarray | None:
    """The bad pixels and excluded blocks of some rows, None where there is none."""
    rows = excluded[top // BLOCK : -(-bottom // BLOCK)]
    bad = None
    if rows.any():
        offset = top % BLOCK
        bad = _expand(rows, BLOCK)[offset : offset + bottom - top, :nx]
    if mask is not None:
        masked = np.asarray(mask[top:bottom], dtype=bool)
        if masked.any():
            bad = masked if bad is None else bad | masked
    return bad


def _fill(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Interpolate the cells that are not good: each is the mean of its neighbours."""
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
    tolerance = OUTLIER * usual + 4 * np.median(bend)
    return np.where(deviation > tolerance, median, values)


def _neighbours_mean(padded: np.ndarray) -> np.ndarray:
    """Mean of the four neighbours of each cell of a mesh that is padded by one."""
    vertical = padded[:-2, 1:-1] + padded[2:, 1:-1]
    return (vertical + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4


# ---- objects -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Averages of BLOCK x BLOCK pixels: their mean, which have one, and filled gaps."""

    mean: np.ndarray
    known: np.ndarray
    filling: np.ndarray


def _strips(shape: tuple[int, int], rows: int = HEIGHT) -> Iterator[tuple[int, int]]:
    return ((y, min(y + rows, shape[0])) for y in range(0, shape[0], rows))


def _survey(x, mask, threads: int = 1) -> _Blocks:
    """Averages over blocks; a block counts where at least a quarter of it is good."""
    shape = tuple(-(-n // BLOCK) for n in x.shape)
    mean, known, flat = (np.empty(shape, kind) for kind in (np.float32, bool, bool))

    def average(pixels: slice) -> None:
        top, bottom = pixels.start, pixels.stop
        rows = slice(top // BLOCK, -(-bottom // BLOCK))
        strip = _pad_to_blocks(np.asarray(x[top:bottom], dtype=np.float32))
        bad = np.zeros((bottom - top, x.shape[1]), dtype=bool)
        if mask is not None:
            bad |= np.asarray(mask[top:bottom], dtype=bool)
        bad = _pad_to_blocks(bad)
        flat[rows] = _reduce(strip, np.maximum) == _reduce(strip, np.minimum)
        if bad.any():
            count = BLOCK**2 - _reduce(bad.astype(np.float32), np.add)
            total = _reduce(np.where(bad, np.float32(0), strip), np.add)
        else:
            count = np.full(flat[rows].shape, BLOCK**2, dtype=np.float32)
            total = _reduce(strip, np.add)
        mean[rows] = total / np.maximum(count, 1)
        known[rows] = count >= BLOCK**2 / 4

    over_strips(average, x.shape, height=HEIGHT, threads=threads)
    return _Blocks(mean, known, _filling(x, mask, flat))


def _pad_to_blocks(strip: np.ndarray) -> np.ndarray:
    padding = [(0, -n % BLOCK) for n in strip.shape]
    return np.pad(strip, padding, mode="edge") if any(p for _, p in padding) else strip


def _reduce(strip: np.ndarray, function: np.ufunc, block: int = BLOCK) -> np.ndarray:
    """Reduce blocks of pixels, rows first: that runs along contiguous memory."""
    ny, nx = strip.shape
    rows = function.reduce(strip.reshape(ny // block, block, nx), axis=1)
    columns = rows.reshape(ny // block, nx // block, block)
    return function.reduce([columns[:, :, k] for k in range(block)], axis=0)


def _expand(blocks: np.ndarray, block: int) -> np.ndarray:
    return np.repeat(np.repeat(blocks, block, axis=0), block, axis=1)


def _filling(x, mask, flat: np.ndarray) -> np.ndarray:
    """Blocks in filled gaps and saturated cores: 2 x 2 blocks of one value.

    In a map of few counts most blocks are such, and they are the sky; there the
    other pixels are mostly of one value as well.
    """
    filling = _in_square(flat)
    if not filling.any():
        return filling
    stride = (int(np.sqrt(x.shape[0] * x.shape[1] / (1 << 16))) + 1) | 1
    rows, columns = (np.arange(0, n, stride) for n in x.shape)
    values = np.asarray(x[::stride, ::stride])
    kept = np.isfinite(values) & ~filling[np.ix_(rows // BLOCK, columns // BLOCK)]
    if mask is not None:
        kept &= ~np.asarray(mask[::stride, ::stride], dtype=bool)
    if not kept.any() or np.ptp(np.percentile(values[kept], [25, 75])) == 0:
        return np.zeros_like(filling)
    return filling


def _in_square(flat: np.ndarray) -> np.ndarray:
    """Blocks that belong to a square of 2 x 2 such blocks; the edge goes on outside."""
    corner = np.pad(flat, ((1, 0), (1, 0)), mode="edge")
    corner = corner[:-1] & corner[1:]
    corner = np.pad(corner[:, :-1] & corner[:, 1:], ((0, 1), (0, 1)), mode="edge")
    corner = corner[:-1] | corner[1:]
    return corner[:, :-1] | corner[:, 1:]


def _object_blocks(blocks: _Blocks, mesh: Mesh) -> np.ndarray:
    """Blocks that belong to objects, at the size of a block and of a halo."""
    count = mesh.quantisation
    significance = _block_significance(blocks, mesh)
    objects = _above(significance, blocks.known, OBJECT_THRESHOLD, BLOCK, count)
    # A halo is what is left between the objects: a bright star has none for being bright.
    sky = blocks.known & ~objects
    halos = _above(*_average(significance, sky), HALO_THRESHOLD, BLOCK * HALO, count)
    my, mx = objects.shape
    objects |= _expand(halos, HALO)[:my, :mx]
    return objects


def _block_significance(blocks: _Blocks, mesh: Mesh) -> np.ndarray:
    """(mean - background) / rms of blocks, with the mesh evaluated at their centres, 0 if unknown."""
    down, across = (np.arange(m) * BLOCK + (BLOCK - 1) / 2 for m in blocks.mean.shape)
    nodes = [_centers(n, m) for n, m in zip(mesh.shape, mesh.rms.shape, strict=True)]
    level = _spline(nodes[1], mesh.background.T, across).T
    noise = _linear(nodes[1], mesh.rms.T, across).T
    curvature = _curvature(nodes[0], level)
    significance = np.empty_like(blocks.mean)
    for top, bottom in _strips(blocks.mean.shape):
        at = down[top:bottom]
        above = blocks.mean[top:bottom] - _cubic(nodes[0], level, curvature, at)
        above /= _linear(nodes[0], noise, at)
        significance[top:bottom] = np.where(blocks.known[top:bottom], above, 0)
    return significance


def _average(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages of HALO x HALO blocks, and the part of these that counts."""
    shape = tuple(-(-n // HALO) for n in values.shape)
    mean, seen = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for top, bottom in _strips(values.shape):
        weight = weights[top:bottom].astype(np.float32)
        padding = [(0, -n % HALO) for n in weight.shape]
        total, count = (
            _reduce(np.pad(part, padding), np.add, HALO)
            for part in (values[top:bottom] * weight, weight)
        )
        rows = slice(top // HALO, -(-bottom // HALO))
        mean[rows], seen[rows] = total / np.maximum(count, 1), count / HALO**2
    return mean, seen


def _above(
    values: np.ndarray, weights: np.ndarray, threshold: float, side: int, count: float
) -> np.ndarray:
    """Where smoothed averages of ``side`` pixels stand out of their noise, widened by one.

    Independent pixels would give the averages a noise that is known; correlated
    pixels and the structure of the sky make it larger, as their lower half tells. Where
    noise is skewed its mean is not its mode, and nearly all averages are above 0: the
    lowest of them are then the sky. ``count`` is the quantisation step in units of the
    rms.
    """
    noise = white = SMOOTHING_GAIN / side
    offset = 0.0
    if (known := _known_averages(values, weights)).size:
        low, median = np.percentile(known, [16, 50])
        noise = max(noise, median - low)
        offset = max(offset, low + white)
    limit = offset + max(threshold * noise, 0.25 * CHANCE_COUNTS * count / side**2)
    above = np.empty(values.shape, dtype=bool)
    for top, bottom in _strips(values.shape):
        # One row more on both sides than is widened.
        first, last = max(top - 1, 0), min(bottom + 1, len(values))
        smooth, _ = _smoothed_rows(values, weights, first, last)
        above[top:bottom] = maximum_filter(smooth > limit, 3)[top - first : bottom - first]
    return above


def _known_averages(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Smoothed averages that count for more than half, at most about AVERAGES, evenly spaced."""
    stride = int(np.ceil(np.sqrt(values.size / AVERAGES)))
    kept = []
    for top, bottom in _strips(values.shape):
        smooth, seen = (
            part[-top % stride :: stride, ::stride]
            for part in _smoothed_rows(values, weights, top, bottom)
        )
        kept.append(smooth[seen > 0.5])
    return np.concatenate(kept)


def _smoothed_rows(values, weights, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the smoothed averages, and of the part of each that counts."""
    first, last = max(top - 1, 0), min(bottom + 1, len(values))
    weight = weights[first:last].astype(np.float32)
    own = slice(top - first, bottom - first)
    total, seen = (_smoothed(part)[own] for part in (values[first:last] * weight, weight))
    return total / np.maximum(seen, 0.1), seen


def _smoothed(values: np.ndarray) -> np.ndarray:
    padded = np.pad(values, 1, mode="edge")
    down = (padded[:-2] + padded[2:]) / 4 + padded[1:-1] / 2
    return (down[:, :-2] + down[:, 2:]) / 4 + down[:, 1:-1] / 2
