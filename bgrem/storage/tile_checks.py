"""Whether the tiles of a compressed image can be decompressed: their number, places, lengths and heads.

The formats are those of the Standard, section 10; HCOMPRESS as in its decoder (White 1992).
"""

import math
import re
from collections.abc import Iterator
from functools import reduce

import numpy as np
from astropy.io import fits

from bgrem.storage.hdus import Unit

__all__ = ["check_tiles"]

# Bytes of a value of a column, by the letter of its TFORM.
WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}  # fmt: skip
TILE_COLUMNS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA")
# Bits that announce how a block of pixels is coded, by the bytes of a pixel; RICE_1 takes no fewer.
RICE_BLOCK_BITS = {1: 3, 2: 4, 4: 5}
LONGEST_RICE_BLOCK = 1024  # pixels; the usual length is 32
PLIO_HEAD = 5  # words: in the third a negative number, then the length in two words
HCOMPRESS_HEAD = (
    25  # bytes: two of magic, three integers, the sum of the pixels, three numbers of bits
)
HCOMPRESS_MAGIC = b"\xdd\x99"
HCOMPRESS_BITS = 62
MOST_DITHERS = 10000


def check_tiles(contents, unit: Unit) -> None:
    """Check that the tiles are those of the image, lie in the heap, and are long enough for their pixels.

    Parameters
    ----------
    contents : bytes or `~mmap.mmap`
        The bytes of the file.
    unit : Unit
        The position of the image.

    Raises
    ------
    ValueError, TypeError, KeyError
        If they are not; the message says why.
    """
    header = unit.header
    if not all(0 < n < 2**31 for n in unit.shape):
        raise ValueError("an axis is too long")
    pixels = _pixels_of_tiles(header, unit.shape)
    rows = header["NAXIS2"]
    if pixels.size != rows:
        raise ValueError(f"the image has {pixels.size} tiles, the table {rows}")
    table = np.frombuffer(contents, np.uint8, header["NAXIS1"] * rows, unit.data).reshape(rows, -1)
    heap = header.get("THEAP", table.size)
    if not (isinstance(heap, int) and table.size <= heap <= unit.stop - unit.data):
        raise ValueError(f"THEAP is {heap}")
    descriptors = _descriptors_of(header, table, unit.stop - unit.data - heap)
    if TILE_COLUMNS[0] not in descriptors:
        raise ValueError(f"there is no column {TILE_COLUMNS[0]}")
    sizes, starts = descriptors[TILE_COLUMNS[0]]
    heads = ((contents, unit.data + heap + int(starts[i]), int(sizes[i])) for i in _filled(sizes))
    _check_streams(header, pixels[sizes > 0], sizes[sizes > 0], heads)
    seed = header.get("ZDITHER0", 1)
    if not isinstance(seed, int) or not 0 <= seed <= MOST_DITHERS:
        raise ValueError(f"ZDITHER0 is {seed}")


def _filled(sizes: np.ndarray) -> np.ndarray:
    return np.flatnonzero(sizes)


def _tile_shape(header: fits.Header, dimensions: int) -> list[int]:
    shape = [header[f"ZTILE{n}"] for n in range(dimensions, 0, -1)]
    if not all(type(n) is int and n > 0 for n in shape):
        raise ValueError("ZTILEn is not a length")
    return shape


