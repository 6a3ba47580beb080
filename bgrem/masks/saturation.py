"""Saturated cores: the sources keep the observed value."""

import numpy as np

from bgrem.arrays.rows import Rows
from bgrem.arrays.tiling import row_strips
from bgrem.masks.flags import ARTEFACT, SATURATED, UNSEEN

__all__ = ["keep_saturated"]


def keep_saturated(sources: np.ndarray, data: Rows, background: Rows, flags: np.ndarray) -> None:
    """Give saturated pixels all their light above the sky as sources, in place.

    A model has seen few plateaus and may take a part of one for noise. Where it sees an artefact,
    and no neighbour is saturated, it is right: that is a hot pixel, and stars are wider. The images have
    the shape (ny, nx), in data units; the flags are those of `bgrem.masks.flags`.
    """
    for rows in row_strips(data.shape):
        if not (flags[rows] & SATURATED).any():
            continue
        kept = _kept(flags, rows)
        level = background[rows][kept]
        strip = sources[rows]
        strip[kept] = data[rows][kept].astype(np.float64) - level
        sources[rows] = strip


def _kept(flags: np.ndarray, rows: slice) -> np.ndarray:
    """The saturated pixels among some rows that are no defects."""
    top = max(rows.start - 1, 0)
    near = flags[top : rows.stop + 1]
    saturated = (near & (SATURATED | UNSEEN)) == SATURATED
    kept = saturated & ((near & ARTEFACT == 0) | _has_neighbour(saturated))
    return kept[rows.start - top : rows.stop - top]


def _has_neighbour(where: np.ndarray) -> np.ndarray:
    """Whether any of the eight pixels around each is True."""
    ny, nx = where.shape
    padded = np.pad(where, 1)
    found = np.zeros(where.shape, bool)
    for y in range(3):
        for x in range(3):
            if (y, x) != (1, 1):
                found |= padded[y : y + ny, x : x + nx]
    return found
