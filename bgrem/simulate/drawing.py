"""The drawing of a scene into data, parts and truth."""

import inspect
from typing import NamedTuple

import numpy as np
from scipy.ndimage import convolve

from bgrem.arrays.stamps import add_stamp
from bgrem.simulate import detector
from bgrem.simulate.galaxies import SAMPLING, draw_extended, draw_galaxies, same_convolve
from bgrem.simulate.optics import PHASES, draw_psf
from bgrem.simulate.scene import (
    DEFECT_BIT,
    EXTENDED,
    FULL_WELL_BIT,
    GALAXY,
    GAP_BIT,
    STAR,
    TRUTH_DTYPE,
    Sky,
)  # fmt: skip
from bgrem.simulate.skies import background_structure, draw_threads, smooth_field, texture_field

__all__ = ["Exposure", "draw", "draw_sources", "filtered_rms", "observe", "psf_of"]

FAINTEST_DRAWN = 0.5  # S/N of the faintest sources that are drawn: fainter ones are a uniform glow


def draw(scene, rng, *, psf=None):
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
    rng : numpy.random.Generator
    psf : PointSpread, optional
        Used instead of the scene's own; many scenes may share one.

    Returns
    -------
    Sky
    """
    psf = psf or psf_of(scene)
    vignette = _vignetting(scene, rng)
    sources, truth = draw_sources(scene, psf, rng)
    sources *= vignette
    background = _background(scene, vignette, rng)
    seen = observe(scene, sources, background, rng)
    background = background / np.float32(scene.gain) + np.float32(scene.bias)
    sources = sources / np.float32(scene.gain)
    # The observed value of a saturated core is kept: the lost light is not known.
    kept = seen.saturated & ~seen.artefact & ~seen.gap
    sources[kept] = seen.data[kept] - background[kept]
    sources[seen.gap | seen.dead] = 0.0
    truth["flux"] *= _at(vignette, truth["x"], truth["y"]) / scene.gain
    mask = GAP_BIT * seen.gap + FULL_WELL_BIT * seen.saturated + DEFECT_BIT * seen.artefact
    return Sky(
        data=seen.data,
        sources=sources,
        background=background,
        noise=seen.data - background - sources,
        rms=seen.rms,
        mask=mask.astype(np.uint8),
        truth=truth,
        psf=psf,
        scene=scene,
    )


class Exposure(NamedTuple):
    """What a detector makes of the light.

    Attributes
    ----------
    data, rms : ndarray, (ny, nx) float32
        The image and the noise of its sky in data units.
    saturated, artefact, dead, gap : ndarray, (ny, nx) bool
        Pixels at the full well; hit by a defect, a particle or a trail; that saw no light;
        without data.
    """

    data: np.ndarray
    rms: np.ndarray
    saturated: np.ndarray
    artefact: np.ndarray
    dead: np.ndarray
    gap: np.ndarray


def observe(scene, sources, background, rng):
    """Noise, defects and readout of an image.

    Parameters
    ----------
    scene : Scene
    sources, background : ndarray, (ny, nx) float32
        Expected electrons.
    rng : numpy.random.Generator

    Returns
    -------
    Exposure
    """
    variation = _rms_variation(scene, rng)
    rms = np.sqrt(np.maximum(background, 1e-3) + np.float32(scene.read_noise**2)) * variation
    expected = np.maximum(sources + background, 0.0)
    noise, artefact = _noise(scene, expected, variation, rng)
    electrons, dead = _with_defects(scene, sources + background + noise, artefact, rng)
    electrons, saturated, bled = detector.saturate(electrons, scene.full_well, rng)
    artefact |= dead | bled
    gap = _gaps(scene, electrons, rng) | _edge_strips(scene, electrons, rng)
    data = _read_out(scene, electrons)
    return Exposure(data, rms / np.float32(scene.gain), saturated, artefact, dead, gap)


def psf_of(scene):
    """The scene's point-spread function."""
    names = inspect.signature(draw_psf).parameters
    return draw_psf(**{name: getattr(scene, name) for name in names})


