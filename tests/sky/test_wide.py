"""Wide light that the sources lack: added where it is wide, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from skies import exponential_disc, white_noise

from bgrem.sky.measured import MeasuredSky, sky_of_mesh
from bgrem.sky.mesh import Mesh
from bgrem.sky.wide import WideLight

SHAPE = (320, 400)
CELLS = (20, 25)


def sky_with(part, *, level=0.0, local=0.0):
    """A flat sky with a part of wide light at the nodes, and a local level above it."""
    mesh = Mesh(np.full(CELLS, level, np.float32), np.ones(CELLS, np.float32), 64, SHAPE)
    above = (level + np.asarray(part) * local).astype(np.float32) * np.ones(CELLS, np.float32)
    part = np.asarray(part, np.float32) * np.ones(CELLS, np.float32)
    error = np.full(CELLS, 0.02, np.float32)
    return MeasuredSky(mesh, replace(mesh, background_mesh=above), error, part)


def right_half():
    part = np.zeros(CELLS)
    part[:, 13:] = 1
    return part


def light_of(sky, image, sources=None, flags=None, height=16):
    """The wide light of an image whose sources are known."""
    sources = np.zeros(SHAPE, np.float32) if sources is None else sources
    flags = np.zeros(SHAPE, np.uint8) if flags is None else flags
    wide = WideLight(sky)
    for top in range(0, SHAPE[0], height):
        rows = slice(top, min(top + height, SHAPE[0]))
        wide.add(rows, image[rows], sources[rows], flags[rows])
    return wide.light()


def test_a_mesh_knows_no_wide_light():
    mesh = Mesh(np.zeros(CELLS, np.float32), np.ones(CELLS, np.float32), 64, SHAPE)
    assert light_of(sky_of_mesh(mesh), white_noise(SHAPE) + 3) is None
    assert light_of(sky_with(0.0), white_noise(SHAPE) + 3) is None


@pytest.mark.parametrize("local", [0.0, 1.0, 2.5])
def test_the_missing_light_is_added(local):
    light = light_of(sky_with(1.0, level=7.0, local=local), white_noise(SHAPE) + 9.5)
    assert light.shape == SHAPE and light.dtype == np.float32
    np.testing.assert_allclose(light[:], 2.5, atol=0.25)
    assert np.mean(light[:]) == pytest.approx(2.5, abs=0.01)


def test_light_of_sources_is_not_added_twice():
    sources = np.full(SHAPE, 2.0, np.float32)
    light = light_of(sky_with(1.0), white_noise(SHAPE) + 2, sources)
    assert np.mean(light[:]) == pytest.approx(0, abs=0.01)


def test_a_disc_comes_back_whole():
    disc = exponential_disc(SHAPE, 200, 160, 80, 4.0)
    light = light_of(sky_with(1.0), disc + white_noise(SHAPE))
    assert light[:].sum() == pytest.approx(disc.sum(), rel=0.02)
    rest = np.abs(light[:] - disc)
    assert rest.mean() < 0.08 and rest.max() < 1


def test_nothing_is_added_beside_wide_light():
    image = white_noise(SHAPE) + 3
    sky = sky_with(right_half(), local=2.0)
    light, part = light_of(sky, image)[:], sky.at_pixels(sky.wide_part)[:]
    # The spline of the local level rings below a thousandth of its step beyond four cells.
    assert not light_of(sky_with(right_half()), image)[:][part == 0].any()
    assert np.abs(light[:, :100]).max() < 0.01
    np.testing.assert_allclose(light[:, 260:], 3, atol=0.3)


def test_the_light_has_no_steps_at_the_border():
    light = light_of(sky_with(right_half()), white_noise(SHAPE) + 3)[:]
    # The part grows from 0 to 1 over a cell of 16 pixels.
    assert np.abs(np.diff(light, axis=1)).max() < 2 * 3 / 16
    assert np.abs(np.diff(light, axis=0)).max() < 0.2


@pytest.mark.parametrize("value", [1e6, -1e6, np.nan, np.inf])
def test_flagged_pixels_are_left_out(value):
    image, flags = white_noise(SHAPE) + 2, np.zeros(SHAPE, np.uint8)
    flags[100:140, 150:200] = 4
    flags[::7, ::5] = 8
    expected = light_of(sky_with(1.0), np.where(flags, 2, image).astype(np.float32), flags=flags)
    spoiled = np.where(flags, np.float32(value), image)
    found = light_of(sky_with(1.0), spoiled, flags=flags)
    np.testing.assert_array_equal(found[:], expected[:])
    np.testing.assert_allclose(found[:], 2, atol=0.4)


def test_without_good_pixels_nothing_is_guessed():
    flags = np.ones(SHAPE, np.uint8)
    light = light_of(sky_with(1.0, local=1.0), white_noise(SHAPE) + 2, flags=flags)
    np.testing.assert_allclose(light[:], 1, atol=1e-5)


def test_sharp_light_moves_it_little():
    image = white_noise(SHAPE)
    rng = np.random.default_rng(3)
    image.flat[rng.integers(0, image.size, image.size // 100)] += 1000
    assert np.abs(light_of(sky_with(1.0), image)[:]).max() < 0.4


@pytest.mark.parametrize("height", [5, 11, 16])
def test_the_height_of_strips_matters_little(height):
    image = white_noise(SHAPE) + 1
    light = light_of(sky_with(1.0), image, height=height)
    assert light[:].shape == SHAPE
    assert np.abs(light[:] - 1).max() < 0.5 and np.mean(light[:]) == pytest.approx(1, abs=0.01)


def test_rows_of_the_light_are_its_rows():
    light = light_of(sky_with(right_half(), local=1.0), white_noise(SHAPE) + 2)
    for rows in (slice(0, 1), slice(17, 40), slice(300, 320)):
        np.testing.assert_allclose(light[rows], light[:][rows], atol=1e-5)
