"""The path of one image from its data to its sources, background and noise.

`separate` is the whole of it; the rest of this file is how it is offered.
"""

import operator
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from bgrem import __version__
from bgrem.arrays.containers import unwrap
from bgrem.arrays.rows import MEMORY, Derived, Memory
from bgrem.arrays.tiling import map_tiles, over_strips, row_strips, tile_grid
from bgrem.detection.frame import FRAME_NAMES, measure_frame
from bgrem.inference.diffusion import noise_rates, reverse_diffusion
from bgrem.inference.memory import calls_within
from bgrem.inference.model import Model, ModelError, load_model
from bgrem.masks.flags import ARTEFACT, NOT_FINITE, UNSEEN, flag_pixels
from bgrem.masks.saturation import keep_saturated
from bgrem.separation import MAPS, Separation, SkyMap
from bgrem.sky.absorption import absorbed_light
from bgrem.sky.estimate import center_and_scale, estimate_mesh
from bgrem.sky.level import SecondLook
from bgrem.sky.weights import noise_of_weight, weighted

__all__ = ["remove_background", "separate", "warn_of"]

if TYPE_CHECKING:
    from astropy.nddata import NDData
    from astropy.units import Quantity

# Quantities are arrays to type checkers, too; the more special come first.
Container = TypeVar("Container", "Quantity", "NDData", np.ma.MaskedArray, np.ndarray)
ModelLike = str | os.PathLike[str] | Model

SMALLEST = 16  # pixels: nothing can be told of a narrower image
THIN = 16  # rows, where each takes several numbers in double precision
BRIGHTEST = 1e10  # sky rms: a stray 1e300 must not become infinite in single precision
RAW_LEVEL = 5.0  # sky rms: a frame with a higher level is raw, and has no true pixel below 0
NOTABLE = 0.15  # distance of an entry from the range of training frames that a user is told
LARGEST_LOG_VARIANCE = 60.0  # the exponential of more is no number that means anything
PARTS = ("sources", "mask")
PART_OF_CHANNEL = {
    "residual": "sources",
    "log_variance": "uncertainty",
    "artefact": "mask",
    "significance": "significance",
}


