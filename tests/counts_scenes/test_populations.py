"""Distributions of flux, and expected significances."""

import numpy as np
import pytest
from scipy import stats

from bgrem.counts_scenes.king import KingProfile, psf_image
from bgrem.counts_scenes.populations import (
    POPULATIONS,
    BrokenPowerLaw,
    expected_snr,
    expected_snr_of_light,
    flux_of_snr,
)

LIMITS = (2.0, 50.0, 5e3)  # lowest flux, break, highest


@pytest.mark.parametrize("name", POPULATIONS)
def test_drawn_fluxes_have_the_stated_distribution(name):
    law = POPULATIONS[name]
    flux = law.draw(np.random.default_rng(3), 20000, *LIMITS)
    assert flux.min() >= LIMITS[0]
    assert flux.max() <= LIMITS[2]
    assert stats.kstest(flux, lambda values: 1 - law.above(values, *LIMITS)).pvalue > 1e-3


@pytest.mark.parametrize("name", POPULATIONS)
def test_slopes_on_both_sides_of_the_break(name):
    """The density of the fluxes, from the numbers in narrow bins: its logarithmic slope."""
    law = POPULATIONS[name]
    for flux, slope in ((10.0, law.faint), (500.0, law.bright)):
        edges = flux * np.array([0.5, 0.55, 2.0, 2.2])
        above = law.above(edges, *LIMITS)
        ratio = (above[0] - above[1]) / (above[2] - above[3])
        # Bins of width 0.05 f and 0.2 f, at fluxes that differ by a factor of 4.
        assert np.log(ratio / 0.25) / np.log(4) == pytest.approx(slope, abs=1e-6)


def test_a_law_without_a_break_in_its_range():
    law = BrokenPowerLaw(1.2, 2.5)
    rng = np.random.default_rng(4)
    for edge, slope in ((1.0, 2.5), (1e5, 1.2)):
        flux = law.draw(rng, 5000, 2.0, edge, 200.0)
        single = BrokenPowerLaw(slope, slope)
        found = stats.kstest(
            flux, lambda values, one=single: 1 - one.above(values, 2.0, 20.0, 200.0)
        )
        assert found.pvalue > 1e-3


def test_part_above_a_flux():
    law = POPULATIONS["pulsars"]
    above = law.above(np.array([2.0, 4.0, 5e3]), *LIMITS)
    # N(>S) ~ 1 / S, less what is above the highest.
    assert above == pytest.approx([1, (1 / 4 - 1 / 5e3) / (1 / 2 - 1 / 5e3), 0], abs=1e-9)


def test_flux_of_a_snr():
    snr, background = np.array([0.5, 3.0, 50.0]), np.array([0.01, 10.0, 1e4])
    flux = flux_of_snr(snr, background)
    assert flux / np.sqrt(flux + background) == pytest.approx(snr)


@pytest.mark.parametrize("background", [0.003, 0.5, 200.0])
def test_the_expected_snr_is_the_sum_over_the_pixels(background):
    psf = psf_image(KingProfile(fwhm=3.0, index=2.0))
    flux = np.geomspace(0.05, 1e4, 25) * max(1.0, np.sqrt(background))
    found = expected_snr(flux, np.full(25, background), psf)
    for one, counts in zip(found, flux, strict=True):
        exact = expected_snr_of_light(counts * psf, np.full(psf.shape, background))
        assert one == pytest.approx(exact, rel=0.02)


def test_the_expected_snr_of_bright_backgrounds_is_gaussian():
    psf = psf_image(KingProfile(fwhm=3.0, index=100.0)).astype(np.float64)
    area = 1 / (psf**2).sum()
    found = expected_snr(np.array([100.0]), np.array([1e5]), psf)
    assert found[0] == pytest.approx(100 / np.sqrt(1e5 * area), rel=0.01)


def test_no_sources_and_no_background():
    psf = psf_image(KingProfile(fwhm=3.0, index=2.0))
    assert expected_snr(np.zeros(0), np.zeros(0), psf).shape == (0,)
    assert expected_snr_of_light(np.ones((4, 4)), np.zeros((4, 4))) == 0
