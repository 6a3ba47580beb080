"""What is known of the sky of an image: its level and noise, their error, and where light is wide."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bgrem.arrays.filters import median_filter
from bgrem.arrays.rows import Rows
from bgrem.arrays.splines import linear, spline
from bgrem.options import ERROR_SIDES
from bgrem.sky.blocks import BlockStatistics
from bgrem.sky.estimate import fill_cells
from bgrem.sky.mesh import Interpolated, Mesh, cell_edges

__all__ = ["CellSky", "MeasuredSky", "SkyFunction", "sky_of_mesh", "sky_of_network"]

# Chances of wide light between which the part of it that belongs to the sources grows from 0 to 1.
LOW_CHANCE, HIGH_CHANCE = 0.2, 0.6
GUESSED = 0.3  # sky rms: median error of the level of a frame that shows no sky
NOISE_FILTER = 5  # cells: side of the squares whose median is the noise
LEAST_RMS = 1e-3  # of the median rms: of a cell
# Of a clipped mode over the mean of white noise of as many pixels.
ERROR_OF_MODE = 1.6


@dataclass(frozen=True, eq=False)
class CellSky:
    """What a network says of the sky in cells of 2 x 2 blocks.

    Parameters
    ----------
    background, rms, error : `~numpy.ndarray`
        Level, noise, and the standard deviation of the error of the level's mean over 16 x 16 pixels, float32
        of shape (my, mx).
    chance : `~numpy.ndarray`
        Of wide light above 0.05 rms, 0 to 1, same shape.
    error_of_means : tuple of float
        Factors of ``error`` for means over squares of `ERROR_SIDES`.
    """

    background: np.ndarray
    rms: np.ndarray
    error: np.ndarray
    chance: np.ndarray
    error_of_means: tuple[float, ...] = (1.0,) * len(ERROR_SIDES)


SkyFunction = Callable[[BlockStatistics], CellSky]


@dataclass(frozen=True, eq=False)
class MeasuredSky:
    """The sky of an image.

    Parameters
    ----------
    mesh : Mesh
        Level and noise of the sky.
    local : Mesh
        The level that the denoising network is given: it follows light that is wider than the box of its
        training.
    error_mesh : `~numpy.ndarray`
        Standard deviation of the error of the level at the nodes of the mesh, float32 of shape (my, mx).
    wide_part : `~numpy.ndarray` or None
        Part of the light between the level and the sources that is wide light, 0 to 1, same shape. None
        where wide light cannot be distinguished from the sky.
    error_of_means : tuple of float
        As of `CellSky`.
    """

    mesh: Mesh
    local: Mesh
    error_mesh: np.ndarray
    wide_part: np.ndarray | None = None
    error_of_means: tuple[float, ...] = (1.0,) * len(ERROR_SIDES)

    @property
    def background(self) -> Rows:
        """Level of each pixel, float32 of shape (ny, nx)."""
        return self.mesh.background

    @property
    def is_filled(self) -> bool:
        """Whether the frame is so full of light that the level of its sky is a guess."""
        error = float(np.median(self.error_mesh / self.mesh.rms_mesh))
        return self.wide_part is not None and error > GUESSED

    @cached_property
    def error(self) -> Rows:
        """Standard deviation of the error of the level of each pixel, float32 of shape (ny, nx)."""
        return self.at_pixels(self.error_mesh)

    def at_pixels(self, values: np.ndarray) -> Interpolated:
        """Values at the nodes of the mesh, linear between them, float32 of shape (ny, nx)."""
        down, across = self.mesh.nodes
        rows = linear(across, values.T, np.arange(self.mesh.shape[1])).T
        return Interpolated(self.mesh.shape, linear, (down, rows))

    def with_noise(self, **changes) -> "MeasuredSky":
        """The sky with another noise; ``changes`` are of both meshes."""
        mesh, local = (replace(one, **changes) for one in (self.mesh, self.local))
        return replace(self, mesh=mesh, local=local)


def sky_of_mesh(mesh: Mesh) -> MeasuredSky:
    """The sky of a mesh of clipped modes, whose error is that of white noise."""
    down, across = (np.diff(edges) for edges in mesh.edges)
    error = ERROR_OF_MODE * mesh.rms_mesh / np.sqrt(np.outer(down, across))
    # The errors of its cells are independent.
    side = np.sqrt(down.mean() * across.mean())
    of_means = tuple(float(min(1.0, side / wide)) for wide in ERROR_SIDES)
    return MeasuredSky(mesh, mesh, error.astype(np.float32), error_of_means=of_means)


def sky_of_network(
    statistics: BlockStatistics, network: SkyFunction, *, box: int, step: float = 0.0
) -> MeasuredSky:
    """The sky of an image from the statistics of its blocks.

    Parameters
    ----------
    statistics : BlockStatistics
        With a good block.
    network : SkyFunction
    box : int
        Side in pixels of the cells in which the local level is measured.
    step : float
        Distance of the values that the image can take; 0 if they are continuous.

    Returns
    -------
    MeasuredSky
        In the units of the statistics.
    """
    cells = network(statistics)
    # Filtered as a mesh of SExtractor: a single cell has too few pixels to show that its noise is another.
    rms = median_filter(cells.rms, NOISE_FILTER)
    background, rms = cells.background, np.maximum(rms, LEAST_RMS * np.median(rms))
    places = (
        a + 2 * statistics.side * (np.arange(n) + 0.5) - 0.5
        for a, n in zip(statistics.first, background.shape, strict=True)
    )
    mesh = Mesh(background, rms, box, statistics.shape, step, centers=tuple(places))
    part = np.clip((cells.chance - LOW_CHANCE) / (HIGH_CHANCE - LOW_CHANCE), 0, 1)
    local = mesh
    if part.any():
        local = replace(
            mesh, background_mesh=background + part * _local_light(statistics, mesh, box)
        )
    return MeasuredSky(mesh, local, cells.error, part, cells.error_of_means)


def _local_light(statistics: BlockStatistics, mesh: Mesh, box: int) -> np.ndarray:
    """What boxes of an image have above the sky in the median, at the nodes of the mesh."""
    down, across = (
        a + statistics.side * (np.arange(n) + 0.5) - 0.5
        for a, n in zip(statistics.first, statistics.good.shape, strict=True)
    )
    level = _on_grid(mesh.nodes, mesh.background_mesh, (down, across))
    light = np.where(statistics.good, statistics.planes[2] - level, np.nan)
    edges = [cell_edges(n, max(1, round(n * statistics.side / box))) for n in statistics.good.shape]
    boxes = np.full([len(cells) - 1 for cells in edges], np.nan, np.float32)
    for j, i in np.ndindex(boxes.shape):
        inside = light[edges[0][j] : edges[0][j + 1], edges[1][i] : edges[1][i + 1]]
        known = inside[np.isfinite(inside)]
        if known.size:
            boxes[j, i] = np.median(known)
    boxes = fill_cells(boxes, np.isfinite(boxes))
    centers = [
        a + statistics.side * (cells[:-1] + cells[1:]) / 2 - 0.5
        for a, cells in zip(statistics.first, edges, strict=True)
    ]
    return _on_grid(centers, boxes, mesh.nodes)


def _on_grid(nodes, values: np.ndarray, at) -> np.ndarray:
    """Values at the crossings of nodes along y and x, as a spline at those of other places."""
    along_x = spline(nodes[1], values.T, at[1]).T
    return spline(nodes[0], along_x, at[0])
