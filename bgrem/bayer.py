"""Mosaics of a Bayer filter: four interleaved planes, each with a sky and a gain of its own.

As one image their pattern would be noise of several sky rms. Each plane is separated alone, and
the parts are put back in their places.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgrem.separation import Separation, SkyMap

__all__ = ["BAYER", "BayerSky", "is_bayer", "separate_mosaic"]

BAYER = ("auto", "yes", "no")
PHASES = [np.s_[y::2, x::2] for y in (0, 1) for x in (0, 1)]
SMALLEST = 32  # pixels: each plane has half of them
BLOCKS = 4  # along each axis, in each of which the pattern must show
# Sky rms by which the diagonals of the 2 x 2 cell differ: 3 in frames of a camera with a Bayer filter
# under a bright sky, below 0.06 in all others that were looked at.
PATTERN = 0.3
SIGMA_PER_MAD = 1.4826


@dataclass(frozen=True, eq=False)
class BayerSky:
    """The sky of a mosaic, from those of its four planes, in data units.

    Parameters
    ----------
    planes : list of SkyMap
        In the order of the phases (0, 0), (0, 1), (1, 0), (1, 1) in (y, x).
    width : int
        Pixels along x.
    """

    planes: list[SkyMap]
    width: int

    def background_rows(self, start: int, stop: int) -> np.ndarray:
        """Level of the rows ``start`` to ``stop``."""
        return self._rows("background_rows", start, stop)

    def rms_rows(self, start: int, stop: int) -> np.ndarray:
        """Noise of the rows ``start`` to ``stop``."""
        return self._rows("rms_rows", start, stop)

    def _rows(self, name: str, start: int, stop: int) -> np.ndarray:
        rows = np.empty((stop - start, self.width), dtype=np.float64)
        for (y, x), sky in zip(np.ndindex(2, 2), self.planes, strict=True):
            first = (y - start) % 2
            low, high = (start + first - y) // 2, (stop - y + 1) // 2
            if high > low:
                rows[first::2, x::2] = getattr(sky, name)(low, high)
        return rows

    @property
    def level(self) -> float:
        """Median of the levels of the planes."""
        return float(np.median([sky.level for sky in self.planes]))

    @property
    def rms(self) -> float:
        """Median of the noises of the planes."""
        return float(np.median([sky.rms for sky in self.planes]))


def is_bayer(data: np.ndarray, header: Mapping[str, Any]) -> bool:
    """Whether an image is the mosaic of a Bayer filter.

    So says a card BAYERPAT, or the pixels: the two diagonals of the 2 x 2 cell hold the greens, and
    red and blue. Their medians differ by a good part of the noise, with the same sign in every part
    of the image; the odd and even rows and columns of a detector do not make the diagonals differ.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image of shape (ny, nx).
    header : mapping
        Its header.

    Returns
    -------
    bool
    """
    if data.ndim != 2 or min(data.shape) < SMALLEST:
        return False
    if re.fullmatch(r"[RGBCMYE]{4}", str(header.get("BAYERPAT", "")).strip().upper()):
        return True
    offsets = np.array([_diagonal_offset(block) for block in _blocks(data)])
    return bool((offsets > PATTERN).all() or (offsets < -PATTERN).all())


def _blocks(data: np.ndarray):
    """Parts of an image that begin at the same phase."""
    down, across = (n // BLOCKS // 2 * 2 for n in data.shape)
    for y, x in np.ndindex(BLOCKS, BLOCKS):
        yield data[y * down : (y + 1) * down, x * across : (x + 1) * across]


def _diagonal_offset(block: np.ndarray) -> float:
    """Difference of the diagonals' levels in units of the noise of one plane; 0 where unknown."""
    stride = 2 * max(1, min(block.shape) // 256)
    planes = [block[y::stride, x::stride].astype(np.float64) for y in (0, 1) for x in (0, 1)]
    planes = [plane[np.isfinite(plane)] for plane in planes]
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
    saturate: Any = None,
    fwhm: float | None = None,
    box: int | None = None,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Separation:
    """Separate the four planes of a Bayer mosaic and put their parts back.

    Parameters
    ----------
    separate : callable
        `bgrem.background.separate`.
    data : `~numpy.ndarray`
        Image of shape (ny, nx).
    mask, weight, saturate, fwhm, box, progress, **options
        As for ``separate``; lengths in pixels of the mosaic.

    Returns
    -------
    Separation
        Of the mosaic; its sky is a `BayerSky`.
    """
    separated = []
    for i, phase in enumerate(PHASES):
        separated.append(
            separate(
                np.ascontiguousarray(data[phase]),
                mask=None if mask is None else np.asarray(mask)[phase],
                weight=None if weight is None else np.asarray(weight)[phase],
                saturate=np.asarray(saturate)[phase] if np.ndim(saturate) else saturate,
                fwhm=None if fwhm is None else fwhm / 2,
                box=None if box is None else max(16, box // 2),
                progress=progress and (lambda part, i=i: progress((i + part) / len(PHASES))),
                **options,
            )
        )
    sky = BayerSky([part.sky for part in separated], data.shape[1])
    joined = {
        name: _put_back([getattr(part, name) for part in separated], data.shape)
        for name in ("sources", "mask", "uncertainty", "significance")
    }
    return Separation(data=data, sky=sky, provenance=_provenance(separated, sky), **joined)


def _put_back(planes: list, shape: tuple[int, int]) -> np.ndarray | None:
    if planes[0] is None:
        return None
    whole = np.empty(shape, dtype=planes[0].dtype)
    for phase, plane in zip(PHASES, planes, strict=True):
        whole[phase] = plane
    return whole


def _provenance(separated: list[Separation], sky: BayerSky) -> dict[str, Any]:
    """That of the first plane, with what is true of all."""
    told = [line for part in separated for line in part.provenance["warnings"]]
    return {
        **separated[0].provenance,
        "level": sky.level,
        "rms": sky.rms,
        "fwhm": 2 * float(np.median([part.provenance["fwhm"] for part in separated])),
        "warnings": ["a Bayer mosaic: done as four planes", *dict.fromkeys(told)],
    }
