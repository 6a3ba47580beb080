"""An image through overlapping tiles, strip by strip, without seams.

A convolutional network sees zeros outside its tile, so what it says near a tile's
border is not what it would say inside. Tiles therefore overlap: the outermost
quarter of an overlap is thrown away, and over its inner half one tile passes
smoothly into the next. The image itself is continued by reflection, so that none
of its pixels is near a border.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["map_tiles", "over_strips", "row_strips", "tile_grid"]

STRIP = 64  # rows that are worked on at once


def map_tiles(
    function: Callable[[np.ndarray], np.ndarray],
    strips: Iterable[np.ndarray],
    shape: tuple[int, int],
    *,
    tile: int,
    overlap: int,
    multiple: int = 32,
    calls: int = 1,
) -> Iterator[np.ndarray]:
    """Apply a function to overlapping tiles of an image and merge what it returns.

    Only about one row of tiles is in memory, whatever the height of the image. An
    image of one tile is one tile; larger ones share each axis evenly between as few
    equal tiles as are needed.

    Parameters
    ----------
    function : callable
        Takes float32 of shape (h, w), returns c such arrays, or one of shape (c, h, w).
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
    calls : int
        Calls of the function that run at once, each in a thread of its own, while this one reads
        the next rows and merges the last; with 1, all is done in the caller's.

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
    results = _in_order(function, _tiles(strips, shape, down, across), calls)
    for j, merged in enumerate(_merge_rows(results, down, across)):
        start = down.origin(j)
        stop = start + merged.shape[1]
        top, bottom = max(start, 0), min(stop, ny)
        # Copies of a few rows: the next row of tiles takes the place of this one.
        for y in range(top, bottom, STRIP):
            rows = slice(y - start, min(y + STRIP, bottom) - start)
            yield merged[:, rows, across.margin : across.margin + nx].copy()


def tile_grid(
    shape: tuple[int, int], *, tile: int, overlap: int, multiple: int = 32
) -> tuple[tuple[int, int], int]:
    """Sides (down, across) of the tiles that `map_tiles` cuts an image of a shape into, and their number.

    The parameters and the errors are those of `map_tiles`.
    """
    down, across = (_Axis.cover(length, tile, overlap, multiple) for length in shape)
    return (down.size, across.size), down.count * across.count


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
        """Pixel of the image at each place that the tiles cover: a reflection outside it, the edge repeated.

        With the edge only once, a star that is centred outside has a cusp there and looks like a particle.
        """
        place = np.mod(np.arange(self.covered) - self.margin, 2 * self.length)
        return np.minimum(place, 2 * self.length - 1 - place)

    @cached_property
    def ramp(self) -> np.ndarray:
        """Weight of the later tile over the pixels that two share; the earlier has the rest."""
        at = (np.arange(self.overlap) + 0.5) / max(self.overlap, 1)
        t = np.clip(2 * at - 0.5, 0, 1)
        return (t * t * (3 - 2 * t)).astype(np.float32)


def _tiles(strips, shape, down: _Axis, across: _Axis) -> Iterator[np.ndarray]:
    """The tiles row by row, the image continued by reflection on all sides."""
    nx = shape[1]
    rows, columns = down.pixels(), across.pixels()
    needed = [rows[j * down.step :][: down.size] for j in range(down.count)]
    last = [wanted.max() + 1 for wanted in needed]
    # Reflection at the lower end may need rows from above the tiles there.
    first = np.minimum.accumulate([wanted.min() for wanted in needed][::-1])[::-1]
    held = np.empty((np.max(last - first), nx), dtype=np.float32)
    source = _Rows(strips, shape)
    top = 0  # row of the image that is the first of those held
    for j in range(down.count):
        kept = max(source.read - first[j], 0)
        held[:kept] = held[first[j] - top :][:kept]
        top = first[j]
        source.into(held[kept : last[j] - top])
        for i in range(across.count):
            yield _part(held, needed[j] - top, columns[i * across.step :][: across.size])
    source.end()


