"""Saturated cores: they are flagged, and the sources keep the observed value."""

from functools import partial

import numpy as np

from bgrem.arrays.rows import Derived, Rows
from bgrem.arrays.tiling import over_strips, row_strips
from bgrem.masks.flags import ARTEFACT, SATURATED, UNSEEN, of_shape
from bgrem.options import IN_MEMORY, Run

__all__ = ["flag_saturated", "keep_saturated"]

# A level less than NOISE_OF_SKY rms above the sky, or a map with more than LARGEST_PART of the image, is a mistake.
NOISE_OF_SKY, LARGEST_PART = 5.0, 0.5


def flag_saturated(flags: np.ndarray, data: Rows, saturate, sky, run: Run = IN_MEMORY) -> list[str]:
    """Flag the saturated pixels in place, unless the level or the map would flag the sky itself.

    Parameters
    ----------
    flags : `~numpy.ndarray`
        uint8 of shape (ny, nx), `bgrem.masks.flags`.
    data : Rows
        Image of that shape.
    saturate : float, array_like of bool or None
        Level from which on a pixel is saturated, in data units, or True where one is.
    sky : `~bgrem.sky.standard.SkyMap`
        Its median level and rms are compared with the saturation level.
    run : `~bgrem.options.Run`

    Returns
    -------
    list of str
        Why nothing was flagged; empty otherwise.

    Raises
    ------
    ValueError
        If the level is not finite, or the map has another shape.
    """
    if saturate is None:
        return []
    if np.ndim(saturate):
        where = of_shape(saturate, data, "map of saturated pixels")
        part = sum(np.count_nonzero(where[rows]) for rows in row_strips(flags.shape)) / flags.size
        if part > LARGEST_PART:
            return [f"the map of saturated pixels is ignored: it holds {part:.0%} of the image"]
    else:
        if not np.isfinite(saturate):
            raise ValueError(f"the saturation level must be finite, not {saturate}")
        level, rms = sky.median_level, sky.median_rms
        if saturate <= level + NOISE_OF_SKY * rms:
            return [
                f"the saturation level {saturate:g} is ignored: the sky is at {level:.6g} with an rms of {rms:.3g}"
            ]
        where = Derived(data, partial(_reached, saturate), bool)

    def flag(rows: slice) -> None:
        bits = (np.asarray(where[rows]) != 0).view(np.uint8) * np.uint8(SATURATED)
        flags[rows] = flags[rows] | bits

    over_strips(flag, flags.shape, threads=run.threads)
    return []


def _reached(saturate: float, part: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # 1e300 is inf in single precision, which no pixel reaches
        return part >= saturate


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
