"""Truth for a real exposure: what a deep stack of other exposures of the same field confirms.

The stack is filtered with the PSF.  Its significant summits are the sources; where it holds nothing
above three sigma the sky is blank and a detection is false; in between nothing is scored.  The noise
of the filtered stack is measured on it, not derived from the standard errors alone: resampling correlates
the noise of neighbouring pixels, and fixed patterns of the detector do not average out.
"""

from dataclasses import dataclass

import numpy as np
import sep
from astropy.io import fits
from scipy import ndimage
from scipy.spatial import cKDTree

from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.detection.peaks import local_maxima, prominence
from bgrem.detection.psf import gaussian_psf, matched_filter, measure_psf, noise_pixels, psf_fwhm
from bgrem.detection.sextractor import DEFAULT_MESH, Subtracted, subtract_sky
from bgrem.evaluate.truth import COUNTED_SNR, Truth, matching_radius
from bgrem.io.reading import read_image
from bgrem.masks.areas import around, grown, inner, inside

__all__ = [
    "Pair", "PairTruth", "filtered_stack", "find_ghosts", "lower_half", "noise_of_single",
    "read_pair", "registration", "truth_of_pair",
]  # fmt: skip

#: A summit of the filtered stack is a source from this many sigma on ...
SOURCE_SIGMA = 5.0
#: ... if it stands this many sigma above the saddle that leads to a higher one ...
PROMINENCE_SIGMA = 3.0
#: ... and by this part of its own height, more than the errors of the PSF make in a halo.
LEAST_PROMINENCE = 0.02
#: Below this the stack is blank.
BLANK_SIGMA = 3.0
#: Pixels around a ghost of a hot pixel that are cut out.
GHOST_REACH = 4


@dataclass(frozen=True)
class Pair:
    """A single exposure and a deep stack of others, on one grid and flux scale.

    Attributes
    ----------
    single, deep, error : (ny, nx) float32
        The exposure, the stack and the standard error of the stack's pixels, in one unit.
    mask : (ny, nx) bool
        Bad pixels of the exposure: given to every method.
    saturation : float
        Level of the exposure from which pixels are taken for saturated.
    """

    single: np.ndarray
    deep: np.ndarray
    error: np.ndarray
    mask: np.ndarray
    saturation: float


@dataclass(frozen=True)
class PairTruth:
    """Truth of a pair and the planes that it was read from, for looking at it.

    Attributes
    ----------
    truth : Truth
    psf : (n, n) float64
        PSF of the exposure, measured on it.
    significance : (ny, nx) float64
        The filtered stack in units of its noise.
    ghosts : (g, 2) float64
        x, y of the peaks sharper than the PSF.
    offset : tuple of float
        Median (dx, dy) of the stack's bright stars to the exposure's, pixels; already applied to the
        positions of `truth`.
    subtracted : bgrem.detection.sextractor.Subtracted
        The exposure without its sky.
    """

    truth: Truth
    psf: np.ndarray
    significance: np.ndarray
    ghosts: np.ndarray
    offset: tuple
    subtracted: Subtracted


def read_pair(single, deep, *, saturation=None):
    """Read the two FITS files of a pair.

    Parameters
    ----------
    single : str or path
        The exposure in the first image HDU; optional HDU ``MASK``, non-zero where bad. Compressed or
        not, as `bgrem.io.reading.read_image` takes it.
    deep : str or path
        HDUs ``SCI`` and ``SE``.
    saturation : float, optional
        By default 0.9 of the exposure's highest good pixel where several share it within 1 %: a
        maximum that only one star has is no ceiling.

    Returns
    -------
    Pair

    Raises
    ------
    ValueError
        If a file cannot be used, an HDU is missing or the shapes differ.
    """
    image = np.asarray(read_image(single).data, dtype=np.float32)
    stack, error = (np.asarray(read_image(deep, hdu).data, np.float32) for hdu in ("SCI", "SE"))
    given = read_image(single, "MASK").data != 0 if _has_mask(single) else np.isnan(image)
    if not image.shape == stack.shape == error.shape == given.shape or image.ndim != 2:
        raise ValueError(f"{single} and {deep} are not two images of one shape")
    mask = given | ~np.isfinite(image)
    if saturation is None:
        saturation = _ceiling(image[~mask])
    return Pair(image, stack, error, mask, float(saturation))


def _has_mask(path):
    with fits.open(path) as hdus:
        return "MASK" in hdus


def _ceiling(values):
    """0.9 of the top value if at least ten pixels lie within 1 % of it, else inf."""
    top = values.max()
    span = top - np.median(values)
    return top - 0.1 * span if np.count_nonzero(values > top - 0.01 * span) >= 10 else np.inf


