"""Light that the sky mesh has taken for sky: galaxies and nebulae wider than its cells."""

import numpy as np

from bgrem.arrays.filters import maximum_filter, median_filter
from bgrem.sky.mesh import Mesh

__all__ = ["absorbed_light"]

NEIGHBOURS = 9  # cells: side of the neighbourhood that a cell is compared with
EXCESS = 1.0  # sky rms: what a cell must stand above its neighbourhood
HIDDEN = 0.5  # an object that is so wide hides half of a cell, or of one beside it


def absorbed_light(mesh: Mesh) -> tuple[int, int] | None:
    """Where the mesh stands out under an object, most of all.

    The sky changes slowly from cell to cell, and an object that fits into a cell is left out of
    it. A cell that is higher than its neighbourhood, where an object hides most of it or of the
    next one, has taken a part of that object's light for sky.

    Parameters
    ----------
    mesh : `~bgrem.sky.mesh.Mesh`
        As `~bgrem.sky.estimate.estimate_mesh` gives it.

    Returns
    -------
    tuple of int or None
        Pixel (x, y), from 0, at the centre of the cell; None where nothing stands out.
    """
    if mesh.hidden is None or min(mesh.rms.shape) < 3:
        return None
    level = mesh.background - _plane(mesh.background)
    excess = level - median_filter(level, NEIGHBOURS)
    covered = maximum_filter(mesh.hidden, 3) > HIDDEN
    excess = np.where(covered, excess / mesh.rms, 0.0)
    if not excess.max() > EXCESS:
        return None
    row, column = np.unravel_index(np.argmax(excess), excess.shape)
    (ny, nx), (my, mx) = mesh.shape, mesh.rms.shape
    return int((column + 0.5) * nx / mx), int((row + 0.5) * ny / my)


def _plane(level: np.ndarray) -> np.ndarray:
    """The plane through the cells: moonlight and gradients of the whole frame."""
    y, x = np.indices(level.shape, dtype=np.float64)
    terms = np.stack([np.ones(level.size), x.ravel(), y.ravel()], axis=1)
    values, *_ = np.linalg.lstsq(terms, level.ravel().astype(np.float64), rcond=None)
    return (terms @ values).reshape(level.shape)
