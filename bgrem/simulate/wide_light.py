"""Light wider than stars, and the whole frames with it that a sky network is trained on."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.simulate.drawing import draw_sources, observe, psf_of
from bgrem.simulate.galaxies import LARGEST_DISC_INDEX, SersicGalaxy, ratio_of_disc
from bgrem.simulate.known_bad import border
from bgrem.simulate.optics import PHASES
from bgrem.simulate.skies import draw_sky, draw_threads, enlarged, texture_field
from bgrem.simulate.training_sky import log_uniform, random_whole_scene

__all__ = ["WholeFrame", "draw_whole_frame"]

UNEVEN_EXPOSURE = 0.12  # chance of a mosaic of exposures
NO_WIDE_LIGHT = 0.3  # chance of a frame without any but small galaxies
THREADS = 0.15  # chance of filaments, rings, arcs and tails, and the mean number of them then
MANY_THREADS = 5.0
GRID = 4  # px between the samples of halos and nebulae


@dataclass(frozen=True, eq=False)
class WholeFrame:
    """A simulated frame; images are (ny, nx) float32 in units of the sky's rms.

    Attributes
    ----------
    data : ndarray
        As observed, with noise and defects; bad pixels are NaN.
    background : ndarray
        The true sky, without noise.
    light : ndarray
        Noiseless light of all sources, also of what saturation cuts off.
    wide : ndarray
        The part of the light in structures wider than a star: galaxies, nebulae, halos, and the
        unresolved stars of clusters.
    bad : ndarray, bool
        Pixels known to be bad.
    artefact : ndarray, bool
        Pixels that a defect, a cosmic ray, saturation or bleeding changed.
    """

    data: np.ndarray
    background: np.ndarray
    light: np.ndarray
    wide: np.ndarray
    bad: np.ndarray
    artefact: np.ndarray


def draw_whole_frame(rng, shape=(768, 768)):
    """Draw a random frame with its true sky.

    Each kind of sky, of light and of defects has its own chance to be absent and its own random
    strength.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        (ny, nx) in pixels, at least 64 each.

    Returns
    -------
    WholeFrame
    """
    scene = random_whole_scene(rng, shape)
    unit = np.float32(scene.sky_rms)
    background = _within(draw_sky(rng, shape), 0.5 * scene.sky / scene.sky_rms)
    light, wide = _draw_light(scene, rng)
    seen = observe(scene, light * unit, background * unit + np.float32(scene.sky), rng)
    bad = _known_bad(seen, rng)
    if rng.random() < UNEVEN_EXPOSURE:
        noise = seen.data - background - light
        noise *= np.where(seen.saturated, 0, _noise_of_exposures(shape, rng) - 1)
        seen.data[...] += noise
    data = np.where(bad, np.float32(np.nan), seen.data)
    artefact = seen.artefact | seen.saturated
    return WholeFrame(data, background, light, wide, bad, artefact)


def _noise_of_exposures(shape, rng):
    """The noise of a mosaic of shifted exposures, its smallest value about 1, (ny, nx) float32."""
    y, x = (np.arange(size, dtype=np.float32) / size for size in shape)
    angle = rng.choice((0.0, 0.0, rng.normal(0.0, 0.3)))
    along = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]
    across = np.cos(angle) * y[:, None] - np.sin(angle) * x[None, :]
    count = np.full(shape, rng.uniform(0.1, 1.0), np.float32)
    exposures = rng.integers(1, 6)
    for _ in range(exposures):
        centre, half = rng.uniform(0.1, 0.9, 2), rng.uniform(0.2, 0.8, 2)
        count += (np.abs(along - centre[0]) < half[0]) & (np.abs(across - centre[1]) < half[1])
    return np.sqrt(count.max() / count).astype(np.float32)


def _within(background, limit):
    """A sky whose structure is at most `limit`, a part of the sky's own level."""
    largest = float(np.abs(background).max())
    return background * np.float32(min(1.0, limit / max(largest, 1e-6)))


def _known_bad(seen, rng):
    """Pixels that a mask marks: gaps, and in a part of the frames defects and saturated cores."""
    bad = seen.gap.copy()
    if rng.random() < 0.4:
        bad |= seen.artefact
    if rng.random() < 0.3:
        bad |= seen.saturated
    if rng.random() < 0.15:
        bad |= border(bad.shape, rng)
    return bad


