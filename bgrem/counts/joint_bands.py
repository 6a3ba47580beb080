"""The counts map of a FITS file: whether it is one, and its planes in turn."""

from collections.abc import Iterator

import numpy as np

from bgrem.arrays.rows import Scratch
from bgrem.counts.choice import CHOSEN, loaded_for_counts, takes_counts_model, with_notes
from bgrem.counts.counts_maps import counts_maps, in_memory
from bgrem.counts.counts_model import CountsModel
from bgrem.counts.counts_path import separate_counts
from bgrem.counts.whole_numbers import why_no_counts
from bgrem.io.header_facts import gain_of_header
from bgrem.io.maps import GivenMaps
from bgrem.io.reading import FitsError, FitsImage, as_planes
from bgrem.options import DEFAULTS, Options, Run
from bgrem.separation import Separation

__all__ = ["JointBands", "joint_bands"]

BYTES_OF_COUNT = 250  # of memory per pixel and band
# Options of frames of cameras, by their names, with the values that they have unless asked for.
CAMERA_OPTIONS = {
    "norm": (None, 0.0),
    "minpix": (None, "auto"),
    "sky": ("network",),
    "extended": ("sources",),
}


class JointBands:
    """Gives the parts of the planes of a counts map in turn; they are separated together.

    Parameters
    ----------
    image : FitsImage
    maps : GivenMaps
        Its mask is used.
    given : dict
        Exposure, template and PSF, as `counts_maps` reads them, with its notes.
    model : CountsModel
    options : Options
    chosen : bool
        Whether the model was chosen automatically, which is reported.
    """

    def __init__(
        self,
        image: FitsImage,
        maps: GivenMaps,
        given: dict,
        model: CountsModel,
        options: Options,
        *,
        chosen: bool,
    ) -> None:
        self._image, self._mask, self._given, self._options = image, maps.mask, given, options
        self._model = model
        self._notes = (*((CHOSEN,) if chosen else ()), *self._given.pop("notes"))
        self._parts: Iterator[Separation] | None = None

    def __call__(self, plane: np.ndarray, *, run: Run, **maps) -> Separation:
        """The parts of the next plane."""
        if self._parts is None:
            self._parts = iter(self._separated(run))
        return next(self._parts)

    def _separated(self, run: Run) -> list[Separation]:
        planes = as_planes(self._image.data)
        needed = BYTES_OF_COUNT * planes.size
        if isinstance(run.store, Scratch) and needed > run.store.limit:
            raise ValueError(
                f"a map of counts is kept in memory and needs {needed / 1e9:.2g} GB, more than --memory allows"
            )
        mask = None if self._mask is None else in_memory(as_planes(self._mask))
        bands = separate_counts(
            in_memory(planes), mask=mask, model=self._model, options=self._options, run=run, **self._given
        )  # fmt: skip
        return with_notes(bands, self._notes)


def joint_bands(image: FitsImage, maps: GivenMaps, asked) -> JointBands | None:
    """What separates the planes of an image if it is a counts map, else None.

    Parameters
    ----------
    image : FitsImage
    maps : GivenMaps
    asked : `bgrem.processing.file_options.FileOptions`

    Raises
    ------
    FitsError
        If what is asked for cannot be done on this image.
    """
    given = {name: getattr(asked, name) for name in ("exposure", "template", "psf")}
    automatic = asked.counts == "auto"
    named = [name for name, value in given.items() if value is not None]
    if asked.counts == "no" or not _is_counts(image, asked.counts, said=bool(named)):
        if named:
            reason = why_no_counts(image.data) or "its noise is not that of counts"
            raise FitsError(
                f"{image.label}: --{named[0]} is for maps of counts; this image is treated as a frame of a camera "
                f"({reason}; --model counts overrides)"
            )
        return None
    if reason := why_no_counts(image.data):
        raise FitsError(f"{image.label}: the model counts cannot be used: {reason}")
    for name in _not_for_counts(asked):
        override = " (--model optical: a frame of a camera)" if automatic else ""
        raise FitsError(f"{image.label}: --{name} is not for maps of counts{override}")
    model = loaded_for_counts(asked.counts)
    return JointBands(
        image, maps, counts_maps(image, **given), model, asked.image, chosen=automatic
    )


def _is_counts(image: FitsImage, model, *, said: bool) -> bool:
    """Whether a model of counts maps is for an image; one whose header has a gain is a frame of a camera."""
    if model == "auto" and not said and gain_of_header(image.header)[0] is not None:
        return False
    unit = str(image.header.get("BUNIT", ""))
    return takes_counts_model(model, as_planes(image.data), unit, said=said)


def _not_for_counts(asked) -> Iterator[str]:
    """The options that are asked for and mean nothing for counts."""
    if asked.weight is not None:
        yield "weight"
    if asked.catalog:
        yield "catalog"
    if asked.bayer == "yes":
        yield "bayer"
    if isinstance(asked.saturate, int | float):
        yield "saturate"
    for name, usual in CAMERA_OPTIONS.items():
        if getattr(asked.image, name) not in (*usual, getattr(DEFAULTS, name)):
            yield name
