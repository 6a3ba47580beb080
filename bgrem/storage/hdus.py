"""Where each header-data unit (HDU) of a FITS file lies, and the sums in its header.

A FITS file is a sequence of HDUs. Each is a header and the data that it announces, in whole blocks
of 2880 bytes. With their positions, HDUs can be copied to another file byte for byte.

The rules are those of the FITS Standard 4.0 (Pence et al. 2010, A&A 524, A42, and its 2018 revision).
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.rows import release
from bgrem.storage.cards import (
    FITS_BLOCK,
    Cards,
    ends_cleanly,
    header_end,
    parsed_header,
    unreadable,
)
from bgrem.storage.opening import FitsError, advice, sentence

__all__ = [
    "CHUNK_PIXELS", "Unit", "checked_header", "choose_unit", "copy_bytes", "copy_unit", "data_sum",
    "find_units", "lengths", "ones_complement_sum", "padded", "sum_matches", "words_of",
]  # fmt: skip

EMPTY_PRIMARY = fits.PrimaryHDU().header.tostring().encode("ascii")
KNOWN_HDUS = (
    fits.PrimaryHDU, fits.ImageHDU, fits.BinTableHDU, fits.TableHDU, fits.GroupsHDU,
    fits.hdu.nonstandard.FitsHDU, fits.hdu.base.NonstandardExtHDU,
)  # fmt: skip
MOST_FIELDS = 999  # of a table; also the most axes of an image
CHUNK_PIXELS = 1 << 20  # converted at a time: a limit on the memory of temporary arrays


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
        if not self.compressed and str(self.header.get("XTENSION", "IMAGE")).strip() != "IMAGE":
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
        if not self.compressed and _parameters(self.header) != (0, 1):
            return "holds groups or parameters (PCOUNT, GCOUNT), not an image"
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
            unit = _unit_of(contents[start:data], len(units), start, size)
            if unit.stop <= size:
                more = contents[unit.end : unit.end + 8] == b"XTENSION"
                _check_as_astropy(contents[start:data], unit, more)
        except (ValueError, TypeError, KeyError, OSError, fits.VerifyError) as error:
            raise FitsError(
                f"{path}: HDU {len(units)} has a corrupt header ({sentence(error)})"
            ) from None
        if unit.stop > size:
            raise FitsError(
                f"{path}: truncated, {unit.label} announces {unit.stop - data} bytes of data and "
                f"the file has {max(0, size - data)}"
            )
        units.append(unit)
        start = unit.end
    rest = contents[start:size]
    notes = [f"ignored {len(rest)} bytes after the last HDU"] if rest.strip(b"\0 ") else []
    return units, notes


def _unit_of(header: bytes, index: int, start: int, size: int) -> Unit:
    """The HDU of a header at a position in a file of a size."""
    parsed, data = parsed_header(header), start + len(header)
    if "XTENSION" in list(parsed)[1:]:
        raise ValueError("its END card is missing")
    stop = data + _data_length(parsed)
    unit = Unit(index, parsed, start, data, stop, min(size, padded(stop)))
    _ = unit.label, unit.complaint  # these read the cards that later steps rely on
    return unit


def _whole(header: fits.Header, keyword: str, default: int | None = None) -> int:
    """A card that must be a whole number."""
    value = header[keyword] if default is None else header.get(keyword, default)
    if type(value) is not int:
        raise ValueError(f"{keyword} is not a whole number")
    return value


def _axes(header: fits.Header, keyword: str) -> tuple[int, ...]:
    number = _whole(header, keyword)
    if not 0 <= number <= MOST_FIELDS:
        raise ValueError(f"{keyword} is {number}")
    axes = tuple(_whole(header, f"{keyword}{i + 1}") for i in range(number))
    if not all(n >= 0 for n in axes):
        raise ValueError(f"{keyword}n is not a length")
    return axes


def _parameters(header: fits.Header) -> tuple[int, int]:
    return _whole(header, "PCOUNT", 0), _whole(header, "GCOUNT", 1)


def _data_length(header: fits.Header) -> int:
    """Bytes of an HDU's data (Standard, equations 2 and 4)."""
    axes = _axes(header, "NAXIS")
    bits = _whole(header, "BITPIX")
    if bits not in (8, 16, 32, 64, -32, -64):
        raise ValueError(f"BITPIX is {bits}")
    if not 0 <= _whole(header, "TFIELDS", 0) <= MOST_FIELDS:
        raise ValueError(f"TFIELDS is {header['TFIELDS']}")
    if not axes:
        return 0
    groups = header.get("GROUPS") is True and axes[0] == 0
    count = math.prod(axes[1:] if groups else axes)
    parameters, number = _parameters(header)
    length = abs(bits) // 8 * number * (parameters + count)
    if length < 0:
        raise ValueError("PCOUNT or GCOUNT is not a count")
    return length


