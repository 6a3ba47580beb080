"""The path of a counts map from its photons to its sources and background."""

from dataclasses import dataclass

import numpy as np

from bgrem import __version__
from bgrem.arrays.rows import Derived, Rows
from bgrem.counts.bands import MOST_SUMMED, WIDEST_FWHM, separate_bands
from bgrem.counts.counts_input import ASSUMED_FWHM, area_fwhm, gaussian_image, noise_area
from bgrem.counts.counts_model import COUNTS_MODEL, CountsModel, load_counts_model
from bgrem.counts.whole_numbers import why_no_counts
from bgrem.masks.flags import MASKED, NO_DATA, NOT_FINITE, UNSEEN
from bgrem.options import DEFAULTS, IN_MEMORY, SMALLEST_IMAGE, Options, Run
from bgrem.separation import NoteOfAllPlanes, Provenance, Separation

__all__ = ["CountsBackground", "separate_counts"]

FILLED_OVER = 4.0  # px: sigma of the means that continue a background under masked pixels


@dataclass(frozen=True, eq=False)
class CountsBackground:
    """The background of a counts map, as the sky of a `~bgrem.separation.Separation`.

    Attributes
    ----------
    level : ndarray, (ny, nx) float32
        Expected counts.
    """

    level: np.ndarray
    wide_light: None = None
    in_background: bool = False
    error: None = None

    @property
    def background(self) -> Rows:
        """Expected counts of each pixel."""
        return self.level

    @property
    def rms(self) -> Rows:
        """Square root of the expected counts of the background."""
        return Derived(self.level, lambda part: np.sqrt(np.maximum(part, self._least)))

    @property
    def _least(self) -> float:
        return max(1e-3 * self.median_level, 1e-9)

    @property
    def median_level(self) -> float:
        """Median over the pixels with a background."""
        seen = self.level[self.level > 0]
        return float(np.median(seen)) if seen.size else 0.0

    @property
    def median_rms(self) -> float:
        """Square root of the median level, or 1 without a background."""
        return float(np.sqrt(self.median_level)) or 1.0


def separate_counts(
    data,
    *,
    mask=None,
    exposure=None,
    template=None,
    psf=None,
    model: "str | CountsModel" = COUNTS_MODEL,
    options: Options = DEFAULTS,
    run: Run = IN_MEMORY,
) -> Separation | list[Separation]:
    """Separate a counts map, or the energy bands of a cube together.

    Parameters
    ----------
    data : array_like
        Counts of shape (ny, nx) or (k, ny, nx): whole numbers, or NaN where nothing is known.
    mask : array_like of bool, optional
        True where a pixel is bad, of the shape of the data or of one band.
    exposure : array_like, optional
        Of the shape of the data or of one band, in any unit; 0, negative or NaN where nothing was seen.
    template : array_like, optional
        Shape of the diffuse background per unit exposure, in any unit; shape as ``exposure``.
    psf : float or array_like, optional
        FWHM of a Gaussian in pixels, or an image of the PSF (n, n) or one per band (k, n, n), with n odd.
    model : str, path or CountsModel
    options : `~bgrem.options.Options`
        ``steps``, ``fwhm`` (a ``psf`` takes precedence) and ``maps`` are used.
    run : `~bgrem.options.Run`

    Returns
    -------
    Separation, or list of Separation
        In expected counts; of a cube one per band, the significance the same in all.

    Raises
    ------
    ValueError
        If the data are no counts, too small, or nothing is seen.
    """
    data = np.asarray(data)
    if data.ndim < 2:
        raise ValueError(f"the image must have 2 or more axes, not {data.ndim}")
    stack = data.reshape(-1, *data.shape[-2:])
    _check(stack)
    model = load_counts_model(model)
    flags = _flags(stack, mask, exposure)
    exposure, template = (
        _of_bands(m, stack.shape, name)
        for m, name in ((exposure, "exposure"), (template, "template"))
    )
    kernels, fwhm_from = _kernels(psf if psf is not None else options.fwhm, len(stack))
    counts = np.where(flags & NOT_FINITE, 0, stack).astype(np.float64)
    has_exposure = exposure is not None
    exposure = np.where(flags & NO_DATA, 0, exposure) if has_exposure else None
    if template is not None:
        template = np.where(np.isfinite(template), np.maximum(template, 0), 0)
    parts = separate_bands(
        counts, model=model, seen=(flags & UNSEEN) == 0, exposure=exposure, template=template,
        psf=None if fwhm_from == "assumed" else kernels, steps=options.steps, progress=run.progress,
    )  # fmt: skip
    shape = _shape(stack.shape, exposure, template)
    bands = [
        _separation(
            (stack[k], flags[k], shape[k]),
            parts,
            k,
            (kernels[k], fwhm_from),
            model,
            options,
            has_exposure=has_exposure,
        )
        for k in range(len(stack))
    ]
    return bands if data.ndim > 2 else bands[0]


def _check(stack):
    if stack.dtype.kind not in "iuf":
        raise ValueError(f"the image must be of real numbers, not {stack.dtype}")
    if min(stack.shape[1:]) < SMALLEST_IMAGE:
        raise ValueError(
            f"the image of {stack.shape[2]} x {stack.shape[1]} pixels is too small "
            f"(at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE} are needed)"
        )
    if reason := why_no_counts(stack):
        raise ValueError(f"it is no map of counts: {reason}")