def draw_sources(scene, psf, rng):
    """Noiseless sources in electrons, (ny, nx) float32, and their truth table."""
    image = np.zeros(scene.shape, np.float32)
    filtered = filtered_rms(scene, psf)
    tables = [
        _stars(image, scene, psf, filtered, rng),
        _galaxies(image, scene, psf, filtered, rng),
        *_extended(image, scene, psf, rng),
        *_moving(image, scene, psf, rng),
    ]
    if number := rng.poisson(scene.threads * image.size / 1e6):
        threads = draw_threads(scene.shape, rng, number, scene.fwhm)
        image += np.float32(scene.sky_rms) * np.clip(same_convolve(threads, psf.image), 0, None)
    if scene.nebula:
        image += np.float32(scene.nebula * scene.sky_rms) * _nebula(scene, rng)
    return image, np.concatenate(tables)


def filtered_rms(scene, psf):
    """Noise of an optimal filter's flux in units of `sky_rms` over a star's sharpness.

    1 for white noise; larger where resampling has correlated it.
    """
    delta = np.zeros((41, 41), np.float32)
    delta[20, 20] = 1.0
    kernel = _resampled(delta, scene)
    seen = convolve(psf.image.astype(np.float64), kernel.astype(np.float64), mode="constant")
    return float(np.sqrt((seen**2).sum() / (psf.image.astype(np.float64) ** 2).sum()))


def _resampled(image, scene):
    """An image of noise with the scene's correlation."""
    shift = scene.shift_y, scene.shift_x
    return detector.resampled(
        image, scene.correlation, scene.correlation_ratio, shift, scene.shift_drift
    )


def _fluxes(count, slope, brightest, rng):
    """S/N of sources whose cumulative counts are a power law between FAINTEST_DRAWN and brightest."""
    u = rng.random(count)
    low, high = FAINTEST_DRAWN**-slope, brightest**-slope
    return (low + u * (high - low)) ** (-1.0 / slope)


def _stars(image, scene, psf, filtered, rng):
    """Place the stars in the image; returns their truth table."""
    ny, nx = scene.shape
    count = rng.poisson(scene.stars * FAINTEST_DRAWN**-scene.star_slope * ny * nx / 1e6)
    snr = _fluxes(count, scene.star_slope, scene.brightest, rng)
    sharpness = np.sqrt((psf.image.astype(np.float64) ** 2).sum())
    flux = snr * scene.sky_rms * filtered / sharpness
    x, y = _positions(scene, count, rng)
    x, y = np.rint(x * PHASES).astype(np.int64), np.rint(y * PHASES).astype(np.int64)
    psf.place(image, x, y, flux, faint=0.02 * scene.sky_rms)
    return _table(x / PHASES, y / PHASES, flux, snr, STAR, 0.0)


def _positions(scene, count, rng):
    """Uniform positions, a part of them drawn to a cluster (Plummer 1911)."""
    ny, nx = scene.shape
    x, y = rng.uniform(-0.5, nx - 0.5, count), rng.uniform(-0.5, ny - 0.5, count)
    member = rng.random(count) < scene.clustered
    u = rng.uniform(0.0, 0.98, count)
    r = scene.cluster_radius * np.sqrt(u / (1 - u))
    angle = rng.uniform(0, 2 * np.pi, count)
    centre = rng.uniform(0, nx), rng.uniform(0, ny)
    x = np.where(member, centre[0] + r * np.cos(angle), x)
    y = np.where(member, centre[1] + r * np.sin(angle), y)
    return x, y


def _galaxies(image, scene, psf, filtered, rng):
    """Place the small galaxies in the image; returns their truth table."""
    ny, nx = scene.shape
    count = rng.poisson(scene.galaxies * FAINTEST_DRAWN**-scene.galaxy_slope * ny * nx / 1e6)
    if count == 0:
        return np.zeros(0, TRUTH_DTYPE)
    galaxies = draw_galaxies(
        psf, rng, median_radius=scene.galaxy_radius, scatter=scene.galaxy_scatter
    )
    kind = rng.integers(0, len(galaxies.stamps), count)
    snr = np.minimum(_fluxes(count, scene.galaxy_slope, scene.brightest, rng), 3000.0)
    flux = snr * scene.sky_rms * filtered / np.sqrt(galaxies.sharpness[kind])
    x = rng.integers(0, SAMPLING * nx, count)
    y = rng.integers(0, SAMPLING * ny, count)
    galaxies.place(image, kind, x, y, flux)
    radius = galaxies.half_light_radius[kind]
    return _table(x / SAMPLING, y / SAMPLING, flux, snr, GALAXY, radius)