def _draw_light(scene, rng):
    """Light of all sources and of the wide ones in units of the sky's rms."""
    unit = np.float32(scene.sky_rms)
    psf = psf_of(scene)
    light, stars = draw_sources(replace(scene, galaxies=0.0), psf, rng)
    galaxies, _ = draw_sources(replace(scene, stars=0.0), psf, rng)
    # Undersampled light rings below zero.
    light, galaxies = (np.maximum(image, 0.0) / unit for image in (light, galaxies))
    wide = np.zeros(scene.shape, np.float32)
    if rng.random() >= NO_WIDE_LIGHT:
        for kind, chance in WIDE_LIGHT.items():
            if rng.random() < chance:
                wide += kind(scene.shape, scene.fwhm, rng)
        if rng.random() < 0.4:
            wide += _halos(scene.shape, stars, stars["flux"] / scene.sky_rms, rng)
        if rng.random() < 0.1:
            resolved, unresolved = _star_cluster(scene, psf, rng)
            light += resolved
            wide += unresolved
    if rng.random() < THREADS:
        threads = draw_threads(scene.shape, rng, 1 + rng.poisson(MANY_THREADS), scene.fwhm)
        light += gaussian_filter(threads, scene.fwhm / FWHM_PER_SIGMA)
    if scene.galaxy_radius > 0.5 * scene.fwhm:
        wide += galaxies
    else:
        light += galaxies
    return light + wide, wide


def _turned(rng, *, index, **fields):
    """A galaxy of random axis ratio and direction."""
    ratio = ratio_of_disc(rng) if index < LARGEST_DISC_INDEX else rng.uniform(0.3, 1.0)
    return SersicGalaxy(ratio=ratio, angle=rng.uniform(0, np.pi), index=index, **fields)


def _large_galaxies(shape, fwhm, rng):
    """One galaxy or several of 10 to 400 px, some with arms, some centred outside the frame."""
    image = np.zeros(shape, np.float32)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        radius, index = log_uniform(rng, 10.0, 400.0), log_uniform(rng, 0.5, 6.0)
        modulation = None
        if index < 2.5 and radius > 15.0 and rng.random() < 0.5:
            modulation = _spiral(rng) if rng.random() < 0.7 else _irregular(rng)
        _turned(
            rng,
            place=rng.uniform(-0.25, 1.25, 2) * shape,
            radius=radius,
            index=index,
            surface=log_uniform(rng, 0.03, 30.0),
            soft=0.5 * fwhm,
            modulation=modulation,
        ).add_to(image)
    return image


def _spiral(rng):
    """Arms along logarithmic spirals with dust lanes at their edges; the bulge has none."""
    arms, turn = rng.choice((2, 2, 3, 4)), rng.choice((-1.0, 1.0))
    pitch, phase = np.float32(turn * rng.uniform(3.0, 9.0)), np.float32(rng.uniform(0, 2 * np.pi))
    contrast, dust = np.float32(rng.uniform(0.1, 0.8)), np.float32(rng.uniform(0.0, 0.8))

    def modulation(along, across, r):
        wave = arms * np.arctan2(across, along) + pitch * np.log(r) + phase
        lane = np.cos(wave + np.float32(1.0)) ** 8 * (r < 2.5)
        outside = r / (r + np.float32(0.3))
        return (1 + contrast * outside * np.cos(wave)) * (1 - dust * outside * lane)

    return modulation