def _pixels_of_tiles(header: fits.Header, shape: tuple[int, ...]) -> np.ndarray:
    """Number of pixels of each tile, in the order of the rows of the table."""
    tile = _tile_shape(header, len(shape))
    counts = [-(-length // side) for length, side in zip(shape, tile, strict=True)]
    if math.prod(counts) > max(header["NAXIS2"], 1):
        raise ValueError(f"the image has {math.prod(counts)} tiles, the table {header['NAXIS2']}")
    sides = [
        np.minimum(side, length - side * np.arange(count, dtype=np.int64))
        for length, side, count in zip(shape, tile, counts, strict=True)
    ]
    return reduce(np.multiply.outer, sides).ravel()


def _descriptors_of(
    header: fits.Header, table: np.ndarray, heap: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Bytes and positions in the heap of the tiles of each column of tiles."""
    found, place = {}, 0
    for n in range(1, header["TFIELDS"] + 1):
        name, form = header.get(f"TTYPE{n}"), str(header[f"TFORM{n}"])
        match = re.match(r"(\d*)([LBIJKAEDCMPQ])([BIJKED]?)", form)
        if match is None:
            raise ValueError(f"TFORM{n} is {form}")
        repeat, kind, item = match.groups()
        width = WIDTHS[kind] * int(repeat or 1)
        if name in TILE_COLUMNS:
            if kind not in "PQ" or width != WIDTHS[kind] or not item:
                raise ValueError(f"TFORM{n} is {form}")
            column = np.ascontiguousarray(table[:, place : place + width])
            found[name] = _in_the_heap(column.view(f">i{width // 2}"), WIDTHS[item], heap)
        place += width
    if place != table.shape[1]:
        raise ValueError(f"its columns have {place} bytes a row, its table {table.shape[1]}")
    return found


def _in_the_heap(descriptors: np.ndarray, width: int, heap: int) -> tuple[np.ndarray, np.ndarray]:
    counts, starts = descriptors.astype(np.int64).T
    if counts.size and (counts.min() < 0 or counts.max() > heap):
        raise ValueError("the length of a tile is impossible")
    filled = counts > 0
    if (starts[filled] < 0).any() or (starts[filled] + width * counts[filled] > heap).any():
        raise ValueError("a tile lies outside the table")
    return counts * width, starts


def _check_streams(
    header: fits.Header, pixels: np.ndarray, sizes: np.ndarray, heads: Iterator[tuple]
) -> None:
    """Check what the codec says of each tile."""
    codec = header["ZCMPTYPE"]
    if codec in ("RICE_1", "RICE_ONE"):
        _check_rice(
            _setting(header, "BLOCKSIZE", 32), _setting(header, "BYTEPIX", 4), pixels, sizes
        )
    elif codec == "PLIO_1":
        for head, length in zip(heads, pixels, strict=True):
            _check_plio(*head, int(length))
    elif codec == "HCOMPRESS_1":
        _setting(header, "SCALE", 0), _setting(header, "SMOOTH", 0)
        for head, length in zip(heads, pixels, strict=True):
            _check_hcompress(*head, int(length))


def _setting(header: fits.Header, name: str, default: int) -> int:
    """A setting of the codec, one of the pairs ZNAMEn and ZVALn."""
    for n in range(1, 1000):
        if f"ZNAME{n}" not in header:
            break
        if str(header[f"ZNAME{n}"]).upper() == name:
            value = header[f"ZVAL{n}"]
            if value != int(value):
                raise ValueError(f"{name} is {value}")
            return int(value)
    return default


def _check_rice(block: int, width: int, pixels: np.ndarray, sizes: np.ndarray) -> None:
    if width not in RICE_BLOCK_BITS or not 0 < block <= LONGEST_RICE_BLOCK:
        raise ValueError(f"RICE_1 has blocks of {block} pixels of {width} bytes")
    most = (8 * sizes // RICE_BLOCK_BITS[width] + 1) * block
    if (pixels > most).any() or (sizes < width).any():
        raise ValueError("a tile is too short for its pixels")


def _check_plio(contents, start: int, size: int, pixels: int) -> None:
    words = np.frombuffer(contents[start : start + min(size, 2 * PLIO_HEAD)], ">i2").astype(int)
    if len(words) < PLIO_HEAD:
        raise ValueError("a tile is too short for its pixels")
    first, length = (4, words[2]) if words[2] > 0 else (words[1] + 1, (words[4] << 15) + words[3])
    if not (0 < first and 0 < length <= size // 2):
        raise ValueError("a tile is not that of PLIO_1")


def _check_hcompress(contents, start: int, size: int, pixels: int) -> None:
    head = contents[start : start + min(size, HCOMPRESS_HEAD)]
    if len(head) < HCOMPRESS_HEAD or head[:2] != HCOMPRESS_MAGIC:
        raise ValueError("a tile is not that of HCOMPRESS_1")
    sides = np.frombuffer(head[2:10], ">i4").astype(int)
    if sides.min() < 1 or math.prod(sides) != pixels or max(head[-3:]) > HCOMPRESS_BITS:
        raise ValueError("a tile of HCOMPRESS_1 has other sides than the image")
