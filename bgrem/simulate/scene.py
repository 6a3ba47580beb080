"""The description of a scene, and what is drawn of one."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["TRUTH_DTYPE", "Scene", "Sky"]

# Bits of Sky.mask: without data, at the full well, and hit by a defect, a particle or a trail.
GAP_BIT, FULL_WELL_BIT, DEFECT_BIT = 1, 2, 4
STAR, GALAXY, EXTENDED = 0, 1, 2  # kinds in the truth table
SMALLEST_SCENE = 16  # px: shortest side of a scene
# What a field may be; all others are finite and not negative.
FIELD_LIMITS = {
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
    threads : float
        Filaments, rings, arcs and tails per Mpix, see `draw_threads`.
    moving : float
        Bodies of the solar system per Mpix, which the exposure draws out to up to 12 FWHM.
    nebula, nebula_scale : float
        Height and smallest scale (px) of nebulosity narrower than a box of a sky mesh.
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
        than the boxes of a sky mesh.
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
    threads: float = 0.0
    moving: float = 0.0
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
            if min(getattr(self, name)) < SMALLEST_SCENE:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: at least {SMALLEST_SCENE} px a side"
                )
        for name, value in vars(self).items():
            if name in ("shape", "amplifier_size"):
                continue
            low, high = FIELD_LIMITS.get(name, (0.0, np.inf))
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
        Bits GAP_BIT, FULL_WELL_BIT, DEFECT_BIT.
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