def _extended(image, scene, psf, rng):
    """Place large galaxies and faint discs; yields their truth tables.

    Half-light radii of 8 to 60 px; mean surface brightness inside them 1 to 200 (galaxies)
    or 0.15 to 3 (discs) times the sky's rms.
    """
    ny, nx = scene.shape
    for density, lowest, highest, index, texture in (
        (scene.large_galaxies, 1.0, 200.0, None, rng.uniform(0.0, 0.6)),
        (scene.discs, 0.15, 3.0, 1.0, 0.0),
    ):
        for _ in range(rng.poisson(density * ny * nx / 1e6)):
            radius = np.exp(rng.uniform(np.log(8.0), np.log(60.0)))
            stamp = draw_extended(psf, rng, radius=radius, texture=texture, index=index)
            surface = np.exp(rng.uniform(np.log(lowest), np.log(highest))) * scene.sky_rms
            flux = surface * 2 * np.pi * radius**2
            x, y = rng.integers(0, nx), rng.integers(0, ny)
            middle = stamp.shape[0] // 2
            add_stamp(image, stamp * np.float32(flux), x - middle, y - middle)
            snr = flux * np.sqrt((stamp.astype(np.float64) ** 2).sum()) / scene.sky_rms
            yield _table([x], [y], [flux], [snr], EXTENDED, radius)


def _moving(image, scene, psf, rng):
    """Place bodies that moved by 1 to 12 FWHM during the exposure; yields their truth tables."""
    ny, nx = scene.shape
    for _ in range(rng.poisson(scene.moving * ny * nx / 1e6)):
        length = scene.fwhm * np.exp(rng.uniform(0.0, np.log(12.0)))
        angle, (y, x) = rng.uniform(0, 2 * np.pi), rng.uniform(0, (ny, nx))
        steps = np.linspace(-0.5, 0.5, int(2 * length) + 2) * length
        places = x + steps * np.cos(angle), y + steps * np.sin(angle)
        height = np.exp(rng.uniform(np.log(0.5), np.log(300.0))) * scene.sky_rms
        # Of a Gaussian star this is the height of the profile along one axis.
        across = float(psf.image.max()) ** 0.5
        flux = height * length / across
        columns, rows = (np.rint(place * PHASES).astype(np.int64) for place in places)
        parts = np.full(steps.size, flux / steps.size)
        psf.place(image, columns, rows, parts, faint=0.02 * scene.sky_rms)
        snr = flux * np.sqrt(across / np.sqrt(2) / length) / scene.sky_rms
        yield _table([x], [y], [flux], [snr], EXTENDED, length / 3)


def _nebula(scene, rng):
    """Patches and filaments of emission with empty sky between them, (ny, nx) float32."""
    texture = texture_field(scene.shape, rng, smallest=scene.nebula_scale / 3, largest=256.0)
    return np.clip(texture - np.float32(0.5), 0.0, None)


def _table(x, y, flux, snr, kind, radius):
    table = np.zeros(len(x), TRUTH_DTYPE)
    table["x"], table["y"], table["flux"], table["snr"] = x, y, flux, snr
    table["kind"], table["half_light_radius"] = kind, radius
    return table


def _vignetting(scene, rng):
    """Relative throughput: quadratic in the distance from a centre near the frame's."""
    if not scene.vignetting:
        return np.float32(1.0)
    ny, nx = scene.shape
    y, x = np.ogrid[:ny, :nx]
    centre_y, centre_x = rng.uniform(-0.5, 1.5) * ny, rng.uniform(-0.5, 1.5) * nx
    r2 = ((x - centre_x) / nx) ** 2 + ((y - centre_y) / ny) ** 2
    return (1.0 - scene.vignetting * r2 / r2.max()).astype(np.float32)


