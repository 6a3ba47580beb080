"""Read an image with its header, write the products.

A FITS file is a row of header-data units (HDUs), each a whole number of 2880-byte blocks. This module
finds where each HDU lies, so that every HDU but the image is carried to the output byte for byte;
astropy reads the headers and the tile-compressed images.

The rules are those of the FITS Standard 4.0 (Pence et al. 2010, A&A 524, A42, and its 2018 revision).
"""

import bz2
import contextlib
import gzip
import io
import math
import mmap
import os
import re
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from bgrem.formats import advice
from bgrem.scratch import MEMORY, Derived, Memory, Scratch, Stored, release
from bgrem.temporary import temporary_path
from bgrem.tiling import row_strips

__all__ = [
    "LYING_CARDS",
    "FitsError",
    "FitsImage",
    "Product",
    "as_planes",
    "image_hdus",
    "is_fits_name",
    "lengths",
    "read_image",
    "sibling",
    "stored_pixels",
    "write_mosaic",
    "write_restored",
]

BLOCK = 2880
CARD = 80
CHUNK = 1 << 20  # pixels converted at a time: bounds the temporaries without slowing the copy
INT32 = 2**31 - 1
FLOAT32_INTEGERS = 2**24  # float32 holds every integer up to here

# Headers are printable ASCII (Standard, section 3.2); a degree sign or a tab is not worth a refusal.
PRINTABLE = bytes(i if 32 <= i < 127 else ord(" " if i < 32 else "?") for i in range(256))

# Cards that describe the stored input pixels and would lie about the output.
LYING_CARDS = (
    "BZERO", "BSCALE", "BLANK", "DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM",
    "ZBLANK", "ZSCALE", "ZZERO", "ZHECKSUM", "ZDATASUM",
)  # fmt: skip

# The world coordinates of an image (Standard, tables 22 and 25, and the SIP and PV conventions).
WCS_CARD = re.compile(
    r"(WCSAXES|WCSNAME|CTYPE\d+|CUNIT\d+|CRVAL\d+|CRPIX\d+|CDELT\d+|CROTA\d+|CD\d+_\d+|PC\d+_\d+"
    r"|P[VS]\d+_\d+|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|[AB]P?_(ORDER|DMAX|\d+_\d+))[A-Z]?"
)


class FitsError(ValueError):
    """A file that cannot be used, said in one sentence that names the file and the HDU."""


@dataclass(frozen=True)
class _Unit:
    """Where one HDU lies in the file: ``start`` <= header < ``data`` <= pixels < ``stop`` <= ``end``."""

    index: int
    header: fits.Header
    start: int
    data: int
    stop: int
    end: int

    @property
    def name(self) -> str:
        return str(self.header.get("EXTNAME", "")).strip()

    @property
    def label(self) -> str:
        return f"HDU {self.index} ({self.name})" if self.name else f"HDU {self.index}"

    @property
    def compressed(self) -> bool:
        return self.header.get("ZIMAGE") is True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image in numpy's order, () where there is none."""
        if not self.compressed and self.header.get("XTENSION", "IMAGE").strip() != "IMAGE":
            return ()
        return _axes(self.header, "ZNAXIS" if self.compressed else "NAXIS")[::-1]

    @property
    def complaint(self) -> str | None:
        """Why this HDU holds no image that can be cleaned, None where it does."""
        kind = str(self.header.get("XTENSION", "IMAGE")).strip()
        if self.header.get("GROUPS") is True and self.header.get("NAXIS1") == 0:
            return "holds random groups, not an image"
        if kind != "IMAGE" and not self.compressed:
            return "holds a table, not an image" if "TABLE" in kind else f"holds no image ({kind})"
        if math.prod(self.shape) == 0 or not self.shape:
            return "holds no image"
        if sum(n > 1 for n in self.shape) < 2 and len(self.shape) != 2:
            return f"is one-dimensional ({lengths(self.shape)}), not an image"
        return None


