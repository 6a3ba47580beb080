"""What is known of a pixel before the model sees it, as the bits of the mask."""

import numpy as np

from bgrem.arrays.rows import MEMORY, Derived, Memory, as_rows
from bgrem.arrays.tiling import over_strips
from bgrem.masks.borders import unlit_border, zero_border

__all__ = [
    "ARTEFACT", "MASKED", "MEANINGS", "NOT_FINITE", "NO_DATA", "SATURATED", "UNSEEN", "flag_pixels",
]  # fmt: skip

NOT_FINITE, MASKED, ARTEFACT, SATURATED, NO_DATA = 1, 2, 4, 8, 16
MEANINGS = {
    NOT_FINITE: "not finite in the data",
    MASKED: "masked by the user",
    ARTEFACT: "artefact found by the model",
    SATURATED: "saturated",
    NO_DATA: "no data: weight 0, or a border that is zero-filled or saw no light",
}
# Pixels of which the path is told nothing, and in which there are no sources.
UNSEEN = NOT_FINITE | MASKED | NO_DATA


def flag_pixels(
    data: np.ndarray,
    *,
    mask=None,
    saturate=None,
    no_data=None,
    store: Memory = MEMORY,
    threads: int = 1,
) -> np.ndarray:
    """Flag the pixels that are not finite, masked, saturated or without data.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image of shape (ny, nx).
    mask : array_like, optional
        Bad where it is not 0.
    saturate : float or array_like of bool, optional
        Level from which on a pixel is saturated, in data units; or True where one is.
    no_data : `~numpy.ndarray`, optional
        bool, True where the weight says that there are no data. Borders that are filled with
        zeros, or saw no light, are found here.
    store : `~bgrem.arrays.rows.Memory`
        Where the flags are kept.
    threads : int
        Strips of rows that are looked at at once.

    Returns
    -------
    `~numpy.ndarray`
        uint8 of shape (ny, nx), the sum of the bits of each pixel (`MEANINGS`).

    Raises
    ------
    ValueError
        If a mask has another shape, or the saturation level is not finite.
    """
    known = [
        (bit, where)
        for bit, where in (
            (MASKED, _of_shape(mask, data, "mask")),
            (SATURATED, _saturated(data, saturate)),
            (NO_DATA, no_data),
            (NO_DATA, zero_border(data, store)),
            (NO_DATA, unlit_border(data)),
        )
        if where is not None
    ]
    flags = store.empty(data.shape, np.uint8)

    def flag(rows: slice) -> None:
        bits = np.where(np.isfinite(data[rows]), np.uint8(0), np.uint8(NOT_FINITE))
        for bit, where in known:
            bits[np.asarray(where[rows]) != 0] |= bit
        flags[rows] = bits

    over_strips(flag, data.shape, threads=threads)
    return flags


def _of_shape(mask, data: np.ndarray, name: str) -> np.ndarray | None:
    if mask is None:
        return None
    mask = as_rows(mask)
    if mask.shape != data.shape:
        raise ValueError(f"the {name} has shape {mask.shape}, the image {data.shape}")
    return mask


def _saturated(data: np.ndarray, saturate) -> np.ndarray | Derived | None:
    if saturate is None or np.ndim(saturate):
        return _of_shape(saturate, data, "map of saturated pixels")
    if not np.isfinite(saturate):
        raise ValueError(f"the saturation level must be finite, not {saturate}")
    return Derived(data, lambda part: part >= saturate)
