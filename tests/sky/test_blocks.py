"""Statistics of blocks: those of numpy, whatever the shape, and of good pixels only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import white_noise

from bgrem.arrays.rows import Computed, Derived, Scratch
from bgrem.arrays.statistics import SIGMA_PER_IQR
from bgrem.options import Run
from bgrem.sky.blocks import BLOCK, PLANES, BlockStatistics, block_statistics

SHAPES = [(16, 16), (17, 131), (64, 48), (100, 33), (250, 190)]


def blocks_of(found, image):
    """The values of each block of an image with NaN around, (by, bx, 64)."""
    by, bx = found.good.shape
    padded = np.full((by * BLOCK, bx * BLOCK), np.nan)
    top, left = (-first for first in found.first)
    padded[top : top + image.shape[0], left : left + image.shape[1]] = image
    values = padded.reshape(by, BLOCK, bx, BLOCK).swapaxes(1, 2)
    return values.reshape(by, bx, BLOCK**2)


def expected_of(values):
    """The statistics of one block by numpy."""
    size, values = values.size, np.sort(values[np.isfinite(values)])
    if values.size < 0.1 * size:
        return np.zeros(len(PLANES))
    tenth, low, median, high = np.quantile(values, [0.1, 0.25, 0.5, 0.75])
    cut = -(-values.size // 16)
    mean, spread = values[cut : values.size - cut].mean(), SIGMA_PER_IQR * (high - low)
    if values.size < size:
        mean = np.clip(mean, median - 2 * spread, median + 2 * spread)
    return [tenth, low, median, mean, spread, values.size / size]


def check(found, image):
    values = blocks_of(found, image)
    for place in np.ndindex(found.good.shape):
        expected = expected_of(values[place])
        np.testing.assert_allclose(found.planes[(slice(None), *place)], expected, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_are_those_of_numpy(shape):
    x = white_noise(shape)
    check(block_statistics(x), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_bad_pixels_do_not_count(shape):
    x, rng = white_noise(shape), np.random.default_rng(1)
    bad = rng.random(shape) < np.linspace(0, 1.1, shape[1])
    bad[0, 0] = True
    spoiled = np.where(bad, rng.choice([1e9, -1e9, np.inf, np.nan], shape), x).astype(np.float32)
    found = block_statistics(spoiled, bad)
    check(found, np.where(bad, np.nan, x))
    np.testing.assert_array_equal(found.good, found.planes[-1] > 0)
    assert not found.planes[:, ~found.good].any()


@pytest.mark.parametrize("shape", [*SHAPES, (20, 2100), (4200, 40)])
def test_cells_are_whole_and_centred(shape):
    found = block_statistics(white_noise(shape))
    assert found.planes.dtype == np.float32 and len(found.planes) == len(PLANES)
    assert found.shape == shape and max(found.good.shape) <= 256
    for first, blocks, length in zip(found.first, found.good.shape, shape, strict=True):
        assert blocks % 2 == 0
        after = blocks * found.side - length + first
        assert 0 <= -first <= after <= -first + 1


def test_large_images_have_larger_blocks():
    assert block_statistics(white_noise((20, 1024))).side == BLOCK
    assert block_statistics(white_noise((20, 2048))).side == 2 * BLOCK
    assert block_statistics(white_noise((20, 2049))).side == 2 * BLOCK
    assert block_statistics(white_noise((4200, 16))).side == 3 * BLOCK


@pytest.mark.parametrize("k", [2, 3])
def test_gathered_blocks_are_medians_of_good(k):
    rng = np.random.default_rng(2)
    planes = rng.normal(size=(6, 12, 18)).astype(np.float32)
    planes[-1] = rng.random((12, 18)) * (rng.random((12, 18)) > 0.4)
    planes[-1, :3, :3] = 0
    found = BlockStatistics(planes, 8, (-3, -4), (90, 130)).gathered(k)
    assert (found.side, found.first, found.shape) == (8 * k, (-3, -4), (90, 130))
    for j, i in np.ndindex(found.good.shape):
        group = planes[:, k * j : k * (j + 1), k * i : k * (i + 1)].reshape(6, -1)
        good = group[-1] > 0
        expected = np.zeros(6)
        if good.any():
            expected = [*np.median(group[:-1, good], axis=1), group[-1].mean()]
        np.testing.assert_allclose(found.planes[:, j, i], expected, rtol=1e-5)


def test_few_good_blocks_make_no_group():
    planes = np.zeros((6, 4, 4), np.float32)
    planes[:, 1, 2] = 1
    assert not BlockStatistics(planes, 8, (0, 0), (32, 32)).gathered(4).good.any()
    planes[:, 3, 3] = 1
    assert BlockStatistics(planes, 8, (0, 0), (32, 32)).gathered(4).good.all()


@pytest.mark.parametrize("step", [0.3, 1.0, 2.0])
def test_values_in_steps_are_as_continuous(step):
    """Blocks of values in steps have the level of the exact ones, and a median that is no step."""
    x = white_noise((512, 512)) + np.linspace(0, 2, 512, dtype=np.float32)
    rounded = (np.rint(x / step) * step).astype(np.float32)
    exact = block_statistics(x).planes
    filled = block_statistics(rounded, step=step).planes
    for k in (2, 3):
        assert abs(np.mean(filled[k] - exact[k])) < 0.01
        columns = np.mean(filled[k] - exact[k], axis=0)
        assert np.abs(columns).max() < 0.15 * step
    noise = np.hypot(1, step / np.sqrt(6))  # of the steps, and of what fills them
    assert np.mean(filled[4]) == pytest.approx(noise * np.mean(exact[4]), rel=0.05)
    assert np.unique(filled[2]).size > 1000 > np.unique(block_statistics(rounded).planes[2]).size


def as_memory(x, _):
    return np.ascontiguousarray(x)


def as_map(x, folder):
    np.save(folder / f"{x.dtype}.npy", x)
    return np.load(folder / f"{x.dtype}.npy", mmap_mode="r")


def as_scratch(x, folder):
    rows = Scratch(folder, limit=0).empty(x.shape, x.dtype)
    rows[:] = x
    return rows


def as_derived(x, _):
    return Derived(x, lambda part: part, x.dtype)


def as_computed(x, _):
    return Computed(x.shape, x.dtype, lambda rows: x[rows])


@pytest.mark.parametrize("kind", [as_memory, as_map, as_scratch, as_derived, as_computed])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_kind_of_rows_gives_it(tmp_path, kind, threads):
    x = white_noise((170, 133))
    bad = np.random.default_rng(3).random(x.shape) < 0.2
    expected = block_statistics(x, bad, step=0.1).planes
    run = Run(threads=threads)
    found = block_statistics(kind(x, tmp_path), kind(bad, tmp_path), step=0.1, run=run)
    np.testing.assert_array_equal(found.planes, expected)


def test_the_input_stays_as_it_is():
    x, bad = white_noise((64, 64)), np.zeros((64, 64), bool)
    bad[3:20] = True
    kept = x.copy()
    block_statistics(x, bad, step=0.5)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose, np.rot90])
def test_blocks_turn_with_the_image(turn):
    x = white_noise((64, 112))
    planes = block_statistics(x).planes
    turned = block_statistics(np.ascontiguousarray(turn(x))).planes
    np.testing.assert_allclose(turned, [turn(plane) for plane in planes], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    fraction=st.sampled_from([0.0, 0.02, 0.5, 0.89, 0.95, 0.995, 1.0]),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 1e30]),
    step=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 99),
)
def test_nothing_bad_spreads(shape, fraction, value, step, seed):
    x = white_noise(shape, seed=seed)
    bad = np.random.default_rng(seed).random(shape) < fraction
    x[bad] = value
    found = block_statistics(x, bad, step=step)
    assert np.isfinite(found.planes).all()
    assert np.abs(found.planes).max() < 10
    assert (found.planes[4] >= 0).all()
    assert (found.planes[5] <= 1).all()
    ordered = found.planes[:3]
    assert (np.diff(ordered, axis=0) >= 0).all()
    assert found.good.any() or fraction > 0.5 or min(shape) < BLOCK
