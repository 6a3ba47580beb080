"""Diffuse emission, detectors, exposures and extended sources of counts maps."""

import numpy as np
import pytest

from bgrem.counts_scenes.diffuse_emission import (
    chip_levels,
    clouds,
    detector_features,
    draw_extended_sources,
    exposure_map,
    plane_emission,
)
from bgrem.counts_scenes.poisson_scene import CountsScene

NO_EXPOSURE = {"tilt": 0.0, "vignetting": 0.0, "gaps": 0, "pointings": 0, "columns": 0}


def rng(seed=1):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("slope", [2.0, 3.0, 3.7])
def test_clouds_have_their_power_spectrum(slope):
    """The slope of the mean power of the logarithm in rings, from fields without a period (apodised)."""
    side, fields = 128, 12
    window = np.hanning(side)[:, None] * np.hanning(side)
    k = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * side
    ring = k.astype(int)
    power = np.zeros(side)
    for seed in range(fields):
        light = np.log(clouds(rng(seed), (side, side), slope, 0.4))
        spectrum = np.abs(np.fft.fft2((light - light.mean()) * window)) ** 2
        power += np.bincount(ring.ravel(), spectrum.ravel(), side)[:side] / np.maximum(
            np.bincount(ring.ravel(), minlength=side)[:side], 1
        )
    used = np.arange(6, 45)
    fitted = np.polyfit(np.log(used + 0.5), np.log(power[used]), 1)[0]
    assert -fitted == pytest.approx(slope, abs=0.25)


def test_clouds_have_their_contrast_and_no_mean():
    light = clouds(rng(), (96, 64), 3.0, 0.5)
    assert light.dtype == np.float32
    assert light.mean() == pytest.approx(1, abs=1e-5)
    assert np.log(light).std() == pytest.approx(0.5, rel=0.01)
    assert clouds(rng(), (64, 64), 3.0, 0.0) == pytest.approx(1)
    fine = [np.diff(np.log(clouds(rng(), (96, 64), 2.0, 0.5, fwhm=fwhm))).std() for fwhm in (0, 6)]
    assert fine[1] < 0.5 * fine[0]


def test_the_plane_lies_where_it_is_said():
    light = plane_emission((100, 120), 0.0, 10.0, 20.0)
    assert light.mean() == pytest.approx(1, abs=1e-5)
    assert light[:, 0].argmax() == 70
    # Far from the middle it falls by e in a scale height.
    assert light[20, 0] / light[10, 0] == pytest.approx(np.e, rel=0.02)
    tilted = plane_emission((100, 100), np.pi / 2, 10.0, 0.0)
    assert tilted[0].argmax() == 50
    assert np.ptp(tilted[:, 30]) < 1e-5


def test_chips_have_levels_of_their_own():
    light = chip_levels(rng(), (60, 80), 0.2)
    assert len(np.unique(light)) == 4
    assert light.mean() == pytest.approx(1, abs=1e-5)
    assert np.ptp(chip_levels(rng(), (60, 80), 0.0)) < 1e-6


def test_features_of_a_detector_have_mean_one():
    light = detector_features(rng(), (80, 120), 3.0, 2)
    assert light.dtype == np.float32
    assert light.mean() == pytest.approx(1, abs=1e-5)
    plain = detector_features(rng(), (80, 120), 0.0, 0)
    assert plain == pytest.approx(1)


def test_an_exposure_without_features_is_one():
    assert exposure_map(rng(), (20, 30), **NO_EXPOSURE) == pytest.approx(1)


@pytest.mark.parametrize(
    "changes", [{"gaps": 3}, {"pointings": 2}, {"columns": 5}, {"vignetting": 1.0}, {"tilt": 1.0}]
)
def test_an_exposure_has_mean_one_where_it_was_seen(changes):
    for seed in range(10):
        exposure = exposure_map(rng(seed), (60, 90), **NO_EXPOSURE | changes)
        assert (exposure >= 0).all()
        assert exposure[exposure > 0].mean() == pytest.approx(1, abs=1e-4)
        assert (exposure > 0).mean() >= 0.25


