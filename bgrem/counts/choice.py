"""The model of an image: one of counts, or none."""

from collections.abc import Mapping

from bgrem.counts.counts_model import (
    COUNTS_MODEL,
    CountsModel,
    has_counts_model,
    is_counts_model,
    load_counts_model,
)
from bgrem.counts.whole_numbers import is_counts_map

__all__ = ["model_for_counts"]


def model_for_counts(model, data, maps: Mapping, weight, unit: str = "") -> CountsModel | None:
    """The model of counts that an array is separated with, or None where it is not one of counts.

    Parameters
    ----------
    model : str, path or a model
        "auto" chooses by the array.
    data : ndarray
    maps : mapping
        Exposure, template and PSF; None where they are not given.
    weight : object
        A weight map, which counts have not.
    unit : str
        Of the pixels. A map of zeros and ones must say that it is of counts, by its unit or by what is given with it.

    Returns
    -------
    CountsModel or None

    Raises
    ------
    ValueError
        If a map of counts is given for another image, or a weight for a map of counts.
    """
    automatic = isinstance(model, str) and model == "auto"
    if automatic:
        unit = "counts" if any(value is not None for value in maps.values()) else unit
        known = weight is None and has_counts_model() and is_counts_map(data, unit)
    else:
        known = is_counts_model(model)
    if known and weight is not None:
        raise ValueError("a map of counts has no weights: its noise is that of its counts")
    if known:
        return load_counts_model(COUNTS_MODEL if automatic else model)
    if named := [name for name, value in maps.items() if value is not None]:
        raise ValueError(f"{named[0]} is for maps of counts: use model='counts'")
    return None
