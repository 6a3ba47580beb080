"""Galaxies with Sersic profiles: a bank of small ones, and wide ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import galsim
import numpy as np
from scipy import fft
from scipy.special import gammaincinv

from bgrem.arrays.stamps import add_stamp
from bgrem.simulate.optics import PHASES

__all__ = [
    "LARGEST_DISC_INDEX", "GalaxyStamps", "SersicGalaxy", "draw_extended", "draw_galaxies", "ratio_of_disc",
    "same_convolve",
]  # fmt: skip

SAMPLING = 2  # samples per pixel of the small galaxies' stamps
SIZE = 128  # samples per side of the small galaxies' stamps
FINER = 4
FAINTEST = 2e-3  # sky rms: surface brightness at which the image of a wide galaxy ends
PROFILE_REACH = 5.0  # half-light radii at which a profile ends
LARGEST_STAMP = 400  # px: half width of the largest galaxies' stamps
LARGEST_DISC_INDEX = 2.0  # Sersic index above which a galaxy is a spheroid
LARGEST_RATIO_OF_LANE = 0.3  # axis ratio above which the dust of a disc does not lie on a line
LARGEST_SMALL_RADIUS = 8.0  # px: half-light radius above which a galaxy is drawn on its own


@dataclass(frozen=True)
class GalaxyStamps:
    """A set of galaxies as one scene sees them.

    Attributes
    ----------
    stamps : ndarray, (n, SAMPLING, SAMPLING, k, k) float32
        Unit-flux images for each half-pixel position (vertical, horizontal).
    sharpness : ndarray, (n,) float64
        Sum of the squared pixel values: the matched filter's noise-equivalent area is its inverse.
    half_light_radius : ndarray, (n,) float64
        Before convolution, in pixels.
    """

    stamps: np.ndarray
    sharpness: np.ndarray
    half_light_radius: np.ndarray

    def place(self, image, kind, x, y, flux):
        """Add galaxies to an image, in place.

        Parameters
        ----------
        image : ndarray, (ny, nx) float32
        kind : ndarray, (n,) int64
            Which galaxy of the set.
        x, y : ndarray, (n,) int64
            Positions in units of ``1 / SAMPLING`` pixel.
        flux : ndarray, (n,) float64
        """
        column, phase_x = np.divmod(x, SAMPLING)
        row, phase_y = np.divmod(y, SAMPLING)
        middle = self.stamps.shape[-1] // 2
        for k in range(len(flux)):
            stamp = self.stamps[kind[k], phase_y[k], phase_x[k]] * np.float32(flux[k])
            add_stamp(image, stamp, column[k] - middle, row[k] - middle)


@lru_cache(maxsize=1)
def _bank(count=240, seed=7):
    """Sersic profiles of many shapes, drawn once by GalSim: (images, half-light radii).

    Indices 0.5 to 5 cover discs to spheroids, axis ratios 0.2 to 1 thin to face-on discs;
    radii are even in the logarithm.
    """
    rng = np.random.default_rng(seed)
    radii = np.exp(rng.uniform(np.log(0.3), np.log(LARGEST_SMALL_RADIUS), count))
    images = np.empty((count, SIZE, SIZE), np.float32)
    for k, radius in enumerate(radii):
        shape = _shape(rng)
        profile = _sersic(radius, *shape)
        # Four times finer than needed, then averaged: a spheroid's cusp is sharp. The offset
        # brings the centre onto sample SIZE // 2 of the averaged stamp.
        fine = profile.drawImage(
            nx=FINER * SIZE,
            ny=FINER * SIZE,
            scale=1 / (SAMPLING * FINER),
            offset=(FINER / 2, FINER / 2),
            method="no_pixel",
            dtype=float,
        )
        images[k] = fine.array.reshape(SIZE, FINER, SIZE, FINER).mean(axis=(1, 3))
        images[k] *= _fading(SIZE, SAMPLING * radius, shape)
        images[k] /= images[k].sum()
    return images, radii


def _shape(rng):
    """Random Sersic index (after Trujillo et al. 2001), axis ratio and direction in radians."""
    index = float(np.exp(rng.uniform(np.log(0.5), np.log(5.0))))
    return index, float(rng.uniform(0.2, 1.0)), float(rng.uniform(0.0, np.pi))


def _sersic(radius, index, ratio, angle):
    """A Sersic profile that ends at PROFILE_REACH half-light radii."""
    profile = galsim.Sersic(n=index, half_light_radius=radius, trunc=PROFILE_REACH * radius)
    return profile.shear(q=ratio, beta=angle * galsim.radians)


def _fading(size, radius, shape):
    """A window that lets a galaxy fade out before it ends, (size, size) float32.

    Neither the end of the profile nor the border of the stamp may show as an edge.
    """
    _, ratio, angle = shape
    y, x = np.indices((size, size), dtype=np.float64) - size // 2
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    ellipse = np.hypot(along * np.sqrt(ratio), across / np.sqrt(ratio)) / radius
    window = _smooth_end(ellipse, 0.7 * PROFILE_REACH, PROFILE_REACH)
    window *= _smooth_end(np.hypot(x, y), 0.3 * size, 0.49 * size)
    return window.astype(np.float32)


def _smooth_end(r, start, end):
    """1 up to `start`, 0 from `end`, a smooth step between."""
    t = np.clip((end - r) / (end - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def draw_galaxies(psf, rng, *, count=32, median_radius=1.5, scatter=0.5):
    """Convolve galaxies of the bank with a point-spread function.

    Parameters
    ----------
    psf : PointSpread
    rng : numpy.random.Generator
    count : int
        How many different galaxies.
    median_radius, scatter : float
        Log-normal distribution of half-light radii: median in pixels, spread in e-folds.
        Faint field galaxies have 0.2 to 1 arcsec (Shen et al. 2003, MNRAS 343, 978).

    Returns
    -------
    GalaxyStamps
    """
    images, radii = _bank()
    wanted = np.log(median_radius) + scatter * rng.standard_normal(count)
    jitter = 0.15 * rng.standard_normal((count, len(radii)))
    chosen = np.abs(np.log(radii)[None, :] - wanted[:, None] + jitter).argmin(axis=1)
    profiles = _mirrored(images[chosen], rng)
    seen = _convolve(profiles, _psf_samples(psf))
    stamps = _binned(seen)
    sharpness = (stamps[:, 0, 0].astype(np.float64) ** 2).sum(axis=(1, 2))
    return GalaxyStamps(stamps=stamps, sharpness=sharpness, half_light_radius=radii[chosen])


def _mirrored(profiles, rng):
    """Random reflections: eight times as many shapes from one bank."""
    out = profiles.copy()
    for k in range(len(out)):
        flip = rng.integers(8)
        out[k] = out[k].T if flip & 4 else out[k]
        for axis, bit in ((0, 1), (1, 2)):
            if flip & bit:  # the roll keeps the centre on the sample SIZE // 2
                out[k] = np.roll(np.flip(out[k], axis), 1, axis)
    return out


def _psf_samples(psf):
    """The point-spread function at SAMPLING samples per pixel on the galaxies' grid.

    The core is resampled from PHASES samples per pixel by linear interpolation.
    """
    fine = psf.fine
    middle = (fine.shape[0] - 1) / 2
    offset = (np.arange(SIZE) - SIZE // 2) * PHASES / SAMPLING + middle
    base = np.floor(offset).astype(int)
    weight = offset - base
    valid = (base >= 0) & (base + 1 < fine.shape[0])
    low = np.clip(base, 0, fine.shape[0] - 1)
    high = np.clip(base + 1, 0, fine.shape[0] - 1)
    rows = (fine[low] * (1 - weight)[:, None] + fine[high] * weight[:, None]) * valid[:, None]
    out = (rows[:, low] * (1 - weight) + rows[:, high] * weight) * valid
    return out / out.sum()


def _convolve(profiles, kernel):
    """Circular convolution of centred images (n, SIZE, SIZE) with a centred kernel."""
    transfer = fft.rfft2(np.fft.ifftshift(kernel)).astype(np.complex64)
    return fft.irfft2(fft.rfft2(profiles) * transfer, s=(SIZE, SIZE))


def _binned(seen):
    """Pixel values for each half-pixel position, (n, SAMPLING, SAMPLING, k, k) float32.

    The point-spread function holds the integration over the pixel already,
    so that a pixel's value is the sample at its centre.
    """
    half = SIZE // SAMPLING
    out = np.empty((len(seen), SAMPLING, SAMPLING, half, half), np.float32)
    for j in range(SAMPLING):
        for i in range(SAMPLING):
            shifted = np.roll(seen, (j, i), axis=(1, 2))
            out[:, j, i] = shifted[:, ::SAMPLING, ::SAMPLING] * SAMPLING**2
    return out


def draw_extended(psf, rng, *, radius, texture=0.0, index=None, ratio=None):
    """One large galaxy or faint disc, of unit flux, (n, n) float32.

    Discs are seen from any direction, as thin as a trail where edge-on, and half of them have a bulge.

    Parameters
    ----------
    psf : PointSpread
    rng : numpy.random.Generator
    radius : float
        Half-light radius in pixels, of a circle with the area of the ellipse.
    texture : float
        Amplitude of arms and knots relative to the smooth light.
    index : float, optional
        Sersic index; random if not given.
    ratio : float, optional
        Axis ratio, of a galaxy without bulge and dust; random if not given.
    """
    if index is None:
        index = float(np.exp(rng.uniform(np.log(0.5), np.log(5.0))))
    disc = ratio is None and index < LARGEST_DISC_INDEX
    if ratio is None:
        ratio = ratio_of_disc(rng) if disc else float(rng.uniform(0.3, 1.0))
    shape = index, ratio, float(rng.uniform(0.0, np.pi))
    profile = _sersic(radius, *shape)
    if disc and rng.random() < 0.5:
        profile = profile + rng.uniform(0.05, 1.0) * _bulge(rng, radius, shape)
    size = 2 * int(np.clip(PROFILE_REACH * radius / np.sqrt(ratio), 24, LARGEST_STAMP)) + 1
    image = profile.drawImage(nx=size, ny=size, scale=1.0, method="no_pixel", dtype=float).array
    image = image * _fading(size, radius, shape)
    if disc and ratio < LARGEST_RATIO_OF_LANE and rng.random() < 0.5:
        image = image * _dust_lane(rng, size, radius, shape)
    if texture > 0:
        image = image * _arms(rng, size, radius, texture)
    image = np.clip(image, 0.0, None)
    kernel = psf.image / psf.image.sum()
    image = same_convolve(image, kernel)
    return (image / image.sum()).astype(np.float32)


def ratio_of_disc(rng):
    """Axis ratio of a thick disc seen from a random direction (Hubble 1926, ApJ 64, 321)."""
    thickness = np.exp(rng.uniform(np.log(0.04), np.log(0.25)))
    cosine = rng.uniform(0.0, 1.0)
    return float(np.hypot(cosine, thickness * np.sqrt(1 - cosine**2)))


def _bulge(rng, radius, shape):
    """A rounder, smaller and denser profile at the centre of a disc, of unit flux."""
    _, ratio, angle = shape
    width = radius * rng.uniform(0.1, 0.4)
    return _sersic(width, rng.uniform(1.0, 4.0), max(ratio, rng.uniform(0.5, 1.0)), angle)


def _dust_lane(rng, size, radius, shape):
    """What the dust in the plane of a disc lets through, (size, size) float64."""
    _, ratio, angle = shape
    y, x = np.indices((size, size), dtype=np.float64) - size // 2
    thickness = radius * np.sqrt(ratio)
    across = (y * np.cos(angle) - x * np.sin(angle)) / thickness - rng.uniform(-0.5, 0.5)
    return 1.0 - rng.uniform(0.2, 0.9) * np.exp(-0.5 * (across / rng.uniform(0.1, 0.4)) ** 2)


def _arms(rng, size, radius, texture):
    """Two-armed logarithmic spiral with knots, mean about 1, (size, size) float64."""
    y, x = np.indices((size, size), dtype=np.float64) - size // 2
    r = np.hypot(x, y) + 1.0
    pitch, phase = rng.uniform(2.0, 5.0), rng.uniform(0, 2 * np.pi)
    arms = 1.0 + texture * np.cos(2 * np.arctan2(y, x) + pitch * np.log(r) + phase)
    knots = rng.random((size, size)) < 0.004
    strength = knots * rng.exponential(8.0 * texture, (size, size)) * (r < 2.5 * radius)
    return np.clip(arms, 0.05, None) + strength


def same_convolve(image, kernel):
    """Linear convolution of an image (ny, nx) with an odd square kernel by FFT, cut to the image's size."""
    sides = zip(image.shape, kernel.shape, strict=True)
    shape = [fft.next_fast_len(a + b, real=True) for a, b in sides]
    product = fft.rfft2(image, shape) * fft.rfft2(kernel, shape)
    half = kernel.shape[0] // 2
    full = fft.irfft2(product, shape)
    return full[half : half + image.shape[0], half : half + image.shape[1]]


