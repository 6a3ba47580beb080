"""A catalogue of an image, calibrated on the image itself."""

from functools import partial
from typing import Any

from bgrem.background import ModelLike, separate
from bgrem.catalogue.image_catalogue import catalogue_of, list_sources
from bgrem.inference.model import optical_model
from bgrem.io.header_facts import ZeroPoint
from bgrem.options import DEFAULTS, CatalogueOptions, Options
from bgrem.separation import Separation

__all__ = ["make_catalog"]


def make_catalog(
    parts: Separation,
    *,
    model: ModelLike = "optical",
    options: Options = DEFAULTS,
    wcs: Any = None,
    unit: str = "",
    detected: Separation | None = None,
    **asked: Any,
) -> Any:
    """List the sources of an image, with false detections and completeness measured on it.

    Its noise with the sign changed, and sources planted into it, are separated as the image was:
    `bgrem.Separation.catalog` does without and takes no time.

    Parameters
    ----------
    parts : Separation
        With the map "significance".
    model : str, path or `~bgrem.Model`
        That of the parts.
    options : `~bgrem.Options`
        Those of the parts.
    wcs : `~astropy.wcs.WCS`, optional
        Gives the places on the sky.
    unit : str
        Of the data.
    detected : Separation, optional
        Of another image on the same pixels, on which the sources are detected.
    **asked
        ``false_rate`` (false detections per Mpix that the list may have, 10), ``purity`` (least probability
        to be real), ``calibrate`` (True), ``gain`` (electrons per data unit) and ``zeropoint`` (magnitude of one
        data unit).

    Returns
    -------
    `~astropy.table.QTable`
        The columns are those of the option ``--catalog``; ``meta["SELECTION"]`` is the table of completeness.

    Raises
    ------
    ValueError
        If there is no significance, the model is not calibrated, or an option is out of range.
    """
    wanted = CatalogueOptions(**asked)
    model = optical_model(model)
    listing = list_sources(
        parts, wanted, model.card, separate=partial(separate, model=model, options=options),
        gain=wanted.gain, detected=detected,
    )  # fmt: skip
    zero_point = None if wanted.zeropoint is None else ZeroPoint(wanted.zeropoint, "given")
    return catalogue_of(listing, wanted, unit=unit, wcs=wcs, zero_point=zero_point)
