"""Which blocks of an image belong to objects: those that stand out of the noise of their averages."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.filters import maximum_filter, median_filter
from bgrem.arrays.rows import Rows
from bgrem.arrays.splines import cubic, curvature_of, linear, spline
from bgrem.arrays.tiling import over_strips
from bgrem.options import IN_MEMORY, Run
from bgrem.sky.mesh import Mesh

__all__ = [
    "SKY_BLOCK", "Blocks", "absorbed_light", "average_blocks", "expand", "object_blocks",
    "object_mask",
]  # fmt: skip

# Chosen by hand, tested in tests/sky; `python benchmarks/quality/level.py` measures what they give.
SKY_BLOCK = 4  # px: side of a block
STRIP_HEIGHT = 64 * SKY_BLOCK  # rows that are averaged at once
# Faint halos are looked for on averages of HALO x HALO blocks.
HALO = 4
# Thresholds in units of the noise of the smoothed averages.
OBJECT_THRESHOLD = 2.5
HALO_THRESHOLD = 3.0
# Noise of an average of white noise after the [1, 2, 1] / 4 smoothing of both axes.
SMOOTHING_GAIN = 0.375
# Number of averages from which their noise is measured: those of a frame of 4096 x 4096 pixels.
AVERAGES = 1 << 20
# This number of counts in a block is no object, however rare counts are.
CHANCE_COUNTS = 3
NEIGHBOURS = 9  # cells: side of the neighbourhood that a cell is compared with
EXCESS = 1.0  # sky rms: what a cell must stand above its neighbourhood
HIDDEN = 0.5  # part of a cell, or of one beside it, that an object of this width hides


@dataclass(frozen=True, eq=False)
class Blocks:
    """Averages of SKY_BLOCK x SKY_BLOCK pixels: the mean, where it is known, and filled gaps."""

    mean: np.ndarray
    known: np.ndarray
    filling: np.ndarray


def strips_of(shape: tuple[int, int], rows: int = STRIP_HEIGHT) -> Iterator[tuple[int, int]]:
    """First and last row of strips of blocks."""
    return ((y, min(y + rows, shape[0])) for y in range(0, shape[0], rows))


def average_blocks(x: Rows, bad: Rows | None, run: Run = IN_MEMORY) -> Blocks:
    """Averages over blocks; a block counts if at least a quarter of its pixels is good."""
    shape = tuple(-(-n // SKY_BLOCK) for n in x.shape)
    mean, known, flat = (np.empty(shape, kind) for kind in (np.float32, bool, bool))

    def average(pixels: slice) -> None:
        top, bottom = pixels.start, pixels.stop
        rows = slice(top // SKY_BLOCK, -(-bottom // SKY_BLOCK))
        strip = _pad_to_blocks(np.asarray(x[top:bottom], dtype=np.float32))
        lost = np.zeros((bottom - top, x.shape[1]), dtype=bool)
        if bad is not None:
            lost |= np.asarray(bad[top:bottom], dtype=bool)
        lost = _pad_to_blocks(lost)
        flat[rows] = reduce_blocks(strip, np.maximum) == reduce_blocks(strip, np.minimum)
        if lost.any():
            count = SKY_BLOCK**2 - reduce_blocks(lost.astype(np.float32), np.add)
            total = reduce_blocks(np.where(lost, np.float32(0), strip), np.add)
        else:
            count = np.full(flat[rows].shape, SKY_BLOCK**2, dtype=np.float32)
            total = reduce_blocks(strip, np.add)
        mean[rows] = total / np.maximum(count, 1)
        known[rows] = count >= SKY_BLOCK**2 / 4

    over_strips(average, x.shape, height=STRIP_HEIGHT, threads=run.threads)
    return Blocks(mean, known, _filling(x, bad, flat))


def _pad_to_blocks(strip: np.ndarray) -> np.ndarray:
    padding = [(0, -n % SKY_BLOCK) for n in strip.shape]
    return np.pad(strip, padding, mode="edge") if any(p for _, p in padding) else strip


def reduce_blocks(strip: np.ndarray, function: np.ufunc, block: int = SKY_BLOCK) -> np.ndarray:
    """Reduce blocks of pixels, rows first: that runs along contiguous memory."""
    ny, nx = strip.shape
    rows = function.reduce(strip.reshape(ny // block, block, nx), axis=1)
    columns = rows.reshape(ny // block, nx // block, block)
    return function.reduce([columns[:, :, k] for k in range(block)], axis=0)


def expand(blocks: np.ndarray, block: int) -> np.ndarray:
    """Each value as a square of ``block`` pixels."""
    return np.repeat(np.repeat(blocks, block, axis=0), block, axis=1)


def _filling(x, bad, flat: np.ndarray) -> np.ndarray:
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
    kept = np.isfinite(values) & ~filling[np.ix_(rows // SKY_BLOCK, columns // SKY_BLOCK)]
    if bad is not None:
        kept &= ~np.asarray(bad[::stride, ::stride], dtype=bool)
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


def object_blocks(blocks: Blocks, mesh: Mesh) -> np.ndarray:
    """Blocks that belong to objects, at the size of a block and of a halo, bool.

    The mesh is the level and the noise of the same image.
    """
    count = mesh.quantisation
    significance = _block_significance(blocks, mesh)
    objects = _above(significance, blocks.known, OBJECT_THRESHOLD, SKY_BLOCK, count)
    # A halo is what is left between the objects: a bright star has none for being bright.
    sky = blocks.known & ~objects
    halos = _above(*_average(significance, sky), HALO_THRESHOLD, SKY_BLOCK * HALO, count)
    my, mx = objects.shape
    objects |= expand(halos, HALO)[:my, :mx]
    return objects


def object_mask(x: Rows, bad: Rows | None, mesh: Mesh) -> np.ndarray:
    """Pixels that belong to objects, faint halos included, bool of shape (ny, nx).

    The image without its background is averaged over blocks of 4 and of 16 pixels and slightly smoothed;
    what stands out of the noise of these averages is widened by one block. The mesh is in the units of
    ``x``.
    """
    ny, nx = x.shape
    return expand(object_blocks(average_blocks(x, bad), mesh), SKY_BLOCK)[:ny, :nx]


def _block_significance(blocks: Blocks, mesh: Mesh) -> np.ndarray:
    """(mean - background) / rms of blocks, with the mesh evaluated at their centres, 0 if unknown."""
    down, across = (np.arange(m) * SKY_BLOCK + (SKY_BLOCK - 1) / 2 for m in blocks.mean.shape)
    level = spline(mesh.nodes[1], mesh.background_mesh.T, across).T
    noise = linear(mesh.nodes[1], mesh.rms_mesh.T, across).T
    curvature = curvature_of(mesh.nodes[0], level)
    significance = np.empty_like(blocks.mean)
    for top, bottom in strips_of(blocks.mean.shape):
        at = down[top:bottom]
        above = blocks.mean[top:bottom] - cubic(mesh.nodes[0], level, curvature, at)
        above /= linear(mesh.nodes[0], noise, at)
        significance[top:bottom] = np.where(blocks.known[top:bottom], above, 0)
    return significance


def _average(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages of HALO x HALO blocks, and the part of these that counts."""
    shape = tuple(-(-n // HALO) for n in values.shape)
    mean, seen = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for top, bottom in strips_of(values.shape):
        weight = weights[top:bottom].astype(np.float32)
        padding = [(0, -n % HALO) for n in weight.shape]
        total, count = (
            reduce_blocks(np.pad(part, padding), np.add, HALO)
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
    pixels and the structure of the sky make it larger, which their lower half shows. Where
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
    for top, bottom in strips_of(values.shape):
        # One row more on both sides than is widened.
        first, last = max(top - 1, 0), min(bottom + 1, len(values))
        smooth, _ = _smoothed_rows(values, weights, first, last)
        above[top:bottom] = maximum_filter(smooth > limit, 3)[top - first : bottom - first]
    return above


def _known_averages(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Smoothed averages that count for more than half, at most about AVERAGES, evenly spaced."""
    stride = int(np.ceil(np.sqrt(values.size / AVERAGES)))
    kept = []
    for top, bottom in strips_of(values.shape):
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


def absorbed_light(mesh: Mesh) -> tuple[int, int] | None:
    """Pixel (x, y), from 0, where the mesh stands out most under an object; None if it does nowhere.

    The sky changes slowly from cell to cell, and an object that fits into a cell is left out of it. A cell
    that is higher than its neighbourhood, where an object covers most of it or of the next one, has
    absorbed a part of that object's light. The pixel is the centre of the cell.
    """
    if mesh.hidden is None or min(mesh.rms_mesh.shape) < 3:
        return None
    level = mesh.background_mesh - _fitted_plane(mesh.background_mesh)
    excess = level - median_filter(level, NEIGHBOURS)
    covered = maximum_filter(mesh.hidden, 3) > HIDDEN
    excess = np.where(covered, excess / mesh.rms_mesh, 0.0)
    if not excess.max() > EXCESS:
        return None
    row, column = np.unravel_index(np.argmax(excess), excess.shape)
    (ny, nx), (my, mx) = mesh.shape, mesh.rms_mesh.shape
    return int((column + 0.5) * nx / mx), int((row + 0.5) * ny / my)


def _fitted_plane(level: np.ndarray) -> np.ndarray:
    """The plane through the cells: moonlight and gradients of the whole frame."""
    y, x = np.indices(level.shape, dtype=np.float64)
    terms = np.stack([np.ones(level.size), x.ravel(), y.ravel()], axis=1)
    values, *_ = np.linalg.lstsq(terms, level.ravel().astype(np.float64), rcond=None)
    return (terms @ values).reshape(level.shape)
