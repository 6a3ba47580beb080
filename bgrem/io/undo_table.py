"""The table UNDO: what restores the HDUs of the input, beside the sum of their planes.

It is a binary table of one row for each HDU that bgrem changed, with columns of variable length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from bgrem.storage.cards import Cards
from bgrem.storage.hdus import (
    CHUNK_PIXELS,
    Unit,
    checked_header,
    ones_complement_sum,
    padded,
    words_of,
)

__all__ = ["UNDO_TABLE", "Kept", "LostPixels", "read_undo_table", "write_undo_table"]

UNDO_TABLE = "UNDO"
# The columns of variable length: name, format and meaning.
COLUMNS = (
    ("HEADER", "B", "header of the input"),
    ("FILL", "B", "bytes after its pixels"),
    ("NAN", "B", "bytes of a NaN pixel"),
    ("STEPS", "B", "8-bit steps from the sum to the pixels, zlib"),
    ("PIXEL", "K", "indices of lost pixels"),
    ("STORED", "B", "bytes of lost pixels"),
)


@dataclass(frozen=True)
class LostPixels:
    """What the sum of the planes does not restore of an image.

    Attributes
    ----------
    nan : bytes
        A NaN as the image stores it; empty if it has none.
    steps : bytes
        What is added to the bits of the sum of the planes, as integers, to make those of each pixel: int8,
        compressed by zlib. Empty if the sum is right. It is mostly the rounding of floats in their last bit.
    pixels : ndarray
        Indices in the flattened image of the pixels that are farther away, int64.
    stored : ndarray
        The pixels at these indices, as stored.
    """

    nan: bytes = b""
    steps: bytes = b""
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    stored: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))


@dataclass(frozen=True)
class Kept:
    """What restores one HDU.

    Attributes
    ----------
    hdu : int
        Index of the HDU. The number of HDUs for what follows the last one.
    header : bytes
        All blocks of the header.
    fill : bytes
        What follows the pixels.
    lost : LostPixels
    """

    hdu: int
    header: bytes = b""
    fill: bytes = b""
    lost: LostPixels = LostPixels()


def write_undo_table(stream, rows: Sequence[Kept], count: int, version: int) -> None:
    """Write the table for an input of ``count`` HDUs; ``version`` distinguishes it from earlier ones."""
    table, size = _descriptors(rows)
    header = fits.Header(
        [
            ("XTENSION", "BINTABLE", "binary table extension"),
            ("BITPIX", 8, "array data type"), ("NAXIS", 2, "number of array dimensions"),
            ("NAXIS1", len(table) // len(rows)), ("NAXIS2", len(rows)),
            ("PCOUNT", size), ("GCOUNT", 1), ("TFIELDS", 1 + len(COLUMNS)),
            ("TTYPE1", "HDU", "index of the HDU"), ("TFORM1", "1J"),
        ]
    )  # fmt: skip
    for n, (name, kind, meaning) in enumerate(COLUMNS, 2):
        header.extend([(f"TTYPE{n}", name, meaning), (f"TFORM{n}", f"1Q{kind}")])
    header.extend([("EXTNAME", UNDO_TABLE), ("EXTVER", version)])
    header.append(("BGR_NHDU", count, "HDUs of the input"))
    cards = Cards.of(header)
    cards.set("DATASUM", "", "sum of the data, ones' complement")
    cards.set("CHECKSUM", "", "makes the sum of the HDU zero")
    total = 0
    for part in _whole_words(table, rows):
        total = ones_complement_sum(words_of(part), total)
    stream.write(checked_header(cards, total))
    for part in _whole_words(table, rows):
        stream.write(part)
    length = len(table) + size
    stream.write(b"\0" * (padded(length) - length))


def read_undo_table(contents, unit: Unit) -> list[Kept]:
    """The rows of the table at an HDU."""
    primary = fits.PrimaryHDU().header.tostring().encode("ascii")
    with fits.HDUList.fromstring(primary + contents[unit.start : unit.end]) as hdus:
        return [
            Kept(
                int(row["HDU"]),
                row["HEADER"].tobytes(),
                row["FILL"].tobytes(),
                LostPixels(
                    row["NAN"].tobytes(),
                    row["STEPS"].tobytes(),
                    row["PIXEL"].astype(np.int64),
                    np.array(row["STORED"]),
                ),
            )
            for row in hdus[1].data
        ]


def _values(row: Kept) -> list[np.ndarray]:
    """The values of the columns of variable length."""
    lost = row.lost
    stored = lost.stored.astype(lost.stored.dtype.newbyteorder(">"))
    texts = [np.frombuffer(text, np.uint8) for text in (row.header, row.fill, lost.nan, lost.steps)]
    return [*texts, lost.pixels.astype(">i8"), stored.view(np.uint8)]


def _descriptors(rows: Sequence[Kept]) -> tuple[bytes, int]:
    """The fixed part of the table (Standard, section 7.3.5), and the size of the heap."""
    table, size = b"", 0
    for row in rows:
        table += np.array(row.hdu, ">i4").tobytes()
        for values in _values(row):
            table += np.array([values.size, size], ">i8").tobytes()
            size += values.nbytes
    return table, size


def _whole_words(table: bytes, rows: Sequence[Kept]) -> Iterator[bytes]:
    """The bytes of the table and its heap; all parts but the last are whole words of 4 bytes."""
    rest = table
    for row in rows:
        for values in _values(row):
            for i in range(0, len(values), CHUNK_PIXELS):
                rest += values[i : i + CHUNK_PIXELS].tobytes()
                whole = len(rest) // 4 * 4
                yield rest[:whole]
                rest = rest[whole:]
    yield rest
