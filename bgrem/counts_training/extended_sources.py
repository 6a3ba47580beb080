"""Extended sources: supernova remnants, clusters of galaxies, wind nebulae, jets."""

import numpy as np

from bgrem.counts_training.populations import flux_of_snr

__all__ = ["draw_extended"]

KINDS = ("gaussian", "disc", "shell", "beta", "jet")
LOWEST_SNR, HIGHEST_SNR = 3.0, 150.0  # of the light above the background in the area of a source
LEAST_RADIUS = 0.8  # FWHM


def draw_extended(scene, rng, level, bands):
    """The light of the extended sources of a scene, without PSF, at mean exposure.

    Parameters
    ----------
    scene : CountsScene
    rng : `~numpy.random.Generator`
    level : ndarray, (ny, nx)
        Expected counts of the sky's background in the first band at mean exposure.
    bands : int

    Returns
    -------
    light : ndarray, (bands, ny, nx) float32
        Expected counts.
    found : list of tuple
        (x, y, counts, S/N, radius) of each, of its light in the map.
    """
    ny, nx = scene.shape
    light = np.zeros((bands, ny, nx), np.float32)
    found = []
    for _ in range(rng.poisson(scene.extended * ny * nx / 1e4)):
        least = LEAST_RADIUS * scene.fwhm
        largest = max(min(scene.largest_radius, 0.5 * min(ny, nx)), 1.01 * least)
        radius = float(np.exp(rng.uniform(np.log(least), np.log(largest))))
        x, y = rng.uniform(-0.5, nx - 0.5), rng.uniform(-0.5, ny - 0.5)
        shape = _shape(rng, scene.shape, x, y, radius)
        part = shape / max(shape.max(), 1e-20)
        area = float(part.sum()) ** 2 / max(float((part**2).sum()), 1e-9)
        mean = float((level * part).sum() / max(part.sum(), 1e-9))
        snr = float(np.exp(rng.uniform(np.log(LOWEST_SNR), np.log(HIGHEST_SNR))))
        counts = float(flux_of_snr(snr, mean * area))
        spectrum = (scene.band_level * 3.0 ** rng.normal(scene.band_index, 0.4)) ** np.arange(bands)
        part = (counts / max(part.sum(), 1e-9) * part).astype(np.float32)
        light += spectrum[:, None, None].astype(np.float32) * part
        found.append((x, y, counts * float(spectrum.sum()), snr, radius))
    return light, found


def _shape(rng, shape, x, y, radius):
    """Brightness of a source of a random kind, of any scale, whose half-light radius is about ``radius``."""
    v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    kind, angle = rng.choice(KINDS), rng.uniform(0, np.pi)
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
