"""The sources of an image, in the container that the image came in."""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from bgrem.arrays.containers import unit_of, unwrap
from bgrem.background import ModelLike, separate
from bgrem.counts.choice import CHOSEN, loaded_for_counts, takes_counts_model, with_notes
from bgrem.counts.counts_path import separate_counts
from bgrem.inference.model import optical_model
from bgrem.options import DEFAULTS, IN_MEMORY
from bgrem.separation import Separation

__all__ = ["remove_background", "separate_frame", "warn_of"]

if TYPE_CHECKING:
    from astropy.nddata import NDData
    from astropy.units import Quantity

# Quantities are arrays to type checkers, too; the more special come first.
Container = TypeVar("Container", "Quantity", "NDData", np.ma.MaskedArray, np.ndarray)


@overload
def remove_background(
    data: Container,
    *,
    mask: ArrayLike | None = ...,
    model: ModelLike = ...,
    steps: int = ...,
    **options: Any,
) -> Container: ...


@overload
def remove_background(
    data: ArrayLike,
    *,
    mask: ArrayLike | None = ...,
    model: ModelLike = ...,
    steps: int = ...,
    **options: Any,
) -> np.ndarray: ...


def remove_background(
    data: Any,
    *,
    mask: ArrayLike | None = None,
    model: ModelLike = "auto",
    steps: int | None = None,
    **options: Any,
) -> Any:
    """Remove the background and the noise from an image: its sources are left.

    Parameters
    ----------
    data : array_like, `~astropy.units.Quantity`, `~astropy.nddata.NDData` or masked array
        Image of shape (ny, nx), or (k, ny, nx) of a cube of counts. It is not changed. A map of gammapy
        (`~gammapy.maps.WcsNDMap`) gives one of the same geometry.
    mask : array_like of bool, optional
        True where a pixel is bad, in addition to the mask that ``data`` may have.
    model : str, path or `~bgrem.inference.model.Model`
        A model's name, its ``.onnx`` file, or a loaded one.
    steps : int, optional
        Number of diffusion steps. Default: 1.
    **options
        ``exposure``, ``template`` and ``psf`` of counts maps, ``weight``, ``weight_type``, ``saturate``, ``norm``, ``minpix``, ``fwhm``, ``sky``,
        ``extended``, ``box``, ``tile``, ``calibrated``, ``progress``, ``options`` and ``run``, as for
        `separate`.

    Returns
    -------
    sources : same type as ``data``
        The sources, with the unit, WCS, meta and mask of ``data``. The uncertainty of an
        ``NDData`` is that of the sources, of the type that ``data`` has (standard deviation,
        variance or inverse variance) and else a standard deviation.

    Raises
    ------
    ValueError
        As for `separate`.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        Where the frame is unlike those of the training, or its level of the sky is a guess.

    Examples
    --------
    A star on a sky of 1000 adu, with a noise of 10 adu:

    >>> import numpy as np
    >>> from bgrem import remove_background
    >>> y, x = np.indices((256, 256))
    >>> star = 50_000 * np.exp(-((x - 130) ** 2 + (y - 90) ** 2) / 8) / (8 * np.pi)
    >>> data = 1000 + star + np.random.default_rng(1).normal(0, 10, star.shape)
    >>> sources = remove_background(data, fwhm=4.7)
    >>> row, column = np.unravel_index(sources.argmax(), sources.shape)
    >>> int(row), int(column)
    (90, 130)
    >>> bool(abs(sources[70:111, 110:151].sum() / 50_000 - 1) < 0.02)
    True
    """
    array, joined, wrap = unwrap(data, mask)
    maps = ("uncertainty",) if hasattr(data, "uncertainty") else ()
    if steps is not None:
        options["steps"] = steps
    unit = unit_of(data)
    if array.ndim == 3 and takes_counts_model(model, array, unit):
        return _of_cube(array, joined, wrap, model, maps, options)
    parts = separate(data, mask=mask, model=model, **options, maps=maps)
    warn_of(parts)
    return wrap(parts.sources, parts.uncertainty)


def _of_cube(array, mask, wrap, model, maps, options):
    """The sources of the energy bands of a cube of counts, in its container."""
    if options.pop("weight", None) is not None or options.get("saturate") is not None:
        raise ValueError("a map of counts has no weights and no saturation")
    for name in ("weight_type", "saturate"):
        options.pop(name, None)
    given = {k: options.pop(k) for k in ("exposure", "template", "psf") if k in options}
    run = options.pop("run", IN_MEMORY)
    given["run"] = replace(run, progress=options.pop("progress", None) or run.progress)
    asked = replace(options.pop("options", DEFAULTS), **options, maps=maps)
    notes = [CHOSEN] if isinstance(model, str) and model == "auto" else []
    model = loaded_for_counts(model)
    bands = separate_counts(array, mask=mask, model=model, options=asked, **given)
    bands = with_notes(bands, notes)
    warn_of(bands[0])
    sigma = np.stack([one.uncertainty for one in bands]) if maps else None
    return wrap(np.stack([one.sources for one in bands]), sigma)


def separate_frame(data: np.ndarray, *, model: ModelLike = "auto", **options: Any) -> Separation:
    """Separate a frame of a camera, also where its pixels look like counts; a model of counts maps is refused."""
    return separate(data, model=optical_model(model), **options)


def warn_of(parts: Separation) -> None:
    """Pass on what was noticed, as warnings of the caller's caller, who may not see the provenance."""
    if parts.provenance["warnings"]:
        from astropy.utils.exceptions import AstropyUserWarning

        for line in parts.provenance["warnings"]:
            warnings.warn(line, AstropyUserWarning, stacklevel=3)
