"""Write a FITS file again, with its images replaced by products and further planes appended.

All other HDUs are copied to the output byte for byte, and so are the cards that do not change.
"""

import contextlib
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
from bgrem.io.reading import FitsImage
from bgrem.io.scales import SCALE_CARDS
from bgrem.io.undo_table import UNDO_TABLE, Kept, LostPixels, write_undo_table
from bgrem.storage.cards import Cards
from bgrem.storage.hdus import (
    CHUNK_PIXELS,
    Unit,
    checked_header,
    copy_bytes,
    copy_unit,
    data_sum,
    ones_complement_sum,
    padded,
    words_of,
)
from bgrem.storage.opening import FitsError
from bgrem.storage.temporary import replacing
from bgrem.storage.tile_compression import TILE_CARDS, tiles_head, write_tiles

__all__ = ["Product", "write_mosaic", "write_restored"]

# Cards that describe the stored pixels of the input and would be wrong in the output. BGR_ cards are those
# of an earlier run.
STALE_CARDS = re.compile(
    r"BZERO|BSCALE|BLANK|CHECKSUM|DATASUM|DATAM(IN|AX|EAN)|(GOOD|SNR)M(IN|AX|EAN)"
    r"|(IRAF|ALLG)-M(IN|AX)|IRAF-BPX|BGR_.*"
)
# Those of the original in a tile-compressed image.
STALE_TILE_CARDS = ("ZHECKSUM", "ZDATASUM")
# Without these cards in order, no program can read the output.
MANDATORY_CARDS = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS")
# Cards of an image that do not describe the planes beside it: the structure and the name of its HDU, and
# the levels of its saturated pixels.
OWN_CARDS = re.compile(
    MANDATORY_CARDS.pattern + r"|GROUPS|EXTEND|BLOCKED|NEXTEND"
    r"|EXTNAME|EXTVER|EXTLEVEL|HDU(NAME|VER|LEVEL|CLAS\d)|(SCI|ERR|QUAL|CONF)DATA"
    r"|SATURAT[EAB]|SATLEVEL|SATURVAL"
)
# The planes that are not in the unit of the image.
WITHOUT_UNIT = ("MASK", "SIGNIF")


@dataclass(frozen=True)
class Product:
    """The planes and cards that replace one image, and those that are appended.

    Attributes
    ----------
    image : FitsImage
    sources : ndarray
        Of the shape of ``image.data``; float32 or float64.
    planes : mapping of EXTNAME to ndarray
        Further images of that shape.
    cards : sequence of (keyword, value, comment)
        Provenance, of the image and of the planes.
    history : sequence of str
    lost : LostPixels, optional
        What the planes do not restore. With it, all that `bgrem.undo` needs is written.
    """

    image: FitsImage
    sources: np.ndarray
    planes: Mapping[str, np.ndarray] = field(default_factory=dict)
    cards: Sequence[tuple[str, object, str]] = ()
    history: Sequence[str] = ()
    lost: LostPixels | None = None