def _at(field, x, y):
    """Values of a smooth field at positions, at its border for those outside."""
    if np.ndim(field) == 0:
        return float(field)
    rows, columns = (
        np.clip(np.rint(place).astype(int), 0, size - 1)
        for place, size in zip((y, x), field.shape, strict=True)
    )
    return field[rows, columns].astype(np.float64)


def _background(scene, vignette, rng):
    """Expected sky in electrons, never negative, (ny, nx) float32."""
    structure = background_structure(scene, rng) * np.float32(scene.sky_rms)
    return np.maximum(np.float32(scene.sky) * vignette + structure, 0.0).astype(np.float32)


def _rms_variation(scene, rng):
    """Smooth relative variation of the noise over the frame, (ny, nx) float32 or 1."""
    if not scene.rms_variation:
        return np.float32(1.0)
    field = scene.rms_variation * smooth_field(scene.shape, rng)
    return (1.0 + np.clip(field, -0.6, 1.5)).astype(np.float32)


def _noise(scene, expected, variation, rng):
    """Noise in electrons, and where a trail or a particle made it, (ny, nx) each."""
    noise = detector.photon_noise(expected, rng) + detector.read_noise(scene, rng)
    noise = _resampled(noise * variation, scene)
    if scene.flat_residual:
        flat = rng.standard_normal(scene.shape, dtype=np.float32)
        noise += np.float32(scene.flat_residual) * flat * expected
    unit = np.float32(scene.sky_rms)
    noise += unit * detector.line_pattern(scene, rng)
    noise += unit * detector.amplifier_pattern(scene, rng)
    trail = unit * detector.trails(scene, rng)
    rays = detector.cosmic_rays(scene, rng)
    local = np.sqrt(expected + np.float32(scene.read_noise**2)) * variation
    return noise + trail + rays, (rays > 2.0 * local) | (trail > 0.7 * local)


def _with_defects(scene, electrons, artefact, rng):
    """Add the detector's defects; returns the image and the dead pixels, marks `artefact`."""
    added, dead = detector.defects(scene, rng)
    artefact |= np.abs(added) > 2.0
    electrons = electrons + np.float32(scene.sky_rms) * added
    electrons[dead] *= np.float32(rng.uniform(0.0, 0.5))
    return electrons, dead


def _gaps(scene, electrons, rng):
    """Fill rectangles with a constant, in place; returns where, (ny, nx) bool."""
    ny, nx = scene.shape
    gap = np.zeros(scene.shape, bool)
    value = np.float32(rng.choice([0.0, scene.sky, scene.sky - 30 * scene.sky_rms]))
    for _ in range(rng.poisson(scene.gaps * ny * nx / 1e6)):
        height, width = np.exp(rng.uniform(np.log(2), np.log(400), 2)).astype(int)
        y, x = rng.integers(-height // 2, ny), rng.integers(-width // 2, nx)
        gap[max(y, 0) : y + height, max(x, 0) : x + width] = True
    electrons[gap] = value
    return gap


def _edge_strips(scene, electrons, rng):
    """Change the level of strips along the edges, in place; returns where no light fell."""
    if not scene.edge_strips:
        return np.zeros(scene.shape, bool)
    dark, level = detector.edge_strips(scene, rng)
    blind = rng.standard_normal(scene.shape, dtype=np.float32) * np.float32(scene.read_noise)
    electrons[dark] = np.float32(scene.sky) + blind[dark]
    electrons += np.float32(scene.sky_rms) * level
    return dark


def _read_out(scene, electrons):
    """Electrons to data units: gain, quantisation and bias, (ny, nx) float32."""
    data = electrons
    if scene.quantisation:
        step = np.float32(scene.quantisation * scene.sky_rms)
        data = np.rint(data / step) * step
    return (data / np.float32(scene.gain) + np.float32(scene.bias)).astype(np.float32)
