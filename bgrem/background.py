"""The path of one image from its data to its sources, background and noise."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bgrem import __version__
from bgrem.arrays.containers import unit_of, unwrap
from bgrem.arrays.rows import Computed, Derived
from bgrem.counts.choice import CHOSEN, model_for_counts, with_notes
from bgrem.counts.counts_path import separate_counts
from bgrem.detection.frame import Frame, measure_frame
from bgrem.detection.lost_light import LostLight
from bgrem.detection.satellites import move_trails
from bgrem.inference.counts_session import CountsModel
from bgrem.inference.denoiser import Denoiser, frame_vector
from bgrem.inference.model import Model, ModelCard, optical_model
from bgrem.masks.filling import fill_bad_pixels
from bgrem.masks.flags import count_unseen, flag_pixels, unseen_pixels
from bgrem.masks.saturation import flag_saturated, keep_saturated
from bgrem.options import DEFAULTS, IN_MEMORY, SMALLEST_IMAGE, Options, Run
from bgrem.separation import Parts, Provenance, Separation
from bgrem.sky.measured import MeasuredSky
from bgrem.sky.objects import absorbed_light
from bgrem.sky.standard import SkyMap, measure_sky, standardise
from bgrem.sky.weights import flag_low_weights, rms_of_weight
from bgrem.sky.wide import WideLight

__all__ = ["ModelLike", "separate"]

ModelLike = str | os.PathLike[str] | Model | CountsModel


@np.errstate(all="ignore")
def separate(
    data: Any,
    *,
    mask: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    weight_type: str = "inverse",
    saturate: float | ArrayLike | None = None,
    exposure: ArrayLike | None = None,
    template: ArrayLike | None = None,
    psf: float | ArrayLike | None = None,
    model: ModelLike = "auto",
    progress: Callable[[float], None] | None = None,
    options: Options = DEFAULTS,
    run: Run = IN_MEMORY,
    **changes: Any,
) -> Separation:
    """Separate an image into its sources, background and noise.

    Parameters
    ----------
    data : array_like
        Image of shape (ny, nx), any real type, any unit. It is not changed.
    mask : array_like of bool, optional
        True where a pixel is bad. There the sources are 0 and the noise takes the value.
    weight : array_like, optional
        Weight map of shape (ny, nx). The rms map is proportional to it (without the photon noise
        of sources, where the weight contains it), and its factor makes it agree with the noise
        that is measured; the uncertainty follows. Where it has no data (an inverse variance of 0,
        an infinite variance), pixels count as masked.
    weight_type : str
        "inverse" (inverse variance, as SExtractor's MAP_WEIGHT), "variance" or "rms".
    saturate : float or array_like of bool, optional
        Level from which on a pixel is saturated, in data units, or True where one is. Such
        pixels are flagged and keep all their light above the sky as sources.
    exposure, template, psf : optional
        Of counts maps: see `bgrem.separate_counts`.
    model : str, path or a model of `~bgrem.load_model`
        A model's name, its ``.onnx`` file, or a loaded one. "auto": counts for a map of few counts with Poisson
        noise (`bgrem.counts.whole_numbers.is_counts_map`), else optical.
    progress : callable, optional
        Called with the fraction that is done, 0 to 1.
    options : `~bgrem.options.Options`
        What is asked of the image.
    run : `~bgrem.options.Run`
        How the work is done.
    **changes
        Values of the options, which take precedence over those of ``options``: ``steps``,
        ``norm``, ``minpix``, ``fwhm``, ``sky``, ``extended``, ``box``, ``tile``, ``maps``,
        ``calibrated``.

    Returns
    -------
    Separation

    Raises
    ------
    ValueError
        If the image is not 2-D, too small, constant or without a good pixel, or an option
        is out of range.
    """
    unit = unit_of(data)
    data, mask, _ = unwrap(data, mask)
    _check(data)
    options = replace(options, **changes)
    maps = {"exposure": exposure, "template": template, "psf": psf}
    if (counts := model_for_counts(model, data, maps, weight, unit)) is not None:
        run = replace(run, progress=progress or run.progress)
        parts = separate_counts(data, mask=mask, **maps, model=counts, options=options, run=run)
        return with_notes([parts], [CHOSEN] if isinstance(model, str) and model == "auto" else [])[
            0
        ]
    model = optical_model(model)
    denoiser = Denoiser(model, data.shape, options, run)
    run = replace(run, threads=denoiser.calls, progress=progress or run.progress)

    rms_map = None if weight is None else rms_of_weight(weight, weight_type, data.shape, run)
    no_data = None if rms_map is None else Derived(rms_map, np.isnan, bool)
    flags = flag_pixels(data, mask=mask, no_data=no_data, run=run)
    unseen = count_unseen(flags)
    bad = unseen_pixels(flags) if unseen else None

    image = standardise(data, bad, options.minpix, run)
    sky = measure_sky(image, bad, rms_map, options, box=model.card.box, network=model.sky, run=run)
    noticed = flag_saturated(flags, data, saturate, SkyMap(sky, image.center, image.scale), run)
    if noticed:
        saturate = None
    if rms_map is not None:
        noticed += flag_low_weights(flags, image.pixels, sky.local)
        unseen = count_unseen(flags)
        bad = unseen_pixels(flags) if unseen else None

    local = sky.local
    if bad is not None:
        fill_bad_pixels(image.pixels, bad, local.background, local.unit, run)

    def in_units(rows: slice) -> np.ndarray:
        return (image.pixels[rows] - local.background[rows]) / local.unit[rows]

    x = Computed(data.shape, np.float32, in_units, keep=True)
    frame = measure_frame(x, bad, step=local.quantisation, fwhm=options.fwhm)
    vector, unlike = frame_vector(frame, model.card)

    parts = Parts(denoiser.channels, image.pixels, flags, model.card, options, _dtype(data), run)
    wide_light, lost_light = WideLight(sky), LostLight(local)
    for rows, channels in denoiser.strips(x, vector):
        seen, unit = np.array(image.pixels[rows]), local.unit[rows]
        parts.put(rows, channels, np.float64(image.scale) * unit)
        sources = channels[0] * unit
        in_noise = wide_light.add(rows, seen, sources, flags[rows])
        lost_light.add(rows, seen, sources + in_noise, local.rms[rows], flags[rows])
        run.report(rows.stop / len(data))

    noticed += _warnings(unseen / flags.size, frame, unlike, sky) + lost_light.warnings()
    wide = wide_light.light()
    in_background = options.extended == "background"
    sky_map = SkyMap(sky, image.center, image.scale, wide, in_background=in_background)
    parts.add(None if in_background else wide, sky_map)
    noticed += move_trails(
        parts.sources, parts.mask, data, sky_map.background, sky_map.rms, parts.maps.get("significance"),
    )  # fmt: skip
    keep_saturated(parts.sources, data, sky_map.background, flags)
    parts.blank(bad)
    provenance = _provenance(
        model, sky_map, options, minpix=image.minpix, warnings=noticed,
        fwhm=frame.fwhm_or_typical, fwhm_from=frame.fwhm_from,
        weight=None if weight is None else weight_type, saturate=saturate,
        lost_light=lost_light.fraction,
    )  # fmt: skip
    return Separation(
        data, parts.sources, sky_map, parts.mask, provenance, **parts.maps, store=run.store
    )


def _check(data) -> None:
    """Refuse in one sentence what cannot be separated."""
    if data.dtype.kind not in "iuf":
        raise ValueError(f"the image must be of real numbers, not {data.dtype}")
    if data.ndim != 2:
        raise ValueError(f"the image must have 2 axes, not {data.ndim}")
    if min(data.shape) < SMALLEST_IMAGE:
        raise ValueError(
            f"the image of {data.shape[1]} x {data.shape[0]} pixels is too small "
            f"(at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE} are needed)"
        )


def _dtype(data: np.ndarray) -> np.dtype:
    """Double precision is kept, anything else becomes single."""
    double = data.dtype.kind == "f" and data.dtype.itemsize >= 8
    return np.dtype(np.float64 if double else np.float32)


def _provenance(
    model: Model, sky_map: SkyMap, options: Options, *, saturate, **facts
) -> Provenance:
    """How the parts came about."""
    _, error_64, error_256 = sky_map.sky.error_of_means
    return Provenance(
        version=__version__, model=model.card.name, sha256=model.sha256, engine=str(model.engine),
        steps=int(options.steps), norm=float(options.norm or 0.0),
        level=sky_map.median_level, rms=sky_map.median_rms,
        sky=_name_of(sky_map.sky, model), extended=_place_of_wide_light(sky_map.sky, options),
        error_64=error_64, error_256=error_256,
        signif_1=_threshold(model.card, 1.0), signif_10=_threshold(model.card, 10.0),
        saturate=None if saturate is None or np.ndim(saturate) else float(np.asarray(saturate)),
        **facts,
    )  # fmt: skip


def _name_of(sky: MeasuredSky, model: Model) -> str:
    """What measured the sky: a network with the start of its hash, or a mesh."""
    return "mesh" if sky.wide_part is None else f"network {model.sky.sha256[:12]}"


def _place_of_wide_light(sky: MeasuredSky, options: Options) -> str:
    """The part that holds wide light: a mesh follows it."""
    return "background" if sky.wide_part is None else options.extended


def _threshold(card: ModelCard, rate: float) -> float | None:
    """Significance above which a model has a rate of false detections per Mpix, if it is known."""
    try:
        return card.calibration.threshold_for(rate) if card.calibration else None
    except ValueError:
        return None


def _warnings(part: float, frame: Frame, unlike: list[str], sky: MeasuredSky) -> list[str]:
    """What a user must know of the frame, of which a part is bad, one short sentence each."""
    noticed = [f"{part:.0%} of the pixels are bad"] if part > 0.5 else []
    if frame.trails:
        noticed.append(
            f"the stars are trails at {round(frame.trails.angle) % 180} degrees from the x axis: they may be in "
            "the noise"
        )
    if unlike:
        noticed.append(f"unlike the training frames: {', '.join(unlike)}")
    if place := absorbed_light(sky.mesh):
        noticed.append(
            f"the sky is a mesh, and light wider than its cells ({sky.mesh.box} px) may be in the background "
            f"near x={place[0]}, y={place[1]}: a larger box keeps it"
        )
    if sky.is_filled:
        noticed.append(
            "light that fills the frame: no sky is seen, the level of the background is a guess"
        )
    return noticed
