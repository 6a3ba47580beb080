"""The flags of pixels: what is known of each before the model sees it, as bits."""

import numpy as np

from bgrem.arrays.rows import Derived, Rows, as_rows
from bgrem.arrays.tiling import over_strips, row_strips
from bgrem.masks.borders import unlit_border, zero_border
from bgrem.options import IN_MEMORY, Run

__all__ = [
    "ARTEFACT", "DEFECT", "MASKED", "MEANINGS", "NOT_FINITE", "NO_DATA", "SATURATED", "UNSEEN",
    "count_unseen", "flag_pixels", "of_shape", "unseen_pixels",
]  # fmt: skip

NOT_FINITE, MASKED, ARTEFACT, SATURATED, NO_DATA, DEFECT = 1, 2, 4, 8, 16, 32
MEANINGS = {
    NOT_FINITE: "not finite in the data",
    MASKED: "masked by the user",
    ARTEFACT: "artefact found by the model",
    SATURATED: "saturated",
    NO_DATA: "no data: weight 0, or a border that is zero-filled or saw no light",
    DEFECT: "of the masked: a defect of the camera",
}
# Pixels whose values the path does not see, and in which there are no sources.
UNSEEN = NOT_FINITE | MASKED | NO_DATA


def flag_pixels(
    data: Rows, *, mask=None, no_data: Rows | None = None, run: Run = IN_MEMORY
) -> np.ndarray:
    """Flag the pixels that are not finite, masked or without data.

    Parameters
    ----------
    data : Rows
        Image of shape (ny, nx).
    mask : array_like, optional
        Bad where it is not 0.
    no_data : Rows of bool, optional
        True where the weight map has no data. Borders that are filled with zeros, or saw no
        light, are found here.

    Returns
    -------
    `~numpy.ndarray`
        uint8 of shape (ny, nx), the sum of the bits of each pixel (`MEANINGS`).

    Raises
    ------
    ValueError
        If a mask has another shape.
    """
    known = [
        (bit, where)
        for bit, where in (
            (MASKED, None if mask is None else of_shape(mask, data, "mask")),
            (NO_DATA, no_data),
            (NO_DATA, zero_border(data, run)),
            (NO_DATA, unlit_border(data)),
        )
        if where is not None
    ]
    flags = run.empty(data.shape, np.uint8)

    def flag(rows: slice) -> None:
        bits = np.where(np.isfinite(data[rows]), np.uint8(0), np.uint8(NOT_FINITE))
        for bit, where in known:
            bits[np.asarray(where[rows]) != 0] |= bit
        flags[rows] = bits

    over_strips(flag, data.shape, threads=run.threads)
    return flags


def count_unseen(flags: Rows) -> int:
    """Number of the pixels that have a flag of `UNSEEN`."""
    strips = (flags[rows] for rows in row_strips(flags.shape))
    return sum(int(np.count_nonzero(bits & UNSEEN)) for bits in strips if np.count_nonzero(bits))


def unseen_pixels(flags: Rows) -> Rows:
    """Where a flag of `UNSEEN` is set, bool."""
    return Derived(flags, lambda bits: (bits & UNSEEN) != 0, bool)


def of_shape(values, data: Rows, name: str) -> Rows:
    """A map as rows. Raises ValueError if its shape is not that of the image; ``name`` is for the message."""
    values = as_rows(values)
    if values.shape != data.shape:
        raise ValueError(f"the {name} has shape {values.shape}, the image {data.shape}")
    return values
