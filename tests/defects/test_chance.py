"""The chance of a defect follows Bayes' theorem, and frames that say nothing change nothing."""

import numpy as np
import pytest

from bgrem.defects.chance import BINS, Likelihoods, bin_of, chances_of, prior_of


def counts_of(values):
    return np.bincount(bin_of(values).ravel(), minlength=BINS + 1)[None, :BINS]


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(1)
    return [counts_of(rng.standard_normal(200_000)) for _ in range(8)]


def ratio(noise, values, patterns=None, **options):
    frames = len(noise)
    patterns = [np.ones(frames)] if patterns is None else patterns
    asked = {"least": 2.0, "offset": 0.0, **options}
    values = np.asarray(values, float)
    classes = np.zeros(values.shape, np.uint8)
    return Likelihoods(noise, patterns, asked["least"], asked["offset"]).log_ratio(
        bin_of(values), classes
    )


def test_bins_are_in_order_and_nan_has_its_own():
    values = np.linspace(-5e4, 5e4, 1001)
    assert (np.diff(bin_of(values).astype(int)) >= 0).all()
    assert bin_of(np.array([np.nan, 0.0, 1e9, -1e9])).tolist() == [BINS, BINS // 2, BINS - 1, 0]


def test_a_frame_without_the_pixel_says_nothing(noise):
    values = np.full((8, 1), 4.0)
    known = ratio(noise[:5], values[:5])
    values[5:] = np.nan
    assert ratio(noise, values) == pytest.approx(known)


def test_warm_pixels_are_likely_and_noise_and_single_hits_are_not(noise):
    rng = np.random.default_rng(2)
    values = rng.standard_normal((8, 4))
    values[:, 1] += 4.0  # warm
    values[:, 2] -= 4.0  # dark
    values[3, 3] += 500.0  # a cosmic ray
    found = chances_of(ratio(noise, values), 1e-4)
    assert found[0] < 1e-4 and found[3] < 1e-4
    assert found[1] > 0.99 and found[2] > 0.99


def test_a_warm_pixel_goes_with_the_exposure_time(noise):
    pattern = np.array([0.1, 0.1, 0.1, 1.0, 1.0, 3.0, 3.0, 3.0])
    values = 8.0 * pattern[:, None] + np.random.default_rng(3).standard_normal((8, 1))
    constant = ratio(noise, values)
    both = ratio(noise, values, [np.ones(8), pattern])
    assert both > constant + 5


def test_offsets_of_good_pixels_are_no_defects(noise):
    values = np.full((8, 1), 1.0)
    assert ratio(noise, values, offset=0.7) < ratio(noise, values, offset=0.1)


def test_the_prior_is_the_mean_chance(noise):
    ratios = np.concatenate([np.full(30, 40.0), np.full(1000, -20.0)])
    assert prior_of(ratios, 1_000_000) == pytest.approx(30 / 1_000_000, rel=1e-3)
    odds = 0.2 / 0.8 * np.exp(1.5)
    assert chances_of(np.array([1.5]), 0.2) == pytest.approx(odds / (1 + odds))
    assert prior_of(np.empty(0), 1000) == pytest.approx(1e-3)
