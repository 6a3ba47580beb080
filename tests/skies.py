"""Skies, stars and frames that several tests draw."""

import numpy as np
from astropy.io import fits

# --- flat skies and stars


def flat_sky(shape, level=100.0, rms=5.0, *, seed=0, dtype=np.float32):
    """Normal noise on a level."""
    return np.random.default_rng(seed).normal(level, rms, shape).astype(dtype)


def white_noise(shape, *, seed=0):
    """Normal noise of unit rms."""
    return flat_sky(shape, 0.0, 1.0, seed=seed)


def gaussian_stars(shape, x, y, height, sigma):
    """Light of Gaussian stars of one height and width, float64."""
    rows, columns = np.indices(shape)
    light = np.zeros(shape)
    for a, b in zip(x, y, strict=True):
        light += height * np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / (2 * sigma**2))
    return light


def exponential_disc(shape, x, y, radius, height):
    """Light of a disc whose brightness falls exponentially, float32."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return height * np.exp(-np.hypot(columns - x, rows - y) / np.float32(radius))


def star_field(shape, *, level, rms, height, sigma, count=12, margin=20, seed=0):
    """Stars at random places on a noisy sky, float64."""
    rng = np.random.default_rng(seed)
    y, x = (rng.uniform(margin, length - margin, count) for length in shape)
    return rng.normal(level, rms, shape) + gaussian_stars(shape, x, y, height, sigma)


# --- frames with known sources

FWHM = 3.0
SKY, RMS = 1000.0, 10.0
RAW_SKY, RAW_GAIN = 400.0, 2.0
RAW_RMS = (RAW_SKY / RAW_GAIN) ** 0.5


def add_star(image, x, y, flux, fwhm=FWHM, half=12):
    """Add a Gaussian star, integrated over pixels, in place."""
    from scipy.special import erf

    from bgrem.detection.psf import GAUSSIAN_FWHM

    width = np.sqrt(2.0) * fwhm / GAUSSIAN_FWHM
    row, column = round(y), round(x)
    edges = np.arange(-half, half + 2) - 0.5
    across_y = 0.5 * np.diff(erf((edges - (y - row)) / width))
    across_x = 0.5 * np.diff(erf((edges - (x - column)) / width))
    image[row - half : row + half + 1, column - half : column + half + 1] += flux * np.outer(
        across_y, across_x
    )


def isolated_stars(seed, *, size=768, spacing=32, brightest=100.0):
    """The control: isolated stars on a flat sky with white noise; data, sources, table, truth."""
    from bgrem.detection.psf import gaussian_psf, noise_pixels
    from bgrem.evaluate.truth import truth_of_catalogue
    from bgrem.masks.areas import inner

    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() + rng.uniform(-3, 3, axis.size) for axis in
            np.mgrid[spacing // 2 : size : spacing, spacing // 2 : size : spacing])  # fmt: skip
    snr = np.exp(rng.uniform(np.log(2.0), np.log(brightest), x.size))
    flux = snr * RMS * noise_pixels(gaussian_psf(FWHM)) ** 0.5
    sources = np.zeros((size, size))
    for star in zip(x, y, flux, strict=True):
        add_star(sources, *star)
    data = (sources + SKY + RMS * rng.standard_normal((size, size))).astype(np.float32)
    usable = inner(data.shape, 10)
    return data, sources, truth_of_catalogue(x, y, snr, usable=usable, fwhm=FWHM)


def made_pair(seed=4, *, size=384, shift=0.0, crowding=1.0):
    """A single exposure and a stack four times as deep, with a hot pixel that both have."""
    from bgrem.detection.psf import gaussian_psf, noise_pixels
    from bgrem.evaluate.pair import Pair

    rng = np.random.default_rng(seed)
    count = int(150 * crowding)
    x, y = rng.uniform(20, size - 20, (2, count))
    snr = np.exp(rng.uniform(np.log(0.7), np.log(200), count))
    unit = RMS * noise_pixels(gaussian_psf(FWHM)) ** 0.5
    single, deep = np.zeros((2, size, size))
    for star in zip(x, y, snr * unit, strict=True):
        add_star(deep, *star)
        add_star(single, star[0] + shift, star[1], star[2])
    single += SKY + RMS * rng.standard_normal(single.shape)
    error = np.full(deep.shape, RMS / 4, np.float32)
    deep += error * rng.standard_normal(deep.shape)
    single[200, 200] += 40 * RMS
    deep[200, 200] += 40 * RMS
    deep[:, -3:] = np.nan
    mask = np.zeros(single.shape, dtype=bool)
    mask[50:54, 50:90] = True
    pair = Pair(single.astype(np.float32), deep.astype(np.float32), error, mask, np.inf)
    return pair, x + shift, y, snr


def raw_frame_with_stars(seed=0, *, size=256, stars=25):
    """A raw frame: photons of sky and stars at `RAW_GAIN`."""
    from bgrem.detection.psf import gaussian_psf, noise_pixels
    from bgrem.simulate.detector import light_of_stars

    rng = np.random.default_rng(seed)
    x, y = rng.uniform(25, size - 25, (2, stars))
    snr = np.exp(rng.uniform(np.log(40), np.log(400), stars))
    flux = snr * RAW_RMS * noise_pixels(gaussian_psf(FWHM)) ** 0.5
    light = light_of_stars((size, size), x, y, flux, gaussian_psf(FWHM)) + RAW_SKY
    return (rng.poisson(light * RAW_GAIN) / RAW_GAIN).astype(np.float32)


def control_frame(data, truth):
    """Isolated stars as a frame of a comparison."""
    from bgrem.detection.psf import gaussian_psf
    from bgrem.evaluate.methods import BenchmarkFrame

    bad = np.zeros(data.shape, bool)
    return BenchmarkFrame("control", data, bad, gaussian_psf(FWHM), 1.0, truth)


# --- frames in files


def write_frame(path, seed=0):
    """A small frame of nothing but noise."""
    fits.PrimaryHDU(flat_sky((64, 80), 200, 3, seed=seed)).writeto(path)
    return path
