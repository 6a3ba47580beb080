"""Images by rows: in memory, in files of which a few rows at a time are in memory, or computed when read.

All of them are `Rows`. The path asks a store for an image and reads and writes rows of it, wherever it lies.
"""

import io
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = [
    "MAPPED", "MEMORY", "Computed", "Derived", "Memory", "Rows", "Scratch", "Stored", "as_rows",
    "either", "release", "worked_out",
]  # fmt: skip

CHUNK = 1 << 24  # bytes that are mapped at once while rows are copied
SHARE = 8  # whole images take at most this part of the memory; the rest is for the work on them


class Rows(Protocol):
    """An image that gives its rows.

    Attributes
    ----------
    shape : tuple of int
    dtype : `~numpy.dtype`
        Of what it gives.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """The pixels of some rows."""
        ...


class Memory:
    """Whole images in memory.

    Attributes
    ----------
    in_file : bool
        Whether images that are read from a file may stay there, where it holds them as they are.
    """

    in_file = False

    def empty(self, shape: tuple[int, ...], dtype) -> np.ndarray:
        """Room for an image."""
        return np.empty(shape, dtype)

    def file(self) -> io.BufferedIOBase:
        """A file without a name."""
        return io.BytesIO()

    def contents(self, stream: io.BufferedIOBase) -> bytes | mmap.mmap:
        """All that a stream holds."""
        return stream.read()


class Mapped(Memory):
    """Whole images in memory; those of the input stay in its file where it holds them as they are."""

    in_file = True


MEMORY, MAPPED = Memory(), Mapped()


class Scratch(Memory):
    """Whole images in memory while they are small, else in files that vanish with the process.

    Parameters
    ----------
    folder : Path
        Of the files. They have no names, so that nothing is left of them however the process ends.
    limit : float
        Bytes of memory that all the work may take.
    """

    in_file = True

    def __init__(self, folder: Path, limit: float) -> None:
        self._folder = folder
        self.limit = limit
        self.kept = 0  # bytes in memory

    def empty(self, shape: tuple[int, ...], dtype) -> "np.ndarray | Stored":
        """Room for an image.

        Raises
        ------
        OSError
            If the disk is full.
        """
        length = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.kept + length <= self.limit / SHARE:
            self.kept += length
            return super().empty(shape, dtype)
        with self.file() as file:
            # A full disk must show now: later, it would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, length)
            else:
                file.truncate(length)
            mapping = mmap.mmap(file.fileno(), length)
        return Stored(np.frombuffer(mapping, dtype).reshape(shape), mapping)

    def file(self) -> io.BufferedIOBase:
        """A file without a name."""
        return tempfile.TemporaryFile(prefix=".bgrem-", dir=self._folder)

    def contents(self, stream: io.BufferedIOBase) -> bytes | mmap.mmap:
        """All that a stream holds, unpacked into a file."""
        with self.file() as file:
            shutil.copyfileobj(stream, file, CHUNK)
            file.flush()
            if not file.tell():
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Stored:
    """An image in a file, read and written by rows.

    What is read is a copy in native byte order. A whole number as the index gives a plane of a cube,
    which is in the file, too.

    Parameters
    ----------
    pixels : `~numpy.ndarray`
        A view of the mapped file.
    mapping : `~mmap.mmap`
        The file.
    """

    def __init__(self, pixels: np.ndarray, mapping: mmap.mmap) -> None:
        self._pixels = pixels
        self._mapping = mapping
        self.shape = pixels.shape
        self.ndim = pixels.ndim
        self.size = pixels.size
        self.dtype = pixels.dtype.newbyteorder("=")
        self.nbytes = pixels.nbytes

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, key) -> "np.ndarray | Stored":
        part = self._pixels[key]
        if isinstance(key, int):
            return Stored(part, self._mapping)
        copy = np.empty(part.shape, self.dtype)
        height = max(1, CHUNK // max(abs(part.strides[0]), 1))
        for top in range(0, len(part), height):
            copy[top : top + height] = part[top : top + height]
            release(self._mapping)
        return copy

    def __setitem__(self, key, value) -> None:
        self._pixels[key] = value
        release(self._mapping)

    def reshape(self, *shape) -> "Stored":
        """The same image in another shape."""
        return Stored(self._pixels.reshape(*shape), self._mapping)

    def transpose(self, *axes: int) -> "Stored":
        """The same image with its axes in another order."""
        return Stored(self._pixels.transpose(*axes), self._mapping)


class Derived:
    """A function of an image, computed when it is read.

    Parameters
    ----------
    image : Rows
    function : callable
        Of some of its pixels, each independent of the others.
    dtype : dtype, optional
        Of what the function gives. Default: that of the image.
    """

    def __init__(self, image: Rows, function: Callable[[np.ndarray], Any], dtype=None) -> None:
        self._image = image
        self._function = function
        self.shape = image.shape
        self.dtype = image.dtype if dtype is None else np.dtype(dtype)

    def __getitem__(self, key) -> np.ndarray:
        return self._function(self._image[key])


class Computed:
    """An image whose rows are computed when they are read.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx).
    dtype : dtype
    function : callable
        Of a slice of rows, which has a start and a stop.
    keep : bool
        Whether the last rows are kept, for blocks side by side that are read one after another.
    """

    def __init__(
        self, shape: tuple[int, int], dtype, function: Callable[[slice], Any], *, keep: bool = False
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._function = function
        self._keep = keep
        self._kept: tuple[slice, np.ndarray] | None = None

    def __getitem__(self, key) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, step = rows.indices(self.shape[0])
        rows = slice(start, stop)
        if self._kept is None or rows != self._kept[0]:
            strip = self._function(rows)
            if not self._keep:
                return strip[::step, columns]
            self._kept = rows, strip
        return self._kept[1][::step, columns]


def as_rows(values) -> Rows:
    """Values as an array; an image in a file, or one that is computed, stays what it is."""
    return values if isinstance(values, Stored | Derived | Computed) else np.asarray(values)


def either(one: Rows | None, other: Rows) -> Rows:
    """Where one of two images of bool is True; ``one`` may be missing."""
    if one is None:
        return other
    return Computed(other.shape, bool, lambda rows: one[rows] | other[rows])


def worked_out(image, function: Callable[[np.ndarray], np.ndarray], dtype, store: Memory):
    """A function of an image, kept in a store.

    Parameters
    ----------
    image : `~numpy.ndarray` or Stored
    function : callable
        Of some of its pixels, each independent of the others.
    dtype : dtype
        Of what it gives.

    Returns
    -------
    `~numpy.ndarray` or Stored
        Of the shape of the image.
    """
    result = store.empty(image.shape, dtype)
    width = image.shape[-1]
    source, target = (array.reshape(-1, width) for array in (image, result))
    height = max(1, CHUNK // (8 * width))
    for top in range(0, len(source), height):
        target[top : top + height] = function(source[top : top + height])
    return result


def release(mapping) -> None:
    """Let go of the pages of a mapped file; they are read again where they are needed.

    A page of a file counts as memory of the process for as long as it is mapped. What was written
    is in the system's cache by then, and not lost.
    """
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
