"""Straight light of one brightness across a frame is a trail; all other thin light stays in the sources."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from skies import gaussian_stars

from bgrem.background import separate
from bgrem.detection.satellites import find_trails, move_trails
from bgrem.masks.flags import ARTEFACT, MASKED

SHAPE = (420, 500)


def distances(angle, through=(260.0, 200.0), shape=SHAPE):
    """Distances of the pixels from a line through a place, whose normal has an angle in degrees; and along it."""
    y, x = np.indices(shape, dtype=float)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    x, y = x - through[0], y - through[1]
    return x * c + y * s, y * c - x * s


def frame(light, stars=0.0, seed=0):
    """Sources that hold all of some light, the mask, the data, and the sky of rms 1."""
    noise = np.random.default_rng(seed).normal(size=light.shape)
    sources = (light + stars).astype(np.float32)
    mask, data = np.zeros(light.shape, np.uint8), (100 + sources + noise).astype(np.float32)
    return sources, mask, data, np.full(light.shape, 100.0), np.ones(light.shape)


def stars(count, seed=1, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return gaussian_stars(shape, *(rng.uniform(0, n, count) for n in shape[::-1]), 40.0, 1.5)


@pytest.mark.parametrize("angle", [0, 1, 30, 45, 90, 117, 179])
@pytest.mark.parametrize("height", [3.0, 100.0])
def test_a_trail_goes_and_stars_on_it_stay(angle, height):
    across, _ = distances(angle)
    trail = height * np.exp(-0.5 * (across / 1.8) ** 2)
    few = stars(60)
    sources, mask, *rest = frame(trail, few)
    (said,) = move_trails(sources, mask, *rest)
    assert said.startswith("a line of light from x=") and "is in the noise" in said
    near = np.abs(across) < 6
    assert abs((sources - few)[near].sum()) < 0.08 * trail[near].sum()
    bright = near & (few > 20)
    assert sources[bright].sum() == pytest.approx(few[bright].sum(), rel=0.1)
    assert (mask[np.abs(across) < 1] & ARTEFACT).all()
    assert np.array_equal(
        sources[~(np.abs(across) < 40)], few.astype(np.float32)[~(np.abs(across) < 40)]
    )


def test_what_is_in_the_noise_already_is_not_taken_twice():
    across, along = distances(30)
    trail = 20 * np.exp(-0.5 * (across / 1.8) ** 2)
    few = stars(60)
    sources, mask, *rest = frame(trail, few)
    sources[along > 0] = few[along > 0]
    mask[trail > 2] |= ARTEFACT
    assert move_trails(sources, mask, *rest)
    assert np.abs(sources - few)[(along > 0) & (np.abs(across) < 40)].mean() < 0.3


def test_flags_alone_show_a_faint_trail():
    across, _ = distances(70)
    trail = 1.5 * np.exp(-0.5 * (across / 2.5) ** 2)
    sources, mask, *rest = frame(trail)
    assert not find_trails(mask, sources * 0, rest[2])
    mask[trail > 0.5] |= ARTEFACT
    (found,) = find_trails(mask, sources * 0, rest[2])
    assert np.degrees(found.angle) % 180 == pytest.approx(70, abs=0.5)


@pytest.mark.parametrize("width", [1.5, 4.0])
@pytest.mark.parametrize("scale", [15.0, 40.0])
def test_a_galaxy_seen_edge_on_is_no_trail(width, scale):
    across, along = distances(30)
    light = 300 * np.exp(-np.abs(along) / scale - np.abs(across) / width)
    sources, mask, *rest = frame(light)
    mask[light > 1] |= ARTEFACT
    before = sources.copy()
    assert move_trails(sources, mask, *rest) == []
    assert np.array_equal(sources, before)


def test_other_light_is_no_trail():
    across, along = distances(30)
    wave = 20 * np.exp(-0.5 * ((across - 10 * np.sin(along / 40)) / 2) ** 2)
    ends = 20 * np.exp(-0.5 * (across / 2) ** 2) * (np.abs(along) < 100)
    edge = np.where(across > 0, 10.0, 0.0)
    wide = 10 * np.exp(-0.5 * (across / 60) ** 2)
    crowd = np.kron(np.random.default_rng(3).random((105, 125)) < 0.2, np.full((4, 4), 20.0))
    for light in (wave, ends, edge, wide, stars(1000), crowd):
        sources, mask, *rest = frame(light)
        assert move_trails(sources, mask, *rest) == []


def test_a_galaxy_that_fills_a_small_frame_is_no_trail():
    """Its light falls to a quarter on the way to the edges, which of a trail is possible, but falls all the way."""
    across, along = distances(30, through=(150.0, 150.0), shape=(300, 300))
    light = 60 * np.exp(-np.abs(along) / 110 - np.abs(across) / 3)
    sources, mask, *rest = frame(light)
    assert move_trails(sources, mask, *rest) == []


def test_a_flashing_trail_goes():
    across, along = distances(30)
    light = 30 * np.exp(-0.5 * (across / 2) ** 2) * (1 + 0.5 * np.sin(along / 30))
    sources, mask, *rest = frame(light)
    assert move_trails(sources, mask, *rest)
    assert abs(sources.sum()) < 0.1 * light.sum()


@pytest.mark.parametrize("height", [5.0, 300.0])
def test_nothing_is_detected_on_a_trail_but_stars(height):
    across, _ = distances(30)
    few = stars(60) * height / 10
    sources, mask, *rest = frame(height * np.exp(-0.5 * (across / 1.8) ** 2), few)
    significance = np.where(sources > 3, 20.0, -8.0).astype(np.float32)
    assert move_trails(sources, mask, *rest, significance)
    middle = np.abs(across) < 2
    empty, bright = middle & (few < 0.01 * height), middle & (few > height)
    assert (significance[empty] > 0).mean() < 0.002
    assert (significance[bright] == 20).mean() > 0.9


@pytest.mark.parametrize("shape", [(257, 301), (300, 264), (70, 400)])
@pytest.mark.parametrize("place", [-3.0, 0.0, 2.0, 9.0])
@pytest.mark.parametrize("edge", ["left", "right", "bottom", "top", "corner"])
def test_lines_at_the_edges(shape, place, edge):
    """Beside an edge there is no sky on one side; whatever is found, only light of the line goes."""
    y, x = np.indices(shape, dtype=float)
    (ny, nx), root = shape, 2**-0.5
    away = {
        "left": x, "right": nx - 1 - x, "bottom": y, "top": ny - 1 - y, "corner": root * (x + y) - 40,
    }[edge]  # fmt: skip
    light = 20 * np.exp(-0.5 * ((away - place) / 1.5) ** 2)
    sources, mask, *rest = frame(light)
    move_trails(sources, mask, *rest)
    assert np.isfinite(sources).all() and (sources <= light + 1e-4).all() and sources.min() > -1


def test_unseen_pixels_are_no_line():
    sources, mask, *rest = frame(np.zeros(SHAPE))
    mask[:, 40:110] |= ARTEFACT | MASKED
    assert move_trails(sources, mask, *rest) == []


def test_two_trails():
    one, other = (distances(angle)[0] for angle in (30, 100))
    light = sum(20 * np.exp(-0.5 * (across / 2) ** 2) for across in (one, other))
    sources, mask, *rest = frame(light)
    (said,) = move_trails(sources, mask, *rest)
    assert said.startswith("2 lines of light, the longest from x=")
    assert sources.sum() < 0.1 * light.sum()


@pytest.mark.parametrize("shape", [(16, 16), (200, 150), (16, 3000)])
def test_frames_without_trails(shape):
    sources, mask, *rest = frame(np.zeros(shape))
    assert move_trails(sources, mask, *rest) == []
    mask |= ARTEFACT
    assert move_trails(sources, mask, *rest) == []


def test_the_command_moves_a_trail(tmp_path):
    across, _ = distances(30, shape=(400, 420))
    few = stars(60, shape=(400, 420))
    trail = 25 * np.exp(-0.5 * (across / 1.8) ** 2)
    data = frame(trail, few)[2]
    fits.writeto(tmp_path / "night.fits", data)
    command = [
        sys.executable,
        "-m",
        "bgrem",
        "-f",
        tmp_path / "night.fits",
        "--save",
        "background,noise,significance",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a line of light from x=" in done.stderr
    with fits.open(tmp_path / "BGRem_night.fits") as hdus:
        parts = {hdu.name: hdu.data for hdu in hdus[1:]}
        sources = hdus[0].data
    near = (np.abs(across) < 6) & (few < 0.05)
    assert abs(sources[near].sum()) < 0.05 * trail[near].sum()
    assert (parts["SIGNIF"][near] < 3).all()
    total = sources + parts["BACKGROUND"] + parts["NOISE"]
    np.testing.assert_allclose(total, data, rtol=1e-6)
    again = separate(data, maps=("significance",))
    np.testing.assert_array_equal(again.sources, sources)