def write_mosaic(
    path: str | os.PathLike,
    image: FitsImage,
    hdus: Sequence[int],
    product_of: Callable[[int], Product | None],
    *,
    overwrite: bool = False,
) -> None:
    """Write the file of ``image`` again, with one or several of its images replaced by products.

    An image keeps its index, its cards byte for byte (without those that are false for the products) and its
    form: a tile-compressed image is tile-compressed again, by the lossless GZIP_2. Other HDUs are copied byte
    for byte. EXTEND and NEXTEND of the first HDU count the planes. The suffix of the name (.gz, .bz2) sets
    the compression of the whole file. The file is written under a temporary name in the same folder, which is
    created if missing, and renamed when complete. Only the products of one image are in memory at a time.

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
    with _rewriting(Path(path), image, overwrite) as stream, _spool(path, hdus) as spool:
        output, product = _Output(stream, image), None
        for unit in image.units:
            if unit.index not in hdus or (product := product_of(unit.index)) is None:
                output.copy(unit)
                continue
            output.write_sources(product)
            if spool:
                _write_planes(spool, product, hdus.index(unit.index))
        if spool:
            spool.seek(0)
            shutil.copyfileobj(spool, stream)
        elif product:
            _write_planes(stream, product, 0)
        output.finish()


def write_restored(
    path: str | os.PathLike,
    image: FitsImage,
    kept: Mapping[int, Kept],
    pixels_of: Mapping[int, Callable[[], np.ndarray]],
    count: int,
    *,
    overwrite: bool = False,
) -> None:
    """Write the first ``count`` HDUs of the file of ``image`` again, some of them restored.

    ``kept`` has the rows of the table UNDO and ``pixels_of`` functions that give stored pixels, both by index
    of the HDU; the other HDUs are copied. The errors are those of `write_mosaic`.
    """
    with _rewriting(Path(path), image, overwrite) as stream:
        for unit in image.units[:count]:
            row, pixels_at = kept.get(unit.index), pixels_of.get(unit.index)
            if row is None:
                copy_unit(stream, image.contents, unit)
                continue
            if pixels_at and unit.compressed:
                write_tiles(stream, pixels_at(), Cards.read(row.header), image.store)
                continue
            stream.write(row.header)
            if pixels_at:
                for part in _big_endian(pixels_at()):
                    stream.write(part)
            else:
                copy_bytes(stream, image.contents, unit.data, unit.stop)
            stream.write(row.fill)
        if count in kept:
            stream.write(kept[count].fill)


@contextlib.contextmanager
def _spool(path: str | os.PathLike, hdus: Sequence[int]) -> Iterator[io.BufferedIOBase | None]:
    """A file for the planes of several images, which all come last; None for one image."""
    if len(hdus) == 1:
        yield None
        return
    with tempfile.TemporaryFile(dir=Path(path).parent) as file:
        yield file


@contextlib.contextmanager
def _rewriting(path: Path, image: FitsImage, overwrite: bool) -> Iterator[io.BufferedIOBase]:
    """A stream to the changed file of ``image``, which is never overwritten."""
    if path.exists() and path.samefile(image.path):
        raise FitsError(f"{path}: would overwrite the input")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        with replacing(path, overwrite=overwrite) as stream:
            yield stream


class _Output:
    """The HDUs of the input in the output, with the headers that count the planes after them."""

    def __init__(self, stream: io.BufferedIOBase, image: FitsImage) -> None:
        self._stream, self._image = stream, image
        # Of the headers that may have to be written again: position, cards and sum of the data.
        self._counting: list[tuple[int, Cards, int]] = []
        self._appended = 0
        self._lost: dict[int, LostPixels] = {}
        self._changed: set[int] = set()  # HDUs that are no copies of the input

    def copy(self, unit: Unit) -> None:
        """Copy an HDU; NUL bytes in its header, with which astropy ends the file, become blanks."""
        contents = self._image.contents
        unclean = b"\0" in contents[unit.start : unit.data]
        if unit.index == 0 or unclean:
            cards = _cards_of(self._image, unit)
            cards.without_nul()
            summed = "CHECKSUM" in cards or "DATASUM" in cards
            total = data_sum(contents, unit) if summed else 0
        if unit.index == 0:
            self._counting.append((0, cards, total))
        if not unclean:
            copy_unit(self._stream, contents, unit)
            return
        self._changed.add(unit.index)
        self._stream.write(checked_header(cards, total))
        copy_bytes(self._stream, contents, unit.data, unit.end)
        self._stream.write(b"\0" * (padded(unit.end) - unit.end))

    def write_sources(self, product: Product) -> None:
        """Write the HDU of an image with its sources."""
        place, cards = self._stream.tell(), _product_cards(product)
        total = _write_image(self._stream, product.sources, cards, product.image)
        self._counting.append((place, cards, total))
        self._appended += len(product.planes)
        if product.lost is not None:
            self._lost[product.image.hdu] = product.lost

    def finish(self) -> None:
        """Count the planes in the headers, and append the table UNDO."""
        appended = self._appended + bool(self._lost)
        changed = self._changed | set(self._lost)
        for place, cards, total in self._counting:
            if appended and _count_planes(cards, appended):
                self._stream.seek(place)
                self._stream.write(checked_header(cards, total))
                changed |= {0} if place == 0 else set()
        self._stream.seek(0, io.SEEK_END)
        if self._lost:
            rows = list(self._kept(changed))
            version = 1 + _namesakes(self._image, UNDO_TABLE)
            write_undo_table(self._stream, rows, len(self._image.units), version)

    def _kept(self, changed: set[int]) -> Iterator[Kept]:
        """What restores the HDUs that changed, and the end of the file."""
        contents, units = self._image.contents, self._image.units
        for unit in units:
            if unit.index in changed or unit.end < padded(unit.stop):
                yield Kept(
                    unit.index,
                    contents[unit.start : unit.data],
                    contents[unit.stop : unit.end],
                    self._lost.get(unit.index, LostPixels()),
                )
        if rest := contents[units[-1].end :]:
            yield Kept(len(units), fill=rest)


def _count_planes(cards: Cards, appended: int) -> bool:
    """Count extensions that were appended to the file of a header; whether the header changed."""
    absent = [keyword for keyword in ("EXTEND", "ZEXTEND") if cards.value(keyword) is False]
    for keyword in absent:
        cards.set(keyword, True)
    number = cards.value("NEXTEND")
    if type(number) is int:
        cards.set("NEXTEND", number + appended)
    return bool(absent) or type(number) is int


def _cards_of(image: FitsImage, unit: Unit) -> Cards:
    return Cards.read(image.contents[unit.start : unit.data])


def _product_cards(product: Product) -> Cards:
    """The cards of the image without stale ones, with the provenance."""
    image = product.image
    cards = _cards_of(image, image.units[image.hdu])
    cards.drop(STALE_CARDS.fullmatch)
    if image.compressed:
        cards.drop(STALE_TILE_CARDS.__contains__)
    cards.without_nul()
    if product.planes and image.hdu == 0 and "EXTEND" not in cards:
        cards.insert_after(f"NAXIS{cards.value('NAXIS')}", ("EXTEND", True, "extensions follow"))
    header = fits.Header()
    header.extend(product.cards, unique=False)
    if product.lost is not None:
        header.append(("BGR_NHDU", len(image.units), "HDUs of the input; more were appended"))
    for line in product.history:
        header.add_history(line)
    cards.extend(Cards.of(header))
    _add_sums(cards)
    return cards


def _add_sums(cards: Cards) -> None:
    """Cards for the sums, which are set when the data are written."""
    cards.set("DATASUM", "", "sum of the data, ones' complement")
    cards.set("CHECKSUM", "", "makes the sum of the HDU zero")


def _write_planes(stream, product: Product, before: int) -> None:
    """Write the planes of a product, after ``before`` others of the same names."""
    for name, plane in product.planes.items():
        _write_image(stream, plane, _plane_cards(product, name, before), product.image)


def _plane_cards(product: Product, name: str, before: int) -> Cards:
    """The cards of an appended plane: a unique name and version, and what describes the image."""
    image = product.image
    header = fits.Header(_head(image))
    header.append(("EXTNAME", name))
    if namesakes := before + _namesakes(image, name):
        header.append(("EXTVER", namesakes + 1))
    cards = Cards.of(header)
    described = _cards_of(image, image.units[image.hdu])
    described.drop(STALE_CARDS.fullmatch)
    described.drop(SCALE_CARDS.__contains__)
    described.drop(OWN_CARDS.fullmatch)
    if image.compressed:
        described.drop(TILE_CARDS.fullmatch)
    if image.hdu == 0:
        described.drop("INHERIT".__eq__)
    if name in WITHOUT_UNIT:
        described.drop("BUNIT".__eq__)
        if described.value("INHERIT") is True and "BUNIT" in image.primary:
            described.set("BUNIT", "", "not that of the primary HDU")
    cards.extend(described)
    header = fits.Header()
    header.extend(product.cards, unique=False)
    header.append(("BGR_HDU", image.hdu, "HDU of the image that this belongs to"))
    cards.extend(Cards.of(header))
    _add_sums(cards)
    return cards


def _head(image: FitsImage) -> list[tuple[str, object]]:
    """The first cards of an image extension of the shape and the form of an image."""
    shape = image.data.shape
    if image.compressed:
        return tiles_head(shape)
    axes = [(f"NAXIS{n}", shape[-n]) for n in range(1, len(shape) + 1)]
    return [
        ("XTENSION", "IMAGE"),
        ("BITPIX", 8),
        ("NAXIS", len(shape)),
        *axes,
        ("PCOUNT", 0),
        ("GCOUNT", 1),
    ]


def _namesakes(image: FitsImage, name: str) -> int:
    return sum(unit.name.upper() == name for unit in image.units)


def _write_image(stream, pixels, cards: Cards, image: FitsImage) -> int:
    """Write an HDU and return the sum of its data."""
    if image.compressed:
        return write_tiles(stream, pixels, cards, image.store)
    size = pixels.dtype.itemsize
    cards.set("BITPIX", -8 * size if pixels.dtype.kind == "f" else 8 * size)
    total = 0
    for part in _big_endian(pixels):
        total = ones_complement_sum(words_of(part), total)
    stream.write(checked_header(cards, total))
    for part in _big_endian(pixels):
        stream.write(part)
    stream.write(b"\0" * (padded(pixels.nbytes) - pixels.nbytes))
    return total


def _big_endian(pixels) -> Iterator[bytes]:
    """The bytes of an image as they are stored; all parts but the last are whole words."""
    lines = pixels.reshape(-1, pixels.shape[-1])
    height = 4 * max(1, CHUNK_PIXELS // (4 * lines.shape[1]))
    stored = pixels.dtype.newbyteorder(">")
    for rows in row_strips(lines.shape, height):
        yield lines[rows].astype(stored).tobytes()
