"""Write a FITS file again, with its images replaced by products and further planes appended.

All other HDUs are copied to the output byte for byte.
"""

import bz2
import contextlib
import gzip
import io
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from bgrem.arrays.tiling import row_strips
from bgrem.io.hdus import (
    CHUNK_PIXELS,
    checked_header,
    copy_unit,
    ones_complement_sum,
    padded,
    words_of,
)
from bgrem.io.opening import FitsError, sentence
from bgrem.io.reading import FitsImage
from bgrem.io.temporary import temporary_path
from bgrem.io.tile_compression import hdu_bytes, write_tiles

__all__ = ["STALE_CARDS", "Product", "write_mosaic", "write_restored"]

# Cards that describe the stored pixels of the input and would be wrong in the output.
STALE_CARDS = (
    "BZERO", "BSCALE", "BLANK", "DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM",
    "ZBLANK", "ZSCALE", "ZZERO", "ZHECKSUM", "ZDATASUM",
)  # fmt: skip

# The world coordinates of an image (Standard, tables 22 and 25, and the SIP and PV conventions).
WCS_CARD = re.compile(
    r"(WCSAXES|WCSNAME|CTYPE\d+|CUNIT\d+|CRVAL\d+|CRPIX\d+|CDELT\d+|CROTA\d+|CD\d+_\d+|PC\d+_\d+"
    r"|P[VS]\d+_\d+|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|[AB]P?_(ORDER|DMAX|\d+_\d+))[A-Z]?"
)


@dataclass(frozen=True)
class Product:
    """The planes and cards that replace one image, and those that are appended.

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


def write_mosaic(
    path: str | os.PathLike,
    image: FitsImage,
    hdus: Sequence[int],
    product_of: Callable[[int], Product | None],
    *,
    overwrite: bool = False,
) -> None:
    """Write the file of ``image`` again, with one or several of its images replaced by products.

    An image keeps its index, its header (without stale cards) and its form: a tile-compressed image
    is tile-compressed again, by the lossless GZIP_2. Other HDUs are copied byte for byte. The suffix
    of the name (.gz, .bz2) sets the compression of the whole file. The file is written under a
    temporary name in the same folder, which is created if missing, and renamed when complete. Only
    the products of one image are in memory at a time.

    Parameters
    ----------
    image : FitsImage
        Any image of the file.
    hdus : sequence of int
        Indices of the HDUs that are replaced.
    product_of : callable
        Returns the product of the image at an index; None copies that HDU.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FitsError
        If ``path`` exists, is the input, or cannot be written.
    """
    path = Path(path)
    several = len(hdus) > 1
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_rewriting(path, image, overwrite))
        # The planes of all images come last; those of several images are kept on disk until then.
        spool = stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) if several else None
        product = None
        for unit in image.units:
            if unit.index not in hdus or (product := product_of(unit.index)) is None:
                copy_unit(stream, image.contents, unit)
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
    """Write the first ``count`` HDUs of the file of ``image`` again, some of them restored.

    ``restored`` has, by index of the HDU, functions that give its stored pixels and header; the other HDUs
    are copied. The errors are those of `write_mosaic`.
    """
    with _rewriting(Path(path), image, overwrite) as stream:
        for unit in image.units[:count]:
            if unit.index not in restored:
                copy_unit(stream, image.contents, unit)
                continue
            pixels, header = restored[unit.index]()
            if unit.compressed:
                write_tiles(stream, pixels, header, image.store)
            else:
                stream.write(header.tostring().encode("ascii"))
                _write_pixels(stream, pixels)


@contextlib.contextmanager
def _rewriting(path: Path, image: FitsImage, overwrite: bool) -> Iterator[io.BufferedIOBase]:
    """A stream to the changed file of ``image``, which is never overwritten."""
    if path.exists() and path.samefile(image.path):
        raise FitsError(f"{path}: would overwrite the input")
    with warnings.catch_warnings(), _header_faults(image):
        warnings.simplefilter("ignore", AstropyWarning)
        with _replacing(path, overwrite) as stream:
            yield stream


@contextlib.contextmanager
def _replacing(path: Path, overwrite: bool) -> Iterator[io.BufferedIOBase]:
    """A stream to a temporary file in the folder of ``path``, renamed to it when complete."""
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
    """Report corrupt cards: astropy reads a card only when it is used or written."""
    try:
        yield
    except fits.VerifyError as error:
        raise FitsError(f"{image.label} has a corrupt header ({sentence(error)})") from None


def _compressing(file: io.BufferedWriter, suffix: str) -> contextlib.AbstractContextManager:
    if suffix == ".gz":
        # Without a name and a time, so that equal images give equal files.
        return gzip.GzipFile("", "wb", compresslevel=4, fileobj=file, mtime=0)
    if suffix == ".bz2":
        return bz2.BZ2File(file, "wb")
    return contextlib.nullcontext(file)


def _write_sources(stream, product: Product, several: bool) -> None:
    _write_image(stream, product.sources, _product_header(product, several), product.image)


def _write_planes(stream, product: Product, before: int) -> None:
    """Write the planes of a product, after ``before`` others of the same names."""
    for name, plane in product.planes.items():
        if plane.dtype.names:
            stream.write(_table_unit(plane, name, product))
            continue
        _write_image(stream, plane, _plane_header(product, name, before), product.image)


def _product_header(product: Product, several: bool) -> fits.Header:
    """The header of the image without stale cards, with the provenance."""
    header, appended = product.image.header.copy(), len(product.planes)
    for keyword in STALE_CARDS:
        header.remove(keyword, ignore_missing=True, remove_all=True)
    for keyword in [k for k in header if k.startswith("BGR_")]:
        header.remove(keyword, ignore_missing=True)
    if several:  # the number of planes is not known yet
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
    """The header of an appended plane: WCS and unit of the image, and a unique name and version."""
    image = product.image
    axes = [(f"NAXIS{i + 1}", length) for i, length in enumerate(image.data.shape[::-1])]
    header = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", 8), ("NAXIS", len(axes)), *axes])
    for card in (("PCOUNT", 0), ("GCOUNT", 1), ("EXTNAME", name)):
        header.append(card)
    namesakes = before + sum(unit.name.upper() == name for unit in image.units)
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
    return hdu_bytes(unit)


def _write_image(stream, pixels, header: fits.Header, image: FitsImage) -> None:
    if image.compressed:
        write_tiles(stream, pixels, header, image.store)
        return
    size = pixels.dtype.itemsize
    header["BITPIX"] = -8 * size if pixels.dtype.kind == "f" else 8 * size
    total = 0
    for part in _big_endian(pixels):
        total = ones_complement_sum(words_of(part), total)
    stream.write(checked_header(header, total))
    _write_pixels(stream, pixels)


def _write_pixels(stream, pixels) -> None:
    for part in _big_endian(pixels):
        stream.write(part)
    stream.write(b"\0" * (padded(pixels.nbytes) - pixels.nbytes))


def _big_endian(pixels) -> Iterator[bytes]:
    """The bytes of an image as they are stored; all parts but the last are whole words."""
    lines = pixels.reshape(-1, pixels.shape[-1])
    height = 4 * max(1, CHUNK_PIXELS // (4 * lines.shape[1]))
    stored = pixels.dtype.newbyteorder(">")
    for rows in row_strips(lines.shape, height):
        yield lines[rows].astype(stored).tobytes()