def _irregular(rng):
    """Knots and holes of an irregular galaxy."""
    contrast = np.float32(rng.uniform(0.2, 0.9))

    def modulation(_along, _across, r):
        coarse = tuple(max(size // 4, 2) for size in r.shape)
        texture = enlarged(texture_field(coarse, rng, smallest=2.0), r.shape)
        return np.clip(1 + contrast * texture, np.float32(0.05), None)

    return modulation


def _field_galaxies(shape, fwhm, rng):
    """Galaxies of 2 to 40 px all over the frame: of all sizes, or most of about one size."""
    image = np.zeros(shape, np.float32)
    usual, scatter = log_uniform(rng, 2.0, 30.0), rng.choice((0.1, 0.5, 1.0))
    for _ in range(1 + rng.poisson(log_uniform(rng, 2.0, 80.0))):
        _turned(
            rng,
            place=rng.uniform(0, 1, 2) * shape,
            radius=float(np.clip(usual * np.exp(scatter * rng.standard_normal()), 2.0, 40.0)),
            index=rng.choice((1.0, 1.0, 2.5, 4.0)),
            surface=log_uniform(rng, 0.05, 30.0),
            soft=0.5 * fwhm,
        ).add_to(image)
    return image


def _galaxy_cluster(shape, fwhm, rng):
    """A cluster of galaxies in its own diffuse light."""
    image = np.zeros(shape, np.float32)
    centre = rng.uniform(-0.1, 1.1, 2) * shape
    size, surface = log_uniform(rng, 60.0, 400.0), log_uniform(rng, 0.03, 3.0)
    diffuse = {"radius": size, "index": rng.uniform(0.7, 2.0), "surface": surface}
    _turned(rng, place=centre, soft=0.1 * size, **diffuse).add_to(image)
    central = {"radius": size / 6, "index": 4.0, "surface": 10 * surface}
    _turned(rng, place=centre, soft=0.5 * fwhm, **central).add_to(image)
    for _ in range(rng.poisson(log_uniform(rng, 10.0, 120.0))):
        _turned(
            rng,
            place=centre + size * rng.standard_normal(2),
            radius=log_uniform(rng, 1.5, 0.1 * size),
            index=rng.choice((1.0, 4.0, 4.0)),
            surface=log_uniform(rng, 0.1, 10.0),
            soft=0.5 * fwhm,
        ).add_to(image)
    return image


def _nebula(shape, fwhm, rng):
    """Clouds with edges, filaments and dark lanes, that fill the frame or a part of it."""
    coarse = tuple(size // GRID for size in shape)
    smallest = max(fwhm, log_uniform(rng, 2.0, 30.0)) / GRID
    clouds = texture_field(coarse, rng, slope=rng.uniform(2.6, 3.8), smallest=smallest)
    if rng.random() < 0.3:  # filaments and sheets seen from the edge
        clouds = 1.0 - 2.0 * np.abs(clouds)
    # Somewhere the frame shows the sky.
    light = np.clip(clouds - np.quantile(clouds, rng.uniform(0.02, 0.9)), 0.0, None)
    if rng.random() < 0.5:  # fronts are bright at their edge
        light = (0.2 + light) * _front(light, rng)
    if rng.random() < 0.5:
        light *= np.exp(-log_uniform(rng, 0.3, 5.0) * _dark_clouds(coarse, smallest, rng))
    if rng.random() < 0.5:
        light *= _window(coarse, rng)
    strength = log_uniform(rng, 0.05, 50.0) / max(np.quantile(light, 0.95), 1e-3)
    return np.float32(strength) * enlarged(light, shape)


def _front(depth, rng):
    """A cloud of constant brightness behind its edge."""
    return 1.0 - np.exp(-depth / np.float32(log_uniform(rng, 0.02, 0.5)))


def _dark_clouds(shape, smallest, rng):
    """Optical depth of dust before a nebula: lanes, or clouds with an edge, (ny, nx) float32."""
    dust = texture_field(shape, rng, slope=rng.uniform(2.6, 3.8), smallest=smallest)
    depth = np.clip(dust - np.float32(rng.uniform(0.0, 1.5)), 0.0, None)
    return _front(depth, rng) if rng.random() < 0.5 else depth


def _window(shape, rng):
    """A round cloud's outline that fades at its edge, height 1, (ny, nx) float32."""
    place = rng.uniform(0.0, 1.0, 2) * shape
    radius = rng.uniform(0.1, 0.6) * max(shape)
    r = _distances(shape, place) / np.float32(radius)
    return np.exp(-(r ** np.float32(rng.uniform(1.5, 8.0))))


def _shell(shape, fwhm, rng):
    """A planetary nebula or the remnant of a supernova: a bubble with a bright rim."""
    radius = log_uniform(rng, 10.0, 300.0)
    thickness = rng.uniform(0.03, 0.3)
    r = _distances(shape, rng.uniform(0.0, 1.0, 2) * shape) / np.float32(radius)
    outer, inner = (np.sqrt(np.clip(edge**2 - r**2, 0, None)) for edge in (1.0, 1.0 - thickness))
    coarse = tuple(size // GRID for size in shape)
    knots = 1 + rng.uniform(0, 0.5) * enlarged(texture_field(coarse, rng, smallest=2.0), shape)
    light = gaussian_filter((outer - inner) * np.clip(knots, 0.1, None), 0.5 * fwhm)
    return np.float32(log_uniform(rng, 0.05, 30.0)) * light


def _distances(shape, place):
    """Distance of each pixel from a place, (ny, nx) float32."""
    y, x = (
        np.arange(size, dtype=np.float32) - np.float32(centre)
        for size, centre in zip(shape, place, strict=True)
    )
    return np.hypot(y[:, None], x[None, :])


def _halos(shape, stars, flux, rng):
    """Halos of the bright stars, and of one that is brighter than all others, sky rms."""
    bright = np.argsort(flux)[-50:]
    y, x, flux = stars["y"][bright], stars["x"][bright], flux[bright]
    if rng.random() < 0.5:
        y, x = np.append(y, rng.uniform(0, shape[0])), np.append(x, rng.uniform(0, shape[1]))
        flux = np.append(flux, log_uniform(rng, 1e4, 1e7))
    coarse = tuple(size // GRID for size in shape)
    image = np.zeros(coarse, np.float32)
    rows, columns = (
        np.clip((place / GRID).astype(int), 0, size - 1)
        for place, size in zip((y, x), coarse, strict=True)
    )
    np.add.at(image, (rows, columns), flux * log_uniform(rng, 3e-3, 0.1) / GRID**2)
    return enlarged(_convolved(image, _halo_profile(coarse, rng)), shape)


def _halo_profile(shape, rng):
    """A halo of unit flux around the middle of twice the shape: an aureole, or a reflection."""
    size = [2 * n for n in shape]
    r = _distances(size, [n // 2 for n in size])
    if rng.random() < 0.7:
        core = log_uniform(rng, 5.0, 60.0) / GRID
        halo = (1 + (r / core) ** 2) ** np.float32(-0.5 * rng.uniform(2.0, 4.0))
        halo *= np.exp(-r / np.float32(log_uniform(rng, 100.0, 1000.0) / GRID))
    else:
        radius = log_uniform(rng, 20.0, 250.0) / GRID
        halo = 0.5 * (1 - np.tanh((r - radius) / np.float32(0.1 * radius + 0.5)))
    return halo / halo.sum()


def _convolved(image, kernel):
    """Linear convolution with a kernel of twice the size, centred in its middle."""
    ny, nx = image.shape
    size = kernel.shape
    product = fft.rfft2(image, size) * fft.rfft2(np.fft.ifftshift(kernel))
    return np.clip(fft.irfft2(product, size)[:ny, :nx], 0.0, None)


def _star_cluster(scene, psf, rng):
    """A cluster's bright stars, and the light of those too faint to be seen, sky rms each."""
    radius = log_uniform(rng, 10.0, 150.0)
    count = int(log_uniform(rng, 1e3, 3e4))
    u = rng.uniform(0.0, 0.98, count)
    r = radius * np.sqrt(u / (1 - u))  # Plummer (1911, MNRAS 71, 460)
    angle = rng.uniform(0, 2 * np.pi, count)
    centre = rng.uniform(0.0, 1.0, 2) * scene.shape
    y, x = centre[0] + r * np.sin(angle), centre[1] + r * np.cos(angle)
    flux = log_uniform(rng, 0.1, 10.0) * rng.random(count) ** (-1 / rng.uniform(0.6, 1.3))
    flux = np.minimum(flux, 1e5)
    seen = flux > 5.0 * scene.fwhm
    resolved, unresolved = (np.zeros(scene.shape, np.float32) for _ in range(2))
    places = (np.rint(PHASES * place[seen]).astype(np.int64) for place in (x, y))
    psf.place(resolved, *places, flux[seen], faint=0.02)
    np.add.at(unresolved, *_inside(y[~seen], x[~seen], flux[~seen], scene.shape))
    return resolved, gaussian_filter(unresolved, scene.fwhm / FWHM_PER_SIGMA)


def _inside(y, x, flux, shape):
    """Pixels and fluxes of the stars inside an image."""
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return (rows[inside], columns[inside]), flux[inside].astype(np.float32)


#: Kinds of wide light and the chance that a frame with any has them.
WIDE_LIGHT = {
    _large_galaxies: 0.5,
    _field_galaxies: 0.5,
    _galaxy_cluster: 0.12,
    _nebula: 0.2,
    _shell: 0.06,
}
