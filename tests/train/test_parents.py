"""Training examples: what a parent holds, and that its number alone decides it."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("galsim")

from bgrem.simulate import Scene, draw
from bgrem.simulate.scene import DEFECT_BIT, GAP_BIT
from bgrem.train.parents import (
    ParentWindow,
    draw_parent,
    make_parent,
    oriented,
    training_vector,
    true_width,
)

SIZE, BOX = 128, 64
PLANES = ("x", "sources", "artefact", "centre", "weight")


@pytest.fixture(scope="module")
def parent():
    return draw_parent(3, 0, size=SIZE, box=BOX)


def scene_parent(*, rng_seed=0, **scene):
    rng = np.random.default_rng(rng_seed)
    sky = draw(Scene(shape=(SIZE, SIZE), **scene), rng)
    return sky, make_parent(sky, rng, box=BOX)


def test_the_number_alone_decides_a_parent(parent):
    again = draw_parent(3, 0, size=SIZE, box=BOX)
    for name in PLANES:
        np.testing.assert_array_equal(getattr(parent, name), getattr(again, name))
    np.testing.assert_array_equal(parent.frame.vector(), again.frame.vector())
    others = [draw_parent(3, 1, size=SIZE, box=BOX), draw_parent(4, 0, size=SIZE, box=BOX)]
    assert all(not np.array_equal(parent.x, other.x) for other in others)


def test_planes_have_their_types(parent):
    for name, dtype in zip(PLANES, ("f4", "f4", "?", "i1", "?"), strict=True):
        plane = getattr(parent, name)
        assert plane.shape == (SIZE, SIZE) and plane.dtype == np.dtype(dtype)
    assert np.isfinite(parent.x).all() and np.isfinite(parent.sources).all()
    assert set(np.unique(parent.centre)) <= {-1, 0, 1}


def test_a_parent_is_in_sky_rms():
    _, parent = scene_parent(stars=100.0, galaxies=50.0, large_galaxies=0.0, discs=0.0)
    quiet = parent.x[parent.sources < 0.05]
    assert abs(np.median(quiet)) < 0.2
    assert np.diff(np.percentile(quiet, [15.9, 84.1]))[0] / 2 == pytest.approx(1, abs=0.15)


def test_x_is_sources_and_noise(parent):
    """What is left without the sources is noise: it knows nothing of where the sources are."""
    sky, parent = scene_parent(stars=3000.0)
    bright = (parent.sources > 20) & (sky.mask == 0)
    assert bright.any()
    rest = (parent.x - parent.sources)[bright] / np.sqrt(1 + parent.sources[bright] / 10)
    assert np.median(np.abs(rest)) < 2


def test_nothing_is_seen_or_learnt_under_the_mask():
    for seed in range(20):  # half of the gaps are masked
        sky, parent = scene_parent(gaps=1.0, rng_seed=seed)
        if parent is not None and not parent.weight[sky.mask & GAP_BIT > 0].any():
            break
    hidden = ~parent.weight
    assert hidden.any() and not parent.sources[hidden].any() and not parent.artefact[hidden].any()
    # Bad pixels are filled from those around them, as those of a user's frame.
    assert np.abs(parent.x[hidden]).max() <= np.abs(parent.x[~hidden]).max()
    assert np.isfinite(parent.x).all()


def test_a_scene_without_contrast_is_no_parent():
    sky = draw(Scene(shape=(SIZE, SIZE)), np.random.default_rng(0))
    flat = replace(sky, data=np.ones_like(sky.data))
    assert make_parent(flat, np.random.default_rng(0), box=BOX) is None


def test_sources_that_count_have_their_centre_labelled():
    sky, parent = scene_parent(stars=2000.0, large_galaxies=0.0, discs=0.0, hot_pixels=0.0)
    truth = sky.truth
    inside = (np.abs(truth["x"] - SIZE / 2) < 60) & (np.abs(truth["y"] - SIZE / 2) < 60)
    clean = sky.mask == 0
    count = 0
    for source in truth[inside & (truth["snr"] > 5)]:
        y, x = round(float(source["y"])), round(float(source["x"]))
        if clean[y, x]:
            assert parent.centre[y, x] == 1
            count += 1
    assert count > 3
    assert np.mean(parent.centre == 1) < 0.1


def test_a_hit_pixel_is_no_centre():
    sky, parent = scene_parent(stars=10.0, galaxies=1.0, hot_pixels=3000.0, cosmic_rays=0.0)
    hit = (sky.mask & DEFECT_BIT > 0) & (sky.sources < 0.1 * sky.rms)
    assert hit.sum() > 10
    assert np.all(parent.centre[hit] == 0) and parent.artefact[hit].all()


def test_orientations_are_the_eight_of_a_square():
    plane = np.arange(9).reshape(3, 3)
    seen = {oriented(plane, turn).tobytes() for turn in range(8)}
    assert len(seen) == 8
    np.testing.assert_array_equal(oriented(plane, 0), plane)
    np.testing.assert_array_equal(oriented(plane, 4), plane.T)


def drawn_vectors(parent, count=2000, **options):
    rng = np.random.default_rng(0)
    return np.array([training_vector(parent, rng, **options) for _ in range(count)])


def test_a_transposed_tile_has_its_correlations_exchanged(parent):
    parent = replace(parent, frame=replace(parent.frame, correlation_x=0.3, correlation_y=-0.1))
    straight = drawn_vectors(parent).mean(axis=0)
    turned = drawn_vectors(parent, transposed=True).mean(axis=0)
    np.testing.assert_allclose(straight[2:4], [0.6, -0.2], atol=0.01)
    np.testing.assert_allclose(turned[2:4], [-0.2, 0.6], atol=0.01)
    np.testing.assert_array_equal(np.delete(straight, [2, 3]), np.delete(turned, [2, 3]))


def test_entries_are_dropped_and_blurred(parent):
    vectors = drawn_vectors(parent)
    assert np.mean(vectors[:, 4:] == 0, axis=0) == pytest.approx(0.25, abs=0.05)
    assert np.std(vectors[:, 2:4], axis=0) == pytest.approx(0.05, rel=0.1)
    kept = vectors[:, 4][vectors[:, 4] != 0]
    assert np.std(kept) == pytest.approx(0.3, rel=0.1)
    assert set(vectors[:, 1]) <= {0.0, 1.0}


def test_the_seeing_is_sometimes_unknown(parent):
    rng = np.random.default_rng(0)
    known = [training_vector(parent, rng)[1] for _ in range(200)]
    assert 0.05 < np.mean(np.equal(known, 0)) < 0.6 or not np.isfinite(parent.frame.fwhm)


def test_true_width_is_that_of_the_scene():
    sky, _ = scene_parent(fwhm=4.0, ellipticity=0.0, beta=4.5, aureole=0.0, spikes=0.0)
    assert true_width(sky.psf) == pytest.approx(4.0, rel=0.25)


def test_tiles_are_cut_alike_from_all_planes():
    window = ParentWindow(3, size=SIZE, box=BOX, length=2, workers=0)
    window.advance(0)
    batch = window.sample(np.random.default_rng(0), count=5, tile=64)
    for name in PLANES:
        assert batch[name].shape == (5, 1, 64, 64)
    assert batch["frame"].shape[0] == 5 and batch["frame"].dtype == np.float32
    # The part of a tile's noise that is not the sources' tells that both were turned alike.
    parents = [draw_parent(3, number, size=SIZE, box=BOX) for number in (0, 1)]
    noise = np.concatenate([(p.x - p.sources).ravel() for p in parents])
    assert np.isin(batch["x"] - batch["sources"], noise).all()


def test_windows_slide_over_the_same_parents():
    slid = ParentWindow(3, size=64, box=32, length=2, workers=0)
    for first in range(3):
        slid.advance(first)
    begun = ParentWindow(3, size=64, box=32, length=2, start=2, workers=0)
    begun.advance(2)
    batches = [w.sample(np.random.default_rng(0), count=4, tile=32) for w in (slid, begun)]
    for name in PLANES:
        np.testing.assert_array_equal(batches[0][name], batches[1][name])


def test_workers_draw_the_same_and_end():
    size = {"size": 64, "box": 32, "length": 2}
    alone = ParentWindow(3, workers=0, **size)
    alone.advance(1)
    with ParentWindow(3, workers=1, **size) as window:
        window.advance(0)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGINT)
        window.advance(1)
        assert multiprocessing.active_children() == [worker]
    assert multiprocessing.active_children() == []
    batches = [w.sample(np.random.default_rng(0), count=2, tile=32) for w in (alone, window)]
    for name in PLANES:
        np.testing.assert_array_equal(batches[0][name], batches[1][name])
