"""The rms map of a weight map, scaled to the noise that is measured in the image.

As in SExtractor (Bertin & Arnouts 1996, A&AS 117, 393), a map of the variance, of its inverse or of
the rms is correct up to a factor, which the measured noise determines.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from bgrem.arrays.filters import maximum_filter, median_filter
from bgrem.arrays.rows import Computed, Rows, as_rows
from bgrem.arrays.tiling import row_strips
from bgrem.masks.flags import NO_DATA, UNSEEN
from bgrem.options import IN_MEMORY, Run
from bgrem.sky.estimate import fill_cells
from bgrem.sky.mesh import Mesh, cell_edges

__all__ = [
    "WEIGHT_TYPES", "flag_low_weights", "is_even", "rms_of_weight", "unreliable_pixels", "weighted_mesh",
]  # fmt: skip

WEIGHT_TYPES = ("inverse", "variance", "rms")
# Chosen by hand, tested in tests/sky/test_weights.py.
# Beyond this ratio to the rms around it, a pixel has no data. The photon noise of the brightest stars is below it.
LARGEST_RATIO = 1e4
# Above this ratio, a pixel does not count for the level of the sky, and has no data unless it is brighter than
# PHOTONS times its rms: then the map holds the noise of that light. Below the other ratio, its rms is raised to
# it: no pixel is so much better than those around it.
UNRELIABLE, SMALLEST_RATIO, PHOTONS = 5.0, 0.1, 10.0
# Ratio of the rms in a tenth of the pixels to that in another tenth, from which on parts of a mosaic are too different
# for a sky network; and the pixels that are compared, along the shorter axis.
UNEVEN, EVEN_SAMPLES = 5.0, 256
NOTABLE_LOSS = 0.01  # part of the pixels without data by their rms from which on a user is warned
# Side of a cell in pixels, 3 x 3 of which are around a pixel, and the pixels of it that are looked at, along an axis.
CELL, CELL_SAMPLES = 96, 24
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
        variance of 0, an infinite variance or rms, at what is negative or NaN, and at an rms of
        1e4 times that around. An rms below a tenth of that around is raised to it.

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
    around = _rms_around(weight, kind)
    middle = np.median(around[:: max(1, shape[0] // CELL_SAMPLES)])
    rms = run.empty(shape, np.float32)
    for rows in row_strips(shape):
        usual = around[rows]
        ratio = _rms(weight[rows], kind) / usual
        ratio[~(ratio < LARGEST_RATIO)] = np.nan
        rms[rows] = np.maximum(ratio, SMALLEST_RATIO) * (usual / middle)
    return rms


def unreliable_pixels(rms: np.ndarray) -> Rows:
    """Where the noise is far above that around, bool: the level of the sky is measured without these pixels.

    ``rms`` is that of `rms_of_weight`. Large parts of a mosaic that saw less light are no such pixels.
    """
    around = _rms_around(rms, "rms")
    return Computed(rms.shape, bool, lambda rows: rms[rows] > UNRELIABLE * around[rows])


def is_even(rms: np.ndarray) -> bool:
    """Whether the noise of large parts of an image is alike; ``rms`` is that of `rms_of_weight`."""
    step = max(1, min(rms.shape) // EVEN_SAMPLES)
    low, high = np.nanquantile(rms[::step, ::step], [0.1, 0.9])
    return bool(high < UNEVEN * low)


def flag_low_weights(flags: np.ndarray, x: Rows, mesh: Mesh) -> list[str]:
    """Flag pixels as without data, in place, whose rms is far above that around and that hold no light beside it.

    In units of such an rms a star that they cut would have a hole.

    Parameters
    ----------
    flags : `~numpy.ndarray`
        uint8 of shape (ny, nx), `bgrem.masks.flags`.
    x : Rows
        Image of that shape, in the units of the mesh.
    mesh : `~bgrem.sky.mesh.Mesh`
        With the rms map of the weights.

    Returns
    -------
    list of str
        What a user must know: a sentence where a notable part of the pixels was flagged.
    """
    around, count = _rms_around(mesh.rms, "rms"), 0
    for rows in row_strips(flags.shape):
        rms = mesh.rms[rows]
        low = rms > UNRELIABLE * around[rows]
        if low.any():
            low &= x[rows] - mesh.background[rows] < PHOTONS * rms
            low &= flags[rows] & UNSEEN == 0
            flags[rows] = flags[rows] | low.view(np.uint8) * np.uint8(NO_DATA)
            count += np.count_nonzero(low)
    part = count / flags.size
    if part < NOTABLE_LOSS:
        return []
    return [
        f"{part:.0%} of the pixels are without data: their rms is above {UNRELIABLE:g} times that around"
    ]


def _rms_around(weight: Rows, kind: str) -> Rows:
    """Median of the rms in the cells around each pixel. Raises ValueError if no weight is above 0."""
    down, across = (cell_edges(n, max(1, round(n / CELL))) for n in weight.shape)
    cells = np.full((len(down) - 1, len(across) - 1), np.nan)
    for j, (top, bottom) in enumerate(pairwise(down)):
        strip = _rms(weight[top : bottom : -(-(bottom - top) // CELL_SAMPLES)], kind)
        for i, (left, right) in enumerate(pairwise(across)):
            cell = strip[:, left : right : -(-(right - left) // CELL_SAMPLES)]
            known = cell[np.isfinite(cell)]
            if known.size:
                cells[j, i] = np.median(known)
    good = np.isfinite(cells)
    if not good.any():
        cells[:] = np.nanmedian(_rms_of_all(weight, kind))
    cells = fill_cells(cells, good)
    cells = median_filter(cells, 3)
    rows_of = np.repeat(np.arange(len(cells)), np.diff(down))
    widths = np.diff(across)
    return Computed(
        weight.shape, np.float64, lambda rows: np.repeat(cells[rows_of[rows]], widths, axis=1)
    )


def _rms_of_all(weight: Rows, kind: str) -> np.ndarray:
    """The rms of the few pixels that have one."""
    known = [_rms(weight[rows], kind) for rows in row_strips(weight.shape)]
    known = np.concatenate([strip[np.isfinite(strip)] for strip in known])
    if not known.size:
        raise ValueError("the weight says that no pixel has data")
    return known


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
    if not np.median(np.abs(ratio - slope)) < LARGEST_SCATTER * slope:
        return None
    return slope if _follows_light(mesh, x, bad, rms, slope) else None


def _follows_light(mesh: Mesh, x: Rows, bad: Rows | None, rms: np.ndarray, slope: float) -> bool:
    """Whether most pixels of much variance beside bright ones hold light, too; in a noisy edge they do not."""
    around, high, lit = _rms_around(rms, "rms"), 0, 0
    for rows in row_strips(mesh.shape):
        excess = rms[rows].astype(np.float64) ** 2 - around[rows] ** 2
        much = excess > slope * BRIGHT_SOURCE * mesh.rms[rows]
        light = x[rows] - mesh.background[rows]
        bright = light > BRIGHT_SOURCE * mesh.rms[rows]
        much &= maximum_filter(bright, 3) & ~bright
        if bad is not None:
            much &= ~bad[rows]
        light = light[much]
        high += light.size
        lit += np.count_nonzero(slope * light > LARGEST_SCATTER * excess[much])
    return 2 * lit >= high


def _take_off(mesh: Mesh, x: Rows, rms: np.ndarray, slope: float) -> None:
    """Take the photon noise of sources off the map; never more than makes a pixel the quietest.

    The light is as uncertain as its own noise is high. A pixel that shows too little of it would keep much of
    the noise, so the light is taken to be higher by one standard deviation.
    """
    usual = np.nanpercentile(rms[:: 1 + mesh.shape[0] // 512], 5)
    for rows in row_strips(mesh.shape):
        light = np.maximum(x[rows] - mesh.background[rows], 0)
        strip = rms[rows]
        photons = np.sqrt(np.maximum(strip**2 - np.float32(usual) ** 2, 0))
        light += np.minimum(photons, light)
        sky = np.sqrt(np.maximum(strip**2 - np.float32(slope) * light, 0))
        rms[rows] = np.maximum(sky, np.minimum(strip, np.float32(usual)))
