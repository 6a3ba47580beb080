"""What the network of counts maps is given: counts, the shape of the background, the PSF and numbers of the map."""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.statistics import FWHM_PER_SIGMA

__all__ = [
    "ASSUMED_FWHM", "PSF_SIDE", "CountsInput", "area_fwhm", "counts_input", "fitted_psf", "gaussian_image",
    "noise_area", "prior_background",
]  # fmt: skip

PSF_SIDE = 31  # px: of the image of the PSF that the network is given
ASSUMED_FWHM = 3.0  # px, where no PSF is given
LEAST_SHAPE = 1e-3  # of the mean, of a background's shape
LEAST_COUNTS = 1e-5  # a pixel, of a background's shape
EMPTY_MAP = 1e-4  # counts a pixel: added before the logarithm of the mean


@dataclass(frozen=True)
class CountsInput:
    """The inputs of `bgrem.network.counts_network.CountsNetwork` for k energy bands.

    Attributes
    ----------
    planes : ndarray, (k, 3, ny, nx) float32
        Counts, the background's shape scaled to them, and 1 where the map is seen.
    kernel : ndarray, (k, 1, PSF_SIDE, PSF_SIDE) float32
    frame : ndarray, (k, 6) float32
    """

    planes: np.ndarray
    kernel: np.ndarray
    frame: np.ndarray


def counts_input(counts, seen, shape, psf, *, given, rate=1.0):
    """Put the inputs together.

    Parameters
    ----------
    counts : ndarray, (k, ny, nx)
        0 where the map is not seen.
    seen : ndarray, (k, ny, nx) float32
        1 where it is seen, else 0.
    shape : ndarray, (k, ny, nx)
        Of the background: exposure times template, what is known of them.
    psf : ndarray, (k, PSF_SIDE, PSF_SIDE)
        With sum 1.
    given : tuple of bool
        Whether PSF, exposure and template are given.
    rate : float
        Noise rate.

    Returns
    -------
    CountsInput
    """
    counts = np.asarray(counts, np.float32)
    mean = counts.sum((1, 2), dtype=np.float64) / np.maximum(seen.sum((1, 2)), 1)
    frame = np.zeros((len(counts), 6), np.float32)
    frame[:, 0], frame[:, 1] = np.log10(mean + EMPTY_MAP), np.log2(area_fwhm(psf))
    frame[:, 2:5], frame[:, 5] = given, rate
    prior = prior_background(counts, shape, seen)
    kernel = np.asarray(psf, np.float32)[:, None]
    return CountsInput(np.stack([counts, prior, seen], 1).astype(np.float32), kernel, frame)


def prior_background(counts, shape, seen):
    """The shape of a background, scaled to the sum of the counts of each band.

    It is at least a thousandth of the mean counts where the map is seen: a template of 0 forbids nothing.

    Parameters
    ----------
    counts, shape, seen : ndarray, (k, ny, nx)

    Returns
    -------
    ndarray, (k, ny, nx) float32
    """
    shape = np.maximum(np.asarray(shape, np.float64), 0) * seen
    total, pixels = (part.sum((1, 2), keepdims=True) for part in (shape, seen.astype(np.float64)))
    shape = np.where(total > 0, shape, seen)
    total = np.where(total > 0, total, pixels)
    number = counts.sum((1, 2), keepdims=True, dtype=np.float64)
    scaled = shape * (number / np.maximum(total, 1e-20))
    least = np.maximum(LEAST_SHAPE * number / np.maximum(pixels, 1), LEAST_COUNTS)
    return (np.maximum(scaled, least) * seen).astype(np.float32)


def gaussian_image(fwhm, side=PSF_SIDE):
    """The image of a Gaussian of a FWHM in pixels, with sum 1; (side, side) float32."""
    offsets = np.arange(side) - side // 2
    profile = np.exp(-0.5 * (offsets / (fwhm / FWHM_PER_SIGMA)) ** 2)
    image = np.outer(profile, profile)
    return (image / image.sum()).astype(np.float32)


def area_fwhm(psf):
    """FWHM in pixels of the Gaussian that has the noise-equivalent area of a PSF.

    The area of an image P with sum 1 is 1 / sum(P^2), that of a Gaussian 4 pi sigma^2 (King 1983, PASP 95, 163).

    Parameters
    ----------
    psf : ndarray, (..., side, side)

    Returns
    -------
    ndarray
    """
    return FWHM_PER_SIGMA * np.sqrt(noise_area(psf) / (4 * np.pi))


def noise_area(psf):
    """Noise-equivalent area of a PSF with sum 1, in pixels."""
    return 1 / (np.asarray(psf, np.float64) ** 2).sum((-2, -1))


def fitted_psf(image, side=PSF_SIDE):
    """An odd image of a PSF cut or padded to a side, with sum 1.

    Parameters
    ----------
    image : ndarray, (n, n)

    Returns
    -------
    ndarray, (side, side) float32
    """
    image = np.asarray(image, np.float64)
    half = max(image.shape[0], side) // 2
    whole = np.zeros((2 * half + 1, 2 * half + 1))
    edge = half - image.shape[0] // 2
    whole[edge : edge + image.shape[0], edge : edge + image.shape[1]] = image
    cut = half - side // 2
    part = whole[cut : cut + side, cut : cut + side]
    return (part / part.sum()).astype(np.float32)
