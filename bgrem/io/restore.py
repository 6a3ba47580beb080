"""Restore the image that bgrem read from the file that it wrote.

The table UNDO of the output keeps what the sum of its planes cannot restore: headers as bytes, the last bit of
floats, and the few pixels that are infinite or too large.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.arrays.tiling import row_strips
from bgrem.io.reading import (
    FitsError,
    FitsImage,
    as_planes,
    image_hdus,
    read_image,
    sibling,
    stored_pixels,
)
from bgrem.io.scales import asinh_scale
from bgrem.io.undo_table import UNDO_TABLE, Kept, LostPixels, read_undo_table
from bgrem.io.writing import write_restored
from bgrem.storage.cards import parsed_header
from bgrem.storage.hdus import CHUNK_PIXELS, sum_matches
from bgrem.storage.names import home_path
from bgrem.storage.opening import header_faults, sentence

__all__ = ["UNDO_PLANES", "lost_pixels", "restored_path", "undo"]

# The planes that `undo` needs.
UNDO_PLANES = ("BACKGROUND", "NOISE")
MOST_STEPS = 127  # what 8 bits hold


def lost_pixels(
    image: FitsImage, sources: np.ndarray, planes: Mapping[str, np.ndarray], levels: Sequence[float]
) -> LostPixels:
    """What the sum of the planes lacks to restore the pixels bit for bit.

    ``sources`` and ``planes`` are as written, ``levels`` what was added to each plane of the sources.
    """
    raw = stored_pixels(image).reshape(-1)
    parts = [part.reshape(-1) for part in (sources, *(planes[name] for name in UNDO_PLANES))]
    added = _added(levels, image)
    header, dtype = image.units[image.hdu].header, raw.dtype.newbyteorder("=")
    asinh = asinh_scale(image.header)
    nan, places, packed = b"", [np.empty(0, np.int64)], _Packed()
    for i in range(0, raw.size, CHUNK_PIXELS):
        chunk = slice(i, i + CHUNK_PIXELS)
        strips, stored = [part[chunk] for part in parts], raw[chunk].astype(dtype)
        if asinh:
            strips[0] = asinh.linear(strips[0]).astype(sources.dtype)  # as `undo` reads them
        nan = nan or _first_nan(stored)
        back = _stored(_sum(strips, added, chunk), dtype, header, nan)
        steps = _bits(stored) - _bits(back)
        far = (steps < -MOST_STEPS) | (steps > MOST_STEPS)
        packed.add(np.where(far, 0, steps).astype(np.int8))
        places.append(i + np.flatnonzero(far))
    lost = np.concatenate(places)
    return LostPixels(nan, packed.finished(), lost, raw[lost].astype(dtype))


@np.errstate(all="ignore")
def undo(
    path: str | os.PathLike, output: str | os.PathLike | None = None, *, overwrite: bool = False
) -> Path:
    """Restore the file that bgrem read from the file that it wrote.

    A file is restored byte for byte, before an outer gzip or bzip2. A tile-compressed image is tile-compressed again, by the lossless GZIP_2, with
    the cards that it had.

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
    try:
        with header_faults(f"{path}:"):
            _undo(path, output, overwrite)
    except FitsError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, zlib.error) as error:
        raise FitsError(
            f"{path}: cannot be undone, what bgrem wrote is damaged ({sentence(error)})"
        ) from None
    return output


def _undo(path: Path, output: Path, overwrite: bool) -> None:
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
    _check_sums(first, [*cleaned, *(i for pair in planes.values() for i in pair)])
    kept = _kept(first, count, cleaned)
    pixels_of = {i: partial(_restored, first, planes[i], kept[i]) for i in cleaned}
    write_restored(output, first, kept, pixels_of, count, overwrite=overwrite)


def restored_path(path: Path) -> Path:
    """The default path of the restored file, in the folder of ``path``."""
    return path.with_name("restored_" + path.name.removeprefix("BGRem_"))


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


def _check_sums(first: FitsImage, hdus: Iterable[int]) -> None:
    """Refuse an HDU whose data are not those that bgrem wrote: the sum of the planes would be wrong."""
    for i in hdus:
        unit = first.units[i]
        if sum_matches(first.contents, unit) is False:
            raise FitsError(
                f"{first.path}: cannot be undone, {unit.label} does not match its DATASUM"
            )


