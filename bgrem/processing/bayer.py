"""Mosaics of a Bayer filter: four interleaved planes, each with its own sky and gain.

As one image their pattern would be noise of several sky rms. Each plane is separated alone, and
the parts are interleaved again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bgrem.arrays.rows import Computed, Rows, as_rows
from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.arrays.tiling import row_strips
from bgrem.options import DEFAULTS, IN_MEMORY, SMALLEST_IMAGE, Options, Run
from bgrem.separation import Provenance, Separation
from bgrem.sky.standard import SkyMap

__all__ = ["BAYER", "BayerSky", "is_bayer", "separate_mosaic"]

BAYER = ("auto", "yes", "no")
BAYER_PHASES = [np.s_[y::2, x::2] for y in (0, 1) for x in (0, 1)]
SMALLEST_MOSAIC = 2 * SMALLEST_IMAGE  # pixels: each plane has half of them
PATTERN_BLOCKS = 4  # along each axis, in each of which the pattern must show
# Sky rms by which the diagonals of the 2 x 2 cell differ: 3 in frames of a camera with a Bayer filter
# under a bright sky, below 0.06 in all others of the project's real images.
PATTERN = 0.3


@dataclass(frozen=True, eq=False)
class BayerSky:
    """The sky of a mosaic, from those of its four planes, in data units.

    Parameters
    ----------
    planes : list of SkyMap
        In the order of the phases (0, 0), (0, 1), (1, 0), (1, 1) in (y, x).
    shape : tuple of int
        Shape (ny, nx) of the mosaic.
    """

    planes: list[SkyMap]
    shape: tuple[int, int]

    @property
    def background(self) -> Rows:
        """Level of each pixel, float64 of shape (ny, nx)."""
        return self._interleaved([plane.background for plane in self.planes])

    @property
    def rms(self) -> Rows:
        """Noise of each pixel, float64 of shape (ny, nx)."""
        return self._interleaved([plane.rms for plane in self.planes])

    @property
    def median_level(self) -> float:
        """Median of the levels of the planes."""
        return float(np.median([plane.median_level for plane in self.planes]))

    @property
    def median_rms(self) -> float:
        """Median of the noises of the planes."""
        return float(np.median([plane.median_rms for plane in self.planes]))

    def _interleaved(self, planes: list[Rows]) -> Rows:
        def rows_of(rows: slice) -> np.ndarray:
            strip = np.empty((rows.stop - rows.start, self.shape[1]), dtype=np.float64)
            for (y, x), plane in zip(np.ndindex(2, 2), planes, strict=True):
                first = (y - rows.start) % 2
                low, high = (rows.start + first - y) // 2, (rows.stop - y + 1) // 2
                if high > low:
                    strip[first::2, x::2] = plane[low:high]
            return strip

        return Computed(self.shape, np.float64, rows_of)


def is_bayer(data: np.ndarray, header: Mapping[str, Any]) -> bool:
    """Whether an image of shape (ny, nx) is the mosaic of a Bayer filter.

    The card BAYERPAT decides, or the pixels: one diagonal of the 2 x 2 cell holds the greens, the other red
    and blue. Their medians differ by a good part of the noise, with the same sign in every part of the
    image; odd and even rows and columns of a detector do not make the diagonals differ.
    """
    if data.ndim != 2 or min(data.shape) < SMALLEST_MOSAIC:
        return False
    if re.fullmatch(r"[RGBCMYE]{4}", str(header.get("BAYERPAT", "")).strip().upper()):
        return True
    offsets = np.array([_diagonal_offset(planes) for planes in _blocks(data)])
    return bool((offsets > PATTERN).all() or (offsets < -PATTERN).all())


def _blocks(data: np.ndarray):
    """The four planes of parts of an image, a sample of large ones."""
    down, across = (n // PATTERN_BLOCKS // 2 * 2 for n in data.shape)
    stride = 2 * max(1, min(down, across) // 128)
    for i, j in np.ndindex(PATTERN_BLOCKS, PATTERN_BLOCKS):
        top, left = i * down, j * across
        yield [
            data[top + y : top + down : stride, left + x : left + across : stride]
            for y, x in np.ndindex(2, 2)
        ]


def _diagonal_offset(planes: list[np.ndarray]) -> float:
    """Difference of the diagonals' levels in units of the noise of one plane; 0 where unknown."""
    planes = [plane[np.isfinite(plane)].astype(np.float64) for plane in planes]
    if not all(plane.size for plane in planes):
        return 0.0
    levels = [np.median(plane) for plane in planes]
    noise = SIGMA_PER_MAD * np.median(
        [np.median(abs(plane - level)) for plane, level in zip(planes, levels, strict=True)]
    )
    return float((levels[0] + levels[3] - levels[1] - levels[2]) / 2 / noise) if noise > 0 else 0.0