def separate(
    data: Any,
    *,
    mask: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    weight_type: str = "inverse",
    saturate: float | ArrayLike | None = None,
    model: ModelLike = "optical",
    steps: int = 1,
    norm: float | None = None,
    minpix: float | str | None = None,
    fwhm: float | None = None,
    box: int | None = None,
    tile: int | None = None,
    maps: tuple[str, ...] = MAPS,
    calibrated: bool = True,
    store: Memory = MEMORY,
    progress: Callable[[float], None] | None = None,
) -> Separation:
    """Separate an image into its sources, background and noise.

    Parameters
    ----------
    data : array_like
        Image of shape (ny, nx), any real type, any unit. It is not changed.
    mask : array_like of bool, optional
        True where a pixel is bad. There the sources are 0 and the noise takes the value.
    weight : array_like, optional
        Weight map of shape (ny, nx). The noise map has its shape (less the photon noise of
        sources, where the weight holds it), times the factor that makes it agree with the noise
        that is measured; so has the uncertainty. Where it says that there are no data (an inverse
        variance of 0, an infinite variance), pixels count as masked.
    weight_type : str
        "inverse" (inverse variance, as SExtractor's MAP_WEIGHT), "variance" or "rms".
    saturate : float or array_like of bool, optional
        Level from which on a pixel is saturated, in data units, or True where one is. Such
        pixels are flagged and keep all their light above the sky as sources.
    model : str, path or `~bgrem.inference.model.Model`
        A model's name, its ``.onnx`` file, or a loaded one.
    steps : int
        Number of diffusion steps; the time taken is proportional to it.
    norm : float, optional
        Factor that brings the standard deviation of the noise to 1: the noise is
        1 / ``norm`` everywhere. Default, or 0: it is estimated, as a map.
    minpix : float or "auto", optional
        Pixels below it are raised to it before anything else (detector failures); what
        they lack goes to the noise. "auto" is 0 for raw frames, whose sky level is above
        5 times its rms, and none for others. Default: none.
    fwhm : float, optional
        Full width at half maximum of the stars in pixels. Default: measured.
    box : int, optional
        Side of a cell of the sky mesh in pixels. Default: that of the model's training.
    tile : int, optional
        Largest side of a tile in pixels. Default: the model's.
    maps : tuple of str
        Those of "uncertainty" and "significance" that are wanted; each takes the memory
        of an image.
    calibrated : bool
        Whether the uncertainty is corrected by the calibration in the model's card, where it
        has one.
    store : `~bgrem.arrays.rows.Memory`
        Where whole images are kept while they are worked on, and the parts.
    progress : callable, optional
        Called with the fraction that is done, 0 to 1.

    Returns
    -------
    Separation

    Raises
    ------
    ValueError
        If the image is not 2-D, too small, constant or without a good pixel, or an option
        is out of range.
    """
    data, mask, _ = unwrap(data, mask)
    _check(data, steps=steps, norm=norm, minpix=minpix, fwhm=fwhm, box=box, maps=maps)
    model = model if isinstance(model, Model) else load_model(model)
    card = model.card
    tiling = {"tile": tile or card.tile, "overlap": card.overlap, "multiple": card.multiple}
    channels = [name for name in card.channels if PART_OF_CHANNEL.get(name) in (*PARTS, *maps)]
    work: dict[str, Any] = {
        "calls": calls_within(store, data.shape, model, maps, tile),
        "channels": tuple(card.channels.index(name) for name in channels),
    }
    sides, _ = tile_grid(data.shape, **tiling)
    ready = Thread(target=model.prepare, args=(sides,), kwargs=work)  # while the sky is measured
    ready.start()
    noise = None
    if weight is not None:
        noise = noise_of_weight(weight, weight_type, data.shape, store=store)
    no_data = None if noise is None else Derived(noise, np.isnan)
    flags = flag_pixels(
        data, mask=mask, saturate=saturate, no_data=no_data, store=store, threads=work["calls"]
    )
    lost = _count_unseen(flags)
    bad = Derived(flags, lambda bits: (bits & UNSEEN) != 0) if lost else None

    x, sky, minpix = _standardised(
        data, bad, minpix=minpix, norm=norm, box=box or card.box, noise=noise, store=store,
        threads=work["calls"],
    )  # fmt: skip
    in_sky_rms = _InSkyRms(x, sky.mesh, bad)
    frame = measure_frame(in_sky_rms, bad, step=sky.mesh.quantisation, fwhm=fwhm)

    vector, unlike = _frame_vector(frame, card)
    network = partial(model, frame=vector, **work)  # of (x, rate)
    ready.join()
    strips = map_tiles(
        lambda part: reverse_diffusion(network, part[None, None], steps=steps)[0],
        (in_sky_rms[rows] for rows in row_strips(data.shape)),
        data.shape,
        **tiling,
        calls=work["calls"],
    )
    parts = _empty_parts(channels, x, _dtype(data), flags, store)
    calibration = card.calibration if calibrated else None
    second_look = SecondLook(sky.mesh)
    for rows, strip in _numbered(strips):
        image, rms = x[rows].copy(), sky.mesh.rms_rows(rows.start, rows.stop)
        rms_of_data = np.float64(sky.scale) * rms
        for name, channel in zip(channels, strip, strict=True):
            if name == "log_variance":
                channel = _deviation(channel, strip[0], calibration)
            part = parts[PART_OF_CHANNEL[name]]
            part[rows] = _in_data_units(part[rows], name, channel, rms_of_data)
        second_look.add(rows, image, strip[0] * rms, rms, flags[rows])
        if progress:
            progress(rows.stop / data.shape[0])
    noticed = _warnings(lost / flags.size, unlike, sky.mesh)
    sky = replace(sky, mesh=second_look.corrected())
    del in_sky_rms, second_look  # and the splines of the first look
    keep_saturated(parts["sources"], data, sky.background_rows, flags)
    if bad is not None:
        _blank(parts, flags)

    provenance = _provenance(model, sky, steps=steps, norm=norm, minpix=minpix, fwhm=frame.fwhm)
    provenance["weight"] = None if weight is None else weight_type
    provenance["saturate"] = (
        None if saturate is None or np.ndim(saturate) else float(np.asarray(saturate))
    )
    provenance["warnings"] = noticed
    return Separation(data=data, sky=sky, provenance=provenance, store=store, **parts)