@dataclass(frozen=True, kw_only=True)
class SersicGalaxy:
    """A galaxy of any width with a Sersic profile (Sersic 1963, BAAA 6, 41).

    Attributes
    ----------
    place : ndarray, (2,)
        y and x of the centre in pixels; it may lie outside the image.
    radius : float
        Half-light radius along the long axis in pixels.
    index : float
        Sersic index.
    surface : float
        Surface brightness at the half-light radius in sky rms.
    ratio : float
        Axis ratio b/a.
    angle : float
        Direction of the long axis in radians from the x axis.
    soft : float
        Radius in pixels inside which seeing flattens the profile.
    modulation : callable, optional
        Factor of the light from the coordinates along both axes and the elliptical radius, all
        in half-light radii.
    """

    place: np.ndarray
    radius: float
    index: float
    surface: float
    ratio: float = 1.0
    angle: float = 0.0
    soft: float = 1.0
    modulation: Callable | None = None

    def add_to(self, image):
        """Add the light to an image (ny, nx) float32 in units of the sky's rms, in place."""
        part = self._part(image.shape)
        if any(cut.start >= cut.stop for cut in part):
            return
        along, across = self._coordinates(part)
        soft = np.float32((self.soft / self.radius) ** 2)
        r = np.sqrt(along**2 + across**2 + soft)
        light = np.exp(np.float32(-self._slope) * (r ** np.float32(1 / self.index) - 1))
        if self.modulation:
            light *= self.modulation(along, across, r)
        image[part] += np.float32(self.surface) * light

    @property
    def _slope(self):
        """The constant that makes `radius` the half-light radius (Ciotti 1991, A&A 249, 99)."""
        return gammaincinv(2 * self.index, 0.5)

    def _part(self, shape):
        """Rows and columns of an image in which the galaxy is not fainter than FAINTEST."""
        steps = max(np.log(self.surface / FAINTEST), 0.0) / self._slope
        reach = self.radius * (1 + steps) ** self.index
        return tuple(
            slice(max(int(centre - reach), 0), min(int(centre + reach) + 2, size))
            for centre, size in zip(self.place, shape, strict=True)
        )

    def _coordinates(self, part):
        """Distances along the long and the short axis in units of each, float32."""
        y, x = (
            (np.arange(cut.start, cut.stop) - centre).astype(np.float32) / np.float32(self.radius)
            for cut, centre in zip(part, self.place, strict=True)
        )
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        y = y[:, None]
        return cosine * x + sine * y, (cosine * y - sine * x) / np.float32(self.ratio)