def _kept(first: FitsImage, count: int, cleaned: Sequence[int]) -> dict[int, Kept]:
    """The rows of the table UNDO, by the index of the HDU."""
    tables = [unit for unit in first.units[count:] if unit.name == UNDO_TABLE]
    _check_sums(first, [unit.index for unit in tables[-1:]])
    try:
        rows = read_undo_table(first.contents, tables[-1]) if tables else []
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - corrupt cards of a table make astropy raise anything
        raise FitsError(
            f"{first.path}: cannot be undone, {tables[-1].label} cannot be read ({sentence(error)})"
        ) from None
    kept = {row.hdu: row for row in rows}
    if missing := [i for i in cleaned if i not in kept]:
        raise FitsError(
            f"{first.path}: HDU {missing[0]} cannot be undone, the file has no table {UNDO_TABLE} of it"
        )
    return kept


def _restored(first: FitsImage, planes: Sequence[int], row: Kept) -> np.ndarray:
    """The restored pixels of one image, as stored."""
    image = sibling(first, row.hdu)
    header = parsed_header(row.header)
    parts = [image.data, *(sibling(first, plane).data for plane in planes)]
    if any(part.shape != image.data.shape for part in parts):
        raise FitsError(f"{image.label} and its planes have different shapes")
    bits = header["ZBITPIX" if image.compressed else "BITPIX"]
    dtype = np.dtype("u1" if bits == 8 else f"{'f' if bits < 0 else 'i'}{abs(bits) // 8}")
    added = _added(_levels(image), image)
    pixels = image.store.empty(image.data.shape, dtype)
    flat, target = [part.reshape(-1) for part in parts], pixels.reshape(-1)
    steps = _unpacked(row.lost.steps, image.data.size)
    for i in range(0, image.data.size, CHUNK_PIXELS):
        chunk = slice(i, i + CHUNK_PIXELS)
        total = _sum([part[chunk] for part in flat], added, chunk)
        values = _stored(total, dtype, header, row.lost.nan)
        bits = _bits(values)
        bits += next(steps)[: bits.size]
        target[chunk] = values
    target[row.lost.pixels] = row.lost.stored.view(dtype.newbyteorder(">")).astype(dtype)
    return pixels


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


def _stored(values: np.ndarray, dtype: np.dtype, header: fits.Header, nan: bytes) -> np.ndarray:
    """Stored values of physical ones, in native byte order; for NaN those of ``nan``, or BLANK."""
    if asinh := asinh_scale(header):
        values = asinh.stored(values)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = (values - header.get("BZERO", 0)) / header.get("BSCALE", 1)
        if dtype.kind == "f":
            stored = stored.astype(dtype)
            if nan:
                _bits(stored)[np.isnan(stored)] = np.frombuffer(nan, f">i{dtype.itemsize}")
            return stored
        limits = np.iinfo(dtype)
        # The float64 nearest to the largest integer of 64 bits is 1 too large.
        highest = np.nextafter(2.0**63, 0) if dtype.itemsize == 8 else limits.max
        whole = np.clip(np.rint(stored), limits.min, highest)
        lost = np.isnan(whole)
        whole[lost] = 0
        whole = whole.astype(dtype)
    blank = header.get("BLANK", 0)
    if lost.any() and isinstance(blank, int) and limits.min <= blank <= limits.max:
        whole[lost] = blank
    return whole


def _bits(values: np.ndarray) -> np.ndarray:
    """The bits of values as integers of their own size; neighbouring floats are neighbouring integers."""
    return values.view(f"i{values.dtype.itemsize}")


class _Packed:
    """Arrays of int8, compressed one after another; nothing if all are 0."""

    def __init__(self) -> None:
        self._compressor, self._parts, self._any = zlib.compressobj(1), [], False

    def add(self, steps: np.ndarray) -> None:
        self._any = self._any or bool(steps.any())
        self._parts.append(self._compressor.compress(steps.tobytes()))

    def finished(self) -> bytes:
        return b"".join([*self._parts, self._compressor.flush()]) if self._any else b""


def _unpacked(packed: bytes, size: int) -> Iterator[np.ndarray]:
    """The steps of each chunk of ``size`` pixels."""
    decompressor, right = zlib.decompressobj(), not packed
    for i in range(0, size, CHUNK_PIXELS):
        count = min(CHUNK_PIXELS, size - i)
        if right:
            yield np.zeros(count, np.int8)
            continue
        steps = b""
        while len(steps) < count:
            more = decompressor.decompress(packed, count - len(steps))
            packed = decompressor.unconsumed_tail
            if not more and not packed:
                raise IndexError("its steps end too early")
            steps += more
        yield np.frombuffer(steps, np.int8)


def _first_nan(stored: np.ndarray) -> bytes:
    """The bytes of the first NaN, big-endian; empty without one."""
    if stored.dtype.kind != "f":
        return b""
    nans = stored[np.isnan(stored)][:1]
    return nans.astype(nans.dtype.newbyteorder(">")).tobytes()
