"""Level and noise of the sky on a coarse mesh, and what they are at each pixel."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bgrem.arrays.splines import cubic, curvature_of, linear, spline

__all__ = ["Mesh", "cell_edges"]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Sky level and noise on a coarse mesh, evaluated a strip of rows at a time.

    Parameters
    ----------
    background : `~numpy.ndarray`
        Sky level of each cell, float32 of shape (my, mx).
    rms : `~numpy.ndarray`
        Standard deviation of the noise of each cell, same shape, above 0.
    box : int
        The side in pixels that was asked for; the cells share the image evenly.
    shape : tuple of int
        Shape (ny, nx) of the image.
    step : float
        Distance of the values that the image can take; 0 if they are continuous.
    hidden : `~numpy.ndarray`, optional
        Part of each cell that bad pixels and objects hide, same shape as ``rms``.
    """

    background: np.ndarray
    rms: np.ndarray
    box: int
    shape: tuple[int, int]
    step: float = 0.0
    hidden: np.ndarray | None = None

    def background_rows(self, start: int, stop: int) -> np.ndarray:
        """Sky level of the rows ``start`` to ``stop``, float32 of shape (stop - start, nx).

        A natural cubic spline through the centres of the cells, as in SExtractor
        (Bertin & Arnouts 1996), and straight lines outside the outermost centres.
        """
        return self.background_at(np.arange(start, stop))

    def background_at(self, rows: np.ndarray) -> np.ndarray:
        """Sky level at ascending places along y, which may lie between two rows, as `background_rows`."""
        return cubic(self.nodes[0], *self._background_along_x, rows)

    def rms_rows(self, start: int, stop: int) -> np.ndarray:
        """Noise of the rows ``start`` to ``stop``, float32 of shape (stop - start, nx).

        Linear between the centres of the cells, which never falls below the
        smallest of them, and constant outside the outermost centres.
        """
        return linear(self.nodes[0], self._rms_along_x, np.arange(start, stop))

    @property
    def quantisation(self) -> float:
        """Distance of the values that the image can take in units of its noise."""
        return self.step / float(np.median(self.rms))

    @cached_property
    def nodes(self) -> list[np.ndarray]:
        """Centres of the cells along y and along x, in pixels."""
        return [_centers(n, m) for n, m in zip(self.shape, self.rms.shape, strict=True)]

    @cached_property
    def _background_along_x(self) -> tuple[np.ndarray, np.ndarray]:
        """The level at every column of each row of cells, and its curvature along y."""
        down, across = self.nodes
        level = spline(across, self.background.T, np.arange(self.shape[1])).T
        return level, curvature_of(down, level)

    @cached_property
    def _rms_along_x(self) -> np.ndarray:
        """The noise at every column of each row of cells."""
        return linear(self.nodes[1], self.rms.T, np.arange(self.shape[1])).T


def cell_edges(length: int, cells: int) -> np.ndarray:
    """Borders of cells that share an axis evenly: no sliver is left at the end.

    Parameters
    ----------
    length : int
        Pixels along the axis.
    cells : int

    Returns
    -------
    `~numpy.ndarray`
        ``cells`` + 1 integers, from 0 to ``length``.
    """
    return np.round(np.linspace(0, length, cells + 1)).astype(int)


def _centers(length: int, cells: int) -> np.ndarray:
    """Centres in pixels of the cells between `cell_edges`."""
    edges = cell_edges(length, cells)
    return (edges[:-1] + edges[1:] - 1) / 2