def _empty_parts(channels, x, dtype, flags, store) -> dict[str, np.ndarray]:
    """Room for what the channels become."""
    parts = {
        part: store.empty(x.shape, dtype)
        for part in map(PART_OF_CHANNEL.get, channels)
        if part in MAPS
    }
    # What is finished has been read: the sources may take the place of x, row by row.
    parts["sources"] = x if x.dtype == dtype else store.empty(x.shape, dtype)
    parts["mask"] = flags
    return parts


def _in_data_units(part: np.ndarray, name: str, channel: np.ndarray, rms: np.ndarray):
    """What rows of a part become by those of a channel, which is in units of the sky rms."""
    if name in ("residual", "log_variance"):  # sources and their deviation by now
        return channel * rms
    if name == "artefact":
        return part | (channel > 0).view(np.uint8) * np.uint8(ARTEFACT)
    return channel


def _deviation(log_variance: np.ndarray, sources: np.ndarray, calibration) -> np.ndarray:
    """Standard deviation of the sources, in units of the sky rms as they are."""
    sigma = np.exp(0.5 * np.minimum(log_variance, LARGEST_LOG_VARIANCE))
    return sigma if calibration is None else calibration.uncertainty(sigma, sources)


def _blank(parts: dict[str, np.ndarray], flags: np.ndarray) -> None:
    """No sources under bad pixels, and nothing at all where the data are not finite."""
    for rows in row_strips(flags.shape):
        bits = flags[rows]
        if not (bits & UNSEEN).any():
            continue
        for name in parts.keys() - {"mask"}:
            strip = parts[name][rows]
            if name == "sources":
                strip[(bits & UNSEEN) != 0] = 0
            strip[(bits & NOT_FINITE) != 0] = np.nan
            parts[name][rows] = strip


def _check(data, *, steps, norm, minpix, fwhm, box, maps) -> None:
    """Refuse in one sentence what cannot be separated, and options out of range."""
    if data.dtype.kind not in "iuf":
        raise ValueError(f"the image must be of real numbers, not {data.dtype}")
    if data.ndim != 2:
        raise ValueError(f"the image must have 2 axes, not {data.ndim}")
    if min(data.shape) < SMALLEST:
        raise ValueError(
            f"the image of {data.shape[1]} x {data.shape[0]} pixels is too small "
            f"(at least {SMALLEST} x {SMALLEST} are needed)"
        )
    noise_rates(operator.index(steps))
    if norm is not None and not (np.isfinite(norm) and norm >= 0):
        raise ValueError(f"norm must be a positive number, or 0 for an estimate, not {norm}")
    if isinstance(minpix, str) and minpix != "auto":
        raise ValueError(f"minpix must be a number, 'auto' or None, not {minpix!r}")
    if not isinstance(minpix, str | None) and not np.isfinite(minpix):
        raise ValueError(f"minpix must be finite, not {minpix}")
    if fwhm is not None and not (np.isfinite(fwhm) and fwhm > 0):
        raise ValueError(f"fwhm must be a positive number of pixels, not {fwhm}")
    if box is not None and operator.index(box) < SMALLEST:
        raise ValueError(f"box must be at least {SMALLEST} pixels, not {box}")
    if unknown := set(maps) - set(MAPS):
        raise ValueError(f"unknown maps {sorted(unknown)}; there are {', '.join(MAPS)}")


