"""Fluxes of point sources on counts maps: the recipe for what bgrem gives.

    found = local_maxima(parts.significance, threshold=threshold)
    background = continued_background(parts.background, found, radius=1.5 * fwhm, shape=exposure * template)
    fluxes = fit_counts_sources(counts, background, psf, found, exposure=exposure)

The fluxes are measured on the counts, not on ``sources``: these are the mean of what is possible given the counts, which is
less than the truth where a source is not sure.
"""

import numpy as np
from scipy import ndimage

__all__ = ["CLEARED", "continued_background", "fit_counts_sources", "profile_interval"]

#: Radius around a detection within which the background is continued, FWHM.
CLEARED = 1.5
SWEEPS, HALVINGS = 4, 60  # of the joint fit of sources, and of an interval


def continued_background(background, places, *, radius, shape):
    """A background without the light that it may have taken from detected sources.

    Within a radius of each detection it is a known shape, scaled by the ratio of the Gaussian means of the
    background and of the shape outside.

    Parameters
    ----------
    background : (ny, nx) array
        Expected counts.
    places : structured array
        Fields x, y in pixels.
    radius : float
        Pixels. The Gaussians have this radius as 1.5 standard deviations.
    shape : (ny, nx) array
        Of the background, of any scale: exposure times template, the exposure, or ones.

    Returns
    -------
    (ny, nx) float64
    """
    background, shape = (np.asarray(plane, dtype=np.float64) for plane in (background, shape))
    y, x = np.indices(background.shape)
    inside = np.zeros(background.shape, dtype=bool)
    for place in places:
        inside |= (x - place["x"]) ** 2 + (y - place["y"]) ** 2 <= radius * radius
    outside = ~inside & (shape > 0)
    held, known = (
        ndimage.gaussian_filter(np.where(outside, plane, 0.0), radius / 1.5, mode="constant")
        for plane in (background, shape)
    )
    # Crowds leave no pixel outside: there the background stays.
    reached = inside & (known > 1e-6 * shape.max())
    return np.where(reached, shape * held / np.where(reached, known, 1.0), background)


def profile_interval(counts, background, image):
    """Flux of greatest likelihood of a source at a known place, and its 68 % interval.

    The interval holds the fluxes whose Poisson log-likelihood is at most 0.5 below the greatest (Cash 1979, ApJ 228,
    939). Fluxes are not negative.

    Parameters
    ----------
    counts, background, image : (n,) array
        Counts and expected counts of all else in the pixels, and the part of the flux that is in each.

    Returns
    -------
    flux, low, high : float
        nan where the image is empty.
    """
    image = np.maximum(np.asarray(image, dtype=np.float64), 0.0)
    background = np.maximum(np.asarray(background, dtype=np.float64), 1e-9)
    held, total = counts > 0, image.sum()
    n, b, p = counts[held], background[held], image[held]
    if not total > 0:
        return np.nan, np.nan, np.nan

    def likelihood(flux):
        return (n * np.log1p(flux * p / b)).sum() - flux * total

    # The slope of the likelihood falls; it is negative above the flux that all counts would make.
    most = n.sum() / total + 1.0
    flux = _crossing(lambda f: (n * p / (b + f * p)).sum() - total, 0.0, most)
    level, highest = likelihood(flux) - 0.5, flux + 2.0 / total
    while likelihood(highest) > level:
        highest = flux + 2.0 * (highest - flux)
    low = _crossing(lambda f: level - likelihood(f), 0.0, flux)
    return flux, low, _crossing(lambda f: likelihood(f) - level, flux, highest)


def _crossing(function, low, high):
    """Where a falling function is zero between two points; the lower one where it is negative there."""
    if function(low) <= 0:
        return low
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return 0.5 * (low + high)


def fit_counts_sources(counts, background, psf, places, *, exposure=None):
    """Fluxes of sources at known places, fitted together.

    Each source in turn has its `profile_interval` on the background and the light of the others.

    Parameters
    ----------
    counts, background : (ny, nx) array
    psf : (n, n) array
        Image of the PSF, n odd, with sum 1. It is moved by cubic splines.
    places : structured array
        Fields x, y in pixels.
    exposure : (ny, nx) array, optional
        Relative exposure.

    Returns
    -------
    (m, 3) float64
        Flux in counts at the exposure of the source's pixel, and its interval.
    """
    counts = np.asarray(counts, dtype=np.float64)
    exposure = np.ones_like(counts) if exposure is None else np.asarray(exposure, np.float64)
    images = [_moved(psf, place["x"], place["y"], exposure) for place in places]
    rest, fitted = np.array(background, dtype=np.float64), np.zeros((len(images), 3))
    for _ in range(SWEEPS):
        for i, (part, image) in enumerate(images):
            rest[part] -= fitted[i, 0] * image
            fitted[i] = profile_interval(counts[part].ravel(), rest[part].ravel(), image.ravel())
            rest[part] += fitted[i, 0] * image
    return fitted


def _moved(psf, x, y, exposure):
    """Part of the map around a place, and the light of a source there whose flux is 1."""
    half, (ny, nx) = psf.shape[0] // 2, exposure.shape
    row, column = int(np.clip(np.rint(y), 0, ny - 1)), int(np.clip(np.rint(x), 0, nx - 1))
    image = ndimage.shift(np.asarray(psf, np.float64), (y - row, x - column), order=3)
    rows = slice(max(row - half, 0), min(row + half + 1, ny))
    columns = slice(max(column - half, 0), min(column + half + 1, nx))
    top, left = half - row, half - column
    image = image[rows.start + top : rows.stop + top, columns.start + left : columns.stop + left]
    part = (rows, columns)
    return part, np.maximum(image, 0.0) * exposure[part] / max(exposure[row, column], 1e-9)