@dataclass(frozen=True)
class FitsImage:
    """One image of a FITS file, and what is needed to write the rest of the file back.

    Attributes
    ----------
    path : Path
    hdu : int
        Index of the HDU.
    data : ndarray or Stored
        Physical values (BSCALE and BZERO applied, BLANK as NaN) in the shape in which they are
        stored, native float32; float64 for float64 pixels and for integers beyond 24 bits. Floats
        without BSCALE and BZERO may stay in the file.
    header : astropy.io.fits.Header
    notes : tuple of str
        What the reader decided or noticed.
    store : `~bgrem.scratch.Memory`
        Where the pixels are kept.
    """

    path: Path
    hdu: int
    data: np.ndarray
    header: fits.Header
    notes: tuple[str, ...]
    _units: tuple[_Unit, ...]
    _contents: bytes | mmap.mmap
    store: Memory

    @property
    def label(self) -> str:
        """The file and the HDU in words, to begin a message with."""
        return f"{self.path}: {self._units[self.hdu].label}"

    @property
    def primary(self) -> fits.Header:
        """The header of the file's first HDU."""
        return self._units[0].header

    @property
    def compressed(self) -> bool:
        """Whether the image is tile-compressed inside the file."""
        return self._units[self.hdu].compressed


@dataclass(frozen=True)
class Product:
    """What takes the place of one image, and what is appended for it.

    Attributes
    ----------
    image : FitsImage
    sources : ndarray
        Of the shape of ``image.data``; float32 or float64.
    planes : mapping of EXTNAME to ndarray
        Further images of that shape, or structured arrays that become tables.
    cards : sequence of (keyword, value, comment)
        Provenance, of the image and of the planes.
    history : sequence of str
    image_cards : sequence of (keyword, value, comment)
        Further cards of the image.
    """

    image: FitsImage
    sources: np.ndarray
    planes: Mapping[str, np.ndarray] = field(default_factory=dict)
    cards: Sequence[tuple[str, object, str]] = ()
    history: Sequence[str] = ()
    image_cards: Sequence[tuple[str, object, str]] = ()


def is_fits_name(path: Path) -> bool:
    """Whether a file's name ends as FITS files' names do: .fits .fit .fts .fz, also with .gz or .bz2."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] in ([".gz"], [".bz2"]):
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in (".fits", ".fit", ".fts", ".fz")


def as_planes(array: np.ndarray) -> np.ndarray:
    """View an array of an image's stored shape as its planes, (n, ny, nx).

    Axes of length 1 are dropped; a colour axis that is stored fastest (length 3 or 4) counts planes.
    """
    if array.ndim > 2:
        lengths = [n for n in array.shape if n > 1]
        array = array.reshape(lengths if len(lengths) > 1 else array.shape[-2:])
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        return array.transpose(2, 0, 1)
    return array.reshape(-1, *array.shape[-2:])


def lengths(shape: Sequence[int]) -> str:
    """A shape in words, as FITS counts its axes: the fastest first."""
    return " x ".join(str(n) for n in shape[::-1])


def read_image(
    path: str | os.PathLike, hdu: int | str | None = None, *, store: Memory = MEMORY
) -> FitsImage:
    """Read one image of a FITS file.

    Parameters
    ----------
    path : path
        Plain, gzip or bzip2, whatever its name says.
    hdu : int or str, optional
        Index, EXTNAME, or ``"EXTNAME,EXTVER"``. None takes HDU 0 or, where that holds no image, the
        first HDU that does, with a note.
    store : `~bgrem.scratch.Memory`
        Where the pixels are kept, and what is unpacked.

    Returns
    -------
    FitsImage

    Raises
    ------
    FitsError
        Where the file is missing, not FITS, truncated or corrupt, or the HDU holds no image.
    """
    path = Path(path)
    with warnings.catch_warnings():
        # Odd but readable cards are common; they are carried along and need no comment.
        warnings.simplefilter("ignore", AstropyWarning)
        contents = _read_contents(path, store)
        units, notes = _find_units(contents, path)
        unit, choice = _choose(units, hdu, path)
        return _image_at(unit, path, units, contents, notes + choice, store)


def sibling(image: FitsImage, hdu: int | str) -> FitsImage:
    """Read another image of the file of ``image``, which is not read again.

    Parameters
    ----------
    image : FitsImage
    hdu : int or str
        As for `read_image`.

    Returns
    -------
    FitsImage

    Raises
    ------
    FitsError
        As `read_image` does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        unit, _ = _choose(list(image._units), hdu, image.path)
        return _image_at(unit, image.path, image._units, image._contents, [], image.store)


