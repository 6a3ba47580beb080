"""Peaks, point-spread functions and the matched filter."""

import numpy as np
import pytest
from skies import FWHM, add_star, isolated_stars

from bgrem.detection.peaks import local_maxima, prominence
from bgrem.detection.psf import (
    GAUSSIAN_FWHM,
    gaussian_psf,
    matched_filter,
    measure_psf,
    noise_pixels,
    psf_fwhm,
)
from bgrem.detection.sextractor import subtract_sky


def test_local_maxima_to_a_fraction_of_a_pixel():
    image = np.zeros((40, 40))
    add_star(image, 20.3, 15.8, 1.0)
    peak = local_maxima(image, threshold=0.01)
    assert peak.size == 1
    assert (peak["x"][0], peak["y"][0]) == pytest.approx((20.3, 15.8), abs=0.05)


def test_local_maxima_of_a_plateau_and_of_nan():
    image = np.zeros((12, 12))
    image[4:7, 5:8] = 1.0
    image[0, 0] = np.nan
    assert local_maxima(image, threshold=0.5).size == 1
    usable = np.ones(image.shape, dtype=bool)
    usable[:, 5:8] = False
    assert local_maxima(image, threshold=0.5, usable=usable).size == 0


def test_prominence_is_the_height_above_the_saddle():
    image = np.zeros((5, 9))
    image[2] = [0, 5, 3, 4, 1, 2, 0, 0, 0]
    height = prominence(image, np.array([2, 2, 2]), np.array([1, 3, 5]), floor=-0.5)
    assert height.tolist() == [5.5, 1.0, 1.0]


def test_psf_shapes():
    for fwhm in (1.5, 3.0, 6.0):
        psf = gaussian_psf(fwhm)
        assert psf.sum() == pytest.approx(1.0)
        # The integral over the pixel widens it: a twelfth of a pixel squared in variance.
        wide = np.hypot(fwhm, GAUSSIAN_FWHM / np.sqrt(12))
        assert psf_fwhm(psf) == pytest.approx(wide, rel=0.06)
        assert noise_pixels(psf) == pytest.approx(4 * np.pi * (wide / GAUSSIAN_FWHM) ** 2, rel=0.05)


def test_matched_filter_gives_the_flux_around_bad_pixels():
    image = np.zeros((60, 60))
    add_star(image, 30, 30, 500.0)
    weight = np.full(image.shape, 0.25)
    image[31, 30], weight[31, 30] = 1e6, 0.0
    weight[:, :8] = 0.0
    flux, error = matched_filter(image, weight, gaussian_psf(FWHM))
    assert flux[30, 30] == pytest.approx(500.0, rel=1e-3)
    assert error[45, 45] == pytest.approx(2.0 * noise_pixels(gaussian_psf(FWHM)) ** 0.5, rel=1e-3)
    assert np.isinf(error[30, 0]) and flux[30, 0] == 0


def test_measured_psf():
    data, _, _ = isolated_stars(0)
    sky = subtract_sky(data)
    psf = measure_psf(sky.residual, sky.rms)
    assert psf.sum() == pytest.approx(1.0)
    assert psf_fwhm(psf) == pytest.approx(psf_fwhm(gaussian_psf(FWHM)), rel=0.05)
    with pytest.raises(ValueError, match="too few"):
        measure_psf(np.zeros((64, 64), np.float32), 1.0)
