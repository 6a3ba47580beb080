"""Whole frames hold what a sky network must distinguish, each in its own plane."""

import dataclasses

import numpy as np
import pytest

from bgrem.simulate import draw_whole_frame, skies, wide_light
from bgrem.simulate.galaxies import SersicGalaxy
from bgrem.simulate.training_sky import random_whole_scene

SHAPE = (192, 256)
PLANES = ("data", "background", "light", "wide")


def rng_of(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def frames():
    return [draw_whole_frame(rng_of(seed), SHAPE) for seed in range(120)]


def fraction(flags):
    return np.mean(list(flags))


def test_a_seed_gives_the_same_frame():
    first, second = (draw_whole_frame(rng_of(5), SHAPE) for _ in range(2))
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_planes_have_type_shape_and_finite_truth(frames):
    for frame in frames:
        assert frame.bad.dtype == bool
        for name in PLANES:
            plane = getattr(frame, name)
            assert plane.dtype == np.float32, name
            assert plane.shape == SHAPE, name
            assert name == "data" or np.isfinite(plane).all(), name


def test_bad_pixels_and_only_they_are_nan(frames):
    assert all(np.array_equal(frame.bad, np.isnan(frame.data)) for frame in frames)
    assert 0.3 < fraction(frame.bad.any() for frame in frames) < 0.95


def test_wide_light_is_a_part_of_the_light(frames):
    for frame in frames:
        assert (frame.wide >= 0).all()
        assert (frame.wide <= frame.light * (1 + 1e-5) + 1e-5).all()


def noise_of(frame):
    """Noise in units of the sky's rms where neither light nor a mask is, flat."""
    empty = (frame.light < 0.1) & ~frame.bad
    return (frame.data - frame.background - frame.light)[empty]


def test_noise_of_empty_sky_has_unit_rms(frames):
    noises = [noise for frame in frames if (noise := noise_of(frame)).size > 2000]
    quartiles = np.array([np.quantile(noise, (0.25, 0.5, 0.75)) for noise in noises])
    assert np.median((quartiles[:, 2] - quartiles[:, 0]) / 1.349) == pytest.approx(1, abs=0.05)
    assert np.median(quartiles[:, 1]) == pytest.approx(0, abs=0.02)


def test_every_ingredient_is_sometimes_absent(frames):
    assert 0.05 < fraction((frame.background == 0).all() for frame in frames) < 0.4
    assert 0.15 < fraction(frame.wide.max() < 0.01 for frame in frames) < 0.6
    assert 0.02 < fraction(frame.light.max() < 1 for frame in frames) < 0.4
    assert fraction(np.median(frame.wide) > 0.1 for frame in frames) > 0.1


@pytest.mark.parametrize("kind", skies.SKIES, ids=lambda kind: kind.__name__)
def test_kinds_of_sky_have_unit_height(kind):
    heights = [np.ptp(kind((256, 320), rng_of(seed))) for seed in range(20)]
    assert 0.2 < np.median(heights) < 6


SMOOTH = [kind for kind in skies.SKIES if kind is not skies._amplifiers]


@pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.__name__)
def test_sky_is_smooth(kind):
    """Fringes of 15 px have the steepest slope, 0.42 and as much again from their wandering."""
    sky = kind((256, 320), rng_of(3))
    steps = max(np.abs(np.diff(sky, axis=axis)).max() for axis in (0, 1))
    assert steps < 0.9


def test_skies_without_light_are_often_flat():
    flat = fraction((skies.draw_sky(rng_of(seed), (32, 32)) == 0).all() for seed in range(200))
    assert skies.NO_STRUCTURE - 0.06 < flat < skies.NO_STRUCTURE + 0.1


def test_enlarged_keeps_planes_and_corners():
    y, x = np.mgrid[:5, :7].astype(float)
    large = skies.enlarged(2 * y + 3 * x, (41, 61))
    wanted = 2 * np.linspace(0, 4, 41)[:, None] + 3 * np.linspace(0, 6, 61)
    np.testing.assert_allclose(large, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", wide_light.WIDE_LIGHT, ids=lambda kind: kind.__name__)
def test_wide_light_is_wider_than_stars(kind):
    """Light of neighbouring pixels is alike: no kind draws points."""
    for seed in range(5):
        light = kind((256, 256), 4.0, rng_of(seed))
        assert (light >= 0).all()
        jump = np.abs(np.diff(light, axis=0)).sum() / max(2 * light.sum(), 1e-6)
        assert jump < 0.35


@pytest.mark.parametrize("index", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_half_a_galaxys_light_is_within_its_radius(index, ratio):
    image = np.zeros((801, 801), np.float32)
    galaxy = SersicGalaxy(
        place=np.array([400, 400]), radius=25, index=index, surface=10, ratio=ratio, soft=0.1
    )
    galaxy.add_to(image)
    y, x = np.mgrid[:801, :801] - 400
    inside = np.hypot(x, y / ratio) <= 25
    assert image[inside].sum() / image.sum() == pytest.approx(0.5, abs=0.02)
    assert image[400, 425] == pytest.approx(10, rel=1e-3)


def test_galaxies_are_cut_by_the_edge():
    image = np.zeros((100, 100), np.float32)
    SersicGalaxy(place=np.array([50, -20]), radius=40, index=1, surface=3).add_to(image)
    assert image[50, 0] > image[50, 60] > 0
    before = image.copy()
    SersicGalaxy(place=np.array([-5e3, 50]), radius=10, index=1, surface=3).add_to(image)
    np.testing.assert_array_equal(image, before)


def test_halos_lie_around_bright_stars():
    stars = np.zeros(1, [("x", "f4"), ("y", "f4")])
    stars["x"], stars["y"] = 100, 60
    halo = wide_light._halos((160, 200), stars, np.array([1e5]), rng_of(2))
    peak = np.unravel_index(halo.argmax(), halo.shape)
    assert np.hypot(peak[0] - 60, peak[1] - 100) < 30
    assert 0 < halo.sum() < 1e5


def test_star_clusters_have_unresolved_light():
    scene = random_whole_scene(rng_of(1), (256, 256))
    psf = wide_light.psf_of(scene)
    sums = []
    for seed in range(6):
        resolved, unresolved = wide_light._star_cluster(scene, psf, rng_of(seed))
        sums.append((resolved.sum(), unresolved.sum()))
    assert (np.array(sums)[:, 1] > 0).all()
    assert (np.array(sums)[:, 0] > 0).any()


def test_frames_have_the_gain_of_their_scene():
    """The photon noise of light is that of 3 to 1000 electrons per sky rms, or of few."""
    rms = np.array([random_whole_scene(rng_of(seed), SHAPE).sky_rms for seed in range(300)])
    assert 0.01 < (rms < 3).mean() < 0.12
    assert rms.max() < 1001
    correlated = [
        scene.correlation != 0 or scene.shift_x != 0
        for scene in (random_whole_scene(rng_of(seed), SHAPE) for seed in range(300))
    ]
    assert np.mean(correlated) == pytest.approx(0.3, abs=0.1)