def image_hdus(image: FitsImage) -> dict[int, fits.Header]:
    """The HDUs of the file of ``image`` that hold an image, with their headers, by index."""
    return {unit.index: unit.header for unit in image._units if not unit.complaint}


def stored_pixels(image: FitsImage) -> np.ndarray:
    """The pixels of an image as they are stored, before BSCALE, BZERO and BLANK."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        return _stored_pixels(image._contents, image._units[image.hdu], image.path, image.store)[0]


def write_mosaic(
    path: str | os.PathLike,
    image: FitsImage,
    hdus: Sequence[int],
    product_of: Callable[[int], Product | None],
    *,
    overwrite: bool = False,
) -> None:
    """Write the file of ``image`` again with products in the place of one or several of its images.

    An image HDU keeps its place, its header (less the cards that would lie) and its form: what was
    tile-compressed is so again, by the lossless GZIP_2. Every other HDU is copied byte for byte. The
    whole file is compressed as the name ends (.gz, .bz2), written under a temporary name in the same
    folder (made where missing), and renamed when complete. The images come one after the other: the
    products of one are in memory at a time.

    Parameters
    ----------
    path : path
    image : FitsImage
        Any image of the file.
    hdus : sequence of int
        Indices of the HDUs that are replaced.
    product_of : callable
        Gives the product of an index; None leaves that HDU as it is.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FitsError
        Where ``path`` exists, is the input, or cannot be written.
    """
    path = Path(path)
    several = len(hdus) > 1
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_rewriting(path, image, overwrite))
        # The planes of all images come last; those of several wait on the disk.
        spool = stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) if several else None
        product = None
        for unit in image._units:
            if unit.index not in hdus or (product := product_of(unit.index)) is None:
                _copy_unit(stream, image._contents, unit)
                continue
            _write_sources(stream, product, several)
            if spool:
                _write_planes(spool, product, hdus.index(unit.index))
        if spool:
            spool.seek(0)
            shutil.copyfileobj(spool, stream)
        elif product:
            _write_planes(stream, product, 0)


def write_restored(
    path: str | os.PathLike,
    image: FitsImage,
    restored: Mapping[int, Callable[[], tuple[np.ndarray, fits.Header]]],
    count: int,
    *,
    overwrite: bool = False,
) -> None:
    """Write the first HDUs of the file of ``image`` again, some of them as they once were.

    Parameters
    ----------
    path : path
    image : FitsImage
        Any image of the file.
    restored : mapping of int to callable
        Gives the stored pixels and the header of the HDU at an index; the others are copied.
    count : int
        How many HDUs are written.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FitsError
        As `write_mosaic` does.
    """
    with _rewriting(Path(path), image, overwrite) as stream:
        for unit in image._units[:count]:
            if unit.index not in restored:
                _copy_unit(stream, image._contents, unit)
                continue
            pixels, header = restored[unit.index]()
            if unit.compressed:
                _write_tiles(stream, pixels, header, image.store)
            else:
                stream.write(header.tostring().encode("ascii"))
                _write_pixels(stream, pixels)


# --- the file: its bytes and its HDUs


def _read_contents(path: Path, store: Memory) -> bytes | mmap.mmap:
    """The uncompressed bytes of a file; memory-mapped where it is not compressed."""
    try:
        with path.open("rb") as file:
            magic = file.read(3)
            file.seek(0)
            if magic[:2] == b"\x1f\x8b":
                return _unpacked(gzip.GzipFile(fileobj=file), "gzip", path, store)
            if magic == b"BZh":
                return _unpacked(bz2.BZ2File(file), "bzip2", path, store)
            if not magic:
                raise FitsError(f"{path}: the file is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise FitsError(f"{path}: no such file") from None
    except OSError as error:
        raise FitsError(f"{path}: cannot be read ({error.strerror or error})") from None


def _unpacked(stream, kind: str, path: Path, store: Memory) -> bytes | mmap.mmap:
    try:
        with stream:
            return store.contents(stream)
    except EOFError:
        raise FitsError(f"{path}: truncated, the {kind} stream ends too early") from None
    except (OSError, ValueError, zlib.error) as error:
        if getattr(error, "errno", None) is not None:
            raise  # of the disk, not of the stream
        raise FitsError(f"{path}: corrupt {kind} stream ({error})") from None


def _find_units(contents, path: Path) -> tuple[list[_Unit], list[str]]:
    """Walk the HDUs; every one must be complete (the padding of the last may be missing)."""
    if contents[:9] != b"SIMPLE  =":
        raise FitsError(f"{path}: not a FITS file{advice(bytes(contents[:64]), path.name)}")
    units, start, size = [], 0, len(contents)
    while start < size and (start == 0 or contents[start : start + 8] == b"XTENSION"):
        data = _header_end(contents, start)
        if data is None:
            raise FitsError(f"{path}: truncated, the header of HDU {len(units)} has no END")
        try:
            header = fits.Header.fromstring(contents[start:data].translate(PRINTABLE))
            stop = data + _data_length(header)
            unit = _Unit(len(units), header, start, data, stop, min(size, _padded(stop)))
            _ = unit.label, unit.complaint  # these read the cards that all else relies upon
        except (ValueError, TypeError, KeyError, fits.VerifyError) as error:
            raise FitsError(
                f"{path}: HDU {len(units)} has a corrupt header ({_sentence(error)})"
            ) from None
        if stop > size:
            raise FitsError(
                f"{path}: truncated, {unit.label} announces {stop - data} bytes of data and "
                f"{max(0, size - data)} are there"
            )
        units.append(unit)
        start = unit.end
    rest = contents[start:size]
    notes = [f"ignored {len(rest)} bytes after the last HDU"] if rest.strip(b"\0 ") else []
    return units, notes


def _header_end(contents, start: int) -> int | None:
    """Offset of the block after the one that holds the END card."""
    for block in range(start, len(contents), BLOCK):
        cards = contents[block : block + BLOCK]
        if any(cards[i : i + 8] == b"END     " for i in range(0, len(cards), CARD)):
            return min(block + BLOCK, len(contents))
    return None


def _axes(header: fits.Header, keyword: str) -> tuple[int, ...]:
    axes = tuple(header[f"{keyword}{i + 1}"] for i in range(header[keyword]))
    if not all(isinstance(n, int) and n >= 0 for n in axes):
        raise ValueError(f"{keyword}n is not a length")
    return axes


def _data_length(header: fits.Header) -> int:
    """Bytes of an HDU's data (Standard, equations 2 and 4)."""
    axes = _axes(header, "NAXIS")
    bits = header["BITPIX"]
    if bits not in (8, 16, 32, 64, -32, -64):
        raise ValueError(f"BITPIX is {bits}")
    if not axes:
        return 0
    groups = header.get("GROUPS") is True and axes[0] == 0
    count = math.prod(axes[1:] if groups else axes)
    length = abs(bits) // 8 * header.get("GCOUNT", 1) * (header.get("PCOUNT", 0) + count)
    if not isinstance(length, int) or length < 0:
        raise ValueError("PCOUNT or GCOUNT is not a count")
    return length


