"""A frozen description of one scene, and its drawing into data, parts and truth."""

import inspect
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import convolve

from bgrem.arrays.stamps import add_stamp
from bgrem.simulate import detector
from bgrem.simulate.galaxies import SAMPLING, draw_extended, draw_galaxies
from bgrem.simulate.optics import PHASES, draw_psf
from bgrem.simulate.skies import background_structure, smooth_field, texture_field

__all__ = ["ARTEFACT", "GAP", "SATURATED", "TRUTH_DTYPE", "Scene", "Sky", "draw"]

GAP, SATURATED, ARTEFACT = 1, 2, 4  # bits of Sky.mask
STAR, GALAXY, EXTENDED = 0, 1, 2  # kinds in the truth table
FAINTEST = 0.5  # S/N down to which sources are drawn: below, they are a faint uniform glow
SMALLEST = 16  # px: shortest side of a scene
# What a field may be; all others are finite and not negative.
LIMITS = {
    "fwhm": (0.5, 40.0),
    "beta": (1.1, 100.0),
    "ellipticity": (0.0, 0.9),
    "angle": (-np.inf, np.inf),
    "spike_angle": (-np.inf, np.inf),
    "trail": (0.0, 40.0),
    "diffraction": (0.0, 20.0),
    "obscuration": (0.0, 0.95),
    "defocus": (-1.0, 1.0),
    "astigmatism": (-1.0, 1.0),
    "trefoil": (-1.0, 1.0),
    "lens_coma": (-1.0, 1.0),
    "star_slope": (0.05, 10.0),
    "galaxy_slope": (0.05, 10.0),
    "clustered": (0.0, 1.0),
    "galaxy_radius": (0.05, 100.0),
    "brightest": (1.0, 1e9),
    "nebula_scale": (1.0, 1e6),
    "sky": (1e-6, 1e12),
    "gain": (1e-9, 1e9),
    "bias": (-np.inf, np.inf),
    "correlation": (-0.3, 5.0),
    "shift_x": (0.0, 0.5),
    "shift_y": (0.0, 0.5),
    "holes": (0.0, 1.0),
    "dark_fraction": (0.0, 1.0),
    "coma": (0.0, 1.0),
    "tail": (0.0, 1.0),
    "tail_fraction": (0.0, 1.0),
    "charge_diffusion": (0.0, 1.0),
    "vignetting": (0.0, 1.0),
    "fringe_period": (2.0, 1e6),
}
TRUTH_DTYPE = np.dtype(
    [
        ("x", "f4"),
        ("y", "f4"),
        ("flux", "f8"),
        ("snr", "f4"),
        ("kind", "u1"),
        ("half_light_radius", "f4"),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One telescope, sky and detector; the defaults are a 60 s MeerLICHT exposure.

    MeerLICHT: 0.65 m aperture, 0.56 arcsec per pixel, 10560 x 10560 pixels read through 16
    amplifiers, 60 s, seeing 2 to 3 arcsec (Bloemen et al. 2016, SPIE 9906, 990664; Groot et al.
    2024, PASP 136, 115003). Densities are per Mpix = 1e6 pixels; amplitudes are in units of
    `sky_rms`; zero means absent.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) in pixels.
    fwhm, beta, ellipticity, angle, trail, coma, tail, aureole, spikes, spike_angle, diffraction, \
obscuration, defocus, astigmatism, trefoil, lens_coma
        The point-spread function, see `draw_psf`. 4.5 px are 2.5 arcsec; Moffat beta 3 is
        usual for seeing (Trujillo et al. 2001, MNRAS 328, 977).
    stars : float
        Stars per Mpix of S/N >= 1 in an optimal filter. 0.024 square degrees a Mpix hold
        about 300 down to r = 21 at the galactic poles (Bahcall & Soneira 1980, ApJS 44, 73).
    star_slope : float
        Their cumulative counts rise as flux**-slope: 0.5 (poles) to 1.5 (Euclidean).
    clustered : float
        Fraction of the stars in a cluster.
    cluster_radius : float
        Its core radius in pixels (Plummer 1911, MNRAS 71, 460).
    galaxies, galaxy_slope : float
        As for stars; 0.4 dex per magnitude (Driver et al. 2016, ApJ 827, 108) is a slope of 1.
    galaxy_radius, galaxy_scatter : float
        Median half-light radius in pixels and its spread in e-folds.
    brightest : float
        S/N of the brightest star possible.
    large_galaxies, discs : float
        Galaxies of 8 to 60 px half-light radius, and exponential discs of low surface
        brightness, per Mpix.
    nebula, nebula_scale : float
        Height and smallest scale (px) of nebulosity narrower than the sky's mesh box.
    sky : float
        Sky level in electrons per pixel: 20.5 mag per square arcsec in 60 s is a few hundred.
    gain : float
        Electrons per data unit.
    read_noise : float
        Electrons; about 9 for MeerLICHT's STA1600.
    bias : float
        Level added to the data, in data units.
    quantisation : float
        Step of the data in units of `sky_rms`; 0 leaves them continuous.
    correlation : float
        Width of the interpolation kernel of a resampled stack, px, see `detector.resampled`.
    correlation_ratio : float
        The kernel's width along y over that along x.
    shift_x, shift_y : float
        Part of a pixel by which bilinear interpolation moved the image: 0.5 smooths most.
    shift_drift : float
        Pixels by which this shift grows over 1000 px.
    rms_variation : float
        Relative amplitude of a smooth variation of the noise over the frame.
    tail_fraction, tail_strength : float
        Fraction of pixels with heavy tails, and their width.
    hot_pixels, warm_pixels, dead_pixels : float
        Per Mpix.
    holes : float
        Fraction of the hot and warm pixels that are below the sky, and probability that the
        dark pattern is: a dark frame's own.
    dark_fraction, dark_strength : float
        Fraction of pixels with more dark current than the others, and its median: the skewed
        fixed pattern of uncooled detectors.
    bad_columns, bands : float
        Per 1000 columns; bands are 3 to 40 columns wide and fainter.
    row_noise, column_noise, odd_even, mosaic : float
        Pattern of the readout.
    amplifier_step : float
        Spread of the offsets between amplifiers.
    amplifier_size : tuple of int
        (height, width) of an amplifier's area in pixels: MeerLICHT's are 5280 x 1320.
    cosmic_rays : float
        Per Mpix: about 1.5 per square cm and minute at sea level (Groom 2002, Exp. Astron.
        14, 45), 81 square mm per Mpix of 9 um pixels, more at a mountain.
    charge_diffusion : float
        Spread of their charge, px.
    full_well : float
        Electrons; 0 for none.
    gaps : float
        Rectangular gaps filled with a constant, per Mpix.
    edge_strips : float
        Strips along the edges, with or without light, whose level is not the sky's.
    gradient : float
        Rise over 1000 px.
    vignetting : float
        Relative loss of light at the corner of the frame.
    flat_residual : float
        Relative deviation of a pixel's response after flat-fielding.
    smooth_sky, fringes, ghost_amplitude, cirrus, mottle, glow : float
        Amplitudes of what `background_structure` adds; mottle, of tens of pixels, is narrower
        than the sky's mesh boxes.
    fringe_period : float
        Pixels.
    ghosts, satellite_trails : float
        Per Mpix.
    """

    shape: tuple = (256, 256)
    fwhm: float = 4.5
    beta: float = 3.0
    ellipticity: float = 0.05
    angle: float = 0.6
    trail: float = 0.0
    coma: float = 0.0
    tail: float = 0.0
    aureole: float = 0.01
    spikes: float = 0.005
    spike_angle: float = 0.8
    diffraction: float = 0.0
    obscuration: float = 0.0
    defocus: float = 0.0
    astigmatism: float = 0.0
    trefoil: float = 0.0
    lens_coma: float = 0.0
    stars: float = 1200.0
    star_slope: float = 0.8
    clustered: float = 0.0
    cluster_radius: float = 60.0
    galaxies: float = 800.0
    galaxy_slope: float = 1.0
    galaxy_radius: float = 1.5
    galaxy_scatter: float = 0.5
    brightest: float = 1e5
    large_galaxies: float = 0.5
    discs: float = 0.3
    nebula: float = 0.0
    nebula_scale: float = 12.0
    sky: float = 300.0
    gain: float = 2.2
    read_noise: float = 9.0
    bias: float = 0.0
    quantisation: float = 0.11
    correlation: float = 0.0
    correlation_ratio: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    shift_drift: float = 0.0
    rms_variation: float = 0.03
    tail_fraction: float = 1e-4
    tail_strength: float = 2.0
    hot_pixels: float = 30.0
    warm_pixels: float = 60.0
    dead_pixels: float = 10.0
    holes: float = 0.0
    dark_fraction: float = 0.0
    dark_strength: float = 1.0
    bad_columns: float = 0.3
    bands: float = 0.0
    row_noise: float = 0.03
    column_noise: float = 0.03
    odd_even: float = 0.0
    mosaic: float = 0.0
    amplifier_step: float = 0.3
    amplifier_size: tuple = (5280, 1320)
    cosmic_rays: float = 30.0
    charge_diffusion: float = 0.35
    full_well: float = 1.2e5
    gaps: float = 0.0
    edge_strips: float = 0.0
    gradient: float = 0.3
    vignetting: float = 0.0
    flat_residual: float = 0.003
    smooth_sky: float = 0.1
    fringes: float = 0.0
    fringe_period: float = 60.0
    ghosts: float = 0.2
    ghost_amplitude: float = 0.5
    cirrus: float = 0.0
    mottle: float = 0.0
    glow: float = 0.0
    satellite_trails: float = 0.05

    def __post_init__(self):
        """Refuse what cannot be drawn."""
        for name in ("shape", "amplifier_size"):
            if min(getattr(self, name)) < SMALLEST:
                raise ValueError(f"{name} is {getattr(self, name)}: at least {SMALLEST} px a side")
        for name, value in vars(self).items():
            if name in ("shape", "amplifier_size"):
                continue
            low, high = LIMITS.get(name, (0.0, np.inf))
            if not (low <= value <= high and np.isfinite(value)):
                raise ValueError(f"{name} is {value:g}, outside {low:g} to {high:g}")
        if self.aureole + self.spikes >= 1:
            raise ValueError("aureole and spikes are fractions of the light, together below 1")

    @property
    def sky_rms(self):
        """Standard deviation of a sky pixel in electrons."""
        return float(np.hypot(np.sqrt(self.sky), self.read_noise))


@dataclass(frozen=True)
class Sky:
    """One drawn scene; ``sources + background + noise == data``.

    Attributes
    ----------
    data, sources, background, noise : ndarray, (ny, nx) float32
        In data units.
    rms : ndarray, (ny, nx) float32
        Standard deviation of the sky's photon and read noise, in data units.
    mask : ndarray, (ny, nx) uint8
        Bits GAP, SATURATED, ARTEFACT.
    truth : ndarray, (n,) of TRUTH_DTYPE
        Positions in pixels, total flux in data units as it falls on the detector, S/N in an
        optimal filter at the scene's nominal `sky_rms` and without vignetting.
    psf : PointSpread
    scene : Scene
    """

    data: np.ndarray
    sources: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    rms: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    psf: object
    scene: Scene = field(repr=False)


def draw(scene, rng, *, psf=None):
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
    rng : numpy.random.Generator
    psf : PointSpread, optional
        Used in place of the scene's own: many scenes may share one.

    Returns
    -------
    Sky
    """
    psf = psf or psf_of(scene)
    vignette = _vignetting(scene, rng)
    sources, truth = draw_sources(scene, psf, rng)
    sources *= vignette
    background = _background(scene, vignette, rng)
    variation = _rms_variation(scene, rng)
    rms = np.sqrt(np.maximum(background, 1e-3) + np.float32(scene.read_noise**2)) * variation
    expected = np.maximum(sources + background, 0.0)
    noise, artefact = _noise(scene, expected, variation, rng)
    electrons, dead = _with_defects(scene, sources + background + noise, artefact, rng)
    electrons, saturated, bled = detector.saturate(electrons, scene.full_well, rng)
    artefact |= dead | bled
    gap = _gaps(scene, electrons, rng) | _edge_strips(scene, electrons, rng)
    data = _read_out(scene, electrons)
    background = background / np.float32(scene.gain) + np.float32(scene.bias)
    sources = sources / np.float32(scene.gain)
    # The observed value of a saturated core is kept: nothing can be known of what was lost.
    kept = saturated & ~artefact & ~gap
    sources[kept] = data[kept] - background[kept]
    sources[gap | dead] = 0.0
    truth["flux"] *= _at(vignette, truth["x"], truth["y"]) / scene.gain
    mask = GAP * gap + SATURATED * saturated + ARTEFACT * artefact
    return Sky(
        data=data,
        sources=sources,
        background=background,
        noise=data - background - sources,
        rms=rms / np.float32(scene.gain),
        mask=mask.astype(np.uint8),
        truth=truth,
        psf=psf,
        scene=scene,
    )


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
    ]
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
    """S/N of sources whose cumulative counts are a power law between FAINTEST and brightest."""
    u = rng.random(count)
    low, high = FAINTEST**-slope, brightest**-slope
    return (low + u * (high - low)) ** (-1.0 / slope)


def _stars(image, scene, psf, filtered, rng):
    """Place the stars in the image; returns their truth table."""
    ny, nx = scene.shape
    count = rng.poisson(scene.stars * FAINTEST**-scene.star_slope * ny * nx / 1e6)
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
    count = rng.poisson(scene.galaxies * FAINTEST**-scene.galaxy_slope * ny * nx / 1e6)
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
