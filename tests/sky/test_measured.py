"""The sky that a network gives: its gate for wide light, its local level, its error."""

import numpy as np
import pytest
from skies import exponential_disc, white_noise

from bgrem.sky.blocks import block_statistics
from bgrem.sky.measured import CellSky, sky_of_mesh, sky_of_network
from bgrem.sky.mesh import Mesh

SHAPE = (240, 330)


def stand_in(*, level=0.0, rms=1.0, error=0.02, chance=0.0):
    """A network that gives these numbers, or functions of the number of cells."""

    def network(statistics):
        shape = tuple(n // 2 for n in statistics.good.shape)
        values = [
            value(shape) if callable(value) else value for value in (level, rms, error, chance)
        ]
        return CellSky(*(np.broadcast_to(np.float32(v), shape) for v in values))

    return network


def measured(image=None, box=64, **values):
    image = white_noise(SHAPE) if image is None else image.astype(np.float32)
    return sky_of_network(block_statistics(image), stand_in(**values), box=box)


def right_half(shape):
    chance = np.zeros(shape)
    chance[:, shape[1] // 2 :] = 1
    return chance


def test_the_sky_is_that_of_the_network():
    sky = measured(level=0.25, rms=1.5, error=0.03)
    assert sky.background.shape == sky.error.shape == SHAPE
    np.testing.assert_allclose(sky.background[:], 0.25, rtol=1e-5)
    np.testing.assert_allclose(sky.mesh.rms[:], 1.5, rtol=1e-5)
    np.testing.assert_allclose(sky.error[:], 0.03, rtol=1e-5)
    assert not sky.is_filled


def test_nodes_are_centres_of_cells():
    statistics = block_statistics(white_noise((100, 70)))
    sky = sky_of_network(statistics, stand_in(), box=64)
    for nodes, first, blocks in zip(
        sky.mesh.nodes, statistics.first, statistics.good.shape, strict=True
    ):
        np.testing.assert_allclose(nodes, first + 7.5 + 16 * np.arange(blocks // 2))
    for edges, length in zip(sky.mesh.edges, (100, 70), strict=True):
        assert (edges[0], edges[-1]) == (0, length) and (np.diff(edges) > 0).all()


def test_a_slope_is_followed_to_the_edges():
    def slope(shape):
        return np.arange(shape[1]) * 1.6

    sky = measured(level=slope)
    row = sky.background[100:101][0]
    np.testing.assert_allclose(np.diff(row), 0.1, rtol=1e-3)


@pytest.mark.parametrize(
    ("chance", "part"), [(0.0, 0), (0.2, 0), (0.3, 0.25), (0.4, 0.5), (0.6, 1), (1.0, 1)]
)
def test_the_gate_opens_with_the_chance(chance, part):
    np.testing.assert_allclose(measured(chance=chance).wide_part, part, atol=1e-6)


def test_without_wide_light_the_levels_agree():
    sky = measured(white_noise(SHAPE) + 3, chance=0.19)
    assert not sky.wide_part.any()
    np.testing.assert_array_equal(sky.local.background[:], sky.background[:])
    np.testing.assert_array_equal(sky.local.background_mesh, sky.mesh.background_mesh)


def test_the_local_level_follows_wide_light_only():
    image = white_noise(SHAPE) + 3
    sky = measured(image, chance=right_half)
    shut = sky.wide_part == 0
    np.testing.assert_array_equal(sky.local.background_mesh[shut], sky.mesh.background_mesh[shut])
    np.testing.assert_allclose(sky.local.background_mesh[~shut], 3, atol=0.1)
    np.testing.assert_allclose(sky.background[:], 0, atol=1e-6)


@pytest.mark.parametrize("box", [64, 96])
def test_the_local_level_is_smooth_light(box):
    light = exponential_disc((640, 640), 320, 320, 200, 5.0)
    sky = measured(light + white_noise(light.shape), box=box, chance=1.0)
    rest = (light - sky.local.background[:])[60:-60, 60:-60]
    assert np.abs(rest).max() < 1.2 and np.abs(rest).mean() < 0.15
    assert sky.local.rms_mesh is sky.mesh.rms_mesh and sky.local.box == box


def test_blocks_without_pixels_give_no_light():
    image, bad = white_noise(SHAPE) + 2, np.zeros(SHAPE, bool)
    bad[:, 100:200] = True
    statistics = block_statistics(image, bad)
    sky = sky_of_network(statistics, stand_in(chance=1.0), box=64)
    assert np.isfinite(sky.local.background[:]).all()
    np.testing.assert_allclose(sky.local.background[:, :60], 2, atol=0.2)


@pytest.mark.parametrize("shape", [(16, 16), (20, 33), (17, 131)])
def test_small_images_have_a_local_level(shape):
    sky = measured(white_noise(shape) + 1, chance=1.0)
    assert sky.local.background[:].shape == shape
    np.testing.assert_allclose(sky.local.background[:], 1, atol=0.5)


def test_the_noise_is_above_zero():
    def rms(shape):
        values = np.ones(shape)
        values[:3, :3] = 0
        return values

    sky = measured(rms=rms)
    assert sky.mesh.rms[:].min() > 0 and sky.mesh.rms_mesh[0, 0] == pytest.approx(1e-3)


def test_a_single_cell_does_not_change_the_noise():
    def rms(shape):
        values = np.ones(shape)
        values[4, 5] = 0.7
        values[:, 12:] = 2  # another amplifier
        return values

    found = measured(rms=rms).mesh.rms_mesh
    assert (found[:, :12] == 1).all() and (found[:, 12:] == 2).all()


def test_values_at_pixels_are_linear_between_nodes():
    sky = measured()
    down, across = sky.mesh.nodes
    values = (3 * down[:, None] - 2 * across).astype(np.float32)
    found = sky.at_pixels(values)
    assert found.shape == SHAPE and found.dtype == np.float32
    y, x = np.indices(SHAPE)
    inside = np.s_[8:232, 16:310]
    np.testing.assert_allclose(found[:][inside], (3 * y - 2 * x)[inside], atol=1e-2)
    assert found[:].min() >= values.min() and found[:].max() <= values.max()


@pytest.mark.parametrize(("error", "filled"), [(0.02, False), (0.29, False), (0.31, True)])
def test_a_filled_frame_is_noticed(error, filled):
    assert measured(error=error).is_filled is filled


def test_another_noise_is_that_of_both_levels():
    sky = measured(white_noise(SHAPE) + 3, chance=1.0)
    other = sky.with_noise(rms_mesh=np.full_like(sky.mesh.rms_mesh, 4.0))
    for mesh in (other.mesh, other.local):
        np.testing.assert_allclose(mesh.rms[:], 4)
    np.testing.assert_array_equal(other.local.background[:], sky.local.background[:])
    np.testing.assert_array_equal(other.background[:], sky.background[:])
    assert other.wide_part is sky.wide_part


def test_a_mesh_has_the_error_of_white_noise():
    cells = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    mesh = Mesh(0 * cells, cells, 50, (100, 80))
    sky = sky_of_mesh(mesh)
    np.testing.assert_allclose(sky.error_mesh, 1.6 * cells / np.sqrt(50 * 40), rtol=1e-6)
    assert sky.mesh is sky.local is mesh
    assert sky.wide_part is None and not sky.is_filled
    assert sky.error[:].shape == (100, 80) and (sky.error[:] > 0).all()