def _count_unseen(flags: np.ndarray) -> int:
    """Number of the pixels of which the path is told nothing."""
    strips = (flags[rows] for rows in row_strips(flags.shape))
    return sum(int(np.count_nonzero(bits & UNSEEN)) for bits in strips if np.count_nonzero(bits))


def _dtype(data: np.ndarray) -> np.dtype:
    """Double precision is kept, anything else becomes single."""
    double = data.dtype.kind == "f" and data.dtype.itemsize >= 8
    return np.dtype(np.float64 if double else np.float32)


def _rms_of_norm(norm: float, scale: float) -> float:
    """The noise, in units of ``scale``, that a normalisation factor brings to 1."""
    if not 1 / BRIGHTEST < norm * scale < BRIGHTEST:
        raise ValueError(f"norm {norm:g} is out of range, the noise is about {scale:.3g}")
    return 1 / (norm * scale)


def _raised(data, minpix: float | str | None):
    if minpix is None or minpix == "auto":
        return data

    def raised(part: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # -1e300 is -inf in single precision, which raises nothing
            return np.maximum(part, minpix)

    return Derived(data, raised)


def _standardised(
    data, bad, *, minpix, norm, box, noise, store, threads
) -> tuple[np.ndarray, SkyMap, float | None]:
    """(data - center) / scale in float64, kept as float32; its sky; and what "auto" came to."""
    center, scale = center_and_scale(_raised(data, minpix), bad)
    if minpix == "auto":
        minpix = 0.0 if center > RAW_LEVEL * scale else None
    x = store.empty(data.shape, np.float32)
    raised = _raised(data, minpix)

    def standardise(rows: slice) -> None:
        strip = raised[rows].astype(np.float64)
        strip -= center
        strip /= scale
        np.clip(strip, -BRIGHTEST, BRIGHTEST, out=strip)
        if bad is not None:
            strip[bad[rows]] = 0
        x[rows] = strip

    over_strips(standardise, x.shape, height=THIN, threads=threads)
    mesh = estimate_mesh(x, bad, box=box, threads=threads)
    if norm:
        mesh = replace(mesh, rms=np.full_like(mesh.rms, _rms_of_norm(norm, scale)))
    if noise is not None:
        mesh = weighted(mesh, x, bad, noise)
    return x, SkyMap(mesh, center, scale), minpix


class _InSkyRms:
    """An image less the sky's level, over its noise, worked out where it is read: by rows."""

    def __init__(self, x, mesh, bad) -> None:
        self.shape = x.shape
        self._x, self._mesh, self._bad = x, mesh, bad
        self._rows, self._strip = slice(0), np.empty((0, x.shape[1]), np.float32)

    def __getitem__(self, key) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if rows != self._rows:  # blocks side by side are of the same rows
            self._rows, self._strip = rows, self._worked_out(*rows.indices(self.shape[0])[:2])
        return self._strip[:, columns]

    def _worked_out(self, start: int, stop: int) -> np.ndarray:
        strip = self._x[start:stop] - self._mesh.background_rows(start, stop)
        strip /= self._mesh.rms_rows(start, stop)
        if self._bad is not None:
            strip[self._bad[start:stop]] = 0  # looks like sky
        return strip


def _numbered(strips) -> Iterator[tuple[slice, np.ndarray]]:
    """The strips in slices that fit the processor's cache, with the rows that they fill."""
    start = 0
    for strip in strips:
        for top in range(0, strip.shape[1], THIN):
            thin = strip[:, top : top + THIN]
            yield slice(start + top, start + top + thin.shape[1]), thin
        start += strip.shape[1]


def _frame_vector(frame, card) -> tuple[np.ndarray, list[str]]:
    """The entries that a model was trained with, within the range that its training frames reach.

    A network extrapolates wildly beyond it. Returns also the names of those that were notably
    outside.
    """
    known = dict(zip(FRAME_NAMES, frame.entries(), strict=True))
    if missing := [name for name in card.frame if name not in known]:
        raise ModelError(f"the model needs another version of bgrem ({', '.join(missing)} unknown)")
    entries = np.array([known[name] for name in card.frame], dtype=np.float32)
    if not card.lowest:
        return entries, []
    vector = np.clip(entries, np.float32(card.lowest), np.float32(card.highest))
    far = np.abs(entries - vector) > NOTABLE
    return vector, [name for name, unlike in zip(card.frame, far, strict=True) if unlike]


def _provenance(model, sky, *, steps, norm, minpix, fwhm) -> dict:
    """How the parts came about; see `Separation`."""
    return {
        "version": __version__,
        "model": model.card.name,
        "sha256": model.sha256,
        "engine": str(model.engine),
        "steps": int(steps),
        "norm": float(norm or 0.0),
        "level": sky.level,
        "rms": sky.rms,
        "minpix": None if minpix is None else float(minpix),
        "fwhm": fwhm,
        "signif_1": _threshold(model.card, 1.0),
        "signif_10": _threshold(model.card, 10.0),
    }


def _threshold(card, rate: float) -> float | None:
    """Significance above which a model has so many false detections per Mpix, if it is known."""
    try:
        return card.calibration.threshold_for(rate) if card.calibration else None
    except ValueError:
        return None


def _warnings(part: float, unlike: list[str], mesh) -> list[str]:
    """What a user must know of the frame, of which a part is bad, one short sentence each."""
    told = [f"{part:.0%} of the pixels are bad"] if part > 0.5 else []
    if unlike:
        told.append(f"unlike the training frames: {', '.join(unlike)}")
    if place := absorbed_light(mesh):
        told.append(
            f"light wider than the sky box ({mesh.box} px) may be in the background near "
            f"x={place[0]}, y={place[1]}: a larger box keeps it"
        )
    return told


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
    model: ModelLike = "optical",
    steps: int = 1,
    **options: Any,
) -> Any:
    """Remove the background and the noise from an image: its sources are left.

    Parameters
    ----------
    data : array_like, `~astropy.units.Quantity`, `~astropy.nddata.NDData` or masked array
        Image of shape (ny, nx). It is not changed.
    mask : array_like of bool, optional
        True where a pixel is bad, in addition to the mask that ``data`` may have.
    model : str, path or `~bgrem.inference.model.Model`
        A model's name, its ``.onnx`` file, or a loaded one.
    steps : int
        Number of diffusion steps.
    **options
        ``weight``, ``weight_type``, ``saturate``, ``norm``, ``minpix``, ``fwhm``, ``box``,
        ``tile`` and ``progress``, as for `separate`.

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
        Where the frame is unlike those of the training, or light may be in the background.

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
    >>> bool(abs(sources.sum() / 50_000 - 1) < 0.05)
    True
    """
    _, _, wrap = unwrap(data, None)
    maps = ("uncertainty",) if hasattr(data, "uncertainty") else ()
    parts = separate(data, mask=mask, model=model, steps=steps, maps=maps, **options)
    warn_of(parts)
    return wrap(parts.sources, parts.uncertainty)


def warn_of(parts: Separation) -> None:
    """Pass on what was noticed, as warnings of the caller's caller, who may not see the provenance.

    Parameters
    ----------
    parts : `~bgrem.separation.Separation`
    """
    if parts.provenance["warnings"]:
        from astropy.utils.exceptions import AstropyUserWarning

        for line in parts.provenance["warnings"]:
            warnings.warn(line, AstropyUserWarning, stacklevel=3)
