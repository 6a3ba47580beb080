"""How much of the light that stands out of a frame ends in its noise, and where.

A model sends cosmic rays, hot pixels and trails there. Light that it has not learnt goes there as well: stars
sharper than its training, trailed stars.
"""

import numpy as np

from bgrem.masks.flags import ARTEFACT, SATURATED, UNSEEN

__all__ = ["LostLight"]

# In units of the rms: pixels whose light, and whose noise, is above it are compared.
BRIGHT = 5.0
# Part of the bright light, or of the bright peaks, from which on a user is warned; and the number of peaks.
NOTABLE_PART, NOTABLE_PEAKS = 0.1, 10
# Bright pixels of one cell with most of their light in the noise, from which on a user is warned: a bad column has fewer,
# and so have hits of particles on a hundredth of all pixels.
NOTABLE_PIXELS = 200
# A peak is the highest of 3 x 3 pixels and above BRIGHT_PEAK rms. At least NEIGHBOURS_LIT of the four pixels beside
# it hold NEIGHBOUR_PART of its light: in a hot pixel none does, in a track two.
BRIGHT_PEAK, NEIGHBOURS_LIT, NEIGHBOUR_PART = 25.0, 3, 0.03
LARGE_IMAGE = 10_000_000  # pixels, of which every second strip is enough
NEAR = np.array([-1, 0, 1])


class LostLight:
    """The bright light of an image, and what of it is in the noise, gathered from strips of rows.

    Masked and saturated pixels do not count.

    Parameters
    ----------
    mesh : `~bgrem.sky.mesh.Mesh`
        With which the sources were found.
    """

    def __init__(self, mesh) -> None:
        self._mesh = mesh
        self._down, self._across = mesh.edges
        self._bright = 0.0
        self._lost = np.zeros(mesh.rms_mesh.shape, np.float64)
        self._pixels = np.zeros(mesh.rms_mesh.shape, np.int64)
        self._peaks = self._artefacts = 0
        self._every, self._strips = 2 if mesh.shape[0] * mesh.shape[1] >= LARGE_IMAGE else 1, 0

    def add(self, rows: slice, image, sources, rms, flags) -> None:
        """Add the next strip of rows.

        Parameters
        ----------
        rows : slice
            A few, over which the level is a plane to good accuracy.
        image, sources, rms : `~numpy.ndarray`
            The image, its sources and its noise in these rows, in the units of the mesh, float32 of
            shape (rows.stop - rows.start, nx).
        flags : `~numpy.ndarray`
            uint8 of that shape.
        """
        self._strips += 1
        if self._strips % self._every:
            return
        middle = (rows.start + rows.stop - 1) / 2
        light = image - self._mesh.background.at(np.array([middle]))
        bright = light > BRIGHT * rms
        if not bright.any():
            return
        light = np.where(flags & (UNSEEN | SATURATED), 0, light)
        y, x = np.nonzero(bright & (light > 0))
        here = light[y, x]
        noise = here - sources[y, x]
        # Counts have noise of their own.
        lost = np.abs(noise) > BRIGHT * np.sqrt(rms[y, x] ** 2 + self._mesh.step * here)
        self._bright += float(here.sum(dtype=np.float64))
        row = np.searchsorted(self._down, middle, side="right") - 1
        cell = np.searchsorted(self._across, x[lost], side="right") - 1
        self._lost[row] += np.bincount(cell, noise[lost], self._lost.shape[1])
        mostly = noise[lost] > 0.5 * here[lost]
        self._pixels[row] += np.bincount(cell[mostly], minlength=self._pixels.shape[1])
        self._count_peaks(light, rms, flags, y, x)

    def _count_peaks(self, light, rms, flags, y, x) -> None:
        ny, nx = light.shape
        high = light[y, x] > BRIGHT_PEAK * rms[y, x]
        high &= (y > 0) & (y < ny - 1) & (x > 0) & (x < nx - 1)
        y, x = y[high], x[high]
        peak = light[y, x]
        around = light[y[:, None, None] + NEAR[:, None], x[:, None, None] + NEAR]
        beside = np.stack([around[:, 0, 1], around[:, 2, 1], around[:, 1, 0], around[:, 1, 2]])
        least = np.maximum(BRIGHT * rms[y, x], NEIGHBOUR_PART * peak)
        star = (around.max(axis=(1, 2)) == peak) & (
            np.count_nonzero(beside > least, axis=0) >= NEIGHBOURS_LIT
        )
        self._peaks += np.count_nonzero(star)
        self._artefacts += np.count_nonzero(flags[y, x][star] & ARTEFACT)

    @property
    def fraction(self) -> float:
        """Part of the bright light that is in the noise."""
        return float(max(self._lost.sum(), 0.0) / self._bright) if self._bright else 0.0

    @property
    def place(self) -> tuple[int, int]:
        """Centre (x, y), from 0, of the cell of the mesh in whose noise most of the light is."""
        return self._centre_of_largest(self._lost)

    def _centre_of_largest(self, values) -> tuple[int, int]:
        row, column = np.unravel_index(np.argmax(values), values.shape)
        down, across = self._mesh.nodes
        return round(float(across[column])), round(float(down[row]))

    def warnings(self) -> list[str]:
        """What a user must know, one short sentence each."""
        noticed = []
        if self.fraction > NOTABLE_PART:
            x, y = self.place
            noticed.append(
                f"{self.fraction:.0%} of the light above {BRIGHT:g} rms is in the noise, most near x={x}, y={y}"
            )
        number = self._every * int(self._pixels.max())
        if number >= NOTABLE_PIXELS:
            x, y = self._centre_of_largest(self._pixels)
            noticed.append(
                f"{number} bright pixels near x={x}, y={y} are in the noise: a trail, "
                "or a galaxy or a nebula that looks like one"
            )
        if self._artefacts >= max(NOTABLE_PEAKS, NOTABLE_PART * self._peaks):
            noticed.append(
                f"{self._artefacts} of {self._peaks} bright peaks are in the noise as artefacts: "
                "cosmic rays, or stars sharper than the model knows"
            )
        return noticed
