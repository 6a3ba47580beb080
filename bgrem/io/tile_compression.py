"""Images that are compressed in tiles, such as rows, inside a FITS file (Standard, section 10)."""

import gzip
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.rows import Memory, Scratch
from bgrem.arrays.tiling import row_strips
from bgrem.io.cards import PRINTABLE, Cards
from bgrem.io.hdus import (
    CHUNK_PIXELS,
    Unit,
    checked_header,
    copy_bytes,
    lengths,
    ones_complement_sum,
    padded,
    words_of,
)
from bgrem.io.opening import FitsError, sentence

__all__ = ["TILE_CARDS", "decompress_tiles", "tiles_head", "write_tiles"]

MOST_INT32 = 2**31 - 1
# The cards of the former tiles: further columns, properties of columns, settings of the compression.
OLD_TILES = re.compile(
    r"T(TYPE|FORM)(?!1$)\d+|T(UNIT|NULL|SCAL|ZERO|DISP|DIM)\d+|THEAP"
    r"|Z(NAME|VAL)\d+|ZQUANTIZ|ZDITHER0|ZMASKCMP|ZSCALE|ZZERO"
)
# All cards that describe the table of tiles, and not the image in it.
TILE_CARDS = re.compile(
    OLD_TILES.pattern + r"|TFIELDS|TTYPE1|TFORM1|Z(IMAGE|CMPTYPE|BITPIX|NAXIS\d*|TILE\d+|BLANK)"
    r"|Z(SIMPLE|EXTEND|BLOCKED|TENSION|PCOUNT|GCOUNT|HECKSUM|DATASUM)"
)


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


def write_tiles(stream, pixels, cards: Cards, store: Memory) -> int:
    """Write one HDU, each row compressed without loss by GZIP_2 (Standard, section 10.4.2).

    Parameters
    ----------
    stream : file
    pixels : array_like
    cards : Cards
        Those of a tile-compressed HDU. The cards of its tiles are changed to those of the new tiles.
    store : `~bgrem.arrays.rows.Memory`
        Where the tiles are kept.

    Returns
    -------
    int
        The sum of the data.
    """
    lines = pixels.reshape(-1, pixels.shape[-1])
    with store.file() as heap:
        sizes = []
        for rows in row_strips(lines.shape):
            for line in lines[rows]:
                sizes.append(heap.write(_packed(line)))
        size = heap.tell()
        table = _descriptors(sizes, size)
        heap.write(b"\0" * (padded(len(table) + size) - len(table) - size))
        _set_tiles(cards, pixels, table, max(sizes), size)
        total = ones_complement_sum(words_of(table))
        for part in _parts(heap):
            # The heap begins at a whole word: descriptors are of 8 or 16 bytes.
            total = ones_complement_sum(words_of(part), total)
        stream.write(checked_header(cards, total))
        stream.write(table)
        for part in _parts(heap):
            stream.write(part)
    return total


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


def _set_tiles(cards: Cards, pixels, table: bytes, longest: int, size: int) -> None:
    """Describe tiles of one row each in the header of a tile-compressed image."""
    cards.drop(OLD_TILES.fullmatch)
    if pixels.dtype.kind == "f":
        cards.drop("ZBLANK".__eq__)  # of quantised floats
    tiles = math.prod(pixels.shape[:-1])
    bits = 8 * pixels.dtype.itemsize
    cards.set("NAXIS1", len(table) // tiles)
    cards.set("NAXIS2", tiles)
    cards.set("PCOUNT", size)
    cards.set("TFIELDS", 1)
    cards.set("TTYPE1", "COMPRESSED_DATA")
    cards.set("TFORM1", f"1{'Q' if size > MOST_INT32 else 'P'}B({longest})")
    cards.set("ZBITPIX", -bits if pixels.dtype.kind == "f" else bits)
    cards.set("ZCMPTYPE", "GZIP_2")
    for n in range(1, pixels.ndim + 1):
        if f"ZTILE{n}" in cards:
            cards.set(f"ZTILE{n}", pixels.shape[-1] if n == 1 else 1)


def tiles_head(shape: tuple[int, ...]) -> list[tuple[str, object]]:
    """The first cards of a tile-compressed image extension, of values that `write_tiles` sets."""
    axes = range(1, len(shape) + 1)
    return [
        ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 8), ("NAXIS2", 1),
        ("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", 1), ("TTYPE1", ""), ("TFORM1", ""),
        ("ZIMAGE", True), ("ZTENSION", "IMAGE"), ("ZBITPIX", 8), ("ZNAXIS", len(shape)),
        *((f"ZNAXIS{n}", shape[-n]) for n in axes), ("ZPCOUNT", 0), ("ZGCOUNT", 1),
        *((f"ZTILE{n}", 1) for n in axes), ("ZCMPTYPE", ""),
    ]  # fmt: skip
