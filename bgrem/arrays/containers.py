"""Arrays in the containers of NumPy and astropy: what is inside, and how it goes back."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np

from bgrem.arrays.rows import Stored

__all__ = ["checked_mask", "unit_of", "unwrap"]

FURTHER = ("psf", "flags")  # which only some kinds of NDData have


def unwrap(data, mask) -> tuple[np.ndarray, Any, Callable[[np.ndarray, np.ndarray | None], Any]]:
    """The array and the mask in a container, and what puts others in its place.

    These are an array and, for the containers that hold one, its standard deviation or None.
    """
    if type(data) in (np.ndarray, Stored):
        return data, mask, _bare
    if isinstance(data, np.ma.MaskedArray):
        own = np.ma.getmaskarray(data)
        return data.data, _joined(own, mask), lambda part, _: np.ma.array(part, mask=own)

    if hasattr(data, "geom") and hasattr(data, "data") and hasattr(data, "copy"):
        # A map of gammapy, which is not imported for it.
        return np.asarray(data.data), mask, lambda part, _: data.copy(data=part)

    from astropy.nddata import NDData
    from astropy.units import Quantity

    if isinstance(data, NDData):
        return np.asarray(data.data), _joined(data.mask, mask), partial(_like, data)
    if isinstance(data, Quantity):
        return data.value, mask, lambda part, _: Quantity(part, data.unit, copy=False)
    return np.asarray(data), mask, _bare


def unit_of(data) -> str:
    """The unit of the pixels of a container, "" where it has none; of a map of gammapy without a unit, counts."""
    unit = getattr(data, "unit", None)
    text = "" if unit is None else str(unit)
    return "counts" if not text and hasattr(data, "geom") else text


def _bare(part: np.ndarray, sigma: np.ndarray | None) -> np.ndarray:
    return part


def _like(data, part: np.ndarray, sigma: np.ndarray | None):
    """An NDData with everything of another one but its values and their uncertainty."""
    further = {name: deepcopy(getattr(data, name)) for name in FURTHER if hasattr(data, name)}
    return type(data)(
        part,
        unit=data.unit,
        wcs=deepcopy(data.wcs),
        meta=deepcopy(data.meta),
        mask=deepcopy(data.mask),
        uncertainty=None if sigma is None else _uncertainty(data.uncertainty, sigma),
        **further,
    )


def _uncertainty(like, sigma: np.ndarray):
    """A standard deviation as the type of uncertainty that another one is."""
    from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty

    # Squares of fluxes in SI units are below what single precision holds.
    if isinstance(like, VarianceUncertainty):
        return VarianceUncertainty(np.square(sigma, dtype=np.float64))
    if isinstance(like, InverseVariance):
        return InverseVariance(1 / np.square(sigma, dtype=np.float64))
    return StdDevUncertainty(sigma)


def _joined(own, mask):
    """A pixel that either mask calls bad is bad."""
    if own is None or mask is None:
        return mask if own is None else own
    own, mask = np.asarray(own) != 0, np.asarray(mask) != 0
    if own.shape != mask.shape:
        raise ValueError(f"the mask has shape {mask.shape}, that of the image {own.shape}")
    return own | mask


def checked_mask(mask, name: str, shape: tuple[int, int]) -> np.ndarray | None:
    """A mask of the shape of an image as bool, None where none is given.

    Raises ValueError if it has another shape; the messages are those of photutils.
    """
    if mask is None or mask is np.ma.nomask:
        return None
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"{name} must be a 2D array")
    if mask.shape != shape:
        raise ValueError(f"data and {name} must have the same shape")
    return mask != 0
