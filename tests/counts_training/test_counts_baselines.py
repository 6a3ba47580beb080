"""Other methods on counts maps: published values, known answers, and gammapy where it is installed."""

import numpy as np
import pytest

from bgrem.counts_scenes.poisson_scene import CountsScene, draw_counts
from bgrem.counts_training import counts_baselines
from bgrem.counts_training.counts_baselines import (
    anscombe,
    baseline_methods,
    detect_by_sep,
    li_ma,
    li_ma_map,
    ring_counts,
    smoothed_by_gaussian,
    ts_map,
    wavelet_map,
    without_diffuse,
    without_isotropic,
)


@pytest.fixture(scope="module")
def sky():
    scene = CountsScene(
        shape=(64, 64), level=2.0, fwhm=3.0, density=4.0, extended=0.0, gaps=1, plane=0.5
    )
    return draw_counts(scene, np.random.default_rng(8))


def with_star(sky, counts=400, at=(40, 22)):
    """The field with a bright source."""
    from dataclasses import replace

    half = sky.psf.shape[-1] // 2
    whole = np.zeros((64 + 2 * half, 64 + 2 * half))
    y, x = at
    whole[y : y + 2 * half + 1, x : x + 2 * half + 1] = counts * sky.psf[0]
    light = np.rint(whole[half:-half, half:-half]) * (sky.exposure[0] > 0)
    return replace(sky, counts=sky.counts + light.astype(np.int32))


@pytest.mark.parametrize(
    ("on", "off", "tau", "published"),
    [(4, 5, 5.0, 1.95), (50, 55, 2.0, 3.02), (67, 15, 0.5, 3.04), (200, 10, 0.1, 2.38),
     (498426, 493434, 1.0, 5.01)],
)  # fmt: skip
def test_li_and_ma_as_published(on, off, tau, published):
    # Profile likelihood of Cousins, Linnemann & Tucker 2008 (NIM A 595, 480), table 1.
    assert li_ma(on, off, 1 / tau) == pytest.approx(published, abs=0.006)


def test_li_and_ma_of_too_few_is_negative():
    assert li_ma(0, 10, 1.0) < -3 and li_ma(5, 10, 0.5) == 0


def test_anscombe_makes_the_noise_even():
    rng = np.random.default_rng(1)
    assert all(anscombe(rng.poisson(n, 40000)).std() == pytest.approx(1, abs=0.03) for n in (4, 90))


@pytest.mark.parametrize("method", [li_ma_map, wavelet_map])
def test_maps_of_scores_have_their_summit_on_a_star(sky, method):
    score = method(with_star(sky))
    assert score.shape == (64, 64)
    y, x = np.unravel_index(np.nanargmax(score), score.shape)
    assert np.hypot(y - 40, x - 22) < 1.5
    assert np.all(np.isnan(score[sky.exposure[0] == 0]))


@pytest.mark.parametrize("matched", [False, True])
def test_sep_finds_a_star_first(sky, matched):
    found = detect_by_sep(with_star(sky), matched=matched)
    assert np.hypot(found["x"][0] - 22, found["y"][0] - 40) < 1.0


def test_a_ring_knows_a_flat_background():
    scene = CountsScene(shape=(64, 64), level=3.0, isotropic=1.0, density=0.0, extended=0.0,
                        exposure_tilt=0.0)  # fmt: skip
    flat = draw_counts(scene, np.random.default_rng(2))
    on, off, background, alpha = ring_counts(flat)
    assert background.mean() == pytest.approx(3.0, rel=0.03)
    assert np.mean(on - alpha * off) == pytest.approx(0, abs=0.5)


def test_the_parts_of_a_background_add_up(sky):
    parts = without_isotropic(sky), without_diffuse(sky)
    assert np.allclose(sum(parts), sky.background, rtol=1e-5)
    assert min(part.min() for part in parts) >= -1e-6


def test_smoothing_keeps_a_flat_map_flat():
    exposure = np.linspace(0.5, 1.5, 50)[:, None] * np.ones((50, 50))
    exposure[10:14] = 0
    smooth = smoothed_by_gaussian(4 * exposure, 3.0, exposure=exposure)
    assert np.allclose(smooth, 4 * exposure)


def test_without_gammapy_there_are_no_ts_maps(monkeypatch):
    monkeypatch.setattr(counts_baselines, "has_gammapy", lambda: False)
    assert not any(name.startswith("TS") for name in baseline_methods())
    assert "pip install gammapy" in counts_baselines.NO_GAMMAPY


def test_the_ts_map_is_the_likelihood_ratio(sky):
    pytest.importorskip("gammapy")
    starry = with_star(sky, counts=60)
    counts, background = starry.counts[0].astype(float), sky.background[0].astype(float)
    score = ts_map(counts, background, sky.psf[0], exposure=sky.exposure[0])
    assert np.all(np.isnan(score[sky.exposure[0] == 0]))
    # The greatest likelihood of a flux in the star's pixel, by trying fluxes.
    light = np.zeros_like(counts)
    light[25:56, 7:38] = sky.psf[0]
    light *= sky.exposure[0]
    flux = np.linspace(1, 200, 4000)[:, None]
    seen = (light > 0) & (background > 0)
    n, b, p = counts[seen], background[seen], light[seen]
    gain = (n * np.log1p(flux * p / b)).sum(axis=1) - flux[:, 0] * p.sum()
    assert score[40, 22] == pytest.approx(np.sqrt(2 * gain.max()), rel=0.01)
