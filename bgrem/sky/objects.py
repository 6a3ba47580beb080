"""Which blocks of an image belong to objects: what stands out of the noise of their averages."""

import numpy as np

from bgrem.arrays.filters import maximum_filter
from bgrem.arrays.splines import cubic, curvature_of, linear, spline
from bgrem.sky.blocks import BLOCK, Blocks, expand, reduce_blocks, strips_of
from bgrem.sky.mesh import Mesh

__all__ = ["object_blocks"]

# Faint halos are looked for on averages of HALO x HALO blocks.
HALO = 4
# Thresholds in units of the noise of the smoothed averages.
OBJECT_THRESHOLD = 2.5
HALO_THRESHOLD = 3.0
# Noise of an average of white noise after the [1, 2, 1] / 4 smoothing of both axes.
SMOOTHING_GAIN = 0.375
# Averages that tell the noise of all of them: those of a frame of 4096 pixels.
AVERAGES = 1 << 20
# So many counts in a block are no object, however rare counts are.
CHANCE_COUNTS = 3


def object_blocks(blocks: Blocks, mesh: Mesh) -> np.ndarray:
    """Blocks that belong to objects, at the size of a block and of a halo.

    Parameters
    ----------
    blocks : Blocks
    mesh : Mesh
        Level and noise of the same image.

    Returns
    -------
    `~numpy.ndarray`
        bool, of the shape of ``blocks.mean``.
    """
    count = mesh.quantisation
    significance = _block_significance(blocks, mesh)
    objects = _above(significance, blocks.known, OBJECT_THRESHOLD, BLOCK, count)
    # A halo is what is left between the objects: a bright star has none for being bright.
    sky = blocks.known & ~objects
    halos = _above(*_average(significance, sky), HALO_THRESHOLD, BLOCK * HALO, count)
    my, mx = objects.shape
    objects |= expand(halos, HALO)[:my, :mx]
    return objects


def _block_significance(blocks: Blocks, mesh: Mesh) -> np.ndarray:
    """(mean - background) / rms of blocks, with the mesh evaluated at their centres, 0 if unknown."""
    down, across = (np.arange(m) * BLOCK + (BLOCK - 1) / 2 for m in blocks.mean.shape)
    level = spline(mesh.nodes[1], mesh.background.T, across).T
    noise = linear(mesh.nodes[1], mesh.rms.T, across).T
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