def truth_of_pair(pair, *, psf=None, border=None):
    """Sources that the deep stack confirms, and where the sky of the exposure is blank.

    Parameters
    ----------
    pair : Pair
    psf : (n, n) array, optional
        PSF of the exposure and of the stack; by default each is measured.
    border : int, optional
        Pixels along the edges that are left out; by default two FWHM and at least eight.

    Returns
    -------
    PairTruth

    Raises
    ------
    ValueError
        If the exposure or the stack has too few stars for its PSF.
    """
    sky = subtract_sky(pair.single, mask=pair.mask, passes=2)
    saturated = (pair.single >= pair.saturation) & ~pair.mask
    given = psf
    if psf is None:
        psf = measure_psf(sky.residual, sky.rms, mask=pair.mask | saturated)
    fwhm = psf_fwhm(psf)
    missing = ~(np.isfinite(pair.deep) & np.isfinite(pair.error) & (pair.error > 0))
    deep = subtract_sky(pair.deep, mask=missing, passes=2)
    flux, noise = filtered_stack(deep, pair.error, psf, missing)
    significance = flux / noise
    ghosts = find_ghosts(deep, missing, significance, psf=given)

    border = max(8, int(np.ceil(2 * fwhm))) if border is None else border
    usable = inner(missing.shape, border)
    usable &= ~(grown(missing, fwhm) | grown(pair.mask, 1.5) | grown(saturated, 2.0 * fwhm))
    usable &= ~around(*ghosts.T, missing.shape, GHOST_REACH)

    peaks = _summits(significance, pair.error, missing)
    row, column = _pixels(peaks)
    own_noise = noise_of_single(sky, deep, psf, pair.mask | missing, significance, noise)
    snr = flux[row, column] / own_noise[row, column]
    offset = registration(sky, pair.mask | saturated, peaks, fwhm)
    x, y = peaks["x"] + offset[0], peaks["y"] + offset[1]
    counted = (snr >= COUNTED_SNR) & inside(usable, x, y)
    blank = usable & (significance < BLANK_SIGMA)
    truth = Truth(x, y, snr, counted, usable, blank, matching_radius(fwhm))
    return PairTruth(truth, psf, significance, ghosts, offset, sky)


def filtered_stack(deep, error, psf, missing):
    """The stack filtered with the PSF, and the noise of that as it is seen.

    The standard errors give the noise's shape over the frame.  Its height comes from the *lower*
    half of the values around their mode: in a crowded field the upper half holds the stars.

    Parameters
    ----------
    deep : bgrem.detection.sextractor.Subtracted
        The stack without its sky.
    error : (ny, nx) array
        Standard error of its pixels.
    psf : (n, n) array
    missing : (ny, nx) bool
        Where the stack has no value.

    Returns
    -------
    flux, noise : (ny, nx) float64
        Flux of a point source at each pixel above the mode, 0 where most of the PSF is missing.
    """
    flux, unit = matched_filter(deep.residual, np.where(missing, 0.0, 1.0), psf)
    hidden = unit > 1.5 * noise_pixels(psf) ** 0.5
    image = np.where(missing, 0, error).astype(np.float32)
    # SEP's background of the errors: their local level without the stars' photon noise.
    level = sep.Background(image, mask=missing, bw=DEFAULT_MESH, bh=DEFAULT_MESH).back()
    ratio = np.where(hidden, 0.0, flux / level)
    mode, spread = lower_half(ratio[~hidden])
    return np.where(hidden, 0.0, flux - mode * level), spread * level.astype(np.float64)


def lower_half(values):
    """Mode of a skewed sample, and the standard deviation of a Gaussian with its lower half.

    Parameters
    ----------
    values : (n,) array
        Noise with sources above it.

    Returns
    -------
    mode, spread : float
    """
    low, middle = np.percentile(values, (16.0, 50.0))
    grid = np.linspace(middle - 5 * (middle - low), middle + 5 * (middle - low), 501)
    counts, _ = np.histogram(values, grid)
    # A kernel of a third of the spread: the mode of a smoother density is a steadier one.
    density = ndimage.gaussian_filter1d(counts.astype(np.float64), 501 / 30)
    mode = grid[int(np.argmax(density))]
    return mode, SIGMA_PER_MAD * float(np.median(mode - values[values < mode]))


def noise_of_single(sky, deep, psf, bad, significance, deep_noise):
    """Noise of a point source's flux in the exposure, (ny, nx) float64.

    Measured on the exposure minus the stack where the stack is blank: in a crowded field the sources
    themselves are most of the scatter, and in the difference they are gone.  The stack's own part of
    the difference's variance is taken off, up to half of it.
    """
    difference, error = matched_filter(
        sky.residual - np.where(bad, 0.0, deep.residual), np.where(bad, 0.0, 1.0), psf
    )
    hidden = (error > 1.5 * noise_pixels(psf) ** 0.5) | (significance > BLANK_SIGMA)
    difference[hidden] = 0.0
    variance = subtract_sky(difference, mask=hidden, mesh=128).rms.astype(np.float64) ** 2
    return np.sqrt(np.maximum(variance - deep_noise**2, 0.5 * variance))