def _image_at(
    unit: _Unit, path: Path, units, contents, notes: list[str], store: Memory
) -> FitsImage:
    raw, header = _stored_pixels(contents, unit, path, store)
    if not _sum_matches(contents, unit):
        notes = [*notes, f"{unit.label} does not match its DATASUM: its pixels may be corrupt"]
    data = _physical(raw, header, f"{path}: {unit.label}", store)
    return FitsImage(path, unit.index, data, header, tuple(notes), tuple(units), contents, store)


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _choose(units: list[_Unit], hdu, path: Path) -> tuple[_Unit, list[str]]:
    """The HDU that is asked for, or the first that holds an image."""
    if hdu is not None:
        unit = _find(units, str(hdu).strip(), path)
        if unit.complaint:
            raise FitsError(f"{path}: {unit.label} {unit.complaint}{_advice(units)}")
        return unit, []
    for unit in units:
        if not unit.complaint:
            note = f"HDU 0 {units[0].complaint}, took {unit.label}"
            return unit, [note] if unit.index else []
    if len(units) == 1:
        raise FitsError(f"{path}: HDU 0 {units[0].complaint}")
    found = ", ".join(f"{unit.label} {unit.complaint}" for unit in units[:4])
    raise FitsError(f"{path}: none of the {len(units)} HDUs holds an image ({found})")


