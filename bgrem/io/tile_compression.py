"""Images that are compressed in tiles, such as rows, inside a FITS file (Standard, section 10)."""

import gzip
import io
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.rows import Memory, Scratch
from bgrem.arrays.tiling import row_strips
from bgrem.io.hdus import (
    CHUNK_PIXELS,
    PRINTABLE,
    Unit,
    checked_header,
    copy_bytes,
    header_end,
    lengths,
    ones_complement_sum,
    padded,
    words_of,
)
from bgrem.io.opening import FitsError, sentence

__all__ = ["decompress_tiles", "hdu_bytes", "write_tiles"]

MOST_INT32 = 2**31 - 1


def decompress_tiles(contents, unit: Unit, path: Path, store: Memory):
    """The stored pixels of a tile-compressed image, and its header.

    Parameters
    ----------
    contents : bytes or `~mmap.mmap`
        The bytes of the file.
    unit : Unit
        The position of the image.
    path : `~pathlib.Path`
        For messages.
    store : `~bgrem.arrays.rows.Memory`
        Where the pixels are kept.

    Returns
    -------
    pixels : array_like
        Before BSCALE, BZERO and BLANK are applied.
    header : `~astropy.io.fits.Header`
        Of the image.

    Raises
    ------
    FitsError
        If the tiles are corrupt, or the image does not fit in memory.
    """
    if not isinstance(store, Scratch) and math.prod(unit.shape) * 8 > _memory():
        raise FitsError(
            f"{path}: {unit.label} announces {lengths(unit.shape)} pixels, more than fit in memory"
        )
    with store.file() as alone:
        alone.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        alone.write(contents[unit.start : unit.data].translate(PRINTABLE))
        copy_bytes(alone, contents, unit.data, unit.end)
        try:
            packed = _read_only(alone)
            with packed, fits.open(packed, do_not_scale_image_data=True, memmap=False) as hdus:
                return _sections(hdus[1], store), hdus[1].header
        except OSError as error:
            if error.errno is not None:
                raise  # of the disk, not of the tiles
            reason = sentence(error)
        except Exception as error:  # noqa: BLE001 - corrupt bytes make the decompressors raise anything
            reason = sentence(error)
    raise FitsError(f"{path}: {unit.label} cannot be decompressed ({reason})")


def _read_only(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """The same file, opened at its beginning for reading, as astropy requires."""
    file.seek(0)
    return file if isinstance(file, io.BytesIO) else open(os.dup(file.fileno()), "rb")


def _sections(unit: fits.CompImageHDU, store: Memory):
    """The pixels of a tile-compressed image, a few rows of tiles at a time."""
    raw = store.empty(unit.section.shape, unit.section.dtype)
    tall = unit.tile_shape[-2] if raw.ndim > 1 else 1
    height = max(1, CHUNK_PIXELS // (raw.shape[-1] * tall)) * tall
    for plane in np.ndindex(raw.shape[:-2]):
        for rows in row_strips(raw.shape[-2:], height):
            raw[(*plane, rows)] = unit.section[(*plane, rows)]
    return raw


def _memory() -> float:
    """The memory of the machine in bytes; infinite if the system does not report it."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def write_tiles(stream, pixels, header: fits.Header, store: Memory) -> None:
    """Write one HDU, each row compressed without loss by GZIP_2 (Standard, section 10.4.2)."""
    lines = pixels.reshape(-1, pixels.shape[-1])
    with store.file() as heap:
        sizes = []
        for rows in row_strips(lines.shape):
            for line in lines[rows]:
                sizes.append(heap.write(_packed(line)))
        size = heap.tell()
        table = _descriptors(sizes, size)
        heap.write(b"\0" * (padded(len(table) + size) - len(table) - size))
        header = _tiled_header(pixels, header, table, max(sizes), size)
        total = ones_complement_sum(words_of(table))
        for part in _parts(heap):
            # The heap begins at a whole word: descriptors are of 8 or 16 bytes.
            total = ones_complement_sum(words_of(part), total)
        stream.write(checked_header(header, total))
        stream.write(table)
        for part in _parts(heap):
            stream.write(part)


def _parts(file) -> Iterator[bytes]:
    """A file from its beginning."""
    file.seek(0)
    return iter(partial(file.read, 4 * CHUNK_PIXELS), b"")


def _packed(line: np.ndarray) -> bytes:
    """A row by GZIP_2: the first bytes of all its pixels, then the second ones, and so on."""
    octets = line.astype(line.dtype.newbyteorder(">")).view(np.uint8)
    shuffled = octets.reshape(-1, line.dtype.itemsize).T.tobytes()
    return gzip.compress(shuffled, compresslevel=4, mtime=0)


def _descriptors(sizes: Sequence[int], size: int) -> bytes:
    """Length and position in the heap of each tile, in 64 bits if 32 are not enough."""
    starts = np.cumsum([0, *sizes[:-1]])
    return np.stack([sizes, starts], axis=1).astype(">i8" if size > MOST_INT32 else ">i4").tobytes()


def _tiled_header(
    pixels, header: fits.Header, table: bytes, longest: int, size: int
) -> fits.Header:
    """The header of a tile-compressed image: that of astropy for a single row, extended."""
    header = header.copy()
    scaling = [header.cards[key] for key in ("BSCALE", "BZERO", "BLANK") if key in header]
    for card in scaling:
        header.remove(card.keyword)
    row = np.zeros((*(1 for _ in pixels.shape[:-1]), pixels.shape[-1]), pixels.dtype)
    unit = fits.CompImageHDU(row, header, compression_type="GZIP_2", quantize_level=0)
    # Set after the compression; astropy would apply them if they were set before.
    for card in scaling:
        unit.header.set(*card)
    text = hdu_bytes(unit)
    tiled = fits.Header.fromstring(text[: header_end(text, 0)])
    tiles = math.prod(pixels.shape[:-1])
    tiled["NAXIS1"] = len(table) // tiles
    tiled["NAXIS2"] = tiles
    tiled["PCOUNT"] = size
    tiled["TFORM1"] = f"1{'Q' if size > MOST_INT32 else 'P'}B({longest})"
    for i, length in enumerate(pixels.shape[::-1]):
        tiled[f"ZNAXIS{i + 1}"] = length
    return tiled


def hdu_bytes(unit) -> bytes:
    """The bytes of an HDU of astropy."""
    file = io.BytesIO()
    primary = fits.PrimaryHDU()
    fits.HDUList([primary, unit]).writeto(file, checksum=True, output_verify="ignore")
    return file.getvalue()[len(primary.header.tostring()) :]
