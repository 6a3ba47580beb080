"""The noise map that a weight map tells of: its shape, on the scale of the measured noise.

As SExtractor does it (Bertin & Arnouts 1996): a map of the variance, of its inverse or of the rms
is taken to be right up to a factor, which the noise that is measured in the image fixes.
"""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.rows import MEMORY, Memory, as_rows
from bgrem.arrays.tiling import row_strips
from bgrem.sky.mesh import Mesh, cell_edges

__all__ = ["WEIGHT_TYPES", "WeightedMesh", "noise_of_weight", "weighted"]

WEIGHT_TYPES = ("inverse", "variance", "rms")
# Beyond these ratios to the median a weight means that there are no data.
LARGEST = 1e6
# A source this many sky rms bright, in this many pixels, tells whether the map has its noise.
BRIGHT = 20.0
ENOUGH = 30
# Spread of the ratio of variance to light above which it is not that of photons.
SCATTER = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class WeightedMesh(Mesh):
    """A mesh whose noise is a map of every pixel.

    Parameters
    ----------
    noise : `~numpy.ndarray`
        Standard deviation of the noise, float32 of shape (ny, nx), above 0.
    """

    noise: np.ndarray

    def rms_rows(self, start: int, stop: int) -> np.ndarray:
        """Noise of the rows ``start`` to ``stop``, float32 of shape (stop - start, nx)."""
        return self.noise[start:stop]


def noise_of_weight(
    weight, kind: str, shape: tuple[int, int], store: Memory = MEMORY
) -> np.ndarray:
    """The noise, up to a factor, that a weight map tells of.

    Parameters
    ----------
    weight : array_like
        Of shape (ny, nx), any unit.
    kind : str
        "inverse" for inverse variance, as SExtractor's MAP_WEIGHT; "variance"; or "rms".
    shape : tuple of int
        That of the image.
    store : `~bgrem.arrays.rows.Memory`
        Where the noise is kept.

    Returns
    -------
    `~numpy.ndarray`
        float32 of shape (ny, nx), its median about 1; NaN where there are no data: at an inverse
        variance of 0, an infinite variance or rms, and at what is negative or NaN.

    Raises
    ------
    ValueError
        If the kind is unknown, the shape another one, or no weight above 0.
    """
    if kind not in WEIGHT_TYPES:
        raise ValueError(f"unknown type of weight {kind!r}; there are {', '.join(WEIGHT_TYPES)}")
    weight = as_rows(weight)
    if weight.shape != shape:
        raise ValueError(f"the weight has shape {weight.shape}, the image {shape}")
    if weight.dtype.kind not in "iufb":
        raise ValueError(f"the weight must be of real numbers, not {weight.dtype}")
    stride = 1 + int(np.sqrt(weight.size / (1 << 18)))
    sample = _rms(weight[::stride, ::stride], kind)
    if not np.isfinite(sample).any():
        sample = _rms(weight[:], kind)
    if not np.isfinite(sample).any():
        raise ValueError("the weight says that no pixel has data")
    middle = np.nanmedian(sample)
    noise = store.empty(shape, np.float32)
    for rows in row_strips(shape):
        ratio = _rms(weight[rows], kind) / middle
        ratio[~((ratio > 1 / LARGEST) & (ratio < LARGEST))] = np.nan
        noise[rows] = ratio
    return noise


def _rms(weight: np.ndarray, kind: str) -> np.ndarray:
    """Standard deviation in float64, NaN where there is none."""
    values = weight.astype(np.float64)
    values[~(np.isfinite(values) & (values > 0))] = np.nan
    if kind == "rms":
        return values
    return np.sqrt(values) if kind == "variance" else 1 / np.sqrt(values)


def weighted(mesh: Mesh, x: np.ndarray, bad: np.ndarray | None, noise: np.ndarray) -> WeightedMesh:
    """Give a mesh the noise map of a weight.

    Parameters
    ----------
    mesh : `~bgrem.sky.mesh.Mesh`
        As measured in ``x``.
    x : `~numpy.ndarray`
        The image, of shape (ny, nx).
    bad : `~numpy.ndarray` or None
        bool, True where a pixel is bad.
    noise : `~numpy.ndarray`
        As `noise_of_weight` gives it; it is changed in place.

    Returns
    -------
    WeightedMesh
        Its noise is that of ``noise`` less the photon noise of sources, where that is in it (the
        model expects the noise of the sky), times the factor that makes it agree with ``mesh``; at
        pixels without data it is that of ``mesh``.
    """
    slope = _photon_slope(mesh, x, bad, noise)
    if slope:
        _take_off(mesh, x, noise, slope)
    cells = _cells_rms(mesh, noise, bad)
    known = np.isfinite(cells)
    factor = np.float32(np.median(mesh.rms[known] / cells[known])) if known.any() else 1
    for rows in row_strips(mesh.shape):
        strip = noise[rows] * factor
        lost = np.isnan(strip)
        if lost.any():
            strip[lost] = mesh.rms_rows(rows.start, rows.stop)[lost]
        noise[rows] = strip
    return WeightedMesh(
        mesh.background, mesh.rms, mesh.box, mesh.shape, mesh.step, mesh.hidden, noise=noise
    )


def _cells_rms(mesh: Mesh, noise: np.ndarray, bad: np.ndarray | None) -> np.ndarray:
    """Median noise of each cell, NaN where it has none."""
    down, across = (cell_edges(n, m) for n, m in zip(mesh.shape, mesh.rms.shape, strict=True))
    cells = np.full(mesh.rms.shape, np.nan)
    for j, i in np.ndindex(cells.shape):
        cell = np.s_[down[j] : down[j + 1], across[i] : across[i + 1]]
        good = np.isfinite(noise[cell])
        if bad is not None:
            good &= ~bad[cell]
        if good.any():
            cells[j, i] = np.median(noise[cell][good])
    return cells


def _photon_slope(
    mesh: Mesh, x: np.ndarray, bad: np.ndarray | None, noise: np.ndarray
) -> float | None:
    """Variance per unit of a source's light in the map, None where the map holds no such noise.

    Error arrays (ERR of HST, the variance of LSST) have the photon noise of sources, weight maps
    of stacks have not.
    """
    ratios = []
    for rows in row_strips(mesh.shape):
        light = x[rows] - mesh.background_rows(rows.start, rows.stop)
        bright = light > BRIGHT * mesh.rms_rows(rows.start, rows.stop)
        if bad is not None:
            bright &= ~bad[rows]
        variance = noise[rows].astype(np.float64) ** 2
        bright &= np.isfinite(variance)
        if bright.any():
            sky = np.nanmedian(variance[~bright]) if not bright.all() else 0.0
            ratios.append((variance[bright] - sky) / light[bright])
    ratio = np.concatenate(ratios) if ratios else np.empty(0)
    if ratio.size < ENOUGH:
        return None
    slope = float(np.median(ratio))
    return slope if np.median(np.abs(ratio - slope)) < SCATTER * slope else None


def _take_off(mesh: Mesh, x: np.ndarray, noise: np.ndarray, slope: float) -> None:
    """Take the photon noise of sources off the map; never more than makes a pixel the quietest."""
    usual = np.nanpercentile(noise[:: 1 + mesh.shape[0] // 512], 5)
    for rows in row_strips(mesh.shape):
        light = np.maximum(x[rows] - mesh.background_rows(rows.start, rows.stop), 0)
        strip = noise[rows]
        sky = np.sqrt(np.maximum(strip**2 - np.float32(slope) * light, 0))
        noise[rows] = np.maximum(sky, np.minimum(strip, np.float32(usual)))
