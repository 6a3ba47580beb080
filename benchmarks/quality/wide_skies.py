"""Frames of ten kinds of sky with a field of stars and small galaxies, and one wide galaxy planted into each.

Everything is in sky rms: the noise of a pixel without light is 1 where the sky has its level. The code is
independent of `bgrem.simulate`, whose skies the training draws from. The strengths in `KINDS` are drawn within a
factor of two; the positions, angles and the seeing are random, too.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from scipy.signal import fftconvolve
from scipy.special import gammaincinv

__all__ = ["KINDS", "SERSIC", "WideFrame", "WideLight", "draw_frame", "plant"]

#: Sersic index of each profile.
SERSIC = {"disc": 1.0, "elliptical": 4.0}
#: Rms of the sky in electrons, which is also its level in sky rms.
ELECTRONS = 30.0
#: Stars and galaxies per Mpix, and the half-light radii of the galaxies in pixels.
STARS, CROWDED, GALAXIES, GALAXY_RADII = 1e3, 1e4, 1.5e3, (1.5, 3.0, 5.0)
#: S/N of stars and galaxies: the least, the largest, and the slope of N(> S/N).
FAINTEST, BRIGHTEST, SLOPE = 1.0, 2000.0, 0.8
SEEING = (2.5, 5.0)  # FWHM in pixels
BETA = 2.5  # of the Moffat profile
LUMPS, GLOW, FRINGES = 200.0, 40.0, 60.0  # pixels: FWHM, scale, period


@dataclass(frozen=True)
class WideLight:
    """A wide galaxy.

    Attributes
    ----------
    profile : str
        "disc" (Sersic index 1) or "elliptical" (4).
    radius : float
        Half-light radius along the major axis in pixels.
    brightness : float
        Surface brightness in sky rms: of a disc at its centre, of an elliptical at the half-light radius.
    """

    profile: str
    radius: float
    brightness: float


@dataclass(frozen=True)
class WideFrame:
    """A frame with and without a wide galaxy, (ny, nx) each, in sky rms.

    Attributes
    ----------
    before
        Sky, stars, small galaxies and noise.
    data
        The same with the wide galaxy and the noise of its photons.
    light
        The wide galaxy.
    sky
        The background that a method should find; None where it is unknown.
    field
        Stars and small galaxies without noise; None where they are unknown.
    """

    before: np.ndarray
    data: np.ndarray
    light: np.ndarray
    sky: np.ndarray | None = None
    field: np.ndarray | None = None


# ---- skies: functions of the pixels from the centre, of the side and of random numbers -------------------------


def strength(rng, typical):
    """A strength within a factor of two of the typical one."""
    return typical * 2 ** rng.uniform(-1, 1)


def flat(x, y, side, rng):
    return np.zeros_like(x)


def slope(x, y, side, rng):
    angle = rng.uniform(0, 2 * np.pi)
    return strength(rng, 4.0) * (np.cos(angle) * x + np.sin(angle) * y) / side


def vignetting(x, y, side, rng):
    return -strength(rng, 4.0) * (x**2 + y**2) / (side**2 / 2)


def moonlight(x, y, side, rng):
    """A quadratic polynomial."""
    a, b = x / side, y / side
    terms = np.stack([a, b, 4 * a**2, 4 * a * b, 4 * b**2])
    return strength(rng, 2.0) * np.tensordot(rng.normal(size=5), terms, 1)


def lumps(x, y, side, rng):
    """A Gaussian random field, smooth on the scale of a flat field's errors."""
    pitch = 8
    coarse = gaussian_filter(
        rng.normal(size=(side // pitch + 2,) * 2), LUMPS / 2.355 / pitch, mode="wrap"
    )
    coarse = (coarse - coarse.mean()) / coarse.std()
    return strength(rng, 0.3) * zoom(coarse, pitch, order=3)[:side, :side]


def glow(x, y, side, rng):
    """Light from one edge."""
    from_edge = side / 2 + (x, -x, y, -y)[rng.integers(4)]
    return strength(rng, 5.0) * np.exp(-from_edge / GLOW)


def amplifier(x, y, side, rng):
    """A step between two halves."""
    return strength(rng, 0.5) * ((x, y)[rng.integers(2)] > 0)


def fringes(x, y, side, rng):
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 2 / side)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    return strength(rng, 0.5) * np.sin(2 * np.pi / FRINGES * (along + bend * across**2))


def mixed(x, y, side, rng):
    return sum(part(x, y, side, rng) for part in (slope, vignetting, lumps, glow))


KINDS = {
    "flat": flat, "slope": slope, "vignetting": vignetting, "moonlight": moonlight, "lumps": lumps,
    "edge glow": glow, "amplifier step": amplifier, "fringes": fringes, "crowded": flat,
    "mixed": mixed,
}  # fmt: skip


# ---- light -----------------------------------------------------------------------------------------------------


def draw_frame(kind, rng, side, wide):
    """A frame of a kind of sky with a wide galaxy, on which the rest of the frame does not depend.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    rng : numpy.random.Generator
    side : int
        Pixels along each axis.
    wide : WideLight

    Returns
    -------
    WideFrame
    """
    y, x = np.indices((side, side)) - (side - 1) / 2
    sky = ELECTRONS + KINDS[kind](x, y, side, rng)
    field = draw_field(side, rng, CROWDED if kind == "crowded" else STARS)
    bright = sky + field
    return plant(bright + photon_noise(bright, rng), wide, rng, sky=sky, field=field)


def plant(before, wide, rng, **known):
    """A frame (sky rms) with a wide galaxy drawn into it; `known` are its sky and its field."""
    light = draw_light(wide, before.shape, rng)
    return WideFrame(before, before + light + photon_noise(light, rng), light, **known)


def photon_noise(light, rng):
    """The noise of the photons of a surface brightness, both in sky rms."""
    return rng.normal(size=light.shape) * np.sqrt(np.maximum(light, 0.0) / ELECTRONS)


def draw_field(side, rng, stars):
    """Stars and small discs, (side, side)."""
    fwhm = rng.uniform(*SEEING)
    seeing = moffat(fwhm)
    light = fftconvolve(points(side, rng, stars, fwhm), seeing, mode="same")
    for radius in GALAXY_RADII:
        drawn = points(side, rng, GALAXIES / len(GALAXY_RADII), np.hypot(fwhm, 2 * radius))
        light += fftconvolve(drawn, fftconvolve(seeing, small_disc(radius)), mode="same")
    # The transforms leave rounding errors of both signs.
    return np.maximum(light, 0.0)


def points(side, rng, number, fwhm):
    """Fluxes of `number` sources per Mpix in the pixels of their centres, for a width in pixels."""
    fluxes = np.zeros((side, side))
    count = rng.poisson(number * side**2 / 1e6)
    snr = np.minimum(FAINTEST * (1 + rng.pareto(SLOPE, count)), BRIGHTEST)
    # S/N of a Gaussian in a matched filter and noise of 1.
    flux = snr * fwhm * np.sqrt(np.pi / (2 * np.log(2)))
    np.add.at(fluxes, tuple(rng.integers(0, side, (2, count))), flux)
    return fluxes


def moffat(fwhm):
    half = int(np.ceil(16 * fwhm))
    y, x = np.indices((2 * half + 1,) * 2) - half
    core = fwhm / 2 / np.sqrt(2 ** (1 / BETA) - 1)
    profile = (1 + (x**2 + y**2) / core**2) ** -BETA
    return profile / profile.sum()


def small_disc(radius):
    """An exponential disc of a half-light radius in pixels, unit sum."""
    half = int(np.ceil(6 * radius))
    y, x = np.indices((2 * half + 1,) * 2) - half
    profile = sersic(np.hypot(x, y), radius, 1.0)
    return profile / profile.sum()


def sersic(distance, radius, index):
    """The profile of Sersic (1963), 1 at the half-light radius."""
    b = gammaincinv(2 * index, 0.5)
    return np.exp(-b * ((distance / radius) ** (1 / index) - 1))


def draw_light(wide, shape, rng):
    """A wide galaxy somewhere in the middle half of an image, of random axis ratio and angle, in sky rms.

    Its core is as wide as a star: the radius is softened by half of a typical seeing.
    """
    ny, nx = shape
    y, x = np.indices(shape, dtype=np.float64)
    x, y = x - rng.uniform(0.25, 0.75) * nx, y - rng.uniform(0.25, 0.75) * ny
    ratio, angle = rng.uniform(0.5, 1.0), rng.uniform(0, np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (np.cos(angle) * y - np.sin(angle) * x) / ratio
    distance = np.sqrt(along**2 + across**2 + np.mean(SEEING) ** 2 / 4)
    index = SERSIC[wide.profile]
    scale = sersic(0.0, wide.radius, index) if wide.profile == "disc" else 1.0
    return wide.brightness / scale * sersic(distance, wide.radius, index)
