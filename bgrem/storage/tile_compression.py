"""Images that are compressed in tiles, such as rows, inside a FITS file (Standard, section 10)."""

import gzip
import io
import math
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.rows import Memory, Scratch
from bgrem.arrays.tiling import row_strips
from bgrem.storage.cards import PRINTABLE, Cards
from bgrem.storage.hdus import (
    CHUNK_PIXELS,
    Unit,
    checked_header,
    copy_bytes,
    lengths,
    ones_complement_sum,
    padded,
    sum_matches,
    words_of,
)
from bgrem.storage.opening import FitsError, sentence
from bgrem.storage.tile_checks import check_tiles

__all__ = ["TILE_CARDS", "decompress_tiles", "send_strips", "tiles_head", "write_tiles"]

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

    The decoders of astropy that are written in C trust the tiles: a corrupt one makes them read beyond it,
    which may end the process. So the tiles are checked as far as their lengths and heads allow, and those whose
    sum does not prove that they are as they were written are decompressed in another process.

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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decompressed(contents, unit, store)
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the tiles
        raise FitsError(
            f"{path}: {unit.label} cannot be decompressed ({sentence(error)})"
        ) from None


def _decompressed(contents, unit: Unit, store: Memory):
    check_tiles(contents, unit)
    trusted = not _has_native_decoder(unit.header) or sum_matches(contents, unit)
    with store.file() as alone:
        alone.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        alone.write(contents[unit.start : unit.data].translate(PRINTABLE))
        copy_bytes(alone, contents, unit.data, unit.end)
        with _read_only(alone) as packed, _opened(packed) as hdus:
            image = hdus[1]
            pixels = store.empty(image.section.shape, image.section.dtype)
            with (
                nullcontext(_strips(image))
                if trusted
                else _strips_elsewhere(alone, image) as strips
            ):
                for place, strip in zip(_places(image), strips, strict=True):
                    pixels[place] = strip
            return pixels, image.header


def _has_native_decoder(header: fits.Header) -> bool:
    """Whether astropy decompresses with code in C, other than zlib, which survives any bytes."""
    columns = [header.get(f"TTYPE{n}") for n in range(1, header["TFIELDS"] + 1)]
    return not str(header["ZCMPTYPE"]).startswith("GZIP") or "ZSCALE" in columns


def _opened(file: io.BufferedIOBase) -> fits.HDUList:
    return fits.open(file, do_not_scale_image_data=True, memmap=False)


def _read_only(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """The same file, opened at its beginning for reading, as astropy requires."""
    file.seek(0)
    return file if isinstance(file, io.BytesIO) else open(os.dup(file.fileno()), "rb")


def _places(image: fits.CompImageHDU) -> Iterator[tuple]:
    """Indices of a few rows of tiles after another."""
    shape = image.section.shape
    tall = image.tile_shape[-2] if len(shape) > 1 else 1
    height = max(1, CHUNK_PIXELS // (shape[-1] * tall)) * tall
    for plane in np.ndindex(shape[:-2]):
        for rows in row_strips(shape[-2:], height):
            yield *plane, rows


def _strips(image: fits.CompImageHDU) -> Iterator[np.ndarray]:
    return map(image.section.__getitem__, _places(image))


@contextmanager
def _strips_elsewhere(
    alone: io.BufferedIOBase, image: fits.CompImageHDU
) -> Iterator[Iterator[np.ndarray]]:
    """The strips of an image, decompressed by another process, which may crash."""
    command = [sys.executable, "-P", "-c", f"from {__name__} import send_strips; send_strips()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    in_memory = isinstance(alone, io.BytesIO)
    alone.seek(0)
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE if in_memory else alone,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            if in_memory:
                with suppress(BrokenPipeError), process.stdin as stdin:
                    stdin.write(alone.getbuffer())
            yield _received(process, image)
        finally:
            process.kill()


def _received(process: subprocess.Popen, image: fits.CompImageHDU) -> Iterator[np.ndarray]:
    dtype = image.section.dtype
    plane = np.broadcast_to(np.empty((), dtype), image.section.shape[-2:])  # of no memory
    for *_, rows in _places(image):
        strip = np.empty(plane[rows].shape, dtype)
        if process.stdout.readinto(strip.data.cast("B")) < strip.nbytes:
            said = process.stderr.read().decode("utf-8", "replace").strip()
            code = process.wait()
            raise ValueError(f"the decompressor crashed, signal {-code}" if code < 0 else said)
        yield strip


def send_strips() -> None:
    """Decompress the image on stdin, and write its pixels to stdout; for `decompress_tiles`."""
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    warnings.simplefilter("ignore")
    stdin = sys.stdin.buffer
    try:
        with _opened(stdin if stdin.seekable() else io.BytesIO(stdin.read())) as hdus:
            for strip in _strips(hdus[1]):
                sys.stdout.buffer.write(np.ascontiguousarray(strip).data)
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)  # the parent has gone
    except Exception as error:  # noqa: BLE001 - as in `decompress_tiles`
        sys.exit(sentence(error))


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
