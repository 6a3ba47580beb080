"""Fluxes of sources at known places: in apertures, weighted by the PSF, and as SExtractor takes them."""

import numpy as np
import sep

from bgrem.arrays.stamps import moved_psf
from bgrem.masks.areas import grown, inner, inside
from bgrem.options import ERROR_SIDES

__all__ = [
    "aperture_fluxes", "aperture_uncertainties", "auto_fluxes", "circles_inside", "circles_on_a_grid",
    "median_and_scatter", "psf_fluxes", "sum_uncertainties", "uncertainty_of_model",
]  # fmt: skip

#: SExtractor's PHOT_AUTOPARAMS: Kron factor, least radius.
KRON_FACTOR, LEAST_KRON_RADIUS = 2.5, 3.5


@np.errstate(all="ignore")
def aperture_fluxes(image, x, y, radius):
    """Sums in circles, pixels on the rim by their share.

    Parameters
    ----------
    image : (ny, nx) array
        Values that are not finite count as zero.
    x, y : (n,) array
        Centres in pixels.
    radius : float or (n,) array
        In pixels.

    Returns
    -------
    (n,) float64
    """
    flux, _, _ = sep.sum_circle(
        _without_nonfinite(image), np.asarray(x, float), np.asarray(y, float), radius
    )
    return flux


def aperture_uncertainties(sigma, x, y, radius):
    """Standard deviations of `aperture_fluxes` if the errors of the pixels were independent.

    Parameters
    ----------
    sigma : (ny, nx) array
        Standard deviation of each pixel.
    x, y, radius
        As for `aperture_fluxes`.

    Returns
    -------
    (n,) float64
    """
    variance = np.square(sigma, dtype=np.float64)
    return np.sqrt(aperture_fluxes(variance, x, y, radius))


@np.errstate(all="ignore")
def sum_uncertainties(parts, x, y, radius, *, calibration, fwhm):
    """Standard deviations of the sums of the sources in circles.

    The errors of neighbouring pixels are correlated: a star that is taken for too bright is too bright
    in all its pixels. The model's card gives the factor by which this widens the error of a sum. The error
    of the background is that of the whole circle.

    Parameters
    ----------
    parts : `~bgrem.separation.Separation`
        With uncertainty.
    x, y : (n,) array
        Centres in pixels.
    radius : float
        In pixels.
    calibration : `~bgrem.network.calibration.Calibration`
        The model's: ``load_model("optical").card.calibration``.
    fwhm : float
        Full width at half maximum of the stars in pixels: ``parts.provenance["fwhm"]``.

    Returns
    -------
    (n,) float64
        In data units.

    Raises
    ------
    ValueError
        If the model was not calibrated for sums, or the FWHM is not known.
    """
    if not (np.isfinite(fwhm) and fwhm > 0):
        raise ValueError(f"the FWHM of the stars must be a positive number of pixels, not {fwhm}")
    flux = aperture_fluxes(parts.sources, x, y, radius)
    noise = aperture_uncertainties(parts.rms, x, y, radius)
    own = uncertainty_of_model(parts)
    independent = aperture_uncertainties(own, x, y, radius)
    error = independent * calibration.of_circles(radius / fwhm, flux / noise, fwhm=fwhm)
    # The background is off by about as much in all pixels of a circle.
    level = aperture_fluxes(parts.background_error, x, y, radius)
    return np.hypot(error, level * _error_of_means(parts.provenance, np.sqrt(np.pi) * radius))


def _error_of_means(provenance, side):
    """Factor of the background's error for means over squares of a side in pixels."""
    factors = (1.0, provenance.error_64, provenance.error_256)
    return np.interp(np.log(side), np.log(ERROR_SIDES), factors)


def uncertainty_of_model(parts):
    """Standard deviation of the sources without the error of the background.

    Parameters
    ----------
    parts : `~bgrem.separation.Separation`
        With uncertainty.

    Returns
    -------
    (ny, nx) array
    """
    variance = np.square(parts.uncertainty, dtype=np.float64)
    variance -= np.square(parts.background_error, dtype=np.float64)
    return np.sqrt(np.maximum(variance, 0))


