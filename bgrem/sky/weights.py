"""The rms map of a weight map, scaled to the noise that is measured in the image.

As in SExtractor (Bertin & Arnouts 1996, A&AS 117, 393), a map of the variance, of its inverse or of
the rms is correct up to a factor, which the measured noise determines.
"""

from dataclasses import replace

import numpy as np

from bgrem.arrays.rows import Rows, as_rows
from bgrem.arrays.tiling import row_strips
from bgrem.options import IN_MEMORY, Run
from bgrem.sky.mesh import Mesh

__all__ = ["WEIGHT_TYPES", "rms_of_weight", "weighted_mesh"]

WEIGHT_TYPES = ("inverse", "variance", "rms")
# Chosen by hand, tested in tests/sky/test_weights.py.
# Beyond this ratio to the median, or its inverse, a weight means that there are no data.
LARGEST_RATIO = 1e6
# From pixels of sources brighter than this, in sky rms, if there are as many as this, is determined whether
# the map contains the photon noise of sources.
BRIGHT_SOURCE, BRIGHT_PIXELS = 20.0, 30
# Relative scatter of the ratio of variance to light above which the variance is not that of photons.
LARGEST_SCATTER = 0.5


def rms_of_weight(weight, kind: str, shape: tuple[int, int], run: Run = IN_MEMORY) -> np.ndarray:
    """The rms map, up to a factor, of a weight map.

    Parameters
    ----------
    weight : array_like
        Of shape (ny, nx), any unit.
    kind : str
        "inverse" for inverse variance, as SExtractor's MAP_WEIGHT; "variance"; or "rms".
    shape : tuple of int
        That of the image.

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
    rms = run.empty(shape, np.float32)
    for rows in row_strips(shape):
        ratio = _rms(weight[rows], kind) / middle
        ratio[~((ratio > 1 / LARGEST_RATIO) & (ratio < LARGEST_RATIO))] = np.nan
        rms[rows] = ratio
    return rms


def _rms(weight: np.ndarray, kind: str) -> np.ndarray:
    """Standard deviation in float64, NaN where there is none."""
    values = weight.astype(np.float64)
    values[~(np.isfinite(values) & (values > 0))] = np.nan
    if kind == "rms":
        return values
    return np.sqrt(values) if kind == "variance" else 1 / np.sqrt(values)


def weighted_mesh(mesh: Mesh, x: Rows, bad: Rows | None, rms: np.ndarray) -> Mesh:
    """A mesh with the rms map of a weight map.

    ``rms`` is that of `rms_of_weight` and is changed in place. The photon noise of sources is subtracted, if
    the map contains it (the model expects the noise of the sky), and a factor makes the map agree with the
    mesh. Pixels without data have the rms of the mesh.
    """
    slope = _photon_slope(mesh, x, bad, rms)
    if slope:
        _take_off(mesh, x, rms, slope)
    cells = _cells_rms(mesh, rms, bad)
    known = np.isfinite(cells)
    factor = np.float32(np.median(mesh.rms_mesh[known] / cells[known])) if known.any() else 1
    for rows in row_strips(mesh.shape):
        strip = rms[rows] * factor
        lost = np.isnan(strip)
        if lost.any():
            strip[lost] = mesh.rms[rows][lost]
        rms[rows] = strip
    return replace(mesh, rms_map=rms)


def _cells_rms(mesh: Mesh, rms: np.ndarray, bad: Rows | None) -> np.ndarray:
    """Median rms of each cell, NaN where it has none."""
    down, across = mesh.edges
    cells = np.full(mesh.rms_mesh.shape, np.nan)
    for j, i in np.ndindex(cells.shape):
        cell = np.s_[down[j] : down[j + 1], across[i] : across[i + 1]]
        good = np.isfinite(rms[cell])
        if bad is not None:
            good &= ~bad[cell]
        if good.any():
            cells[j, i] = np.median(rms[cell][good])
    return cells


def _photon_slope(mesh: Mesh, x: Rows, bad: Rows | None, rms: np.ndarray) -> float | None:
    """Variance per unit of a source's light in the map, None where the map holds no such noise.

    Error arrays (ERR of HST, the variance of LSST) have the photon noise of sources, weight maps
    of stacks have not.
    """
    ratios = []
    for rows in row_strips(mesh.shape):
        light = x[rows] - mesh.background[rows]
        bright = light > BRIGHT_SOURCE * mesh.rms[rows]
        if bad is not None:
            bright &= ~bad[rows]
        variance = rms[rows].astype(np.float64) ** 2
        bright &= np.isfinite(variance)
        if bright.any():
            sky = np.nanmedian(variance[~bright]) if not bright.all() else 0.0
            ratios.append((variance[bright] - sky) / light[bright])
    ratio = np.concatenate(ratios) if ratios else np.empty(0)
    if ratio.size < BRIGHT_PIXELS:
        return None
    slope = float(np.median(ratio))
    return slope if np.median(np.abs(ratio - slope)) < LARGEST_SCATTER * slope else None


def _take_off(mesh: Mesh, x: Rows, rms: np.ndarray, slope: float) -> None:
    """Take the photon noise of sources off the map; never more than makes a pixel the quietest."""
    usual = np.nanpercentile(rms[:: 1 + mesh.shape[0] // 512], 5)
    for rows in row_strips(mesh.shape):
        light = np.maximum(x[rows] - mesh.background[rows], 0)
        strip = rms[rows]
        sky = np.sqrt(np.maximum(strip**2 - np.float32(slope) * light, 0))
        rms[rows] = np.maximum(sky, np.minimum(strip, np.float32(usual)))
