"""The sums in a FITS header by which a file that was damaged on its way is known (Standard, appendix J)."""

import numpy as np
from astropy.io import fits

__all__ = ["checked_header", "ones_complement_sum", "words_of"]


def checked_header(header: fits.Header, datasum: int) -> bytes:
    """The header's bytes with DATASUM and CHECKSUM, so that the whole HDU sums to minus 0.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        Is given both cards.
    datasum : int
        `ones_complement_sum` of the data.

    Returns
    -------
    bytes
    """
    header["DATASUM"] = (str(datasum), "sum of the data, ones' complement")
    header["CHECKSUM"] = ("0" * 16, "makes the sum of the HDU zero")
    blank = header.tostring().encode("ascii")
    total = ones_complement_sum(np.frombuffer(blank, ">u4"), datasum)
    header["CHECKSUM"] = _encoded(~total & 0xFFFFFFFF)
    return header.tostring().encode("ascii")


def ones_complement_sum(words: np.ndarray, start: int = 0) -> int:
    """Sum of 32-bit words with the carry brought round (Standard, appendix J).

    Parameters
    ----------
    words : `~numpy.ndarray`
        uint32.
    start : int
        The sum of what goes before.

    Returns
    -------
    int
    """
    total = start + int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def words_of(part: bytes) -> np.ndarray:
    """Bytes as 32-bit words, the last one filled up with zeros."""
    return np.frombuffer(part + b"\0" * (-len(part) % 4), ">u4")


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
