"""The sky of a mosaic of a colour filter array, from those of the positions in its cell."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.rows import Computed, Derived, Rows
from bgrem.sky.standard import SkyMap

__all__ = ["Cell", "MosaicSky", "Phase", "phases_of"]

Cell = tuple[int, int]  # rows and columns
Phase = tuple[slice, slice]


def phases_of(cell: Cell) -> list[Phase]:
    """The pixels of each position in the cell, row by row."""
    return [np.s_[y :: cell[0], x :: cell[1]] for y, x in np.ndindex(cell)]


@dataclass(frozen=True, eq=False)
class MosaicSky:
    """The sky of a mosaic, in data units.

    Parameters
    ----------
    planes : list of SkyMap
        Of the pixels of each position in the cell, row by row.
    cell : tuple of int
        Rows and columns of the cell.
    shape : tuple of int
        Shape (ny, nx) of the mosaic.
    whole : SkyMap, optional
        Of the image (data - level) / noise, with the level and the noise of ``planes``.
    """

    planes: list[SkyMap]
    cell: Cell
    shape: tuple[int, int]
    whole: SkyMap | None = None

    @property
    def background(self) -> Rows:
        """Level of each pixel, float64 of shape (ny, nx)."""
        level = self._interleaved([plane.background for plane in self.planes])
        if self.whole is None:
            return level
        noise, rest = self._noise, self.whole.background
        return self._computed(lambda rows: level[rows] + noise[rows] * rest[rows])

    @property
    def rms(self) -> Rows:
        """Noise of each pixel, float64 of shape (ny, nx)."""
        if self.whole is None:
            return self._noise
        noise, rest = self._noise, self.whole.rms
        return self._computed(lambda rows: noise[rows] * rest[rows])

    @property
    def error(self) -> Rows:
        """Standard deviation of the error of the level of each pixel, float64 of shape (ny, nx)."""
        error = self._interleaved([plane.error for plane in self.planes])
        if self.whole is None:
            return error
        noise, rest = self._noise, self.whole.error
        return self._computed(lambda rows: np.hypot(error[rows], noise[rows] * rest[rows]))

    @property
    def wide_light(self) -> Rows | None:
        """Wide light in each pixel, float64 of shape (ny, nx).

        None where there is none, or where it cannot be separated from the other light of the sources: in a
        mosaic that is done as one image, unless the wide light is in its background.
        """
        if self.whole is not None:
            rest, noise = self.whole.wide_light, self._noise
            if rest is None or not self.whole.in_background:
                return None
            return self._computed(lambda rows: noise[rows] * rest[rows])
        lights = [plane.wide_light for plane in self.planes]
        if all(light is None for light in lights):
            return None
        return self._interleaved(
            [
                Derived(plane.background, np.zeros_like) if light is None else light
                for plane, light in zip(self.planes, lights, strict=True)
            ]
        )

    @property
    def in_background(self) -> bool:
        """Whether the wide light belongs to the background."""
        return (self.planes[0] if self.whole is None else self.whole).in_background

    @property
    def median_level(self) -> float:
        """Median of the levels of the planes."""
        return float(np.median([plane.median_level for plane in self.planes]))

    @property
    def median_rms(self) -> float:
        """Median of the noises of the planes."""
        return float(np.median([plane.median_rms for plane in self.planes]))

    @property
    def _noise(self) -> Rows:
        return self._interleaved([plane.rms for plane in self.planes])

    def _computed(self, function: Callable[[slice], np.ndarray]) -> Rows:
        return Computed(self.shape, np.float64, function)

    def _interleaved(self, planes: list[Rows]) -> Rows:
        down, across = self.cell

        def rows_of(rows: slice) -> np.ndarray:
            strip = np.empty((rows.stop - rows.start, self.shape[1]), dtype=np.float64)
            for (y, x), plane in zip(np.ndindex(self.cell), planes, strict=True):
                low, high = (-(-(n - y) // down) for n in (rows.start, rows.stop))
                if high > low:
                    strip[low * down + y - rows.start :: down, x::across] = plane[low:high]
            return strip

        return self._computed(rows_of)
