"""Wide light that the denoising network leaves in the noise, and gives back to the sources."""

import numpy as np

from bgrem.arrays.filters import gaussian_filter
from bgrem.arrays.rows import Computed, Rows
from bgrem.arrays.splines import linear
from bgrem.sky.measured import MeasuredSky

__all__ = ["WideLight"]

NOISE_CELL = 8  # px: side of a cell in which the noise is averaged
NOISE_SMOOTHING = 1.5  # cells: standard deviation of the Gaussian that smooths the averages
LEAST_SEEN = 0.25  # part of a cell


class WideLight:
    """The wide light of an image beside that in its sources, gathered from strips of rows.

    It is what the local level has above the sky, plus the mean of the noise where light is wide.

    Parameters
    ----------
    sky : `~bgrem.sky.measured.MeasuredSky`
        With which the sources were found.
    """

    def __init__(self, sky: MeasuredSky) -> None:
        self._sky = sky
        self._wide = sky.wide_part is not None and bool(sky.wide_part.any())
        self._part = sky.at_pixels(sky.wide_part) if self._wide else None
        self._edges = np.arange(0, sky.mesh.shape[1], NOISE_CELL)
        self._places: list[float] = []
        self._means: list[np.ndarray] = []
        self._seen: list[np.ndarray] = []

    def add(self, rows: slice, image, sources, flags) -> np.ndarray | float:
        """Add the next strip of rows, of at most some 16.

        Parameters
        ----------
        rows : slice
        image, sources : `~numpy.ndarray`
            The image and its sources in these rows, in the units of the mesh, float32 of shape
            (rows.stop - rows.start, nx).
        flags : `~numpy.ndarray`
            uint8 of that shape. Pixels that are not 0 are left out.

        Returns
        -------
        `~numpy.ndarray` or float
            Roughly what of the wide light is in the noise of these rows, of shape (nx,) or 0.
        """
        if not self._wide:
            return 0.0
        in_noise = [
            self._add_cells(slice(rows.start + top, rows.start + top + part[0].shape[0]), *part)
            for top in range(0, rows.stop - rows.start, NOISE_CELL)
            for part in [[v[top : top + NOISE_CELL] for v in (image, sources, flags)]]
        ]
        return np.mean(in_noise, axis=0)

    def _add_cells(self, rows: slice, image, sources, flags) -> np.ndarray:
        """Add one row of cells."""
        middle = (rows.start + rows.stop - 1) / 2
        part = self._part.at(np.array([middle]))[0]
        mean, seen = np.zeros((2, self._edges.size), np.float32)
        lit = np.flatnonzero(np.maximum.reduceat(part, self._edges) > 0)
        if lit.size:
            noise = np.where(flags == 0, image - sources - self._sky.local.background[rows], np.nan)
            mean[lit], seen[lit] = _midmeans(self._in_cells(noise)[lit])
        self._places.append(middle)
        self._means.append(mean)
        self._seen.append(seen)
        return part * np.repeat(mean, NOISE_CELL)[: part.size]

    def _in_cells(self, strip: np.ndarray) -> np.ndarray:
        """The pixels of each cell of a strip of rows, (cells, pixels); NaN beyond the image."""
        rows, nx = strip.shape
        padded = np.pad(strip, ((0, 0), (0, -nx % NOISE_CELL)), constant_values=np.nan)
        return padded.reshape(rows, -1, NOISE_CELL).swapaxes(0, 1).reshape(-1, rows * NOISE_CELL)

    def light(self) -> Rows | None:
        """The light, float32 of shape (ny, nx) in the units of the mesh; None where there is none."""
        if not self._wide:
            return None
        part, noise = self._part, self._smooth_noise()
        local, sky = self._sky.local.background, self._sky.background

        def light(rows: slice) -> np.ndarray:
            return local[rows] - sky[rows] + part[rows] * noise[rows]

        return Computed(self._sky.mesh.shape, np.float32, light)

    def _smooth_noise(self) -> Rows:
        """The mean noise around each pixel, where it was gathered."""
        mean, seen = np.stack(self._means), np.stack(self._seen)
        weight = np.where(seen >= LEAST_SEEN, seen, 0)
        smooth = _normalised(mean, weight)
        # What one average leaves is averaged again (twicing; Tukey 1977): structure of 20 pixels stays.
        smooth += _normalised(mean - smooth, weight)
        shape, down = self._sky.mesh.shape, np.array(self._places)
        across = (self._edges + np.minimum(self._edges + NOISE_CELL, shape[1]) - 1) / 2

        def noise(rows: slice) -> np.ndarray:
            # Along y first: the cells of an image at all its columns would take much memory.
            cells = linear(down, smooth, np.arange(rows.start, rows.stop))
            return linear(across, cells.T, np.arange(shape[1])).T

        return Computed(shape, np.float32, noise)


def _normalised(mean: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted mean around each cell, 0 where none is known."""
    total, number = (gaussian_filter(v, NOISE_SMOOTHING) for v in (mean * weight, weight))
    return np.where(number > 1e-3, total / np.maximum(number, 1e-3), 0).astype(np.float32)


def _midmeans(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the middle half of the finite values along the last axis, and their part of all."""
    values = np.sort(values, axis=-1)  # NaN comes last
    size = values.shape[-1]
    number = np.count_nonzero(np.isfinite(values), axis=-1)
    below = np.cumsum(np.nan_to_num(values), axis=-1, dtype=np.float64)
    first, last = number // 4, number - number // 4
    cell = np.arange(len(values))
    total = below[cell, np.maximum(last, 1) - 1] - np.where(first > 0, below[cell, first - 1], 0)
    return total / np.maximum(last - first, 1), number / size
