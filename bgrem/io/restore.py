"""Restore the image that bgrem read from the file that it wrote.

The output keeps what the sum of its planes cannot restore: the cards of the input that it cannot
hold (``BGR_Cn``), and in a table UNDO the few pixels lost to rounding or an infinite value.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.tiling import row_strips
from bgrem.io.hdus import CHUNK_PIXELS
from bgrem.io.reading import (
    FitsError,
    FitsImage,
    as_planes,
    image_hdus,
    read_image,
    sibling,
    stored_pixels,
)
from bgrem.io.writing import STALE_CARDS, write_restored
from bgrem.names import home_path

__all__ = ["UNDO_PLANES", "UNDO_TABLE", "kept_cards", "lost_pixels", "restored_path", "undo"]

# The planes that `undo` needs.
UNDO_PLANES = ("BACKGROUND", "NOISE")
UNDO_TABLE = "UNDO"
PIECE = 50  # characters of an input card that one BGR_Cn card holds
CHANGED_CARDS = ("BITPIX", "NEXTEND", "EXTEND", *STALE_CARDS)


def kept_cards(image: FitsImage, history: Sequence[str]) -> list[tuple[str, object, str]]:
    """The cards of an image that its product cannot hold, encoded in cards that it can.

    ``history`` are the new HISTORY lines of the product. The cards are ``BGR_NHDU``, the number of HDUs of
    the file; ``BGR_HIST``, the number of new HISTORY cards; and ``BGR_C1``, ``BGR_C2`` ..., each with the
    position and the text of a card, or with + and the rest of the text.
    """
    pieces = [
        piece
        for place, card in enumerate(image.header.cards)
        if _is_changed(card.keyword)
        for piece in _pieces(place, str(card).rstrip())
    ]
    lines = fits.Header()
    for line in history:
        lines.add_history(line)
    cards: list[tuple[str, object, str]] = [
        ("BGR_NHDU", len(image.units), "HDUs of the input; more were appended"),
        ("BGR_HIST", len(lines), "HISTORY cards of bgrem"),
    ]
    return cards + [(f"BGR_C{n}", piece, "") for n, piece in enumerate(pieces, 1)]


def lost_pixels(
    image: FitsImage, sources: np.ndarray, planes: Mapping[str, np.ndarray], levels: Sequence[float]
) -> np.ndarray | None:
    """The pixels that the sum of the planes would not restore, a table (PIXEL, STORED); None if there are none.

    Integers must be restored bit for bit, floats within one unit in the last place of the largest of
    data, sources and background. ``sources`` and ``planes`` are as written, ``levels`` what was added to
    each plane of the sources. PIXEL is the index in the flattened image.
    """
    raw, data = stored_pixels(image).reshape(-1), image.data.reshape(-1)
    parts = [part.reshape(-1) for part in (sources, *(planes[name] for name in UNDO_PLANES))]
    added = _added(levels, image)
    places = []
    for i in range(0, raw.size, CHUNK_PIXELS):
        chunk = slice(i, i + CHUNK_PIXELS)
        strips = [part[chunk] for part in parts]
        back = _stored(_sum(strips, added, chunk), raw.dtype, image.header)
        if raw.dtype.kind == "f":
            wrong = ~_close(back, raw[chunk], data[chunk], *strips[:2])
        else:
            wrong = back != raw[chunk]
        places.append(i + np.flatnonzero(wrong))
    lost = np.concatenate(places)
    if not lost.size:
        return None
    kind = np.float64 if raw.dtype.kind == "f" else np.int64
    table = np.empty(lost.size, dtype=[("PIXEL", np.int64), ("STORED", kind)])
    table["PIXEL"], table["STORED"] = lost, raw[lost]
    return table


@np.errstate(all="ignore")
def undo(
    path: str | os.PathLike, output: str | os.PathLike | None = None, *, overwrite: bool = False
) -> Path:
    """Restore the file that bgrem read from the file that it wrote.

    Integer pixels are restored bit for bit, with BITPIX, BSCALE, BZERO, BLANK and the rest of the
    header; float pixels within one unit in the last place of the largest of data, sources and
    background. A tile-compressed image is tile-compressed again, by the lossless GZIP_2.

    Parameters
    ----------
    path : path
        An output of bgrem with the planes ``background`` and ``noise``.
    output : path, optional
        Default: ``restored_`` + its name without ``BGRem_``, in the same folder.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    FitsError
        If a plane is missing, or a file cannot be read or written.
    """
    path = home_path(path)
    output = restored_path(path) if output is None else home_path(output)
    first = read_image(path)
    headers = image_hdus(first)
    # If bgrem was run on its own output, the last run is undone.
    runs = [header["BGR_NHDU"] for header in headers.values() if _is_product(header)]
    if not runs:
        written = any("BGR_VERS" in header for header in headers.values())
        raise FitsError(f"{path}: {_missing(written)}")
    count = max(runs)
    cleaned = [i for i, h in headers.items() if _is_product(h) and h["BGR_NHDU"] == count]
    planes = {i: _planes_of(first, headers, i, count) for i in cleaned}
    tables = _tables(first, count)
    restored = {i: partial(_restored, first, i, planes[i], tables.get(i)) for i in cleaned}
    write_restored(output, first, restored, count, overwrite=overwrite)
    return output


def restored_path(path: Path) -> Path:
    """The default path of the restored file, in the folder of ``path``."""
    return path.with_name("restored_" + path.name.removeprefix("BGRem_"))


def _pieces(place: int, card: str) -> Iterator[str]:
    """A card as strings that fit on one card each; readers treat longer ones differently."""
    # A quote is doubled inside a string, and not every reader undoes that.
    card = card.replace("%", "%25").replace("'", "%27")
    for i in range(0, len(card), PIECE):
        # Trailing blanks of a string do not count; the bar preserves them.
        yield f"{'+' if i else place} {card[i : i + PIECE]}|"


def _joined(pieces: Iterable[str]) -> list[tuple[int, str]]:
    """The positions and the texts of the cards, joined from their pieces."""
    cards: list[tuple[int, str]] = []
    for piece in pieces:
        mark, _, text = piece[:-1].partition(" ")
        place, before = cards.pop() if mark == "+" else (int(mark), "")
        cards.append((place, before + text))
    return [(place, text.replace("%27", "'").replace("%25", "%")) for place, text in cards]


def _is_changed(keyword: str) -> bool:
    return keyword in CHANGED_CARDS or keyword.startswith("BGR_")


def _is_product(header: fits.Header) -> bool:
    return "BGR_NHDU" in header and "BGR_HDU" not in header


def _missing(written: bool) -> str:
    if written:
        return (
            "cannot be undone, its background and noise were not saved "
            "(run bgrem with --save background,noise)"
        )
    return "was not written by bgrem, there is nothing to undo"


def _planes_of(
    first: FitsImage, headers: Mapping[int, fits.Header], hdu: int, count: int
) -> list[int]:
    """Indices of the background and the noise of the image at ``hdu``."""
    found = {
        header.get("EXTNAME"): i
        for i, header in headers.items()
        if i >= count and header.get("BGR_HDU") == hdu
    }
    if missing := [name for name in UNDO_PLANES if name not in found]:
        raise FitsError(
            f"{first.path}: HDU {hdu} cannot be undone, {missing[0]} is not in the file"
        )
    return [found[name] for name in UNDO_PLANES]


def _tables(first: FitsImage, count: int) -> dict[int, np.ndarray]:
    """The tables of lost pixels, by the index of the image."""
    tables = {}
    for unit in first.units[count:]:
        if unit.name == UNDO_TABLE:
            body = first.contents[unit.start : unit.end]
            primary = fits.PrimaryHDU().header.tostring().encode("ascii")
            with fits.HDUList.fromstring(primary + body) as hdus:
                tables[unit.header["BGR_HDU"]] = np.array(hdus[1].data)
    return tables


def _restored(
    first: FitsImage, hdu: int, planes: Sequence[int], table: np.ndarray | None
) -> tuple[np.ndarray, fits.Header]:
    """The restored pixels, as stored, and the restored header of one image."""
    image = sibling(first, hdu)
    header = _restored_header(image.header)
    parts = [image.data, *(sibling(first, plane).data for plane in planes)]
    if any(part.shape != image.data.shape for part in parts):
        raise FitsError(f"{image.label} and its planes have different shapes")
    bits = header["BITPIX"]
    dtype = np.dtype("u1" if bits == 8 else f"{'f' if bits < 0 else 'i'}{abs(bits) // 8}")
    added = _added(_levels(image), image)
    pixels = np.empty(image.data.size, dtype)
    flat = [part.reshape(-1) for part in parts]
    for i in range(0, pixels.size, CHUNK_PIXELS):
        chunk = slice(i, i + CHUNK_PIXELS)
        pixels[chunk] = _stored(_sum([part[chunk] for part in flat], added, chunk), dtype, header)
    if table is not None:
        pixels[table["PIXEL"]] = table["STORED"]
    return pixels.reshape(image.data.shape), header


def _restored_header(header: fits.Header) -> fits.Header:
    """The restored header: without the cards of bgrem, with the input's cards at their positions."""
    number = sum(bool(re.fullmatch(r"BGR_C\d+", keyword)) for keyword in header)
    kept = _joined(header[f"BGR_C{n}"] for n in range(1, number + 1))
    added = header["BGR_HIST"]
    header = header.copy()
    history = [i for i, keyword in enumerate(header.keys()) if keyword == "HISTORY"]
    for i in reversed(history[len(history) - added :]):
        del header[i]
    for keyword in {keyword for keyword in header if _is_changed(keyword)}:
        header.remove(keyword, remove_all=True)
    for place, card in kept:
        header.insert(place, fits.Card.fromstring(card), useblanks=False)
    return header


