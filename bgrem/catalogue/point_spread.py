"""The point-spread function of a frame, at places between pixels, and its growth with the radius."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import sep
from scipy import ndimage
from scipy.signal import fftconvolve

from bgrem.detection.photometry import psf_fluxes
from bgrem.detection.psf import centred_stamp, gaussian_psf, measure_psf, psf_fwhm
from bgrem.masks.areas import around

__all__ = ["FramePSF", "measure_frame_psf"]

PLACES = 8  # places in a pixel, along each axis, at which the PSF is tabulated
STAMP_REACH = 1.5  # FWHM: half-width of the stamps that are fitted
GROWTH_REACH = 8.0  # FWHM: within it is all of the light
INNER = 2.0  # FWHM: within it the growth is that of the PSF, beyond it that of bright stars
RINGS = 12  # inside and beyond
WING_SLOPES = np.arange(2.5, 6.1, 0.5)  # of the brightness of the wings of a star
SURE_WINGS = 3.0  # standard deviations: lower wings are left out
# FWHM of the stars over that of the frame; what is narrower or wider are defects or galaxies.
NARROWEST_PSF, WIDEST_PSF = 0.6, 1.7
CIRCLE = 1.5  # FWHM: radius of the circles whose fluxes those of fits have
MASKED_AROUND = 2.0  # FWHM: around sources, in the rings of others
FEWEST_BRIGHT, BRIGHT_PART = 8, 0.25  # of the stars: those whose wings are seen
SLOPE_STEP = 0.05  # px: between the two PSFs whose difference is the slope
SPREAD_SCALE = 1 / 16  # FWHM: scale length of the disc of SPREAD_MODEL (Desai et al. 2012)


@dataclass(frozen=True, eq=False)
class FramePSF:
    """A PSF whose sum is the part of the light within its stamp.

    Attributes
    ----------
    image : (k, k) ndarray
        Centred, k odd.
    fwhm : float
        In pixels.
    radii, growth : (n,) ndarray
        Radii in pixels, and the part of the light within them.
    is_measured : bool
        On stars of the frame; else it is a Gaussian.
    """

    image: np.ndarray
    fwhm: float
    radii: np.ndarray
    growth: np.ndarray
    is_measured: bool

    def light_within(self, radius):
        """Part of the light of a star within a radius in pixels."""
        return np.interp(radius, self.radii, self.growth)

    def image_within(self, radius):
        """Sum of the image within a radius in pixels."""
        return _sum_within(self.image, self.image.shape[0] // 2, radius)

    @cached_property
    def half_light_radius(self):
        """In pixels."""
        return float(np.interp(0.5, self.growth, self.radii))

    @property
    def half(self):
        """Pixels on each side of the middle one of a fitted stamp."""
        return max(2, int(np.ceil(STAMP_REACH * self.fwhm)))

    @cached_property
    def stamps(self):
        """PSF with its centre at each place of a pixel, (PLACES, PLACES, k, k) in the order y, x."""
        return self._at_phases(self.image)

    @cached_property
    def spread_stamps(self):
        """As `stamps`, for a small exponential disc behind the PSF."""
        half = self.image.shape[0] // 2
        fine = 5
        y, x = (np.mgrid[-half * fine : half * fine + 1, -half * fine : half * fine + 1]) / fine
        disc = np.exp(-np.hypot(x, y) / (SPREAD_SCALE * self.fwhm))
        inner = ndimage.uniform_filter(disc, fine)[::fine, ::fine]
        return self._at_phases(fftconvolve(self.image, inner / inner.sum(), mode="same"))

    @cached_property
    def slopes(self):
        """Change of `stamps` per pixel of its place, (2, PLACES, PLACES, k, k): along y and x."""
        return np.stack(
            [
                (self._at_phases(self.image, step) - self._at_phases(self.image, -step))
                / (2 * SLOPE_STEP)
                for step in (np.array([SLOPE_STEP, 0.0]), np.array([0.0, SLOPE_STEP]))
            ]
        )

    @cached_property
    def overlap(self):
        """Sum of the product of two fitted stamps at a distance of whole pixels, (m, m), 0 in the middle."""
        middle = self.stamps[PLACES // 2, PLACES // 2]
        return fftconvolve(middle, middle[::-1, ::-1])

    def phase(self, place):
        """The pixel of each coordinate, the number of the tabulated place next to it, and that place."""
        pixel = np.rint(place).astype(np.int64)
        number = np.clip(np.rint((place - pixel) * PLACES).astype(int) + PLACES // 2, 0, PLACES)
        return pixel, number, pixel + (number - PLACES // 2) / PLACES

    def _at_phases(self, image, moved=(0.0, 0.0)):
        """The image with its centre at each tabulated place, and a step further, by a cubic spline."""
        middle = image.shape[0] // 2
        padded = np.pad(image, max(self.half + 3 - middle, 0))
        coefficients = ndimage.spline_filter(padded, order=3)
        steps = (np.arange(PLACES + 1) - PLACES // 2) / PLACES
        grid = np.arange(-self.half, self.half + 1) + padded.shape[0] // 2

        def at(dy, dx):
            rows, columns = np.meshgrid(grid - dy - moved[0], grid - dx - moved[1], indexing="ij")
            return ndimage.map_coordinates(coefficients, [rows, columns], order=3, prefilter=False)

        return np.array([[at(dy, dx) for dx in steps] for dy in steps])


def measure_frame_psf(image, rms, bad, places, fwhm):
    """PSF of a frame from its stars, or a Gaussian where there are too few.

    Parameters
    ----------
    image : (ny, nx) array
        Sky-subtracted.
    rms : (ny, nx) array
    bad : (ny, nx) bool
        Pixels that are left out: bad, saturated, or of an artefact.
    places : (x, y), each an (n,) array
        Of all sources, in pixels.
    fwhm : float
        In pixels, of the Gaussian.

    Returns
    -------
    FramePSF
    """
    image = np.where(bad, 0, image).astype(np.float32)
    try:
        psf, stars = measure_psf(image, np.ascontiguousarray(rms), mask=bad, with_stars=True)
    except ValueError:
        return _with_growth(gaussian_psf(fwhm), fwhm, None)
    seen = psf_fwhm(psf)
    if not NARROWEST_PSF < seen / fwhm < WIDEST_PSF:
        return _with_growth(gaussian_psf(fwhm), fwhm, None)
    fwhm = seen
    stars = stars[np.argsort(-stars["flux"], kind="stable")]
    others = bad | around(*places, image.shape, MASKED_AROUND * fwhm)
    rings, inner = _rings(image, others, stars, fwhm)
    # Unseen sources and the error of the background are the same around faint stars, whose wings are not seen.
    level = np.nanmedian(rings[len(rings) // 2 :, len(stars) // 2 :])
    level = float(level) if np.isfinite(level) else 0.0
    count = max(FEWEST_BRIGHT, int(BRIGHT_PART * len(stars)))
    wings = _wings((rings - level)[:, :count], inner[:count] - level * _area(fwhm), fwhm)
    image -= np.float32(level)
    stack = _stack(image, stars[:count], fwhm)
    psf = _with_growth(stack, fwhm, wings)
    return _scaled_to_circles(psf, image, stars[:count])


def _scaled_to_circles(psf, image, stars):
    """The PSF with the factor that makes fitted fluxes of bright stars those in circles (Stetson 1987, PASP 99, 191).

    Interpolation to a common centre makes the image of a sharp star a little wider.
    """
    x, y, middle = stars["x"], stars["y"], psf.image.shape[0] // 2
    part = slice(middle - psf.half, middle + psf.half + 1)
    fitted = psf_fluxes(image, x, y, psf.image[part, part])
    radius = CIRCLE * psf.fwhm
    circles, _, _ = sep.sum_circle(image, x, y, radius, subpix=5)
    factor = float(np.median(fitted / circles)) * psf.light_within(radius)
    return replace(psf, image=psf.image * factor) if 0.8 < factor < 1.25 else psf


def _area(fwhm):
    """Pixels within `INNER` FWHM."""
    return np.pi * (INNER * fwhm) ** 2


def _stack(image, stars, fwhm):
    """Median image of stars within `INNER` FWHM, each over its light within 1 FWHM; of few stars their mean."""
    half = int(np.ceil(INNER * fwhm))
    stamps = np.stack([centred_stamp(image, star["x"], star["y"], half) for star in stars])
    distance = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    flux = stamps[:, distance <= fwhm].sum(axis=1)
    scaled = stamps / flux[:, None, None]
    if len(stars) >= FEWEST_BRIGHT:
        return np.where(distance <= half, np.median(scaled, axis=0), 0)
    return np.where(distance <= half, np.average(scaled, axis=0, weights=flux**2), 0)


def _wings(rings, inner, fwhm):
    """Brightness of rings of a star of unit light: a power law of the radius, 0 where noise may make it.

    ``rings`` (rings, n) are in units of the sky rms, ``inner`` (n,) the light of the stars.
    """
    radii = np.array([INNER * fwhm, *_radii(fwhm)])
    area, middle = np.pi * np.diff(radii**2), (radii[1:] + radii[:-1]) / 2
    # In independent noise; a median has 1.25 times the error of a mean.
    error = 1.25 / np.sqrt(area * np.square(inner).sum())
    seen = np.array([_weighted_median(ring / inner, inner**2) for ring in rings])
    known = np.isfinite(seen)
    best, least = np.zeros(len(area)), np.inf
    for slope in WING_SLOPES:
        law = (middle / radii[0]) ** -slope
        weight = np.where(known, law / error**2, 0)
        height, sigma = (weight @ np.nan_to_num(seen)) / (weight @ law), (weight @ law) ** -0.5
        misfit = np.sum(np.square((seen - height * law) / error)[known])
        if misfit < least:
            best, least = law * (height if height > SURE_WINGS * sigma else 0), misfit
    return best


def _weighted_median(values, weights):
    """The value with half of the weight on each side; NaN without a finite one."""
    good = np.isfinite(values)
    if not good.any():
        return np.nan
    order = np.argsort(values[good])
    sums = np.cumsum(weights[good][order])
    return values[good][order][np.searchsorted(sums, 0.5 * sums[-1])]


def _rings(image, others, stars, fwhm):
    """Brightness of rings beyond `INNER` FWHM around stars, (rings, n), and the light within, (n,)."""
    radii = [INNER * fwhm, *_radii(fwhm)]
    inner, _, _ = sep.sum_circle(image, stars["x"], stars["y"], radii[0], subpix=5)
    sums, areas = (
        np.array([sep.sum_circle(plane, stars["x"], stars["y"], r, subpix=5)[0] for r in radii])
        for plane in (np.where(others, 0, image), (~others).astype(np.float32))
    )
    area = np.diff(areas, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(area > 0, np.diff(sums, axis=0) / area, np.nan), inner


def _radii(fwhm):
    """Radii beyond `INNER` FWHM at which the light of stars is measured."""
    return fwhm * np.linspace(INNER, GROWTH_REACH, RINGS + 1)[1:]


def _with_growth(psf, fwhm, rings_beyond):
    """A PSF scaled such that all of its light within `GROWTH_REACH` is one; ``rings_beyond`` are brightnesses of rings."""
    half = psf.shape[0] // 2
    rings = np.zeros(RINGS) if rings_beyond is None else rings_beyond
    inside = fwhm * np.linspace(0, INNER, RINGS + 1)
    within = np.array([_sum_within(psf, half, r) for r in inside])
    area = np.pi * np.diff(np.square([INNER * fwhm, *_radii(fwhm)]))
    growth = np.concatenate([within / within[-1], 1 + np.cumsum(rings * area)])
    image = psf / within[-1] / growth[-1]
    radii = np.concatenate([inside, _radii(fwhm)])
    return FramePSF(image, float(fwhm), radii, growth / growth[-1], rings_beyond is not None)


def _sum_within(psf, half, radius):
    if radius == 0:
        return 0.0
    total, _, _ = sep.sum_circle(np.ascontiguousarray(psf), [half], [half], radius, subpix=0)
    return float(total[0])