def _find(units: list[_Unit], hdu: str, path: Path) -> _Unit:
    if re.fullmatch(r"[+-]?\d+", hdu):
        if 0 <= int(hdu) < len(units):
            return units[int(hdu)]
        raise FitsError(
            f"{path}: there is no HDU {hdu}, the file has {len(units)} (0 to {len(units) - 1})"
        )
    name, _, version = hdu.partition(",")
    for unit in units:
        if unit.name.upper() == name.strip().upper() and (
            not version or str(unit.header.get("EXTVER", 1)) == version.strip()
        ):
            return unit
    names = ", ".join(unit.name for unit in units if unit.name) or "none"
    raise FitsError(f"{path}: there is no HDU named {hdu} (names in the file: {names})")


def _advice(units: list[_Unit]) -> str:
    images = ", ".join(unit.label for unit in units if not unit.complaint)
    return f"; images are in {images}" if images else ""


# --- reading: stored pixels to physical values


def _stored_pixels(contents, unit: _Unit, path: Path, store: Memory):
    """The pixels as they are stored, and the image's header."""
    if unit.compressed:
        return _decompress_tiles(contents, unit, path, store)
    bits = unit.header["BITPIX"]
    dtype = np.dtype("u1" if bits == 8 else f">{'f' if bits < 0 else 'i'}{abs(bits) // 8}")
    raw = np.frombuffer(contents, dtype, math.prod(unit.shape), unit.data)
    return Stored(raw.reshape(unit.shape), contents), unit.header


def _decompress_tiles(contents, unit: _Unit, path: Path, store: Memory):
    if not isinstance(store, Scratch) and math.prod(unit.shape) * 8 > _memory():
        raise FitsError(
            f"{path}: {unit.label} announces {lengths(unit.shape)} pixels, more than fit in memory"
        )
    with store.file() as alone:
        alone.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        alone.write(contents[unit.start : unit.data].translate(PRINTABLE))
        _copy(alone, contents, unit.data, unit.end)
        try:
            packed = _read_only(alone)
            with packed, fits.open(packed, do_not_scale_image_data=True, memmap=False) as hdus:
                return _sections(hdus[1], store), hdus[1].header
        except OSError as error:
            if error.errno is not None:
                raise  # of the disk, not of the tiles
            reason = _sentence(error)
        except Exception as error:  # noqa: BLE001 - corrupt bytes make the decompressors raise anything
            reason = _sentence(error)
    raise FitsError(f"{path}: {unit.label} cannot be decompressed ({reason})")


