"""Light that is wider than a point: the Galactic plane, clouds, detectors, extended sources; and the exposure."""

import numpy as np
from scipy import fft

from bgrem.counts_scenes.populations import flux_of_snr

__all__ = [
    "chip_levels", "clouds", "detector_features", "draw_extended_sources", "exposure_map", "plane_emission",
]  # fmt: skip

LEAST_EXPOSED = 0.25  # of a map, that an exposure leaves
EXTENDED_KINDS = ("gaussian", "disc", "shell", "beta", "jet")
# S/N of the light of a source above the background in its area.
FAINTEST_EXTENDED, BRIGHTEST_EXTENDED = 3.0, 150.0
LEAST_EXTENT = 0.8  # FWHM


def clouds(rng, shape, slope, contrast, fwhm=0.0):
    """A log-normal field whose logarithm has a power spectrum k^-slope, as the gas of the Galaxy.

    Miville-Deschenes et al. (2007, A&A 469, 595) find a slope of 2.9 on average in maps of interstellar dust, which
    varies over the sky.

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
    k2[0, 0] = 1
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


def detector_features(rng, shape, glow, lines):
    """Factors of an instrumental background: brighter at the edges, and in some columns and rows.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    shape : tuple of int
    glow : float
        Excess at the edges, which falls off over 2 to 8 % of the shorter side.
    lines : int
        Columns and rows of 1.3 to 4 times the level.

    Returns
    -------
    ndarray, float32
        With mean 1.
    """
    y, x = (np.arange(side, dtype=np.float32) for side in shape)
    down, right = np.minimum(y, y[::-1])[:, None], np.minimum(x, x[::-1])[None]
    width = rng.uniform(0.02, 0.08) * min(shape)
    light = 1 + glow * np.exp(-np.minimum(down, right) / width)
    for _ in range(lines):
        factor = rng.uniform(1.3, 4)
        if rng.random() < 0.5:
            light[rng.integers(shape[0])] *= factor
        else:
            light[:, rng.integers(shape[1])] *= factor
    return (light / light.mean()).astype(np.float32)


def exposure_map(rng, shape, *, tilt, vignetting, gaps, pointings, columns):
    """Relative exposure of a map, with mean 1 where it was seen and 0 elsewhere.

    Where less than `LEAST_EXPOSED` of the map would be seen, all of it is, evenly.

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
    if seen.mean() < LEAST_EXPOSED:
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


def draw_extended_sources(scene, rng, level):
    """The light of the extended sources of a scene, without PSF, at mean exposure.

    Parameters
    ----------
    scene : CountsScene
    rng : `~numpy.random.Generator`
    level : ndarray, (ny, nx)
        Expected counts of the sky's background in the first band at mean exposure.

    Returns
    -------
    shapes : list of ndarray, (ny, nx) float32
        Expected counts of each source in the first band.
    colours : list of ndarray, (bands,) float32
        Counts in each band over those in the first.
    rows : list of tuple
        (x, y, radius) of each, in pixels.
    """
    ny, nx = scene.shape
    shapes, colours, rows = [], [], []
    for _ in range(rng.poisson(scene.extended * ny * nx / 1e4)):
        least = LEAST_EXTENT * scene.fwhm
        largest = max(min(scene.largest_radius, 0.5 * min(ny, nx)), 1.01 * least)
        radius = float(np.exp(rng.uniform(np.log(least), np.log(largest))))
        x, y = rng.uniform(-0.5, nx - 0.5), rng.uniform(-0.5, ny - 0.5)
        shape = _shape(rng, scene.shape, x, y, radius)
        part = shape / max(shape.max(), 1e-20)
        area = float(part.sum()) ** 2 / max(float((part**2).sum()), 1e-9)
        mean = float((level * part).sum() / max(part.sum(), 1e-9))
        snr = float(np.exp(rng.uniform(np.log(FAINTEST_EXTENDED), np.log(BRIGHTEST_EXTENDED))))
        counts = float(flux_of_snr(snr, mean * area))
        ratio = scene.band_level * 3.0 ** rng.normal(scene.band_index, 0.4)
        colours.append((ratio ** np.arange(int(scene.bands))).astype(np.float32))
        shapes.append((counts / max(part.sum(), 1e-9) * part).astype(np.float32))
        rows.append((x, y, radius))
    return shapes, colours, rows


def _shape(rng, shape, x, y, radius):
    """Brightness of a source of a random kind, of any scale, whose half-light radius is about ``radius``."""
    v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    kind, angle = rng.choice(EXTENDED_KINDS), rng.uniform(0, np.pi)
    ratio = rng.uniform(0.15, 0.4) if kind == "jet" else rng.uniform(0.5, 1)
    along = (u - x) * np.cos(angle) + (v - y) * np.sin(angle)
    across = ((v - y) * np.cos(angle) - (u - x) * np.sin(angle)) / ratio
    r2 = (along**2 + across**2) / radius**2
    if kind == "disc":
        return np.clip(1.4 - np.sqrt(r2) + 0.5 / radius, 0, 1 / radius) * radius
    if kind == "shell":
        # The projection of a shell of a thickness of 5 to 25 % of its radius, bright on one side.
        inner = rng.uniform(0.75, 0.95) ** 2
        chord = np.sqrt(np.maximum(1 - r2, 0)) - np.sqrt(np.maximum(inner - r2, 0))
        return chord * (1 + rng.uniform(0, 0.9) * np.clip(along / radius, -1, 1))
    if kind == "beta":
        # A cluster of galaxies (Cavaliere & Fusco-Femiano 1976, A&A 49, 137), beta 0.5 to 0.8.
        return (1 + 4 * r2) ** (0.5 - 3 * rng.uniform(0.5, 0.8))
    if kind == "jet":
        knots = 1 + rng.uniform(0, 0.9) * np.sin(along * rng.uniform(0.1, 0.6) + rng.uniform(0, 6))
        return np.exp(-0.5 * 1.4 * r2) * knots * (along > -0.3 * radius)
    return np.exp(-np.log(2) * r2)
