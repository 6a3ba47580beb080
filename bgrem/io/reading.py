"""Read an image of a FITS file, its header, and the positions of all other HDUs.

`bgrem.storage.hdus` finds the header-data units and `bgrem.io.writing` writes the file again. astropy
reads the headers and the tile-compressed images.
"""

import math
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.rows import MEMORY, Derived, Memory, Stored
from bgrem.arrays.tiling import row_strips
from bgrem.io.scales import ASINH_NOTE, asinh_scale
from bgrem.storage.cards import LenientHeader, unreadable
from bgrem.storage.hdus import CHUNK_PIXELS, Unit, choose_unit, find_units, sum_matches
from bgrem.storage.names import named_hdu
from bgrem.storage.opening import FitsError, header_faults, read_contents
from bgrem.storage.tile_compression import decompress_tiles

__all__ = [
    "FitsError", "FitsImage", "as_planes", "image_hdus", "is_fits_name", "read_image", "sibling",
    "stored_pixels",
]  # fmt: skip

FLOAT32_INTEGERS = 2**24  # float32 holds every integer up to here


@dataclass(frozen=True)
class FitsImage:
    """One image of a FITS file, with all that is needed to write the file again.

    Attributes
    ----------
    path : Path
    hdu : int
        Index of the HDU.
    data : ndarray or Stored
        Physical values (BSCALE and BZERO applied, BLANK as NaN) in their stored shape, native
        float32; float64 for float64 pixels and for integers beyond 24 bits. Floats without BSCALE
        and BZERO may stay in the file. Asinh-scaled pixels (BSOFTEN, BOFFSET) as linear flux.
    header : astropy.io.fits.Header
    notes : tuple of str
        Decisions and warnings of the reader.
    units : tuple of `~bgrem.storage.hdus.Unit`
        The positions of the HDUs of the file.
    contents : bytes or mmap
        The file's bytes, uncompressed.
    store : `~bgrem.arrays.rows.Memory`
        Where the pixels are kept.
    """

    path: Path
    hdu: int
    data: np.ndarray
    header: fits.Header
    notes: tuple[str, ...]
    units: tuple[Unit, ...]
    contents: bytes | mmap.mmap
    store: Memory

    @property
    def label(self) -> str:
        """The file and the HDU, for the beginning of a message."""
        return f"{self.path}: {self.units[self.hdu].label}"

    @property
    def primary(self) -> fits.Header:
        """The header of the file's first HDU."""
        return self.units[0].header

    @property
    def compressed(self) -> bool:
        """Whether the image is tile-compressed inside the file."""
        return self.units[self.hdu].compressed


def is_fits_name(path: Path) -> bool:
    """Whether a name has the suffix of a FITS file: .fits .fit .fts .fz, also with .gz or .bz2."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] in ([".gz"], [".bz2"]):
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in (".fits", ".fit", ".fts", ".fz")


def as_planes(array: np.ndarray) -> np.ndarray:
    """View an array of an image's stored shape as its planes, (n, ny, nx).

    Axes of length 1 are dropped. If the fastest axis has length 3 or 4, it is taken as the colours.
    """
    if array.ndim > 2:
        lengths = [n for n in array.shape if n > 1]
        array = array.reshape(lengths if len(lengths) > 1 else array.shape[-2:])
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        return array.transpose(2, 0, 1)
    return array.reshape(-1, *array.shape[-2:])


def read_image(
    path: str | os.PathLike, hdu: int | str | None = None, *, store: Memory = MEMORY
) -> FitsImage:
    """Read one image of a FITS file.

    Parameters
    ----------
    path : path
        Plain, gzip or bzip2; the first bytes decide, not the name. FILE[HDU] names the HDU, too.
    hdu : int or str, optional
        Index, EXTNAME, or ``"EXTNAME,EXTVER"``. Default: HDU 0 or, if that holds no image, the first
        HDU that does, with a note.
    store : `~bgrem.arrays.rows.Memory`
        Where the pixels and the uncompressed file are kept.

    Raises
    ------
    FitsError
        If the file is missing, not FITS, truncated or corrupt, or the HDU holds no image.
    """
    path, named = named_hdu(path)
    hdu = hdu if named is None else named
    with header_faults(f"{path}:"):
        contents = read_contents(path, store)
        units, notes = find_units(contents, path)
        unit, choice = choose_unit(units, hdu, path)
        return _image_at(unit, path, units, contents, notes + choice, store)


def sibling(image: FitsImage, hdu: int | str) -> FitsImage:
    """Read another image of the file of ``image``, without opening the file again.

    ``hdu`` and the errors are those of `read_image`.
    """
    with header_faults(f"{image.path}:"):
        unit, _ = choose_unit(list(image.units), hdu, image.path)
        return _image_at(unit, image.path, image.units, image.contents, [], image.store)


def image_hdus(image: FitsImage) -> dict[int, fits.Header]:
    """The HDUs of the file of ``image`` that hold an image, with their headers, by index."""
    return {unit.index: unit.header for unit in image.units if not unit.complaint}


def stored_pixels(image: FitsImage) -> np.ndarray:
    """The pixels of an image as they are stored, before BSCALE, BZERO and BLANK."""
    with header_faults(image.label):
        return _stored_pixels(image.contents, image.units[image.hdu], image.path, image.store)[0]


def _image_at(
    unit: Unit, path: Path, units, contents, notes: list[str], store: Memory
) -> FitsImage:
    raw, header = _stored_pixels(contents, unit, path, store)
    if ignored := unreadable(header):
        notes = [*notes, f"{unit.label} has cards that cannot be read: {', '.join(ignored[:4])}"]
    if sum_matches(contents, unit) is False:
        notes = [*notes, f"{unit.label} does not match its DATASUM: its pixels may be corrupt"]
    label = f"{path}: {unit.label}"
    if asinh_scale(header, label):
        notes = [*notes, ASINH_NOTE]
    data = _physical(raw, header, label, store)
    return FitsImage(path, unit.index, data, header, tuple(notes), tuple(units), contents, store)


def _stored_pixels(contents, unit: Unit, path: Path, store: Memory):
    """The pixels as they are stored, and the image's header."""
    if unit.compressed:
        pixels, header = decompress_tiles(contents, unit, path, store)
        return pixels, LenientHeader(header)
    bits = unit.header["BITPIX"]
    dtype = np.dtype("u1" if bits == 8 else f">{'f' if bits < 0 else 'i'}{abs(bits) // 8}")
    raw = np.frombuffer(contents, dtype, math.prod(unit.shape), unit.data)
    return Stored(raw.reshape(unit.shape), contents), unit.header


