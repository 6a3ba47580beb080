"""What an image is separated into."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bgrem.arrays.rows import MEMORY, Memory
from bgrem.arrays.tiling import row_strips
from bgrem.masks.flags import ARTEFACT, MASKED, NOT_FINITE
from bgrem.sky.mesh import Mesh

__all__ = ["ARTEFACT", "MAPS", "MASKED", "NOT_FINITE", "Separation", "SkyMap"]

# What may be had beside the parts.
MAPS = ("uncertainty", "significance")


@dataclass(frozen=True, eq=False)
class Separation:
    """An image in parts: ``sources + background + noise`` is the data, to rounding.

    Background, noise and rms are computed when they are first asked for; they are
    float64 for float64 data and else float32, and in data units, as the sources are.

    Attributes
    ----------
    data : `~numpy.ndarray`
        The image, of shape (ny, nx), as it was given.
    sources : `~numpy.ndarray`
        NaN where the data are not finite.
    sky : `SkyMap`
        The smooth part of the background and its noise.
    mask : `~numpy.ndarray`
        uint8 of shape (ny, nx). Bits: 1 not finite in the data, 2 masked by the user,
        4 artefact found by the model, 8 saturated, 16 no data (weight 0, or in a
        border that is zero-filled or saw no light).
    provenance : dict
        How the parts came about: version, model, sha256, steps, norm (0 where the noise
        was estimated as a map), level and rms (medians of the sky mesh, data units),
        minpix (None where there is none), fwhm (pixels, NaN where unknown), signif_1 and
        signif_10 (significances above which 1 and 10 false detections per Mpix are expected,
        None where the model does not say), weight (type of the weight map, None where there
        is none), saturate (saturation level in data units, None where none was given), warnings.
    uncertainty : `~numpy.ndarray` or None
        Standard deviation of the sources; None if the model gives none.
    significance : `~numpy.ndarray` or None
        How sure it is that a source's centre is near the pixel, by the network and by the matched
        filter (`bgrem.network.significance`); None if the model gives none.
    store : `~bgrem.arrays.rows.Memory`
        Where the parts are kept that are yet to be computed.
    """

    data: np.ndarray
    sources: np.ndarray
    sky: "SkyMap"
    mask: np.ndarray
    provenance: dict[str, Any]
    uncertainty: np.ndarray | None = None
    significance: np.ndarray | None = None
    store: Memory = MEMORY

    @cached_property
    def background(self) -> np.ndarray:
        """The smooth sky; it goes on under bad pixels."""
        return self._by_strips(self.sky.background_rows)

    @cached_property
    def rms(self) -> np.ndarray:
        """Standard deviation of the noise of the sky."""
        return self._by_strips(self.sky.rms_rows)

    @cached_property
    def noise(self) -> np.ndarray:
        """All the rest; NaN where the data are not finite."""
        background = self.background

        # From the parts as they are stored, so that they add up in spite of rounding.
        def rest(start: int, stop: int) -> np.ndarray:
            without = np.subtract(self.data[start:stop], background[start:stop], dtype=np.float64)
            return without - self.sources[start:stop]

        return self._by_strips(rest)

    def _by_strips(self, rows_of: Callable[[int, int], np.ndarray]) -> np.ndarray:
        part = self.store.empty(self.sources.shape, self.sources.dtype)
        for rows in row_strips(part.shape):
            part[rows] = rows_of(rows.start, rows.stop)
        return part


@dataclass(frozen=True, eq=False)
class SkyMap:
    """The sky mesh in data units, evaluated in float64 a strip of rows at a time."""

    mesh: Mesh
    center: float
    scale: float

    def background_rows(self, start: int, stop: int) -> np.ndarray:
        """Level of the rows ``start`` to ``stop``."""
        return self.center + np.float64(self.scale) * self.mesh.background_rows(start, stop)

    def rms_rows(self, start: int, stop: int) -> np.ndarray:
        """Noise of the rows ``start`` to ``stop``."""
        return np.float64(self.scale) * self.mesh.rms_rows(start, stop)

    @property
    def level(self) -> float:
        """Median of the level over the mesh."""
        return float(self.center + self.scale * np.median(self.mesh.background.astype(np.float64)))

    @property
    def rms(self) -> float:
        """Median of the noise over the mesh."""
        return float(self.scale * np.median(self.mesh.rms.astype(np.float64)))
