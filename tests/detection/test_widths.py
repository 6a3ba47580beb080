"""Widths of stars: of any sampling, and the one that they share."""

from math import erf

import numpy as np
import pytest

from bgrem.detection.widths import equivalent_widths, shared_width, star_widths, stellar_width


def gaussians(fwhm, places, flux=1e4):
    """Images of a Gaussian integrated over pixels, its centre at some places (n, 2) in the middle pixel."""
    edges = np.arange(-12, 14) - 0.5
    lines = [
        [0.5 * np.diff([erf((e - p) * 2.3548 / fwhm / np.sqrt(2)) for e in edges]) for p in place]
        for place in places
    ]
    return flux * np.array([np.outer(y, x) for y, x in lines])


def anywhere(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 2))


def test_width_of_a_gaussian_is_its_fwhm():
    y, x = np.mgrid[-12:13, -12:13].astype(float)
    for fwhm in (2.0, 3.0, 6.0):
        star = np.exp(-4 * np.log(2) * (x**2 + y**2) / fwhm**2)
        width, round_enough = equivalent_widths(star[None])
        assert width[0] == pytest.approx(fwhm, rel=0.06)  # the aperture ends at 1.25 FWHM
        assert round_enough[0]
    streak = np.exp(-((x / 6) ** 2) - (y / 1.5) ** 2)
    assert not equivalent_widths(streak[None])[1][0]


def test_mode_of_the_widths_is_of_stars():
    rng = np.random.default_rng(1)
    stars, galaxies = 3 * np.exp(0.02 * rng.standard_normal(40)), rng.uniform(3.5, 12, 60)
    assert stellar_width(np.concatenate([stars, galaxies])) == pytest.approx(3.0, rel=0.03)
    assert np.isnan(stellar_width(np.array([3.0, 3.0])))


@pytest.mark.parametrize("fwhm", [1.0, 1.2, 1.5, 2.0, 4.0])
def test_the_place_in_the_pixel_does_not_matter(fwhm):
    width, round_enough = star_widths(gaussians(fwhm, anywhere(60)))
    assert round_enough.all()
    assert np.std(np.log(width)) < 0.04
    plain, _ = equivalent_widths(gaussians(fwhm, anywhere(60)))
    assert np.median(width) == pytest.approx(np.median(plain), rel=0.05)


def test_pixels_alone_and_pairs_are_sharper_than_any_star():
    alone, pair = np.zeros((2, 25, 25))
    alone[12, 12] = pair[12, 12] = 50.0
    pair[12, 13] = 45.0
    width, _ = star_widths(np.stack([alone, pair]))
    assert (width < 1.0).all()
    assert star_widths(gaussians(1.0, anywhere(20)))[0].min() > 1.15


def test_sharp_stars_are_told_from_particles_of_all_widths():
    rng = np.random.default_rng(2)
    stars, particles = 1.25 * np.exp(0.01 * rng.standard_normal(8)), rng.uniform(0.66, 1.6, 10)
    assert stellar_width(np.concatenate([stars, particles])) == pytest.approx(1.25, rel=0.02)
    assert np.isnan(stellar_width(np.linspace(0.66, 1.39, 12)))
    assert np.isnan(shared_width(np.linspace(1.5, 4.0, 20)))


def test_no_objects_have_no_width():
    assert np.isnan(stellar_width(np.empty(0))) and np.isnan(shared_width(np.empty(0)))
    width, round_enough = star_widths(np.empty((0, 25, 25)))
    assert width.shape == round_enough.shape == (0,)