def circles_on_a_grid(usable, radius):
    """Centres of circles on a regular grid that touch no pixel but usable ones.

    Parameters
    ----------
    usable : (ny, nx) bool
    radius : float
        In pixels; the circles touch each other, with centres at least 4 pixels apart.

    Returns
    -------
    x, y : (n,) float64
    """
    x, y = circles_inside(usable.shape, radius)
    kept = inside(~grown(~usable, radius), x, y)
    return x[kept], y[kept]


def circles_inside(shape, radius):
    """Centres of circles on a regular grid that do not reach the border; as `circles_on_a_grid`."""
    spacing = max(4.0, 2.0 * radius)
    x, y = np.meshgrid(*(np.arange(radius, n - radius, spacing) for n in shape[::-1]))
    x, y = x.ravel(), y.ravel()
    kept = inside(inner(shape, int(np.ceil(radius))), x, y)
    return x[kept], y[kept]


def psf_fluxes(image, x, y, psf):
    """Fluxes of point sources at known places, by least squares with equal weights.

    flux = sum(P d) / sum(P^2), with the PSF moved to the place by a cubic spline: neighbours and a
    level below the sources are not fitted.

    Parameters
    ----------
    image : (ny, nx) array
        Values that are not finite count as zero.
    x, y : (n,) array
        Centres in pixels, inside the image.
    psf : (k, k) array
        k odd; its sum is the flux that counts as one.

    Returns
    -------
    (n,) float64
    """
    half = psf.shape[0] // 2
    padded = np.pad(_without_nonfinite(image), half)
    flux = np.empty(np.size(x))
    for i, (column, row) in enumerate(zip(x, y, strict=True)):
        moved, left, bottom = moved_psf(psf, column, row)
        rows, columns = (slice(low + half, low + 3 * half + 1) for low in (bottom, left))
        flux[i] = (moved * padded[rows, columns]).sum() / np.square(moved).sum()
    return flux


def median_and_scatter(ratio):
    """Median, half of the central 68 %, and number of a sample; the first two nan below five.

    Parameters
    ----------
    ratio : (n,) array
        Values that are not finite are left out.

    Returns
    -------
    tuple
    """
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size < 5:
        return np.nan, np.nan, ratio.size
    low, middle, high = np.percentile(ratio, (16, 50, 84))
    return middle, (high - low) / 2, ratio.size


def auto_fluxes(image, objects):
    """SExtractor's FLUX_AUTO: an ellipse of 2.5 Kron radii, a circle of 3.5 pixels at least.

    Parameters
    ----------
    image : (ny, nx) array
        Sky-subtracted.
    objects : structured array
        As `sep.extract` gives it.

    Returns
    -------
    (n,) float64
    """
    image = _without_nonfinite(image)
    x, y, a, b, angle = (objects[name] for name in ("x", "y", "a", "b", "theta"))
    # The library takes no ellipse of zero width and no angle beyond a right one.
    a, b = np.maximum(a, 0.3), np.maximum(b, 0.3)
    angle = np.clip(angle, -0.5 * np.pi, 0.5 * np.pi)
    kron, _ = sep.kron_radius(image, x, y, a, b, angle, 6.0)
    kron = np.where(np.isfinite(kron), kron, 0.0)
    small = KRON_FACTOR * kron * np.sqrt(a * b) < LEAST_KRON_RADIUS
    flux, _, _ = sep.sum_ellipse(
        image, x, y, a, b, angle, np.where(small, 1.0, KRON_FACTOR * kron), subpix=5
    )
    circle, _, _ = sep.sum_circle(image, x, y, LEAST_KRON_RADIUS)
    return np.where(small, circle, flux)


def _without_nonfinite(image):
    """C-contiguous float32 without what is not finite."""
    image = np.ascontiguousarray(image, dtype=np.float32)
    return np.where(np.isfinite(image), image, np.float32(0))