def _check_as_astropy(header: bytes, unit: Unit, more: bool) -> None:
    """Check that astropy finds the same HDU; it would not find the next one otherwise.

    ``more`` is whether another HDU follows.
    """
    # As it is written: without NUL bytes, in whole blocks.
    unclean = b"\0" in header
    header = header.replace(b"\0", b" ").ljust(padded(len(header)))
    if (unit.index or more) and not ends_cleanly(header):
        raise ValueError("its END card is not blank, and astropy would read on")
    if unit.index:
        header = EMPTY_PRIMARY + header
    elif unit.header["SIMPLE"] is not True:
        raise ValueError("SIMPLE is not T")
    try:
        hdus = fits.open(io.BytesIO(header), disable_image_compression=True)
    except OSError:  # its message does not name the card
        names = ", ".join(unreadable(unit.header)[:4]) or "its structure"
        raise ValueError(f"astropy cannot read {names}") from None
    with hdus:
        found = hdus[-1]
        if not isinstance(found, KNOWN_HDUS) or found.size != unit.stop - unit.data:
            raise ValueError("its cards of structure are not in their places")
        if found.fileinfo()["datLoc"] < len(header):
            raise ValueError("it has another END card before its last")
        if unclean and not _has_columns(found):
            raise ValueError("NUL bytes are in the cards of its columns")


def _has_columns(hdu) -> bool:
    """Whether astropy reads the columns of an HDU, if it is a table."""
    try:
        return hdu.columns is not None if hasattr(type(hdu), "columns") else True
    except Exception:  # noqa: BLE001 - corrupt cards make astropy raise anything
        return False


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
    fill = b"\0" if unit.stop > unit.data else b" "  # of a header
    stream.write(fill * (padded(unit.end) - unit.end))


def copy_bytes(stream, contents, start: int, stop: int) -> None:
    """Copy bytes of a file, some megabytes at a time."""
    for i in range(start, stop, 4 * CHUNK_PIXELS):
        stream.write(contents[i : min(i + 4 * CHUNK_PIXELS, stop)])
        release(contents)


# --- sums (Standard, appendix J): they reveal a file that was damaged in transfer


def checked_header(cards: Cards, datasum: int) -> bytes:
    """The bytes of a header whose DATASUM and CHECKSUM are right, which are set in the cards if present.

    ``datasum`` is the `ones_complement_sum` of the data; the whole HDU then sums to minus 0.
    """
    if "DATASUM" in cards:
        cards.set("DATASUM", str(datasum))
    if "CHECKSUM" in cards:
        cards.set("CHECKSUM", "0" * 16)
        total = ones_complement_sum(np.frombuffer(cards.tobytes(), ">u4"), datasum)
        cards.set("CHECKSUM", _encoded(~total & 0xFFFFFFFF))
    return cards.tobytes()


def data_sum(contents, unit: Unit) -> int:
    """The `ones_complement_sum` of the data of an HDU."""
    total = 0
    for start in range(unit.data, unit.end, 4 * CHUNK_PIXELS):
        part = contents[start : min(start + 4 * CHUNK_PIXELS, unit.end)]
        total = ones_complement_sum(words_of(part), total)
        release(contents)
    return total


def sum_matches(contents, unit: Unit) -> bool | None:
    """Whether the data of an HDU agree with its DATASUM; None if it has none."""
    announced = str(unit.header.get("DATASUM", "")).strip()
    if not re.fullmatch("[0-9]{1,10}", announced) or (unit.end - unit.data) % 4:
        return None
    return data_sum(contents, unit) == int(announced)


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
