"""The defects of one detector from its frames: the bits, the values and the chances of its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.rows import Derived, Memory, Rows
from bgrem.arrays.tiling import row_strips
from bgrem.defects.exposures import DetectorFrame
from bgrem.defects.lines import LineDefect, find_lines
from bgrem.defects.pixels import PixelDefects, find_pixels
from bgrem.defects.pointings import FEWEST_POINTINGS, Pointings, pointings_of

__all__ = [
    "BAD_COLUMN", "BAD_PIXEL", "BAD_ROW", "FEWEST_FRAMES", "LEAST_CHANCE", "CameraDefects",
    "check_count", "measure_defects",
]  # fmt: skip

# The bits of the map.
BAD_PIXEL, BAD_COLUMN, BAD_ROW = 1, 2, 4
FEWEST_FRAMES = 5
LEAST_CHANCE = 0.5
TOO_MANY = 0.05  # part of the pixels: no detector that is in use has as many


@dataclass(frozen=True, eq=False)
class CameraDefects:
    """The defects of a detector.

    Attributes
    ----------
    bits : Rows
        uint8 of shape (ny, nx): 0 in good pixels, else the sum of `BAD_PIXEL`, `BAD_COLUMN` and `BAD_ROW`.
    value : Rows
        What each pixel has above those around it in sky rms, the median over the frames, float32 of shape
        (ny, nx); NaN where too few frames show it. In bad columns and rows, that of their length.
    chance : Rows
        The chance that a pixel is defective, float32 of that shape; NaN where the value is.
    lines : list of LineDefect
        Parts of columns and rows.
    pixels : int
        Number of single pixels.
    bad : int
        Number of all bad pixels.
    pointings : Pointings
        The frames.
    prior, offset : float
        Of `PixelDefects`.
    least_chance : float
        From which a pixel is bad.
    """

    bits: Rows
    value: Rows
    chance: Rows
    lines: list[LineDefect]
    pixels: int
    bad: int
    pointings: Pointings
    prior: float
    offset: float
    least_chance: float

    @property
    def warnings(self) -> list[str]:
        """What an observer must know, one sentence each."""
        noticed, frames = [], len(self.pointings.exposures)
        if not self.pointings.tell_stars:
            noticed.append(
                f"stars are in the same pixels in most of the {frames} frames ({self.pointings.count} "
                f"{'pointing' if self.pointings.count == 1 else 'pointings'}, {FEWEST_POINTINGS} are needed): "
                "only pixels sharper than a star, dark pixels in empty sky and long columns are found"
            )
        part = self.bad / np.prod(self.bits.shape)
        if part > TOO_MANY:
            noticed.append(
                f"{part:.0%} of the pixels are bad: the frames may be resampled, or of several detectors"
            )
        return noticed

    @property
    def summary(self) -> str:
        """The numbers of frames and of defects in one line."""
        columns, rows = (
            len({one.line for one in self.lines if one.axis == axis}) for axis in (0, 1)
        )
        part = self.bad / np.prod(self.bits.shape)
        return (
            f"{len(self.pointings.exposures)} frames, {_number(self.pointings.count, 'pointing')}, "
            f"{_number(self.pixels, 'pixel')}, {_number(columns, 'column')} and {_number(rows, 'row')} bad, "
            f"{part:.2g} of all pixels"
        )


def _number(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def check_count(count: int) -> None:
    """Refuse too few frames, with a ValueError."""
    if count < FEWEST_FRAMES:
        raise ValueError(
            f"{count} frames are too few to find the defects of a detector: {FEWEST_FRAMES} are needed"
        )


def measure_defects(
    exposures: Sequence[DetectorFrame], store: Memory, *, least_chance: float = LEAST_CHANCE
) -> CameraDefects:
    """Find the defects of a detector in its frames.

    Parameters
    ----------
    exposures : sequence of DetectorFrame
        Of one shape, at least `FEWEST_FRAMES`.
    store : `~bgrem.arrays.rows.Memory`
        Where whole images are kept.
    least_chance : float
        Chance from which a pixel is bad.

    Raises
    ------
    ValueError
        If there are too few frames.
    """
    check_count(len(exposures))
    pointings = pointings_of(exposures)
    lines = [one for one in find_lines(pointings, store) if one.chance >= least_chance]
    bits = store.empty(exposures[0].pixels.shape, np.uint8)
    for rows in row_strips(bits.shape):
        bits[rows] = 0
    for one in lines:
        _put(bits, one, BAD_COLUMN if one.axis == 0 else BAD_ROW, add=True)
    found = find_pixels(pointings, Derived(bits, lambda part: part != 0, bool), store)
    chance = store.empty(bits.shape, np.float32)
    bad = found.chance >= least_chance
    _fill(bits, chance, found, bad)
    for one in lines:
        _put(found.value, one, one.value)
        _put(chance, one, one.chance)
    number = sum(int(np.count_nonzero(bits[rows])) for rows in row_strips(bits.shape))
    return CameraDefects(
        bits, found.value, chance, lines, int(bad.sum()), number, pointings, found.prior, found.offset,
        least_chance,
    )  # fmt: skip


def _put(image: Rows, line: LineDefect, value: float, *, add: bool = False) -> None:
    """Set the pixels of a line, or add bits."""
    if line.axis == 0:
        first, last, columns = line.start, line.stop, slice(line.line, line.line + 1)
    else:
        first, last, columns = line.line, line.line + 1, slice(line.start, line.stop)
    for rows in row_strips((last - first, image.shape[1])):
        rows = slice(first + rows.start, first + rows.stop)
        strip = np.array(image[rows])
        strip[:, columns] = strip[:, columns] | np.uint8(value) if add else value
        image[rows] = strip


def _fill(bits: Rows, chance: Rows, found: PixelDefects, bad: np.ndarray) -> None:
    """The chances and the bits of single pixels."""
    for rows in row_strips(bits.shape):
        strip = np.where(np.isnan(found.value[rows]), np.float32(np.nan), np.float32(0))
        own = (found.rows >= rows.start) & (found.rows < rows.stop)
        y, x = found.rows[own] - rows.start, found.columns[own]
        strip[y, x] = found.chance[own]
        chance[rows] = strip
        flags = np.array(bits[rows])
        flags[y[bad[own]], x[bad[own]]] |= BAD_PIXEL
        bits[rows] = flags
