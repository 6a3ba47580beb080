"""Where each header-data unit (HDU) of a FITS file lies, and the sums in its header.

A FITS file is a sequence of HDUs. Each is a header and the data that it announces, in whole blocks
of 2880 bytes. With their positions, HDUs can be copied to another file byte for byte.

The rules are those of the FITS Standard 4.0 (Pence et al. 2010, A&A 524, A42, and its 2018 revision).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.rows import release
from bgrem.io.opening import FitsError, advice, sentence

__all__ = [
    "CHUNK_PIXELS", "PRINTABLE", "Unit", "checked_header", "choose_unit", "copy_bytes",
    "copy_unit", "find_units", "header_end", "lengths", "ones_complement_sum", "padded",
    "words_of",
]  # fmt: skip

FITS_BLOCK = 2880  # bytes
FITS_CARD = 80  # bytes
CHUNK_PIXELS = 1 << 20  # converted at a time: a limit on the memory of temporary arrays

# Headers are printable ASCII (Standard, section 3.2). Other bytes, such as tabs or degree signs, are
# replaced, so that the file can still be read.
PRINTABLE = bytes(i if 32 <= i < 127 else ord(" " if i < 32 else "?") for i in range(256))


@dataclass(frozen=True)
class Unit:
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
        """Shape of the image in numpy's order, () for an HDU without an image."""
        if not self.compressed and self.header.get("XTENSION", "IMAGE").strip() != "IMAGE":
            return ()
        return _axes(self.header, "ZNAXIS" if self.compressed else "NAXIS")[::-1]

    @property
    def complaint(self) -> str | None:
        """Why this HDU holds no image that can be separated; None for one that does."""
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


def lengths(shape: Sequence[int]) -> str:
    """A shape in words, as FITS counts its axes: the fastest first."""
    return " x ".join(str(n) for n in shape[::-1])


def find_units(contents, path: Path) -> tuple[list[Unit], list[str]]:
    """Walk the HDUs; every one must be complete (the padding of the last may be missing).

    Parameters
    ----------
    contents : bytes or `~mmap.mmap`
    path : `~pathlib.Path`
        For messages.

    Returns
    -------
    units : list of Unit
    notes : list of str
        What the user should know of the file.

    Raises
    ------
    FitsError
        Where the file is not FITS, truncated or corrupt.
    """
    if contents[:9] != b"SIMPLE  =":
        raise FitsError(f"{path}: not a FITS file{advice(bytes(contents[:512]), path.name)}")
    units, start, size = [], 0, len(contents)
    while start < size and (start == 0 or contents[start : start + 8] == b"XTENSION"):
        data = header_end(contents, start)
        if data is None:
            raise FitsError(f"{path}: truncated, the header of HDU {len(units)} has no END")
        try:
            header = fits.Header.fromstring(contents[start:data].translate(PRINTABLE))
            stop = data + _data_length(header)
            unit = Unit(len(units), header, start, data, stop, min(size, padded(stop)))
            _ = unit.label, unit.complaint  # these read the cards that later steps rely on
        except (ValueError, TypeError, KeyError, fits.VerifyError) as error:
            raise FitsError(
                f"{path}: HDU {len(units)} has a corrupt header ({sentence(error)})"
            ) from None
        if stop > size:
            raise FitsError(
                f"{path}: truncated, {unit.label} announces {stop - data} bytes of data and "
                f"the file has {max(0, size - data)}"
            )
        units.append(unit)
        start = unit.end
    rest = contents[start:size]
    notes = [f"ignored {len(rest)} bytes after the last HDU"] if rest.strip(b"\0 ") else []
    return units, notes


def header_end(contents, start: int) -> int | None:
    """Offset of the block after the one that holds the END card."""
    for block in range(start, len(contents), FITS_BLOCK):
        cards = contents[block : block + FITS_BLOCK]
        if any(cards[i : i + 8] == b"END     " for i in range(0, len(cards), FITS_CARD)):
            return min(block + FITS_BLOCK, len(contents))
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


def padded(length: int) -> int:
    """A length in bytes, rounded up to whole blocks."""
    return -(-length // FITS_BLOCK) * FITS_BLOCK


def choose_unit(units: list[Unit], hdu, path: Path) -> tuple[Unit, list[str]]:
    """The HDU that the user names, or the first that holds an image.

    Parameters
    ----------
    hdu : int or str, optional
        As for `bgrem.io.reading.read_image`.
    path : `~pathlib.Path`
        For messages.

    Returns
    -------
    unit : Unit
    notes : list of str
        Why it was chosen, if the user named none.

    Raises
    ------
    FitsError
        If there is no such HDU, or it holds no image.
    """
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


def _find(units: list[Unit], hdu: str, path: Path) -> Unit:
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


def _advice(units: list[Unit]) -> str:
    images = ", ".join(unit.label for unit in units if not unit.complaint)
    return f"; images are in {images}" if images else ""


def copy_unit(stream, contents, unit: Unit) -> None:
    """Write an HDU unchanged, with the padding that its end may lack."""
    copy_bytes(stream, contents, unit.start, unit.end)
    stream.write(b"\0" * (padded(unit.end) - unit.end))


def copy_bytes(stream, contents, start: int, stop: int) -> None:
    """Copy bytes of a file, some megabytes at a time."""
    for i in range(start, stop, 4 * CHUNK_PIXELS):
        stream.write(contents[i : min(i + 4 * CHUNK_PIXELS, stop)])
        release(contents)


# --- sums (Standard, appendix J): they reveal a file that was damaged in transfer


def checked_header(header: fits.Header, datasum: int) -> bytes:
    """The bytes of a header with DATASUM and CHECKSUM, which are set in it.

    ``datasum`` is the `ones_complement_sum` of the data; the whole HDU then sums to minus 0.
    """
    header["DATASUM"] = (str(datasum), "sum of the data, ones' complement")
    header["CHECKSUM"] = ("0" * 16, "makes the sum of the HDU zero")
    blank = header.tostring().encode("ascii")
    total = ones_complement_sum(np.frombuffer(blank, ">u4"), datasum)
    header["CHECKSUM"] = _encoded(~total & 0xFFFFFFFF)
    return header.tostring().encode("ascii")


def ones_complement_sum(words: np.ndarray, start: int = 0) -> int:
    """Ones' complement sum of 32-bit words (Standard, appendix J).

    ``words`` are uint32; ``start`` is the sum of the words before them.
    """
    total = start + int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def words_of(part: bytes) -> np.ndarray:
    """Bytes as 32-bit words; the last one is padded with zeros."""
    return np.frombuffer(part + b"\0" * (-len(part) % 4), ">u4")


def _encoded(value: int) -> str:
    """A 32-bit sum as 16 letters and digits (Standard, appendix J.2)."""
    columns = []
    for byte in value.to_bytes(4, "big"):
        quotient, remainder = divmod(byte, 4)
        letters = [quotient + remainder + 48, quotient + 48, quotient + 48, quotient + 48]
        for i in (0, 2):
            # One more here and one less there leaves the sum and avoids punctuation.
            while not (chr(letters[i]).isalnum() and chr(letters[i + 1]).isalnum()):
                letters[i] += 1
                letters[i + 1] -= 1
        columns.append(letters)
    text = "".join(chr(columns[i][j]) for j in range(4) for i in range(4))
    return text[-1] + text[:-1]
