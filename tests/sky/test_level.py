"""The second look at the level of the sky."""

from dataclasses import replace

import numpy as np
import pytest
from skies import white_noise

from bgrem import separate
from bgrem.simulate import Scene, draw
from bgrem.sky import level
from bgrem.sky.estimate import center_and_scale, estimate_mesh
from bgrem.sky.level import FAINT, OF_THE_SKY, SecondLook
from bgrem.sky.mesh import Mesh

SHAPE, BOX = (300, 410), 100


def mesh_of(hidden=None, level=0.0):
    cells = (3, 4)
    hidden = np.zeros(cells) if hidden is None else hidden
    background = np.full(cells, level, np.float32)
    return Mesh(background, np.ones(cells, np.float32), BOX, SHAPE, hidden=hidden)


def look(mesh, noise, flags=None, thin=16, sources=0.0):
    flags = np.zeros(noise.shape, np.uint8) if flags is None else flags
    second = SecondLook(mesh)
    for start in range(0, noise.shape[0], thin):
        rows = slice(start, min(start + thin, noise.shape[0]))
        part = np.full_like(noise[rows], sources)
        image = noise[rows] + part + mesh.background[rows]
        second.add(rows, image, part, np.ones_like(part), flags[rows])
    return second.corrected()


@pytest.fixture
def noise():
    return white_noise(SHAPE, seed=1)


@pytest.mark.parametrize("thin", [1, 7, 16])
def test_the_level_moves_by_the_mean_noise(noise, thin):
    found = look(mesh_of(level=3.0), noise + 0.5, thin=thin)
    np.testing.assert_allclose(found.background_mesh, 3.5, atol=0.03)
    assert found.background_mesh.dtype == np.float32


def test_large_meshes_are_sampled(noise, monkeypatch):
    monkeypatch.setattr(level, "MANY_CELLS_GATHERED", 12)
    noise[:, 205:] += 1.0
    found = look(mesh_of(), noise).background_mesh
    np.testing.assert_allclose(found[:, :2], 0.0, atol=0.05)
    np.testing.assert_allclose(found[:, 2:], 1.0, atol=0.05)


def test_each_cell_has_its_own(noise):
    noise[:, 205:] += 1.0  # the right half of the cells
    found = look(mesh_of(), noise).background_mesh
    np.testing.assert_allclose(found[:, :2], 0.0, atol=0.03)
    np.testing.assert_allclose(found[:, 2:], 1.0, atol=0.03)


def test_flagged_and_outlying_pixels_do_not_count(noise):
    flags = np.zeros(SHAPE, np.uint8)
    flags[50:80, 20:90] = 4
    noise[50:80, 20:90] = 5.0
    noise[::10, ::10] = 1e6
    noise[3, 3] = np.nan
    np.testing.assert_allclose(look(mesh_of(), noise, flags).background_mesh, 0.0, atol=0.03)


def test_cells_that_objects_hide_follow_their_neighbours(noise):
    """What was not recognised of a large galaxy is no sky."""
    hidden = np.zeros((3, 4))
    hidden[1, 1] = 0.9
    noise[100:200, 102:205] += 2.0
    found = look(mesh_of(hidden), noise + 0.2).background_mesh
    np.testing.assert_allclose(found, 0.2, atol=0.03)


def test_cells_without_good_pixels_follow_their_neighbours(noise):
    flags = np.zeros(SHAPE, np.uint8)
    flags[:100] = 2
    found = look(mesh_of(), noise + np.float32(0.2), flags).background_mesh
    np.testing.assert_allclose(found, 0.2, atol=0.04)


def test_nothing_seen_changes_nothing(noise):
    mesh = mesh_of(level=2.0)
    assert look(mesh, noise, np.ones(SHAPE, np.uint8)) is mesh


@pytest.mark.parametrize("sources", [0.1, 50.0])
def test_a_part_of_the_faintest_light_is_sky(sources):
    found = look(mesh_of(), np.zeros(SHAPE, np.float32), sources=sources).background_mesh
    np.testing.assert_allclose(found, OF_THE_SKY * min(sources, FAINT), atol=1e-4)


