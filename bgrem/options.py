"""What is asked of an image, and how the work on it is done."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bgrem.arrays.rows import MEMORY, Memory

__all__ = [
    "DEFAULTS",
    "ERROR_SIDES",
    "IN_MEMORY",
    "MAPS",
    "SKY_METHODS",
    "SMALLEST_IMAGE",
    "WIDE_LIGHT_PARTS",
    "CatalogueOptions",
    "Options",
    "Run",
]  # fmt: skip

SMALLEST_IMAGE = 16  # pixels along each axis: a narrower image shows too little sky
# The maps that a separation has beside its parts.
MAPS = ("uncertainty", "significance")
SKY_METHODS = ("network", "mesh")
#: Sides in pixels of the squares for whose means the error of the background is known.
ERROR_SIDES = (16, 64, 256)
WIDE_LIGHT_PARTS = ("sources", "background")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked of an image.

    Parameters
    ----------
    steps : int
        Number of diffusion steps; the time is proportional to it.
    norm : float, optional
        Factor that brings the standard deviation of the noise to 1: the noise is
        1 / ``norm`` everywhere. Default, or 0: it is estimated, as a map.
    minpix : float or "auto", optional
        Pixels below it are raised to it before anything else (detector failures); the
        difference goes to the noise. "auto" is 0 for raw frames, whose sky level is above
        5 times its rms, and none for others. Default: none.
    fwhm : float, optional
        Full width at half maximum of the stars in pixels. Default: measured.
    sky : str
        "network": the sky is measured by the model's sky network on the whole frame; "mesh": by clipped
        modes of the cells of a mesh, as SExtractor's. Maps of few counts always have a mesh.
    extended : str
        Where light goes that is wider than the box: "sources" or "background". A mesh has it in the
        background.
    box : int, optional
        Side in pixels of a cell of the mesh, and of the boxes that wide light is wider than. Default: that
        of the model's training.
    tile : int, optional
        Largest side of a tile in pixels. Default: the model's.
    maps : tuple of str
        Those of "uncertainty" and "significance" that are wanted; each takes the memory
        of an image.
    calibrated : bool
        Whether the uncertainty is corrected by the calibration in the model's card, where it
        has one.

    Raises
    ------
    ValueError
        If one is out of range.
    """

    steps: int = 1
    norm: float | None = None
    minpix: float | str | None = None
    fwhm: float | None = None
    sky: str = "network"
    extended: str = "sources"
    box: int | None = None
    tile: int | None = None
    maps: tuple[str, ...] = MAPS
    calibrated: bool = True

    def __post_init__(self) -> None:
        if operator.index(self.steps) < 1:
            raise ValueError(f"the number of steps must be at least 1, not {self.steps}")
        if self.norm is not None and not (np.isfinite(self.norm) and self.norm >= 0):
            raise ValueError(
                f"norm must be a positive number, or 0 for an estimate, not {self.norm}"
            )
        if isinstance(self.minpix, str) and self.minpix != "auto":
            raise ValueError(f"minpix must be a number, 'auto' or None, not {self.minpix!r}")
        if not isinstance(self.minpix, str | None) and not np.isfinite(self.minpix):
            raise ValueError(f"minpix must be finite, not {self.minpix}")
        if self.fwhm is not None and not (np.isfinite(self.fwhm) and self.fwhm > 0):
            raise ValueError(f"fwhm must be a positive number of pixels, not {self.fwhm}")
        for name, known in (("sky", SKY_METHODS), ("extended", WIDE_LIGHT_PARTS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be {' or '.join(map(repr, known))}, not {getattr(self, name)!r}"
                )
        if self.box is not None and operator.index(self.box) < SMALLEST_IMAGE:
            raise ValueError(f"box must be at least {SMALLEST_IMAGE} pixels, not {self.box}")
        if unknown := set(self.maps) - set(MAPS):
            raise ValueError(f"unknown maps {sorted(unknown)}; there are {', '.join(MAPS)}")


@dataclass(frozen=True, kw_only=True)
class CatalogueOptions:
    """What is asked of a catalogue.

    Parameters
    ----------
    false_rate : float
        False detections per Mpix that the list may have.
    purity : float, optional
        Least probability of a source to be real, instead of ``false_rate``; it needs ``calibrate``.
    calibrate : bool
        Whether false detections and completeness are measured on the frame.
    gain : float, optional
        Electrons per data unit. Default: that of the header.
    zeropoint : float, optional
        Magnitude of one data unit. Default: that of the header.

    Raises
    ------
    ValueError
        If one is out of range.
    """

    false_rate: float = 10.0
    purity: float | None = None
    calibrate: bool = True
    gain: float | None = None
    zeropoint: float | None = None

    def __post_init__(self) -> None:
        for name in ("false_rate", "gain"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value}")
        if self.purity is not None and not (0 < self.purity < 1 and self.calibrate):
            raise ValueError(
                "purity must be between 0 and 1, and needs the calibration on the frame"
            )
        if self.zeropoint is not None and not np.isfinite(self.zeropoint):
            raise ValueError(f"zeropoint must be a finite number, not {self.zeropoint}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the work on an image is done; the result does not depend on it.

    Parameters
    ----------
    store : `~bgrem.arrays.rows.Memory`
        Where whole images are kept.
    threads : int
        Strips of rows that are worked on at once.
    progress : callable, optional
        Called with the fraction that is done, 0 to 1.
    """

    store: Memory = MEMORY
    threads: int = 1
    progress: Callable[[float], None] | None = None

    def empty(self, shape: tuple[int, ...], dtype) -> np.ndarray:
        """Room for an image."""
        return self.store.empty(shape, dtype)

    def report(self, done: float) -> None:
        """Report the fraction that is done."""
        if self.progress:
            self.progress(done)

    def share(self, number: int, count: int) -> Callable[[float], None] | None:
        """The progress of one of several equal parts of the work."""
        progress = self.progress
        return progress and (lambda done: progress((number + done) / count))


DEFAULTS = Options()
IN_MEMORY = Run()
