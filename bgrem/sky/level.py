"""The level of the sky, measured again when the sources are known.

The mesh leaves out what stands out of the noise. Fainter sources, and the wings of bright ones, raise
its level. Once they are separated, the mean of the rest measures by how much.
"""

from dataclasses import replace

import numpy as np

from bgrem.sky.estimate import fill_cells
from bgrem.sky.mesh import Mesh

__all__ = ["SecondLook"]

# A pixel farther from the level, in units of its noise, is an artefact without a flag; a difference of this
# many counts is none, however small the noise is.
OUTLYING_PIXEL, FEW_COUNTS = 6.0, 3.0
# Part of a cell that must be seen, and that objects and bad pixels may cover: under a large galaxy the mean of
# the noise contains its light that was not recognised.
LEAST_SEEN, MOST_HIDDEN = 0.3, 0.5
# Of the light of the sources below FAINT rms, the part OF_THE_SKY is sky: sources too faint to be distinguished
# from it are too bright on average. The values leave the smallest error on simulated skies
# (python benchmarks/quality/level.py).
FAINT, OF_THE_SKY = 0.3, 0.16
# From this number of cells on every second strip is enough, and takes half of the time.
MANY_CELLS_GATHERED = 1000


class SecondLook:
    """The error of a mesh in each of its cells, gathered from strips of rows.

    Parameters
    ----------
    mesh : `~bgrem.sky.mesh.Mesh`
        With which the sources were found.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._down, self._across = mesh.edges
        self._total = np.zeros(mesh.rms_mesh.shape, np.float64)
        self._number = np.zeros(mesh.rms_mesh.shape, np.float64)
        self._every, self._strips = 2 if mesh.rms_mesh.size >= MANY_CELLS_GATHERED else 1, 0

    def add(self, rows: slice, image, sources, rms, flags) -> None:
        """Add the next strip of rows. It counts for the cells that hold its middle.

        Parameters
        ----------
        rows : slice
            A few, over which the level is a plane to good accuracy.
        image, sources, rms : `~numpy.ndarray`
            The image, its sources and its noise in these rows, in the units of the mesh, float32 of
            shape (rows.stop - rows.start, nx).
        flags : `~numpy.ndarray`
            uint8 of that shape. Pixels that are not 0 are left out.
        """
        self._strips += 1
        if self._strips % self._every:
            return
        middle = (rows.start + rows.stop - 1) / 2
        noise = image - sources
        noise -= self._mesh.background.at(np.array([middle]))
        weight = None
        if self._mesh.rms_map is not None:
            # Weights are right up to errors: no pixel counts for more than others, and none
            # that is noisier than the image shows here has more to say than its noise.
            shown = self._mesh.rms_of_cells.at(np.array([middle]))
            weight = np.minimum(shown / rms, 1) ** 2
            rms = np.minimum(shown, rms)
        most = np.maximum(OUTLYING_PIXEL * rms, FEW_COUNTS * np.float32(self._mesh.step))
        usual = (np.abs(noise) < most) & (flags == 0)
        noise += OF_THE_SKY * np.clip(sources, 0, FAINT * rms)
        row = np.searchsorted(self._down, middle, side="right") - 1
        for gathered, values in ((self._total, np.where(usual, noise, 0)), (self._number, usual)):
            values = values if weight is None else values * weight
            columns = values.sum(axis=0, dtype=np.float32)
            gathered[row] += np.add.reduceat(columns, self._across[:-1])

    def corrected(self) -> Mesh:
        """The mesh with its level corrected, in each cell or by the cells around it."""
        mesh = self._mesh
        if mesh.hidden is None:
            return mesh
        area = np.outer(np.diff(self._down), np.diff(self._across))
        seen = self._number >= LEAST_SEEN / self._every * area
        if not seen.any():
            return mesh
        # Where objects are in every cell, the best fifth of the cells is used.
        good = seen & (mesh.hidden <= max(MOST_HIDDEN, np.quantile(mesh.hidden[seen], 0.2)))
        mean = fill_cells(self._total / np.maximum(self._number, 1), good)
        return replace(mesh, background_mesh=(mesh.background_mesh + mean).astype(np.float32))
