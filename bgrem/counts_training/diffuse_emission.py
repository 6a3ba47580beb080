"""Emission without sources: the Galactic plane, clouds, and where a telescope looked."""

import numpy as np
from scipy import fft

__all__ = ["chip_levels", "clouds", "exposure_map", "plane_emission"]

LEAST_SEEN = 0.25  # of a map, that an exposure leaves


def clouds(rng, shape, slope, contrast, fwhm=0.0):
    """A log-normal field whose logarithm has a power spectrum k^-slope, as the gas of the Galaxy.

    Miville-Deschenes et al. (2007, A&A 469, 595) find slopes of 2 to 3.6 in maps of the interstellar medium.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    shape : tuple of int
    slope : float
    contrast : float
        Standard deviation of the natural logarithm.
    fwhm : float
        Of a Gaussian that blurs the field, in pixels.

    Returns
    -------
    ndarray, float32
        With mean 1.
    """
    # Twice the size: the field has no period.
    ny, nx = (2 * side for side in shape)
    ky, kx = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None]
    k2 = ky * ky + kx * kx
    k2[0, 0] = np.inf
    amplitude = k2 ** (-0.25 * slope) * np.exp(-0.5 * (2 * np.pi * 0.4247 * fwhm) ** 2 * k2)
    amplitude[0, 0] = 0
    white = fft.rfft2(rng.standard_normal((ny, nx), np.float32))
    field = fft.irfft2(white * amplitude.astype(np.float32), s=(ny, nx))[: shape[0], : shape[1]]
    field *= contrast / max(float(field.std()), 1e-12)
    light = np.exp(field - field.mean())
    return (light / light.mean()).astype(np.float32)


def plane_emission(shape, angle, height, offset):
    """A plane that falls off exponentially on both sides, with mean 1.

    Parameters
    ----------
    shape : tuple of int
    angle : float
        From the x axis, in radians.
    height : float
        Scale height in pixels.
    offset : float
        Of the plane from the centre, in pixels.

    Returns
    -------
    ndarray, float32
    """
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = (y - shape[0] / 2) * np.cos(angle) - (x - shape[1] / 2) * np.sin(angle) - offset
    # Rounded at the middle: the emission of a disc seen edge-on has no cusp.
    light = np.exp(-np.sqrt(distance * distance + (0.3 * height) ** 2) / height)
    return (light / light.mean()).astype(np.float32)


def chip_levels(rng, shape, scatter):
    """Levels of the chips of a detector, a different one in each, with mean 1; float32."""
    edge_y, edge_x = (int(rng.uniform(0.2, 0.8) * side) for side in shape)
    y, x = np.ogrid[: shape[0], : shape[1]]
    levels = np.exp(scatter * rng.standard_normal((2, 2)))
    light = levels[(y >= edge_y).astype(int), (x >= edge_x).astype(int)]
    return (light / light.mean()).astype(np.float32)


def exposure_map(rng, shape, *, tilt, vignetting, gaps, pointings, columns):
    """Relative exposure of a map, with mean 1 where it was seen and 0 elsewhere.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    shape : tuple of int
    tilt : float
        Rise of its logarithm across the map, as in a survey.
    vignetting : float
        Part of the exposure that is lost at a corner.
    gaps : int
        Between chips; a dither smooths some of them.
    pointings : int
        Circular fields of view that add up; 0 for one that covers the map.
    columns : int
        Without exposure.

    Returns
    -------
    ndarray, float32
    """
    ny, nx = shape
    y, x = np.mgrid[:ny, :nx].astype(np.float32)
    v, u = (y - ny / 2) / ny, (x - nx / 2) / nx
    direction = rng.uniform(0, 2 * np.pi)
    exposure = np.exp(tilt * (u * np.cos(direction) + v * np.sin(direction)))
    if vignetting:
        cy, cx = rng.uniform(-0.2, 0.2, 2)
        exposure *= np.maximum(1 - 2 * vignetting * ((v - cy) ** 2 + (u - cx) ** 2), 0.02)
    if pointings:
        exposure *= _pointings(rng, y, x, pointings)
    for _ in range(gaps):
        exposure *= _gap(rng, y, x)
    for column in rng.integers(0, nx, columns):
        exposure[:, column] = 0
    seen = exposure > 0
    if seen.mean() < LEAST_SEEN:
        return np.ones(shape, np.float32)
    return np.where(seen, exposure / exposure[seen].mean(), 0).astype(np.float32)


def _pointings(rng, y, x, number):
    ny, nx = y.shape
    radius = rng.uniform(0.45, 0.9) * min(ny, nx)
    total = np.zeros(y.shape, np.float32)
    for _ in range(number):
        cy, cx = rng.uniform(0.2, 0.8, 2) * (ny, nx)
        r2 = ((y - cy) ** 2 + (x - cx) ** 2) / radius**2
        total += np.where(r2 < 1, 1 - 0.6 * r2, 0)
    return total


def _gap(rng, y, x):
    """A strip without exposure, which a dither of its width or more makes shallow."""
    place, side = (y, y.shape[0]) if rng.random() < 0.5 else (x, x.shape[1])
    width, dither = rng.uniform(1, 6), rng.choice([0.0, rng.uniform(0.5, 8)])
    distance = np.abs(place - rng.uniform(0, side)) - width / 2
    if not dither:
        return distance > 0
    return 1 - (1 - np.clip(distance / dither, 0, 1)) * min(1.0, width / dither)