def _physical(raw, header: fits.Header, label: str, store: Memory):
    """Physical value = BZERO + BSCALE * stored value (Standard, equation 3); BLANK becomes NaN."""
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    numbers = all(isinstance(n, int | float) and math.isfinite(n) for n in (scale, zero))
    if not numbers or scale == 0:
        raise FitsError(f"{label} has an unusable BSCALE or BZERO ({scale}, {zero})")
    blank = header.get("BLANK")
    if type(blank) is not int:
        blank = None
    convert = partial(_scaled, scale=scale, zero=zero, blank=blank)
    if raw.dtype.kind == "f":
        dtype = raw.dtype
        convert = None if (scale, zero) == (1, 0) else partial(convert, blank=None)
    else:
        if raw.dtype.itemsize == 8 and (scale, zero) == (1, 2**63):
            # Flipping the sign bit is exact; float64 would lose 11 bits.
            raw, zero = Derived(raw, _flipped), 0
            blank = None if blank is None else blank + 2**63
            convert = partial(convert, zero=0, blank=blank)
        extremes = [abs(float(stored) + zero / scale) for stored in _extremes(raw)]
        dtype = np.float32 if max(extremes) <= FLOAT32_INTEGERS else np.float64
    asinh = asinh_scale(header, label)
    if convert is None and asinh is None and store.in_file:
        return raw
    data = store.empty(raw.shape, np.dtype(dtype).newbyteorder("="))
    for place in _places(raw.shape):
        values = raw[place] if convert is None else convert(raw[place])
        with np.errstate(over="ignore"):
            data[place] = values if asinh is None else asinh.linear(values)
    return data


def _places(shape: tuple[int, ...]) -> Iterator[tuple]:
    """Indices of strips of rows, plane after plane."""
    height = max(1, CHUNK_PIXELS // shape[-1])
    for plane in np.ndindex(shape[:-2]):
        for rows in row_strips(shape[-2:], height):
            yield *plane, rows


def _flipped(stored: np.ndarray) -> np.ndarray:
    """Unsigned 64-bit integers, which FITS stores with the sign bit flipped."""
    return stored.astype(np.int64).view(np.uint64) ^ np.uint64(2**63)


def _extremes(raw) -> tuple:
    """The lowest and the highest stored value."""
    found = [(part.min(), part.max()) for part in map(raw.__getitem__, _places(raw.shape))]
    return min(low for low, _ in found), max(high for _, high in found)


def _scaled(stored: np.ndarray, *, scale: float, zero: float, blank: int | None) -> np.ndarray:
    """Physical values in float64; they are rounded only once, when they are stored."""
    values = stored.astype(np.float64) * scale + zero
    if blank is not None:
        values[stored == blank] = np.nan
    return values
