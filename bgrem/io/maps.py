"""The maps given with an image: bad pixels, weights, saturation."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bgrem.arrays.rows import MEMORY, Memory, as_rows, worked_out
from bgrem.arrays.tiling import row_strips
from bgrem.io.reading import FitsError, FitsImage, as_planes, is_fits_name, read_image
from bgrem.io.readout import check_detector
from bgrem.storage.hdus import lengths
from bgrem.storage.names import named_hdu

__all__ = [
    "GivenMaps", "bits_set", "maps_for", "open_map", "parse_bits", "read_map", "saturation_level", "with_defects",
]  # fmt: skip

MOST_BITS = 52  # a map of flags may be read as float64, which holds integers up to 2^53
# Classes of astropy's uncertainties (card UTYPE of CCDData), and the types of weight that they are.
UNCERTAINTY_TYPES = {
    "StdDevUncertainty": "rms",
    "VarianceUncertainty": "variance",
    "InverseVariance": "inverse",
}


@dataclass(frozen=True)
class GivenMaps:
    """Mask, weights and saturation of an image; None for what is not known.

    Attributes
    ----------
    mask : ndarray or None
        bool, True where a pixel is bad; of the image's shape or of one plane's.
    weight : ndarray or None
        Of the image's shape or of one plane's.
    weight_type : str
        "inverse", "variance" or "rms".
    saturate : float, ndarray or None
        Level, or a bool map as ``mask``.
    defects : ndarray or None
        The part of the mask that is defects of the camera, bool as ``mask``.
    notes : tuple of str
        One for each map that is used without being given.
    """

    mask: np.ndarray | None = None
    weight: np.ndarray | None = None
    weight_type: str = "inverse"
    saturate: float | np.ndarray | None = None
    defects: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def of_plane(self, i: int) -> Mapping[str, object]:
        """The maps of plane ``i``, as arguments of `~bgrem.background.separate`."""
        return {
            "mask": _plane(self.mask, i),
            "weight": _plane(self.weight, i),
            "weight_type": self.weight_type,
            "saturate": _plane(self.saturate, i),
        }

    def defects_of_plane(self, i: int) -> np.ndarray | None:
        """The defects of the camera in plane ``i``."""
        return _plane(self.defects, i)


def _plane(values, i: int):
    if np.ndim(values) == 0:
        return values
    planes = as_planes(values)
    return planes[i if len(planes) > 1 else 0]


def maps_for(
    image: FitsImage,
    *,
    mask: str | os.PathLike | np.ndarray | None = None,
    mask_bits: int | None = None,
    weight: str | os.PathLike | np.ndarray | None = None,
    weight_type: str = "inverse",
    saturate: float | str | None = "header",
) -> GivenMaps:
    """Read the maps that a user gives with an image.

    A ``mask`` or ``weight`` is FILE, FILE[HDU], an HDU of the file of the image, or an array. Of the mask
    the ``mask_bits`` are bad, by default any value but 0. The card UTYPE of an astropy uncertainty states the
    type of the weight. A ``saturate`` of "header" takes the card
    SATURATE, if there is one. Raises FitsError if a map cannot be read, has another shape or no bits.
    """
    if mask_bits is not None and mask is None:
        raise FitsError(f"{image.label}: --mask-bits needs a --mask whose bits they are")
    if isinstance(saturate, str):
        saturate = saturation_level(image)
    given = GivenMaps(weight_type=weight_type, saturate=saturate)
    if mask is not None:
        bad = bits_set(*read_map(mask, image, "mask")[:2], mask_bits, image.store)
        given = replace(given, mask=bad)
    if weight is not None:
        values, label, header = read_map(weight, image, "weight map")
        known = UNCERTAINTY_TYPES.get(str(header.get("UTYPE", "")).strip(), weight_type)
        note = f"{label} is taken as {known}, by its UTYPE {header.get('UTYPE')}"
        notes = () if known == weight_type else (note,)
        given = replace(given, weight=values, weight_type=known, notes=notes)
    return given


def with_defects(
    image: FitsImage, given: GivenMaps, source: str | os.PathLike | np.ndarray
) -> GivenMaps:
    """Add the map of a camera's defects, bad where not 0, to the mask of an image.

    ``source`` is as the ``mask`` of `maps_for`. Raises FitsError if the map cannot be read, has another shape
    or is that of another detector.
    """
    values, label, header = read_map(source, image, "map of defects")
    check_detector(header, label, image)
    defects = bits_set(values, label, None, image.store)
    if given.mask is None:
        return replace(given, mask=defects, defects=defects)
    one, other = (as_planes(array) for array in (given.mask, defects))
    both = image.store.empty(given.mask.shape if len(one) >= len(other) else defects.shape, bool)
    for i, plane in enumerate(as_planes(both)):
        for rows in row_strips(plane.shape):
            plane[rows] = _plane(given.mask, i)[rows] | _plane(defects, i)[rows]
    return replace(given, mask=both, defects=defects)


def saturation_level(image: FitsImage) -> float | None:
    """The level of the card SATURATE, None if it has none."""
    level = image.header.get("SATURATE")
    if isinstance(level, str):
        with suppress(ValueError):
            level = float(level)
    number = isinstance(level, int | float) and not isinstance(level, bool)
    return float(level) if number and math.isfinite(level) and level > 0 else None


def parse_bits(text: str) -> int:
    """The bits of a mask as one number, of a text such as ``4096,16`` or ``0x1010``, bits 12 and 4 both.

    Raises ValueError if a value is not a whole number above 0, or has more than 52 bits.
    """
    bits = 0
    for word in text.split(","):
        try:
            value = int(word, 0)
        except ValueError:
            raise ValueError(
                f"{word.strip()!r} is no value of mask bits (such as 4096 or 0x1000)"
            ) from None
        if not 0 < value < 1 << MOST_BITS:
            raise ValueError(f"mask bits lie between 1 and 2^{MOST_BITS} - 1, not {word.strip()}")
        bits |= value
    return bits


def bits_set(flags: np.ndarray, label: str, bits: int | None, store: Memory = MEMORY) -> np.ndarray:
    """Where any of the bits is set in the values of a mask; without bits, where a value is not 0 or is NaN.

    ``label`` is the origin of the mask, for messages. Raises FitsError if bits are given and the values
    are not whole numbers.
    """
    if bits is None or flags.dtype == bool:
        return worked_out(flags, lambda part: part != 0, bool, store)

    def any_set(part: np.ndarray) -> np.ndarray:
        known = np.where(np.isfinite(part), part, 0)
        whole = known.astype(np.int64)
        if (whole != known).any():
            raise FitsError(f"{label} has no bits, its values are no whole numbers")
        return (whole & bits != 0) | ~np.isfinite(part)

    return worked_out(flags, any_set, bool, store)


def read_map(
    source: str | os.PathLike | np.ndarray, image: FitsImage, kind: str
) -> tuple[np.ndarray, str, Mapping]:
    """Read a map of an image: its values, its origin, with which a message begins, and its header.

    ``source`` is FILE, FILE[HDU], an HDU of the file of the image, or an array; ``kind`` names the map in
    messages. The values have the shape of the image, or (ny, nx) for all its planes. Raises FitsError if
    the map cannot be read or has another shape.
    """
    if not isinstance(source, str | os.PathLike):
        return _fitted(as_rows(source), image, kind, "the array"), f"the {kind}", {}
    found = open_map(source, image, kind)
    return _fitted(found.data, image, kind, found.label), found.label, found.header


def open_map(source: str | os.PathLike, image: FitsImage, kind: str) -> FitsImage:
    """A map of an image, of any shape: FILE, FILE[HDU], or an HDU of the file of the image.

    ``kind`` names the map in messages. Raises FitsError if it cannot be read.
    """
    text = os.fspath(source)
    path, hdu = named_hdu(text)
    if path.is_file():
        return read_image(path, hdu, store=image.store)
    if is_fits_name(Path(text.partition("[")[0])):
        raise FitsError(f"{text}: no such file (it was to be the {kind})")
    return read_image(image.path, text, store=image.store)


def _fitted(values: np.ndarray, image: FitsImage, kind: str, label: str) -> np.ndarray:
    """A map of the image's shape, or of one plane for all of them."""
    if values.shape == image.data.shape:
        return values
    if values.ndim >= 2 and values.size:
        plane = as_planes(values)
        if len(plane) == 1 and plane.shape[1:] == as_planes(image.data).shape[1:]:
            return plane[0]
    raise FitsError(
        f"{label} is a {kind} of {lengths(values.shape)} pixels, but the image in {image.label} "
        f"has {lengths(image.data.shape)}"
    )