class _Rows:
    """The rows of an image, from strips of any heights."""

    def __init__(self, strips: Iterable[np.ndarray], shape: tuple[int, int]) -> None:
        self._strips = iter(strips)
        self._shape = shape
        self._rest = np.empty((0, shape[1]), dtype=np.float32)
        self.read = 0

    def into(self, rows: np.ndarray) -> None:
        """Fill an array with the next rows."""
        while len(rows):
            if not len(self._rest):
                self._rest = self._next()
            part = self._rest[: len(rows)]
            rows[: len(part)] = part
            self._rest, rows = self._rest[len(part) :], rows[len(part) :]
            self.read += len(part)

    def end(self) -> None:
        """Refuse what goes on after the last row."""
        if self.read != self._shape[0] or len(self._rest) or next(self._strips, None) is not None:
            raise ValueError(
                f"the strips have more rows than the image, which has {self._shape[0]}"
            )

    def _next(self) -> np.ndarray:
        strip = next(self._strips, None)
        if strip is None:
            raise ValueError(
                f"the strips end after {self.read} rows of an image of {self._shape[0]}"
            )
        strip = np.asarray(strip, dtype=np.float32)
        if strip.ndim != 2 or strip.shape[1] != self._shape[1]:
            width = self._shape[1]
            raise ValueError(f"a strip has shape {strip.shape}; the image is {width} pixels wide")
        return strip


def _part(held: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A copy of rows and columns, which are neighbours but where they are reflected."""
    scattered = []
    for axis, wanted in enumerate((rows, columns)):
        if wanted[-1] - wanted[0] == wanted.size - 1:
            held = held[(slice(None),) * axis + (slice(wanted[0], wanted[-1] + 1),)]
        else:
            scattered.append((axis, wanted))
    for axis, wanted in scattered:
        held = held.take(wanted, axis)
    return np.array(held, order="C")


def _in_order(function, tiles: Iterable[np.ndarray], calls: int) -> Iterator[np.ndarray]:
    """The function of each tile, in order; ``calls`` of them run at once, and one tile waits."""
    if calls == 1:
        yield from map(function, tiles)
        return
    with ThreadPoolExecutor(calls, "tile") as pool:
        waiting: deque = deque()
        try:
            for tile in tiles:
                waiting.append(pool.submit(function, tile))
                if len(waiting) > calls:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _merge_rows(results, down: _Axis, across: _Axis) -> Iterator[np.ndarray]:
    """Blend each row of tiles with the one above it; yields what no later one touches."""
    ramp = down.ramp[:, None]
    merged = carried = None
    for j in range(down.count):
        merged = _merge_columns(results, across, merged)
        if carried is not None:
            merged[:, : down.overlap] *= ramp
            merged[:, : down.overlap] += carried
        if j == down.count - 1:
            next(results, None)  # there is none, but the strips must end, too
            yield merged
        else:
            carried = merged[:, down.step :] * (1 - ramp)
            yield merged[:, : down.step]


def _merge_columns(results, across: _Axis, merged: np.ndarray | None) -> np.ndarray:
    """Blend one row of tiles into (c, h, w); the memory of the last row is used again."""
    ramp = across.ramp
    for i in range(across.count):
        result = next(results)
        if merged is None:
            merged = np.empty((len(result), len(result[0]), across.covered), dtype=np.float32)
        start = i * across.step
        middle = start + across.overlap
        for whole, tile in zip(merged, result, strict=True):
            if start > 0:
                whole[:, start:middle] *= 1 - ramp
                whole[:, start:middle] += ramp * tile[:, : across.overlap]
            else:
                whole[:, :middle] = tile[:, : across.overlap]
            whole[:, middle : start + across.size] = tile[:, across.overlap :]
    return merged


def row_strips(shape: tuple[int, int], height: int = STRIP) -> Iterator[slice]:
    """The rows of an image in slices of at most ``height``."""
    return (slice(y, min(y + height, shape[0])) for y in range(0, shape[0], height))


def over_strips(
    function: Callable[[slice], None],
    shape: tuple[int, int],
    *,
    height: int = STRIP,
    threads: int = 1,
) -> None:
    """Call a function with the rows of each strip of an image, in any order.

    Strips have ``height`` rows; ``threads`` of them are worked on at once.
    """
    if threads == 1:
        for rows in row_strips(shape, height):
            function(rows)
        return
    with ThreadPoolExecutor(threads, "strip") as pool:
        for _ in pool.map(function, row_strips(shape, height)):
            pass
