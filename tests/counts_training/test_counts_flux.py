"""Fluxes on counts maps: intervals that cover, sources fitted together, a background without the light of sources."""

import numpy as np
import pytest

from bgrem.counts_training.counts_flux import (
    continued_background,
    fit_counts_sources,
    profile_interval,
)
from bgrem.detection.peaks import detection_table


def gaussian_at(x, y, side=31, sigma=1.5):
    v, u = np.mgrid[:side, :side]
    image = np.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / sigma**2)
    return image / (2 * np.pi * sigma**2)


PSF = gaussian_at(15, 15) / gaussian_at(15, 15).sum()


def test_without_background_the_flux_is_the_number_of_photons():
    counts = np.random.default_rng(1).poisson(100 * PSF).ravel()
    flux, low, high = profile_interval(counts, np.zeros(PSF.size), PSF.ravel())
    assert flux == pytest.approx(counts.sum(), rel=1e-3)
    assert high - low == pytest.approx(2 * np.sqrt(counts.sum()), rel=0.03)


def test_no_photon_is_no_flux_with_an_upper_limit():
    flux, low, high = profile_interval(np.zeros(9), np.full(9, 0.1), np.full(9, 1 / 9))
    # exp(-high) is exp(-1/2) of the likelihood without flux.
    assert flux == low == 0 and high == pytest.approx(0.5, rel=1e-3)
    assert np.isnan(profile_interval(np.zeros(9), np.ones(9), np.zeros(9))).all()


@pytest.mark.parametrize("level", [0.02, 1.0, 30.0])
def test_intervals_hold_the_flux_in_two_thirds_of_the_maps(level):
    rng, number = np.random.default_rng(int(100 * level)), 500
    true = 15 + 5 * np.sqrt(level * 28)
    drawn = rng.poisson(level + true * PSF, (number, 31, 31)).reshape(number, -1)
    background = np.full(PSF.size, level)
    found = np.array([profile_interval(one, background, PSF.ravel()) for one in drawn])
    held = np.mean((found[:, 1] <= true) & (true <= found[:, 2]))
    assert held == pytest.approx(0.68, abs=0.06)
    assert np.median(found[:, 0]) == pytest.approx(true, rel=0.03)


def test_neighbours_are_fitted_together_and_between_pixels():
    places = detection_table([20.3, 25.6], [30.0, 31.4], [2.0, 1.0])
    expected = 0.5 + 3000 * gaussian_at(20.3, 30.0, 60) + 1000 * gaussian_at(25.6, 31.4, 60)
    found = fit_counts_sources(expected, np.full((60, 60), 0.5), PSF, places)
    assert found[:, 0] == pytest.approx([3000, 1000], rel=0.01)
    alone = fit_counts_sources(expected, np.full((60, 60), 0.5), PSF, places[1:])
    assert alone[0, 0] > 1.2 * found[1, 0]


def test_a_flux_is_that_at_the_exposure_of_its_place():
    exposure = np.ones((60, 60))
    exposure[:, 31:] = 0.0
    places = detection_table([29.0], [30.0], [1.0])
    expected = exposure * (0.5 + 500 * gaussian_at(29, 30, 60))
    found = fit_counts_sources(expected, 0.5 * exposure, PSF, places, exposure=exposure)
    assert found[0, 0] == pytest.approx(500, rel=0.01)
    assert fit_counts_sources(expected, exposure, PSF, places[:0]).shape == (0, 3)


def test_the_background_is_continued_under_sources():
    shape = 1 + np.arange(50)[:, None] / 50 * np.ones((50, 50))
    taken = 3 * shape + 40 * gaussian_at(25, 20, 50)
    place = detection_table([25.0], [20.0], [1.0])
    found = continued_background(taken, place, radius=6.0, shape=shape)
    assert np.allclose(found, 3 * shape, rtol=2e-3)
    assert np.array_equal(continued_background(taken, place[:0], radius=6.0, shape=shape), taken)


def test_where_nothing_is_outside_the_background_stays():
    background = np.random.default_rng(0).uniform(1, 2, (9, 9))
    place = detection_table([4.0], [4.0], [1.0])
    found = continued_background(background, place, radius=50.0, shape=np.ones((9, 9)))
    assert np.array_equal(found, background)
