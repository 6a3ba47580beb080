"""An image through overlapping tiles, strip by strip, without seams.

A convolutional network sees zeros outside its tile, so what it says near a tile's
border is not what it would say inside. Tiles therefore overlap: the outermost
quarter of an overlap is thrown away, and over its inner half one tile passes
smoothly into the next. The image itself is continued by reflection, so that none
of its pixels is near a border.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["map_tiles", "row_strips", "tile_shape"]

STRIP = 64  # rows that are worked on at once


def map_tiles(
    function: Callable[[np.ndarray], np.ndarray],
    strips: Iterable[np.ndarray],
    shape: tuple[int, int],
    *,
    tile: int,
    overlap: int,
    multiple: int = 32,
    batch: int = 1,
) -> Iterator[np.ndarray]:
    """Apply a function to overlapping tiles of an image and merge what it returns.

    Only about one row of tiles is in memory, whatever the height of the image. An
    image of one tile is one tile; larger ones share each axis evenly between as few
    equal tiles as are needed.

    Parameters
    ----------
    function : callable
        Takes float32 of shape (n, h, w), returns float32 of shape (n, c, h, w).
    strips : iterable of array_like
        The rows of the image in order: arrays of shape (rows, nx), of any heights.
    shape : tuple of int
        Shape (ny, nx) of the image.
    tile : int
        Largest side of a tile in pixels.
    overlap : int
        Pixels that neighbouring tiles share, rounded up to a multiple of ``multiple``.
    multiple : int
        Sides of tiles and distances between them are multiples of it: a network that
        downsamples gives the same answer at such shifts only.
    batch : int
        Number of tiles that the function gets at once.

    Yields
    ------
    `~numpy.ndarray`
        Finished strips, float32 of shape (c, rows, nx), in order; together (c, ny, nx).

    Raises
    ------
    ValueError
        If a tile is not at least twice the overlap, or the strips do not add up to the
        shape.
    """
    ny, nx = shape
    down = _Axis.cover(ny, tile, overlap, multiple)
    across = _Axis.cover(nx, tile, overlap, multiple)
    bands = _bands(strips, shape, down, across)
    for j, merged in enumerate(_merge_rows(bands, function, down, across, batch)):
        start = down.origin(j)
        stop = start + merged.shape[1]
        top, bottom = max(start, 0), min(stop, ny)
        # Copies of a few rows: the next row of tiles takes the place of this one.
        for y in range(top, bottom, STRIP):
            rows = slice(y - start, min(y + STRIP, bottom) - start)
            yield merged[:, rows, across.margin : across.margin + nx].copy()


def tile_shape(
    shape: tuple[int, int], *, tile: int, overlap: int, multiple: int = 32
) -> tuple[int, int]:
    """Sides (down, across) of the tiles that `map_tiles` takes of an image.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the image.
    tile, overlap, multiple : int
        As for `map_tiles`.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        As for `map_tiles`.
    """
    down, across = (_Axis.cover(length, tile, overlap, multiple) for length in shape)
    return down.size, across.size


@dataclass(frozen=True)
class _Axis:
    """Equal tiles on one axis of an image, the first one ``margin`` pixels before it."""

    length: int
    size: int
    overlap: int
    count: int

    @classmethod
    def cover(cls, length: int, tile: int, overlap: int, multiple: int) -> "_Axis":
        if min(length, tile, multiple) < 1 or overlap < 0:
            raise ValueError("image, tile and multiple must be positive, the overlap not negative")
        overlap = -(-overlap // multiple) * multiple
        largest = tile // multiple * multiple
        if largest < max(2 * overlap, multiple):
            raise ValueError(
                f"a tile of {tile} is too small for an overlap of {overlap}: it must be twice that"
            )
        # The margins of both ends together are one overlap.
        count = -(-length // (largest - overlap))
        step = -(-length // (count * multiple)) * multiple
        return cls(length, step + overlap, overlap, -(-length // step))

    @property
    def margin(self) -> int:
        return self.overlap // 2

    @property
    def step(self) -> int:
        return self.size - self.overlap

    @property
    def covered(self) -> int:
        return self.step * self.count + self.overlap

    def origin(self, number: int) -> int:
        """Pixel of the image, negative for the first tile, at which a tile begins."""
        return number * self.step - self.margin

    def pixels(self) -> np.ndarray:
        """Pixel of the image at each place that the tiles cover: a reflection outside it."""
        period = max(2 * (self.length - 1), 1)
        place = np.mod(np.arange(self.covered) - self.margin, period)
        return np.minimum(place, period - place) if self.length > 1 else np.zeros_like(place)

    @cached_property
    def ramp(self) -> np.ndarray:
        """Weight of the later tile over the pixels that two share; the earlier has the rest."""
        at = (np.arange(self.overlap) + 0.5) / max(self.overlap, 1)
        t = np.clip(2 * at - 0.5, 0, 1)
        return (t * t * (3 - 2 * t)).astype(np.float32)


def _bands(strips, shape, down: _Axis, across: _Axis) -> Iterator[np.ndarray]:
    """Collect the rows of each row of tiles, continued by reflection on all sides."""
    ny, nx = shape
    rows, columns = down.pixels(), across.pixels()
    strips = iter(strips)
    held = np.empty((0, nx), dtype=np.float32)
    first = 0  # row of the image that is the first of those held
    for j in range(down.count):
        wanted = rows[j * down.step : j * down.step + down.size]
        new = [held]
        last = first + len(held)
        while last <= wanted.max():
            strip = _next_strip(strips, last, shape)
            new.append(strip)
            last += len(strip)
        held = np.concatenate(new)
        del new
        wide = _widened(held, wanted - first, columns, across.margin)
        # Reflection at the lower end may need rows from above the next tiles.
        needed = rows[(j + 1) * down.step :].min() if j + 1 < down.count else last
        held = held[needed - first :].copy()
        first = needed
        yield wide
        del wide
    if last != ny or next(strips, None) is not None:
        raise ValueError(f"the strips have more rows than the image, which has {ny}")


def _widened(held: np.ndarray, wanted: np.ndarray, columns: np.ndarray, margin: int) -> np.ndarray:
    """The wanted rows of those held, continued on both sides; the middle is copied as a whole."""
    stop = margin + held.shape[1]
    wide = np.empty((len(wanted), columns.size), dtype=np.float32)
    for place in row_strips(wide.shape):
        rows = held[wanted[place]]
        wide[place, margin:stop] = rows
        wide[place, :margin] = rows[:, columns[:margin]]
        wide[place, stop:] = rows[:, columns[stop:]]
    return wide


def _next_strip(strips: Iterator[np.ndarray], row: int, shape: tuple[int, int]) -> np.ndarray:
    strip = next(strips, None)
    if strip is None:
        raise ValueError(f"the strips end after {row} rows of an image of {shape[0]}")
    strip = np.asarray(strip, dtype=np.float32)
    if strip.ndim != 2 or strip.shape[1] != shape[1]:
        raise ValueError(f"a strip has shape {strip.shape}; the image is {shape[1]} pixels wide")
    return strip


def _merge_rows(bands, function, down: _Axis, across: _Axis, batch: int) -> Iterator[np.ndarray]:
    """Blend each row of tiles with the one above it; yields what no later one touches."""
    ramp = down.ramp[:, None]
    merged = carried = None
    left = down.count
    for band in bands:
        merged = _merge_columns(band, function, across, batch, merged)
        del band  # so that the next one takes its memory
        left -= 1
        if carried is not None:
            merged[:, : down.overlap] *= ramp
            merged[:, : down.overlap] += carried
        if left == 0:
            yield merged
        else:
            carried = merged[:, down.step :] * (1 - ramp)
            yield merged[:, : down.step]


def _merge_columns(band: np.ndarray, function, across: _Axis, batch: int, merged) -> np.ndarray:
    """Send one row of tiles through the function: (h, w) to (c, h, w), in the place of the last."""
    ramp = across.ramp
    for first in range(0, across.count, batch):
        starts = range(0, band.shape[1] - across.overlap, across.step)[first : first + batch]
        results = function(np.stack([band[:, s : s + across.size] for s in starts]))
        if merged is None:
            merged = np.empty((results.shape[1], *band.shape), dtype=np.float32)
        for start, result in zip(starts, results, strict=True):
            middle = start + across.overlap
            if start > 0:
                merged[:, :, start:middle] *= 1 - ramp
                merged[:, :, start:middle] += ramp * result[:, :, : across.overlap]
            else:
                merged[:, :, :middle] = result[:, :, : across.overlap]
            merged[:, :, middle : start + across.size] = result[:, :, across.overlap :]
    return merged


def row_strips(shape: tuple[int, int], height: int = STRIP) -> Iterator[slice]:
    """The rows of an image in slices of at most ``height``."""
    return (slice(y, min(y + height, shape[0])) for y in range(0, shape[0], height))