def _of_bands(values, shape, name):
    """A map of the shape of all bands, or None."""
    if values is None:
        return None
    values = np.asarray(values, np.float64)
    values = values.reshape(-1, *values.shape[-2:])
    if values.shape[1:] != shape[1:] or len(values) not in (1, shape[0]):
        raise ValueError(f"the {name} has the shape {values.shape}, the counts {shape}")
    return np.broadcast_to(values, shape)


def _flags(stack, mask, exposure):
    flags = np.zeros(stack.shape, np.uint8)
    if stack.dtype.kind == "f":
        flags[~np.isfinite(stack)] |= NOT_FINITE
    if mask is not None:
        flags[_of_bands(np.asarray(mask) != 0, stack.shape, "mask") != 0] |= MASKED
    if exposure is not None:
        exposure = _of_bands(exposure, stack.shape, "exposure")
        flags[~(np.nan_to_num(exposure, posinf=0) > 0)] |= NO_DATA
    if not ((flags & UNSEEN) == 0).any():
        raise ValueError("no pixel was seen: all are masked, not finite or without exposure")
    return flags


def _kernels(psf, bands):
    """Images of the PSF, (bands, n, n), and where they are from."""
    if psf is None:
        return np.stack([gaussian_image(ASSUMED_FWHM)] * bands), "assumed"
    if np.ndim(psf) == 0:
        fwhm = float(psf)
        if not (np.isfinite(fwhm) and fwhm > 0):
            raise ValueError(f"the FWHM must be a positive number of pixels, not {psf}")
        side = 2 * max(15, int(np.ceil(2.5 * fwhm))) + 1
        return np.stack([gaussian_image(fwhm, side)] * bands), "given"
    psf = np.asarray(psf, np.float64)
    psf = psf.reshape(-1, *psf.shape[-2:])
    n, m = psf.shape[1:]
    total = psf.sum((1, 2))
    if n != m or n % 2 == 0 or len(psf) not in (1, bands):
        raise ValueError(
            f"the PSF has the shape {psf.shape}: an odd square is needed, one for each band"
        )
    if not (np.isfinite(psf).all() and (psf >= 0).all() and (total > 0).all()):
        raise ValueError("the PSF must not be negative, and have a positive sum")
    psf = psf / total[:, None, None]
    return np.broadcast_to(psf, (bands, n, n)), "given"


def _shape(shape, exposure, template):
    """The known shape of the background, also where the counts are masked."""
    known = np.ones(shape)
    for part in (exposure, template):
        known = known if part is None else known * part
    return known


def _separation(plane, parts, k, psf, model, options, *, has_exposure):
    """The parts of band k, whose counts, flags and known shape of the background are the plane."""
    (data, flags, shape), (kernel, fwhm_from) = plane, psf
    bad = (flags & UNSEEN) != 0
    background = _continued(parts.background[k], shape, bad)
    sources = np.where(bad, 0, parts.sources[k]).astype(np.float32)
    deviation = np.sqrt(model.calibrated_variance(parts.variance[k], parts.sources[k]))
    maps = {"uncertainty": deviation, "significance": parts.significance.copy()}
    lost = (flags & NOT_FINITE) != 0
    for part in (sources, *maps.values()):
        part[lost] = np.nan
    sky = CountsBackground(background)
    area = float(noise_area(kernel))
    provenance = Provenance(
        version=__version__, model=model.name, sha256=model.sha256, engine=model.engine, steps=int(options.steps),
        norm=0.0, level=sky.median_level, rms=sky.median_rms, minpix=None,
        fwhm=float(area_fwhm(kernel)), fwhm_from=fwhm_from, sky=f"network {model.sha256[:12]}",
        error_64=np.nan, error_256=np.nan, lost_light=np.nan,
        signif_1=model.threshold_for(area / 100, exposure=has_exposure),
        signif_10=model.threshold_for(area / 10, exposure=has_exposure),
        warnings=_warnings(data, bad, area_fwhm(kernel), fwhm_from),
    )  # fmt: skip
    asked = {name: part for name, part in maps.items() if name in options.maps}
    return Separation(data, sources, sky, flags, provenance, **asked)


def _warnings(data, bad, fwhm, fwhm_from):
    noticed = [] if data[~bad].any() else ["the map has no counts"]
    if bad.mean() > 0.5:
        noticed.append(f"{bad.mean():.0%} of the pixels are bad")
    if fwhm_from == "assumed":
        note = f"a PSF of {ASSUMED_FWHM:g} px FWHM is assumed: give it with --psf"
        noticed.append(NoteOfAllPlanes(note))
    if fwhm > 1.05 * (widest := WIDEST_FWHM * MOST_SUMMED):
        noticed.append(
            f"a PSF of {fwhm:.3g} px FWHM is wider than those of the training (at most {widest:g} px)"
        )
    return tuple(noticed)


def _continued(background, shape, bad):
    """The background, under masked pixels that have an exposure the mean of its neighbours."""
    hidden = bad & (shape > 0)
    if not hidden.any():
        return background
    near = [_mean(np.where(bad, 0, part)) for part in (background, shape)]
    filled = shape * near[0] / np.maximum(near[1], 1e-12 * max(float(shape.max()), 1e-300))
    return np.where(hidden, filled, background).astype(np.float32)


def _mean(image):
    """A Gaussian mean with zeros beyond the map."""
    reach = int(4 * FILLED_OVER)
    offsets = np.arange(-reach, reach + 1)
    profile = np.exp(-0.5 * (offsets / FILLED_OVER) ** 2)
    for axis in (0, 1):
        image = np.apply_along_axis(
            np.convolve, axis, np.asarray(image, np.float64), profile, mode="full"
        )
        image = image.take(np.arange(reach, image.shape[axis] - reach), axis)
    return image