def _summits(significance, error, missing):
    """Local maxima of the filtered stack that are sources: high enough, and prominent.

    In the halo of a bright star the photon noise, which the standard error knows, and the errors of
    the PSF make summits of their own: they stand but little above their surroundings.
    """
    peaks = local_maxima(significance, threshold=SOURCE_SIGMA)
    row, column = _pixels(peaks)
    height = prominence(significance, row, column, floor=BLANK_SIGMA)
    usual = np.median(error[~missing])
    variance = np.where(missing, usual, error).astype(np.float64) ** 2
    locally = np.sqrt(ndimage.uniform_filter(variance, 3))[row, column] / usual
    stands_out = height > PROMINENCE_SIGMA * np.maximum(locally, 1.0)
    stands_out |= height + BLANK_SIGMA >= peaks["score"]
    return peaks[stands_out & (height > LEAST_PROMINENCE * peaks["score"])]


def find_ghosts(deep, missing, significance, *, psf=None):
    """Peaks of the stack that something half as wide fits better than the stack's own PSF.

    Hot pixels that outlive the stacking, in one place or smeared by the registration, as far as they
    are seen in the filtered stack.

    Parameters
    ----------
    deep : bgrem.detection.sextractor.Subtracted
        The stack without its sky.
    missing : (ny, nx) bool
        Where the stack has no value.
    significance : (ny, nx) array
        The filtered stack in units of its noise.
    psf : (n, n) array, optional
        PSF of the stack; by default it is measured.

    Returns
    -------
    (g, 2) float64
        x, y.

    Raises
    ------
    ValueError
        If the stack has too few stars for its PSF.
    """
    if psf is None:
        psf = measure_psf(deep.residual, deep.rms, mask=missing)
    narrow = gaussian_psf(0.5 * psf_fwhm(psf))
    weight = np.where(missing, 0.0, 1.0 / np.square(deep.rms, dtype=np.float64))
    sharp = _best_snr(deep.residual, weight, narrow, shifts=(0.0,))
    peaks = local_maxima(sharp, threshold=SOURCE_SIGMA)
    row, column = _pixels(peaks)
    # A star between pixels must not lose against a spike on one: the PSF may shift, too.
    like_star = ndimage.maximum_filter(
        _best_snr(deep.residual, weight, psf, shifts=(-1 / 3, 0.0, 1 / 3)), 3
    )
    ghost = sharp[row, column] > like_star[row, column]
    ghost &= ndimage.maximum_filter(significance, 3)[row, column] > BLANK_SIGMA
    return np.column_stack([peaks["x"][ghost], peaks["y"][ghost]])


def _best_snr(data, weight, psf, *, shifts):
    """Largest S/N of the PSF at any of the sub-pixel shifts, (ny, nx)."""
    best = np.full(data.shape, -np.inf)
    for dy in shifts:
        for dx in shifts:
            moved = ndimage.shift(psf, (dy, dx), order=3) if dy or dx else psf
            flux, error = matched_filter(data, weight, moved)
            np.maximum(best, flux / error, out=best)
    return best


def registration(sky, bad, peaks, fwhm):
    """Median offset (dx, dy) of bright stars in the exposure from where the stack has them.

    Zero where fewer than five stars are seen.
    """
    x, y = _bright_centroids(sky, bad)
    if x.size < 5 or not peaks.size:
        return (0.0, 0.0)
    distance, nearest = cKDTree(np.column_stack([peaks["x"], peaks["y"]])).query(
        np.column_stack([x, y])
    )
    near = distance < max(1.5, fwhm)
    if np.count_nonzero(near) < 5:
        return (0.0, 0.0)
    nearest = nearest[near]
    dx, dy = x[near] - peaks["x"][nearest], y[near] - peaks["y"][nearest]
    return (float(np.median(dx)), float(np.median(dy)))


def _bright_centroids(sky, bad):
    """Positions of the exposure's bright round detections."""
    objects = sep.extract(sky.residual, 10.0, err=sky.rms, mask=bad, minarea=5)
    objects = objects[(objects["flag"] == 0) & (objects["b"] > 0.6 * objects["a"])]
    return objects["x"], objects["y"]


def _pixels(peaks):
    """Row and column of the pixel of each peak."""
    return np.rint(peaks["y"]).astype(np.int64), np.rint(peaks["x"]).astype(np.int64)