def _read_only(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """The same file from its beginning, in the mode that astropy wants."""
    file.seek(0)
    return file if isinstance(file, io.BytesIO) else open(os.dup(file.fileno()), "rb")


def _sections(unit: fits.CompImageHDU, store: Memory):
    """The pixels of a tile-compressed image, a few rows of tiles at a time."""
    raw = store.empty(unit.section.shape, unit.section.dtype)
    tall = unit.tile_shape[-2] if raw.ndim > 1 else 1
    height = max(1, CHUNK // (raw.shape[-1] * tall)) * tall
    for plane in np.ndindex(raw.shape[:-2]):
        for rows in row_strips(raw.shape[-2:], height):
            raw[(*plane, rows)] = unit.section[(*plane, rows)]
    return raw


def _memory() -> float:
    """Bytes of the machine's memory, infinite where it does not say."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _physical(raw, header: fits.Header, label: str, store: Memory):
    """Physical value = BZERO + BSCALE * stored value (Standard, equation 3); BLANK becomes NaN."""
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    numbers = all(isinstance(n, int | float) and math.isfinite(n) for n in (scale, zero))
    if not numbers or scale == 0:
        raise FitsError(f"{label} has an unusable BSCALE or BZERO ({scale}, {zero})")
    blank = header.get("BLANK")
    convert = partial(_scaled, scale=scale, zero=zero, blank=blank)
    if raw.dtype.kind == "f":
        dtype = raw.dtype
        convert = None if (scale, zero) == (1, 0) else partial(convert, blank=None)
    else:
        if raw.dtype.itemsize == 8 and (scale, zero) == (1, 2**63):
            # Flipping the sign bit is exact, float64 would lose 11 bits.
            raw, zero = Derived(raw, _flipped), 0
            blank = None if blank is None else blank + 2**63
            convert = partial(convert, zero=0, blank=blank)
        extremes = [abs(float(stored) + zero / scale) for stored in _extremes(raw)]
        dtype = np.float32 if max(extremes) <= FLOAT32_INTEGERS else np.float64
    if convert is None and store.in_file:
        return raw
    data = store.empty(raw.shape, np.dtype(dtype).newbyteorder("="))
    for place in _places(raw.shape):
        data[place] = raw[place] if convert is None else convert(raw[place])
    return data


def _places(shape: tuple[int, ...]) -> Iterator[tuple]:
    """Indices of some rows at a time, plane after plane."""
    height = max(1, CHUNK // shape[-1])
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
    """Scale in float64; it is rounded once, where it is kept."""
    values = stored.astype(np.float64) * scale + zero
    if blank is not None:
        values[stored == blank] = np.nan
    return values


def _sum_matches(contents, unit: _Unit) -> bool:
    """Whether the data agree with the DATASUM of the header; True where there is none."""
    announced = str(unit.header.get("DATASUM", "")).strip()
    if not announced.isdigit() or (unit.end - unit.data) % 4:
        return True
    total = 0
    for start in range(unit.data, unit.end, 4 * CHUNK):
        count = (min(start + 4 * CHUNK, unit.end) - start) // 4
        total = _ones_complement_sum(np.frombuffer(contents, ">u4", count, start), total)
        release(contents)
    return total == int(announced)


# --- writing


@contextlib.contextmanager
def _rewriting(path: Path, image: FitsImage, overwrite: bool) -> Iterator[io.BufferedIOBase]:
    """A stream to a file that is that of ``image``, changed, and never in its place."""
    if path.exists() and path.samefile(image.path):
        raise FitsError(f"{path}: would overwrite the input")
    with warnings.catch_warnings(), _header_faults(image):
        warnings.simplefilter("ignore", AstropyWarning)
        with _replacing(path, overwrite) as stream:
            yield stream


@contextlib.contextmanager
def _replacing(path: Path, overwrite: bool) -> Iterator[io.BufferedIOBase]:
    """A stream to a temporary file beside ``path`` that takes its name when all has been written."""
    if path.exists() and not overwrite:
        raise FitsError(f"{path}: exists already (use --overwrite to replace it)")
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file, _compressing(file, path.suffix.lower()) as stream:
            yield stream
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FitsError(f"{path}: cannot be written ({error.strerror or error})") from None
        raise


@contextlib.contextmanager
def _header_faults(image: FitsImage) -> Iterator[None]:
    """Cards are read when they are used; a corrupt one may show only when it is written."""
    try:
        yield
    except fits.VerifyError as error:
        raise FitsError(f"{image.label} has a corrupt header ({_sentence(error)})") from None


def _compressing(file: io.BufferedWriter, suffix: str) -> contextlib.AbstractContextManager:
    if suffix == ".gz":
        # No name and no time inside, so that equal images give equal files.
        return gzip.GzipFile("", "wb", compresslevel=4, fileobj=file, mtime=0)
    if suffix == ".bz2":
        return bz2.BZ2File(file, "wb")
    return contextlib.nullcontext(file)


def _copy_unit(stream, contents, unit: _Unit) -> None:
    _copy(stream, contents, unit.start, unit.end)
    stream.write(b"\0" * (_padded(unit.end) - unit.end))


def _copy(stream, contents, start: int, stop: int) -> None:
    """Copy bytes of a file, a few at a time."""
    for i in range(start, stop, 4 * CHUNK):
        stream.write(contents[i : min(i + 4 * CHUNK, stop)])
        release(contents)


def _write_sources(stream, product: Product, several: bool) -> None:
    _write_image(stream, product.sources, _product_header(product, several), product.image)


def _write_planes(stream, product: Product, before: int) -> None:
    """The planes of a product; ``before`` others of the same names have been written."""
    for name, plane in product.planes.items():
        if plane.dtype.names:
            stream.write(_table_unit(plane, name, product))
            continue
        _write_image(stream, plane, _plane_header(product, name, before), product.image)


def _product_header(product: Product, several: bool) -> fits.Header:
    """The image's header without the cards that would lie, with the provenance."""
    header, appended = product.image.header.copy(), len(product.planes)
    for keyword in LYING_CARDS:
        header.remove(keyword, ignore_missing=True, remove_all=True)
    for keyword in [k for k in header if k.startswith("BGR_")]:
        header.remove(keyword, ignore_missing=True)
    if several:  # how many planes will follow is not known yet
        header.remove("NEXTEND", ignore_missing=True)
    if isinstance(header.get("NEXTEND"), int):
        header["NEXTEND"] += appended
    if appended and "SIMPLE" in header and "EXTEND" not in header:
        header.set("EXTEND", True, after=f"NAXIS{header['NAXIS']}")
    header.extend([*product.cards, *product.image_cards], unique=False)
    for line in product.history:
        header.add_history(line)
    return header


def _plane_header(product: Product, name: str, before: int) -> fits.Header:
    """The header of an appended plane: the image's WCS and unit, a name that no other HDU has."""
    image = product.image
    axes = [(f"NAXIS{i + 1}", length) for i, length in enumerate(image.data.shape[::-1])]
    header = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", 8), ("NAXIS", len(axes)), *axes])
    for card in (("PCOUNT", 0), ("GCOUNT", 1), ("EXTNAME", name)):
        header.append(card)
    namesakes = before + sum(unit.name.upper() == name for unit in image._units)
    if namesakes:
        header.append(("EXTVER", namesakes + 1))
    if name not in ("MASK", "SIGNIF") and "BUNIT" in image.header:
        header.append(image.header.cards["BUNIT"])
    header.extend([card for card in image.header.cards if WCS_CARD.fullmatch(card.keyword)])
    header.extend(product.cards, unique=False)
    header.append(("BGR_HDU", image.hdu, "HDU of the image that this belongs to"))
    return header


def _table_unit(rows: np.ndarray, name: str, product: Product) -> bytes:
    """A structured array as a binary table."""
    unit = fits.BinTableHDU(rows, name=name)
    unit.header.append(("BGR_HDU", product.image.hdu, "HDU of the image that this belongs to"))
    return _alone(unit)


def _write_image(stream, pixels, header: fits.Header, image: FitsImage) -> None:
    if image.compressed:
        _write_tiles(stream, pixels, header, image.store)
        return
    size = pixels.dtype.itemsize
    header["BITPIX"] = -8 * size if pixels.dtype.kind == "f" else 8 * size
    total = 0
    for part in _big_endian(pixels):
        total = _ones_complement_sum(_words(part), total)
    stream.write(_checked_header(header, total))
    _write_pixels(stream, pixels)


def _write_pixels(stream, pixels) -> None:
    for part in _big_endian(pixels):
        stream.write(part)
    stream.write(b"\0" * (_padded(pixels.nbytes) - pixels.nbytes))


def _big_endian(pixels) -> Iterator[bytes]:
    """The bytes of an image as they are stored; all parts but the last are whole words."""
    lines = pixels.reshape(-1, pixels.shape[-1])
    height = 4 * max(1, CHUNK // (4 * lines.shape[1]))
    stored = pixels.dtype.newbyteorder(">")
    for rows in row_strips(lines.shape, height):
        yield lines[rows].astype(stored).tobytes()


def _words(part: bytes) -> np.ndarray:
    return np.frombuffer(part + b"\0" * (-len(part) % 4), ">u4")


def _write_tiles(stream, pixels, header: fits.Header, store: Memory) -> None:
    """One HDU, each row compressed without loss by GZIP_2 (Standard, section 10.4.2)."""
    lines = pixels.reshape(-1, pixels.shape[-1])
    with store.file() as heap:
        sizes = []
        for rows in row_strips(lines.shape):
            for line in lines[rows]:
                sizes.append(heap.write(_packed(line)))
        size = heap.tell()
        table = _descriptors(sizes, size)
        heap.write(b"\0" * (_padded(len(table) + size) - len(table) - size))
        header = _tiled_header(pixels, header, table, max(sizes), size)
        total = _ones_complement_sum(_words(table))
        for part in _parts(heap):
            # The heap begins at a whole word: descriptors are of 8 or 16 bytes.
            total = _ones_complement_sum(_words(part), total)
        stream.write(_checked_header(header, total))
        stream.write(table)
        for part in _parts(heap):
            stream.write(part)


def _parts(file) -> Iterator[bytes]:
    """A file from its beginning."""
    file.seek(0)
    return iter(partial(file.read, 4 * CHUNK), b"")


def _packed(line: np.ndarray) -> bytes:
    """A row by GZIP_2: the first bytes of all its pixels, then the second ones, and so on."""
    octets = line.astype(line.dtype.newbyteorder(">")).view(np.uint8)
    shuffled = octets.reshape(-1, line.dtype.itemsize).T.tobytes()
    return gzip.compress(shuffled, compresslevel=4, mtime=0)


def _descriptors(sizes: Sequence[int], size: int) -> bytes:
    """Length and place in the heap of each tile, of 64 bits where 32 do not reach."""
    starts = np.cumsum([0, *sizes[:-1]])
    return np.stack([sizes, starts], axis=1).astype(">i8" if size > INT32 else ">i4").tobytes()


def _tiled_header(
    pixels, header: fits.Header, table: bytes, longest: int, size: int
) -> fits.Header:
    """The header of a tile-compressed image: astropy's for one of a single row, made longer."""
    header = header.copy()
    scaling = [header.cards[key] for key in ("BSCALE", "BZERO", "BLANK") if key in header]
    for card in scaling:
        header.remove(card.keyword)
    row = np.zeros((*(1 for _ in pixels.shape[:-1]), pixels.shape[-1]), pixels.dtype)
    unit = fits.CompImageHDU(row, header, compression_type="GZIP_2", quantize_level=0)
    # Set afterwards, they tell how to read the pixels; set before, astropy would apply them.
    for card in scaling:
        unit.header.set(*card)
    text = _alone(unit)
    tiled = fits.Header.fromstring(text[: _header_end(text, 0)])
    tiles = math.prod(pixels.shape[:-1])
    tiled["NAXIS1"] = len(table) // tiles
    tiled["NAXIS2"] = tiles
    tiled["PCOUNT"] = size
    tiled["TFORM1"] = f"1{'Q' if size > INT32 else 'P'}B({longest})"
    for i, length in enumerate(pixels.shape[::-1]):
        tiled[f"ZNAXIS{i + 1}"] = length
    return tiled


def _alone(unit) -> bytes:
    """The bytes of one HDU of astropy's."""
    file = io.BytesIO()
    primary = fits.PrimaryHDU()
    fits.HDUList([primary, unit]).writeto(file, checksum=True, output_verify="ignore")
    return file.getvalue()[len(primary.header.tostring()) :]


def _checked_header(header: fits.Header, datasum: int) -> bytes:
    """The header's bytes with DATASUM and CHECKSUM, so that the whole HDU sums to minus 0."""
    header["DATASUM"] = (str(datasum), "sum of the data, ones' complement")
    header["CHECKSUM"] = ("0" * 16, "makes the sum of the HDU zero")
    blank = header.tostring().encode("ascii")
    total = _ones_complement_sum(np.frombuffer(blank, ">u4"), datasum)
    header["CHECKSUM"] = _encoded(~total & 0xFFFFFFFF)
    return header.tostring().encode("ascii")


def _ones_complement_sum(words: np.ndarray, start: int = 0) -> int:
    """Sum of 32-bit words with the carry brought round (Standard, appendix J)."""
    total = start + int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encoded(value: int) -> str:
    """A 32-bit sum as 16 letters and digits (Standard, appendix J.2)."""
    columns = []
    for byte in value.to_bytes(4, "big"):
        quotient, remainder = divmod(byte, 4)
        letters = [quotient + remainder + 48, quotient + 48, quotient + 48, quotient + 48]
        for i in (0, 2):
            # Moving one up and its neighbour down leaves the sum and avoids the punctuation.
            while not (chr(letters[i]).isalnum() and chr(letters[i + 1]).isalnum()):
                letters[i] += 1
                letters[i + 1] -= 1
        columns.append(letters)
    text = "".join(chr(columns[i][j]) for j in range(4) for i in range(4))
    return text[-1] + text[:-1]
