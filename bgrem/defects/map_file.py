"""The file of a map of defects: `--mask` and `--defects` of bgrem take it."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem import __version__
from bgrem.arrays.rows import Rows
from bgrem.arrays.tiling import row_strips
from bgrem.defects.measure import BAD_COLUMN, BAD_PIXEL, BAD_ROW, CameraDefects
from bgrem.io.readout import Detector
from bgrem.storage.cards import Cards
from bgrem.storage.hdus import checked_header, ones_complement_sum, padded, words_of
from bgrem.storage.names import visible_text
from bgrem.storage.temporary import replacing

__all__ = ["MapWriter", "writing_map"]

WRITTEN_ROWS = 256  # rows that are written at once; their bytes are whole words
MAP_NAME, VALUE_NAME, CHANCE_NAME = "DEFECTS", "VALUE", "CHANCE"


class MapWriter:
    """Writes maps one after another, each at the index of the HDU that it belongs to.

    Parameters
    ----------
    stream, spool : file
        Of the maps, and of the values and chances that follow them.
    facts : mapping
        Further cards of every map.
    """

    def __init__(self, stream, spool, facts: Mapping[str, tuple[object, str]]) -> None:
        self._stream, self._spool, self._facts = stream, spool, facts
        self._next = self._count = 0

    def add(self, defects: CameraDefects, detector: Detector, names: Sequence[str]) -> None:
        """Write the map of a detector; HDUs before its own that are not there yet are empty.

        ``names`` are those of the frames.
        """
        while self._next < detector.hdu:
            _write(self._stream, _first_cards(self._next, None), None)
            self._next += 1
        self._count += 1
        own = [*_cards_of(defects, detector), *((k, *v) for k, v in self._facts.items())]
        header = _first_cards(detector.hdu, defects.bits)
        if detector.hdu:
            header.append(("EXTNAME", dict(detector.cards).get("EXTNAME", MAP_NAME)))
        header.extend(own)
        for line in _history(defects, names):
            header.add_history(line)
        _write(self._stream, header, defects.bits)
        self._next += 1
        for name, plane, meaning in (
            (VALUE_NAME, defects.value, "above the pixels around, in sky rms"),
            (CHANCE_NAME, defects.chance, "that the pixel is defective"),
        ):
            header = _first_cards(1, plane)
            header.append(("EXTNAME", name, meaning))
            header.append(("EXTVER", self._count))
            header.extend(own)
            header.append(("BGR_HDU", detector.hdu, "HDU of the map that this belongs to"))
            _write(self._spool, header, plane)


@contextmanager
def writing_map(
    path: Path, *, overwrite: bool, facts: Mapping[str, tuple[object, str]]
) -> Iterator[MapWriter]:
    """A file of maps, renamed to its name when complete; see `bgrem.storage.temporary.replacing`."""
    with (
        replacing(path, overwrite=overwrite) as stream,
        tempfile.TemporaryFile(dir=path.parent) as spool,
    ):
        yield MapWriter(stream, spool, facts)
        spool.seek(0)
        shutil.copyfileobj(spool, stream)


def _cards_of(defects: CameraDefects, detector: Detector) -> list[tuple[str, object, str]]:
    """What the map is of and from what it was measured."""
    exposures = defects.pointings.exposures
    rms = float(np.median([one.rms for one in exposures]))
    time = float(np.median([one.time for one in exposures]))
    lines = [len({one.line for one in defects.lines if one.axis == axis}) for axis in (0, 1)]
    return [
        *((k, v, "of the detector") for k, v in detector.cards if k != "EXTNAME"),
        ("BGR_VERS", __version__, "version of bgrem"),
        ("BGR_DATE", datetime.now(UTC).isoformat(timespec="seconds")[:19], "UTC of the measurement"),
        ("BGR_NFRM", len(exposures), "frames"),
        ("BGR_NPNT", defects.pointings.count, "pointings, whose stars are in other pixels"),
        ("BGR_CHNC", defects.least_chance, "chance from which a pixel is bad"),
        ("BGR_NPIX", defects.pixels, "bad single pixels"),
        ("BGR_NCOL", lines[0], "columns that are bad in part or whole"),
        ("BGR_NROW", lines[1], "rows that are bad in part or whole"),
        ("BGR_NBAD", defects.bad, "all bad pixels"),
        ("BGR_PRIO", defects.prior, "prior: part of the pixels that is defective"),
        ("BGR_OFFS", defects.offset, "[rms] offsets of good pixels, std. deviation"),
        ("BGR_RMS", rms, "median rms of the sky in data units"),
        *([("BGR_TIME", time, "[s] median exposure time")] if np.isfinite(time) else []),
    ]  # fmt: skip


def _history(defects: CameraDefects, names: Sequence[str]) -> Iterator[str]:
    yield f"bits: {BAD_PIXEL} pixel, {BAD_COLUMN} column, {BAD_ROW} row; VALUE and CHANCE follow"
    for line in defects.lines:
        name, along = ("column x", "y") if line.axis == 0 else ("row y", "x")
        yield (
            f"bad {name}={line.line}, {along}={line.start}..{line.stop - 1}, value {line.value:.3g}, "
            f"chance {line.chance:.6f}"
        )
    for warning in defects.warnings:
        yield f"bgrem warning: {warning}"
    for name in names:
        yield f"frame {visible_text(Path(name).name).encode('ascii', 'replace').decode()}"


def _first_cards(index: int, pixels: Rows | None) -> fits.Header:
    """The first cards of an image HDU."""
    shape = () if pixels is None else pixels.shape
    bits = 8
    if pixels is not None:
        bits = (-8 if pixels.dtype.kind == "f" else 8) * pixels.dtype.itemsize
    cards = [("XTENSION", "IMAGE") if index else ("SIMPLE", True)]
    cards += [("BITPIX", bits), ("NAXIS", len(shape))]
    cards += [(f"NAXIS{n}", shape[-n]) for n in range(1, len(shape) + 1)]
    return fits.Header(cards + ([("PCOUNT", 0), ("GCOUNT", 1)] if index else [("EXTEND", True)]))


def _write(stream, header: fits.Header, pixels: Rows | None) -> None:
    cards = Cards.of(header)
    cards.set("DATASUM", "", "sum of the data, ones' complement")
    cards.set("CHECKSUM", "", "makes the sum of the HDU zero")
    total = length = 0
    for part in _parts(pixels):
        total = ones_complement_sum(words_of(part), total)
    stream.write(checked_header(cards, total))
    for part in _parts(pixels):
        stream.write(part)
        length += len(part)
    stream.write(b"\0" * (padded(length) - length))


def _parts(pixels: Rows | None) -> Iterator[bytes]:
    """The bytes of an image as FITS stores them."""
    if pixels is not None:
        for rows in row_strips(pixels.shape, WRITTEN_ROWS):
            yield np.asarray(pixels[rows]).astype(pixels.dtype.newbyteorder(">")).tobytes()
