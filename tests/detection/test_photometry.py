"""Light that is added, and fluxes that are measured, where the answer is known."""

import numpy as np
import pytest
import sep

from bgrem.arrays.stamps import add_stamp
from bgrem.detection.photometry import (
    aperture_fluxes,
    aperture_uncertainties,
    auto_fluxes,
    psf_fluxes,
    sum_uncertainties,
)
from bgrem.detection.psf import gaussian_psf
from bgrem.simulate.detector import add_light, light_of_stars

FWHM = 4.0


def test_stars_have_their_flux_at_their_place():
    light = light_of_stars((80, 90), [40.3, 20.0], [35.6, 60.0], [100.0, 7.0], gaussian_psf(FWHM))
    assert light.sum() == pytest.approx(107.0, rel=2e-3)
    near = light[15:56, 20:61]
    row, column = np.mgrid[15:56, 20:61]
    assert (near * column).sum() / near.sum() == pytest.approx(40.3, abs=0.02)
    assert (near * row).sum() / near.sum() == pytest.approx(35.6, abs=0.02)


@pytest.mark.parametrize("left, bottom", [(-2, 5), (8, -3), (-9, 3), (11, 4), (3, 20)])
def test_a_stamp_over_the_border_is_cut(left, bottom):
    image, stamp = np.zeros((10, 9)), np.arange(1.0, 26.0).reshape(5, 5)
    add_stamp(image, stamp, left, bottom)
    whole = np.zeros((40, 40))
    whole[bottom + 12 : bottom + 17, left + 12 : left + 17] = stamp
    assert np.array_equal(image, whole[12:22, 12:21])


@pytest.mark.parametrize("electrons", [20.0, 5000.0])
def test_photon_noise_follows_the_gain(electrons):
    gain = 2.5
    light = np.full((300, 300), electrons / gain)
    seen = add_light(np.zeros(light.shape), light, rng=np.random.default_rng(0), gain=gain)
    assert seen.mean() == pytest.approx(electrons / gain, rel=5e-3)
    assert seen.var() == pytest.approx(electrons / gain**2, rel=0.03)
    assert seen.dtype == np.float32


def test_light_without_a_gain_is_added_unchanged():
    data = np.arange(12.0).reshape(3, 4)
    light = np.full(data.shape, 0.25)
    assert np.array_equal(add_light(data, light, rng=np.random.default_rng(0)), data + 0.25)


def test_faint_light_survives_the_steps_of_the_data():
    light = np.full((200, 200), 0.3)
    seen = add_light(np.full(light.shape, 7.0), light, rng=np.random.default_rng(0), step=1.0)
    assert set(np.unique(seen)) == {7.0, 8.0}
    assert seen.mean() == pytest.approx(7.3, abs=0.01)
    dark = add_light(seen, np.zeros_like(light), rng=np.random.default_rng(1), step=1.0)
    assert np.array_equal(dark, seen)


def test_fluxes_of_a_star():
    psf = gaussian_psf(FWHM)
    x, y = np.array([40.3, 2.0]), np.array([35.6, 50.2])
    light = light_of_stars((80, 90), x, y, [100.0, 30.0], psf)
    assert psf_fluxes(light, x, y, psf)[0] == pytest.approx(100.0, rel=1e-3)
    # Beside the border a part of the star is missing, and so is its weight in the sum.
    assert 20.0 < psf_fluxes(light, x, y, psf)[1] < 30.0
    # A Gaussian within its FWHM, widened by the pixel once, and once more because a pixel on the
    # rim counts by its share.
    variance = (FWHM / 2.3548) ** 2 + 2 / 12
    expected = 100.0 * (1 - np.exp(-0.5 * FWHM**2 / variance))
    assert aperture_fluxes(light, x[:1], y[:1], FWHM)[0] == pytest.approx(expected, rel=0.005)
    light[35, 40] = np.nan
    assert np.isfinite(aperture_fluxes(light, x, y, FWHM)).all()


def test_uncertainty_of_a_sum_of_independent_pixels():
    sigma = np.full((60, 60), 3.0)
    expected = 3.0 * np.sqrt(np.pi * 5.0**2)
    assert aperture_uncertainties(sigma, [30], [30], 5.0)[0] == pytest.approx(expected, rel=0.01)


def test_auto_is_nearly_the_whole_flux():
    psf, rng = gaussian_psf(FWHM), np.random.default_rng(0)
    light = light_of_stars((120, 120), [30.0, 80.0], [40.0, 70.0], [5000.0, 900.0], psf)
    image = (light + rng.standard_normal(light.shape)).astype(np.float32)
    objects = np.sort(sep.extract(image, 3.0, minarea=5), order="y")
    flux = auto_fluxes(image, objects)
    assert flux == pytest.approx([5000.0, 900.0], rel=0.1)


@pytest.mark.parametrize("fwhm", [0.0, np.nan, np.inf])
def test_sums_need_the_seeing(fwhm):
    with pytest.raises(ValueError, match="FWHM of the stars must be a positive number"):
        sum_uncertainties(None, [5.0], [5.0], 3.0, calibration=None, fwhm=fwhm)