def test_bad_columns_and_gaps_are_without_exposure():
    columns = exposure_map(rng(), (40, 60), **NO_EXPOSURE | {"columns": 3})
    blind = (columns == 0).all(0)
    assert 1 <= blind.sum() <= 3
    assert (columns[:, ~blind] > 0).all()
    blind, shallow = 0, 0
    for seed in range(30):
        exposure = exposure_map(rng(seed), (60, 60), **NO_EXPOSURE | {"gaps": 1})
        blind += (exposure == 0).any()
        shallow += (exposure > 0).all() and np.ptp(exposure) > 0.05
    assert blind > 5
    assert shallow > 2


def test_vignetting_is_deepest_in_a_corner():
    exposure = exposure_map(rng(), (64, 64), **NO_EXPOSURE | {"vignetting": 0.8})
    corners = [exposure[y, x] for y in (0, -1) for x in (0, -1)]
    assert min(corners) < 0.6 * exposure.max()
    assert exposure.argmax() not in (0, 63, 64 * 63, 64 * 64 - 1)


def test_pointings_add_up():
    exposure = exposure_map(rng(3), (100, 100), **NO_EXPOSURE | {"pointings": 6})
    assert len(np.unique(np.round(exposure[exposure > 0], 3))) > 100
    assert exposure.max() > 1.2


def test_an_exposure_that_sees_too_little_sees_all():
    # 100 bad columns of 16: hardly any is left.
    exposure = exposure_map(rng(), (16, 16), **NO_EXPOSURE | {"columns": 100})
    assert exposure == pytest.approx(1)


# ---- extended sources ------------------------------------------------------------------


def test_extended_sources_have_their_size_and_spectrum():
    scene = CountsScene(shape=(160, 160), extended=8.0, largest_radius=20.0, fwhm=3.0, bands=3)
    shapes, colours, rows = draw_extended_sources(scene, rng(5), np.ones((160, 160), np.float32))
    assert len(shapes) == len(colours) == len(rows) > 8
    for shape, colour, (x, y, radius) in zip(shapes, colours, rows, strict=True):
        assert shape.shape == (160, 160)
        assert (shape >= 0).all()
        assert colour.shape == (3,)
        assert colour[0] == 1
        assert 2.4 - 1e-6 <= radius <= 20 + 1e-6
        if min(x, y, 159 - x, 159 - y) < 45:
            continue
        v, u = np.mgrid[:160, :160]
        r = np.hypot(u - x, v - y).ravel()
        order = np.argsort(r)
        within = np.cumsum(shape.ravel()[order])
        half = r[order][np.searchsorted(within, 0.5 * within[-1])]
        assert 0.2 * radius < half < 2.2 * radius


def test_extended_sources_are_of_every_kind():
    """Shells are hollow, discs are flat, beta models have no edge, jets lie on one side of their place."""
    hollow = flat = endless = one_sided = 0
    for seed in range(24):
        scene = CountsScene(shape=(128, 128), extended=30.0, largest_radius=16.0, fwhm=3.0)
        shapes, _, rows = draw_extended_sources(scene, rng(seed), np.ones((128, 128), np.float32))
        for shape, (x, y, radius) in zip(shapes, rows, strict=True):
            if radius < 7 or not (40 < x < 88 and 40 < y < 88):
                continue
            centre = shape[round(y), round(x)] / shape.max()
            v, u = np.mgrid[:128, :128]
            offset = np.hypot((shape * (u - x)).sum(), (shape * (v - y)).sum()) / shape.sum()
            hollow += centre < 0.45
            flat += (shape > 0.98 * shape.max()).sum() > 0.5 * (shape > 0).sum()
            endless += (shape > 0).all() and offset < 0.1 * radius
            one_sided += centre > 0.3 and offset > 0.2 * radius
    assert min(hollow, flat, endless, one_sided) >= 2, (hollow, flat, endless, one_sided)


def test_no_extended_sources():
    scene = CountsScene(shape=(64, 64), extended=0.0)
    assert draw_extended_sources(scene, rng(), np.ones((64, 64))) == ([], [], [])
