"""Level and noise of the sky on a coarse mesh, and what they are at each pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bgrem.arrays.rows import Derived, Rows
from bgrem.arrays.splines import cubic, curvature_of, linear, spline

__all__ = ["Interpolated", "Mesh", "cell_edges"]

# Part of the quantisation step: chosen by `python benchmarks/quality/few_counts.py`.
LEAST_OF_STEP = 0.5


@dataclass(frozen=True, eq=False)
class Mesh:
    """Sky level and noise on a coarse mesh, evaluated a strip of rows at a time.

    The cells are those of the sky network, or those in which `bgrem.sky.estimate` measures clipped modes.

    Parameters
    ----------
    background_mesh : `~numpy.ndarray`
        Sky level of each cell, float32 of shape (my, mx).
    rms_mesh : `~numpy.ndarray`
        Standard deviation of the noise of each cell, same shape, above 0.
    box : int
        The side of a cell in pixels that was asked for; the cells share the image evenly.
    shape : tuple of int
        Shape (ny, nx) of the image.
    step : float
        Distance of the values that the image can take; 0 if they are continuous.
    hidden : `~numpy.ndarray`, optional
        Fraction of each cell that bad pixels and objects cover, same shape as ``rms_mesh``. None where
        the cells did not measure a level each.
    centers : tuple of `~numpy.ndarray`, optional
        Centres of the cells along y and along x, in pixels. Default: those of cells that share the image
        evenly.
    rms_map : Rows, optional
        Standard deviation of the noise of each pixel, float32 of shape (ny, nx), above 0. It takes
        precedence over ``rms_mesh``.
    """

    background_mesh: np.ndarray
    rms_mesh: np.ndarray
    box: int
    shape: tuple[int, int]
    step: float = 0.0
    hidden: np.ndarray | None = None
    centers: tuple[np.ndarray, np.ndarray] | None = None
    rms_map: Rows | None = None

    @cached_property
    def background(self) -> "Interpolated":
        """Sky level of each pixel, float32 of shape (ny, nx).

        A natural cubic spline through the centres of the cells, as in SExtractor
        (Bertin & Arnouts 1996, A&AS 117, 393), and straight lines outside the outermost centres.
        """
        down, across = self.nodes
        level = spline(across, self.background_mesh.T, np.arange(self.shape[1])).T
        return Interpolated(self.shape, cubic, (down, level, curvature_of(down, level)))

    @cached_property
    def rms(self) -> Rows:
        """Noise of each pixel, float32 of shape (ny, nx): that of the map, or of the cells."""
        return self.rms_of_cells if self.rms_map is None else self.rms_map

    @cached_property
    def rms_of_cells(self) -> "Interpolated":
        """Noise of each pixel that the image shows, float32 of shape (ny, nx).

        Linear between the centres of the cells, so that it never falls below the smallest of them,
        and constant outside the outermost centres.
        """
        down, across = self.nodes
        rms = linear(across, self.rms_mesh.T, np.arange(self.shape[1])).T
        return Interpolated(self.shape, linear, (down, rms))

    @cached_property
    def unit(self) -> Rows:
        """What is 1 for the network, float32 of shape (ny, nx): the noise, or a part of a count where these are rare.

        In units of the noise of such a map, every photon of a star would be as high as a particle.
        """
        least = np.float32(LEAST_OF_STEP * self.step)
        if not self.step or (self.rms_map is None and self.rms_mesh.min() >= least):
            return self.rms
        return Derived(self.rms, lambda rms: np.maximum(rms, least))

    @property
    def quantisation(self) -> float:
        """Distance of the values that the image can take in units of its noise."""
        return self.step / float(np.median(self.rms_mesh))

    @cached_property
    def nodes(self) -> list[np.ndarray]:
        """Centres of the cells along y and along x, in pixels."""
        if self.centers is not None:
            return list(self.centers)
        return [_centers(n, m) for n, m in zip(self.shape, self.rms_mesh.shape, strict=True)]

    @property
    def edges(self) -> list[np.ndarray]:
        """Borders of the cells along y and along x, in pixels."""
        if self.centers is not None:
            return [_between(n, at) for n, at in zip(self.shape, self.centers, strict=True)]
        return [cell_edges(n, m) for n, m in zip(self.shape, self.rms_mesh.shape, strict=True)]


class Interpolated:
    """A mesh at every pixel: `Rows` of shape (ny, nx), interpolated along y when they are read."""

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, int], function: Callable, along_x: tuple) -> None:
        self.shape = shape
        self._function, self._along_x = function, along_x

    def __getitem__(self, key) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        return self.at(np.arange(*rows.indices(self.shape[0])))[:, columns]

    def at(self, places: np.ndarray) -> np.ndarray:
        """At ascending places along y, which may lie between two rows."""
        return self._function(*self._along_x, places)


def cell_edges(length: int, cells: int) -> np.ndarray:
    """Borders of cells that share an axis of ``length`` pixels evenly, ``cells`` + 1 integers from 0."""
    return np.round(np.linspace(0, length, cells + 1)).astype(int)


def _between(length: int, centers: np.ndarray) -> np.ndarray:
    """Borders half-way between centres, the first and the last at the ends of the axis."""
    inner = np.clip(np.ceil((centers[:-1] + centers[1:]) / 2), 0, length)
    return np.concatenate([[0], inner, [length]]).astype(int)


def _centers(length: int, cells: int) -> np.ndarray:
    """Centres in pixels of the cells between `cell_edges`."""
    edges = cell_edges(length, cells)
    return (edges[:-1] + edges[1:] - 1) / 2