@pytest.mark.parametrize("thin", [1, 7, 16])
@pytest.mark.parametrize("slopes", [(0.05, 0.0), (0.0, 0.05)])
def test_a_gradient_of_the_mesh_is_no_noise(slopes, thin):
    mesh = mesh_of()
    rows, columns = (nodes * slope for nodes, slope in zip(mesh.nodes, slopes, strict=True))
    plane = (rows[:, None] + columns).astype(np.float32)
    tilted = replace(mesh, background_mesh=plane)
    found = look(tilted, np.zeros(SHAPE, np.float32), thin=thin)
    np.testing.assert_allclose(found.background_mesh, plane, atol=0.02 * max(slopes))


@pytest.mark.parametrize("rate", [0.02, 0.1, 1.0])
def test_few_counts_are_no_outliers(rate):
    data = np.random.default_rng(1).poisson(rate, (384, 384)).astype(np.float32)
    parts = separate(data)
    assert parts.background.mean() == pytest.approx(data.mean(), rel=0.1)


def test_an_empty_border_keeps_the_guard_on(noise):
    """Cells without data say nothing of how much objects hide elsewhere."""
    hidden = np.ones((3, 4))
    hidden[0] = 0.0, 0.0, 0.0, 0.9
    flags = np.ones(SHAPE, np.uint8)
    flags[:100] = 0
    noise[:100, 308:] += 2.0
    found = look(mesh_of(hidden), noise + np.float32(0.2), flags).background_mesh
    np.testing.assert_allclose(found, 0.2, atol=0.03)


def test_a_mesh_that_knows_nothing_of_objects_stays():
    mesh = replace(mesh_of(), hidden=None)
    assert look(mesh, np.ones(SHAPE, np.float32)) is mesh


@pytest.mark.parametrize("shape", [(16, 16), (40, 300)])
def test_one_cell_and_a_weight(shape):
    data = np.random.default_rng(2).normal(100.0, 5.0, shape)
    weight = np.full(shape, 0.04)
    weight[:4, :4] = 0.0
    parts = separate(data, weight=weight)
    assert parts.background.dtype == np.float64
    assert parts.background.mean() == pytest.approx(100.0, abs=1.5)


def test_the_level_is_nearer_to_the_truth():
    """Stars too faint to be left out lift the level of a mesh; the second look brings it back."""
    sky = draw(Scene(shape=(512, 512)), np.random.default_rng(3))
    parts = separate(sky.data)
    good = (parts.mask == 0) & (sky.mask == 0)

    def error(background):
        missed = np.where(good, (sky.data - sky.sources - background) / parts.rms, np.nan)
        return np.nanmean(missed.reshape(4, 128, 4, 128), axis=(1, 3))

    before, after = error(first_level(sky.data)), error(parts.background)
    assert np.sqrt(np.mean(after**2)) < 0.7 * np.sqrt(np.mean(before**2))
    total = parts.sources + parts.background + parts.noise
    np.testing.assert_allclose(total, sky.data, rtol=1e-6)


def first_level(data):
    """What the mesh alone makes of the background."""
    center, scale = center_and_scale(data)
    mesh = estimate_mesh(((data - center) / scale).astype(np.float32), box=96)
    return center + scale * mesh.background[:]


def test_the_level_of_nearly_empty_maps_is_their_mean(toy_model):
    counts = np.random.default_rng(3).poisson(1e-3, (300, 300))
    level = separate(counts, model=toy_model).provenance.level
    assert level == pytest.approx(counts.mean(), rel=0.15)


def test_weighted_integers_have_a_second_look(toy_model):
    counts = np.random.default_rng(4).poisson(9, (300, 300)).astype(np.int16)
    parts = separate(counts, weight=np.ones(counts.shape), model=toy_model)
    without = separate(counts, model=toy_model)
    np.testing.assert_allclose(parts.background, without.background, atol=0.05)