def _levels(image: FitsImage) -> list[float]:
    """The level that was added to each plane of the sources."""
    number = len(as_planes(image.data))
    if not image.header.get("BGR_KEEP"):
        return [0.0] * number
    if number == 1:
        return [image.header["BGR_LEVL"]]
    return [image.header.get(f"BGR_L{n}", 0.0) for n in range(1, number + 1)]


def _added(levels: Sequence[float], image: FitsImage) -> np.ndarray | None:
    """The level of each pixel, flat; None if nothing was added."""
    if not any(levels):
        return None
    added = image.store.empty(image.data.shape, np.float64)
    for plane, level in zip(as_planes(added), levels, strict=True):
        for rows in row_strips(plane.shape):
            plane[rows] = level
    return added.reshape(-1)


def _sum(parts: Sequence[np.ndarray], added: np.ndarray | None, chunk: slice) -> np.ndarray:
    total = parts[0].astype(np.float64)
    if added is not None:
        total -= added[chunk]
    for part in parts[1:]:
        total += part
    return total


def _stored(values: np.ndarray, dtype: np.dtype, header: fits.Header) -> np.ndarray:
    """Stored values of physical ones, in native byte order; BLANK for NaN."""
    dtype = dtype.newbyteorder("=")
    with np.errstate(over="ignore", invalid="ignore"):
        stored = (values - header.get("BZERO", 0)) / header.get("BSCALE", 1)
        if dtype.kind == "f":
            return stored.astype(dtype)
        limits = np.iinfo(dtype)
        # The float64 nearest to the largest integer of 64 bits is 1 too large.
        highest = np.nextafter(2.0**63, 0) if dtype.itemsize == 8 else limits.max
        whole = np.clip(np.rint(stored), limits.min, highest)
        lost = np.isnan(whole)
        whole[lost] = 0
        whole = whole.astype(dtype)
    whole[lost] = header.get("BLANK", 0)
    return whole


def _close(back, raw, data, sources, background) -> np.ndarray:
    """Whether a float is within one unit in the last place of the largest of the parts."""
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.maximum(np.abs(data), np.maximum(np.abs(sources), np.abs(background)))
        near = np.abs(back - raw) <= np.spacing(largest.astype(back.dtype))
    return near | (np.isnan(back) & np.isnan(raw))
