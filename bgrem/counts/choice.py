"""The model of an image: one of counts, or none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bgrem.counts.counts_model import (
    COUNTS_MODEL,
    CountsModel,
    has_counts_model,
    is_counts_model,
    load_counts_model,
)
from bgrem.counts.whole_numbers import is_counts_map
from bgrem.separation import NoteOfAllPlanes, Separation

__all__ = ["CHOSEN", "loaded_for_counts", "model_for_counts", "takes_counts_model", "with_notes"]

CHOSEN = "a map of counts: the model counts is used, unless another one is given"


def takes_counts_model(model, data, unit: str = "", *, said: bool = False) -> bool:
    """Whether an image is separated with a model of counts maps.

    Parameters
    ----------
    model : str, path or a model
        "auto" chooses by the image.
    data : ndarray
        (..., ny, nx).
    unit : str
        Of the pixels.
    said : bool
        Whether a map of counts is given with it (exposure, template or PSF). A map of zeros and ones must say that it
        is of counts, by this or by its unit.
    """
    if isinstance(model, str) and model == "auto":
        return has_counts_model() and is_counts_map(data, "counts" if said else unit)
    return is_counts_model(model)


def loaded_for_counts(model) -> CountsModel:
    """The model of counts maps, loaded; "auto" is the included one."""
    automatic = isinstance(model, str) and model == "auto"
    return load_counts_model(COUNTS_MODEL if automatic else model)


def model_for_counts(model, data, maps: Mapping, weight, unit: str = "") -> CountsModel | None:
    """The model of counts that an array is separated with, or None where it is not one of counts.

    Parameters
    ----------
    model, data, unit
        As of `takes_counts_model`.
    maps : mapping
        Exposure, template and PSF; None where they are not given.
    weight : object
        A weight map, which counts have not.

    Returns
    -------
    CountsModel or None

    Raises
    ------
    ValueError
        If a map of counts is given for another image, or a weight for a model of counts maps.
    """
    named = [name for name, value in maps.items() if value is not None]
    if weight is not None:
        if is_counts_model(model):
            raise ValueError("a map of counts has no weights: its noise is that of its counts")
    elif takes_counts_model(model, data, unit, said=bool(named)):
        return loaded_for_counts(model)
    if named:
        raise ValueError(f"{named[0]} is for maps of counts: use model='counts'")
    return None


def with_notes(bands: Sequence[Separation], notes: Sequence[str]) -> list[Separation]:
    """The parts of the bands of a field, whose warnings begin with notes that hold for all of them."""
    notes = tuple(map(NoteOfAllPlanes, notes))
    facts = [replace(one.provenance, warnings=(*notes, *one.provenance.warnings)) for one in bands]
    return [replace(one, provenance=fact) for one, fact in zip(bands, facts, strict=True)]