def separate_mosaic(
    separate: Callable[..., Separation],
    data: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    weight_type: str = "inverse",
    saturate: Any = None,
    options: Options = DEFAULTS,
    run: Run = IN_MEMORY,
) -> Separation:
    """Separate the four planes of a Bayer mosaic and interleave their parts.

    ``separate`` is `bgrem.separate` with its model. The other parameters are as for it, with lengths in
    pixels of the mosaic. The sky of the result is a `BayerSky`.
    """
    options = replace(
        options,
        fwhm=None if options.fwhm is None else options.fwhm / 2,
        box=None if options.box is None else max(SMALLEST_IMAGE, options.box // 2),
    )
    planes = [
        separate(
            _plane(data, phase, run),
            mask=_plane(mask, phase, run),
            weight=_plane(weight, phase, run),
            saturate=_plane(saturate, phase, run) if np.ndim(saturate) else saturate,
            options=options,
            run=replace(run, progress=run.share(i, len(BAYER_PHASES))),
            weight_type=weight_type,
        )
        for i, phase in enumerate(BAYER_PHASES)
    ]
    sky = BayerSky([plane.sky for plane in planes], data.shape)
    joined = {
        name: _interleaved([getattr(plane, name) for plane in planes], data.shape, run)
        for name in ("sources", "mask", "uncertainty", "significance")
    }
    provenance = _provenance([plane.provenance for plane in planes], sky)
    return Separation(data=data, sky=sky, provenance=provenance, store=run.store, **joined)


def _plane(values, phase: tuple[slice, slice], run: Run):
    """One plane of a mosaic, None of nothing."""
    if values is None:
        return None
    values = as_rows(values)
    shape = tuple((n + 1 - p.start) // 2 for n, p in zip(values.shape, phase, strict=True))
    plane = run.empty(shape, values.dtype)
    for rows in row_strips(shape):
        plane[rows] = values[_in_the_mosaic(rows, phase)]
    return plane


def _interleaved(planes: list, shape: tuple[int, int], run: Run) -> np.ndarray | None:
    if planes[0] is None:
        return None
    whole = run.empty(shape, planes[0].dtype)
    for phase, plane in zip(BAYER_PHASES, planes, strict=True):
        for rows in row_strips(plane.shape):
            whole[_in_the_mosaic(rows, phase)] = plane[rows]
    return whole


def _in_the_mosaic(rows: slice, phase: tuple[slice, slice]) -> tuple[slice, slice]:
    """Where rows of a plane are in the mosaic."""
    y, x = phase
    return slice(2 * rows.start + y.start, 2 * rows.stop + y.start - 1, 2), x


def _provenance(planes: list[Provenance], sky: BayerSky) -> Provenance:
    """That of the first plane, with what is true of all."""
    noticed = dict.fromkeys(line for plane in planes for line in plane.warnings)
    return replace(
        planes[0],
        level=sky.median_level,
        rms=sky.median_rms,
        fwhm=2 * float(np.median([plane.fwhm for plane in planes])),
        warnings=["a Bayer mosaic: done as four planes", *noticed],
    )
