"""Pictures of an image's parts: averaged down, stretched, written as PNG, with numpy and zlib only."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.rows import Rows

__all__ = ["AsinhCodes", "averaged", "before_after", "block_factor", "png", "stretched"]

AVERAGED_ROWS = 512  # rows averaged at a time
FINE = (
    0.1  # step of the codes at the sky, in units of its noise; finer steps would only store noise
)
PICTURE_GAP = 8  # pixels between two pictures side by side


def block_factor(shape, side: int) -> int:
    """The whole number of pixels to average so that no side is longer than `side`.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) in pixels.
    side : int
        Pixels of the picture.
    """
    return max(1, -(-max(shape) // side))


def averaged(part: Rows, factor: int) -> np.ndarray:
    """Means of blocks of ``factor`` x ``factor`` pixels; NaN for a block without a finite pixel.

    Blocks at the upper edges may be narrower. Only a strip of the image is in memory at a time.
    """
    ny, nx = part.shape
    small = np.empty((-(-ny // factor), -(-nx // factor)), np.float32)
    height = max(AVERAGED_ROWS // factor, 1)
    for top in range(0, small.shape[0], height):
        strip = part[top * factor : min((top + height) * factor, ny)]
        small[top : top + height] = _block_means(np.asarray(strip), factor)
    return small


def _block_means(strip: np.ndarray, factor: int) -> np.ndarray:
    finite = np.isfinite(strip)
    total = _block_sums(np.where(finite, strip, 0).astype(np.float64), factor)
    count = _block_sums(finite.astype(np.int32), factor)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _block_sums(strip: np.ndarray, factor: int) -> np.ndarray:
    for axis in (0, 1):
        strip = np.add.reduceat(strip, np.arange(0, strip.shape[axis], factor), axis=axis)
    return strip


@dataclass(frozen=True)
class AsinhCodes:
    """Numbers of a wide range as one byte each, fine on the sky and coarse on bright stars.

    Code 0 stands for no value, code k from 1 to 255 for
    ``softening * sinh(low + step * (k - 1))``.

    Attributes
    ----------
    softening : float
        The value at which the codes change from equal steps to equal ratios.
    low, step : float
    """

    softening: float
    low: float
    step: float

    @classmethod
    def over(cls, lowest: float, highest: float, noise: float) -> "AsinhCodes":
        """Codes for the numbers from `lowest` to `highest`, of which many scatter by `noise`."""
        softening = 1.5 * noise
        low, high = np.arcsinh(lowest / softening), np.arcsinh(highest / softening)
        return cls(softening, float(low), max(float(high - low) / 254, FINE * noise / softening))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The nearest codes, uint8; numbers out of range get the codes at its ends."""
        code = 1 + np.rint((np.arcsinh(values / self.softening) - self.low) / self.step)
        return np.where(np.isfinite(code), np.clip(code, 1, 255), 0).astype(np.uint8)

    def table(self) -> np.ndarray:
        """The values of the 256 codes; the first is NaN."""
        values = self.softening * np.sinh(self.low + self.step * (np.arange(256) - 1.0))
        values[0] = np.nan
        return values


def stretched(values: np.ndarray, *, black: float = -2.0, white: float = 30.0) -> np.ndarray:
    """Grey levels by an asinh stretch; pixels without a value are black.

    ``values`` are in units of the sky rms, the sky at 0; ``black`` and ``white`` are the limits.
    """
    low, high = np.arcsinh(black), np.arcsinh(white)
    grey = 255 * (np.arcsinh(np.nan_to_num(values, nan=black)) - low) / (high - low)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def before_after(before: np.ndarray, after: np.ndarray) -> bytes:
    """One PNG of two pictures side by side.

    Parameters
    ----------
    before, after : (ny, nx) array
        In units of the sky rms, the sky at 0; the first row is the lowest, as in DS9.
    """
    gap = np.full((before.shape[0], PICTURE_GAP), 255, np.uint8)
    return png(np.hstack([stretched(before), gap, stretched(after)]))


def png(grey: np.ndarray) -> bytes:
    """A grey PNG, the first row lowest."""
    rows = grey[::-1]
    ny, nx = rows.shape
    # Smooth pictures are smaller as differences between rows (filter 2), noisy ones without (0).
    above = np.vstack([np.zeros((1, nx), np.uint8), rows[:-1]])
    packed = min((_packed(rows, 0), _packed(rows - above, 2)), key=len)
    header = struct.pack(">IIBBBBB", nx, ny, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _packed(rows: np.ndarray, kind: int) -> bytes:
    kinds = np.full((rows.shape[0], 1), kind, np.uint8)
    return zlib.compress(np.hstack([kinds, rows]).tobytes(), 6)


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )
