"""Frames for a sky network: drawn by seed, kept in files, turned, cut and gathered."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("galsim")

from bgrem.train import sky_frames
from bgrem.train.config import SkyConfig
from bgrem.train.sky_frames import (
    KINDS,
    SkyBatches,
    draw_example,
    load_examples,
    normalised,
    write_bank,
)

SHAPE = (96, 128)
NAMES = {"planes", "background", "wide", "rms", "weight"}


def stacked(shape, count=3):
    drawn = [draw_example((7, n), shape) for n in range(count)]
    return {name: np.stack([one[name] for one in drawn]) for name in NAMES}


@pytest.fixture(scope="module")
def examples():
    return stacked((128, 128))


def batches(examples, kind):
    shares = {name: float(name == kind) for name in KINDS}
    return SkyBatches(examples, stacked((192, 192), 1), SkyConfig(batch=4, **shares))


def test_the_seed_decides_the_example():
    one, same, other = (draw_example((1, n), SHAPE) for n in (2, 2, 3))
    assert one.keys() == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(one[name], same[name])
    assert not np.array_equal(one["planes"], other["planes"])


@pytest.mark.parametrize("number", range(4))
def test_an_example_is_in_sky_rms(number):
    one = draw_example((3, number), SHAPE)
    assert one["planes"].shape == (6, 12, 16)
    assert one["background"].shape == one["wide"].shape == (12, 16)
    assert one["rms"].shape == one["weight"].shape == (6, 8)
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in one.values())
    assert (one["rms"] >= 0).all() and (one["weight"] <= 256).all()


def test_files_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sky_frames, "FRAMES_OF_A_FILE", 2)
    done = []
    write_bank(tmp_path, 5, 3, SHAPE, progress=done.append)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["5_96_0000.npz", "5_96_0001.npz"]
    assert done == [0.5, 1.0]
    times = [path.stat().st_mtime_ns for path in files]
    write_bank(tmp_path, 5, 3, SHAPE)
    assert [path.stat().st_mtime_ns for path in files] == times
    loaded = load_examples(tmp_path, 5, 3, SHAPE)
    assert loaded["planes"].shape == (3, 6, 12, 16)
    np.testing.assert_array_equal(loaded["planes"][2], draw_example((5, 96, 2), SHAPE)["planes"])


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_every_kind(examples, kind):
    drawn = batches(examples, kind).draw(np.random.default_rng(1))
    again = batches(examples, kind).draw(np.random.default_rng(1))
    count, planes, by, bx = drawn["x"].shape
    assert count in {"large": {1}, "gathered": {2, 8}}.get(kind, {count}) and planes == 8
    assert by % 32 == 0 and bx % 32 == 0
    for name, values in drawn.items():
        assert values.dtype == np.float32 and np.isfinite(values).all()
        assert name == "x" or values.shape == (count, by // 2, bx // 2)
        np.testing.assert_array_equal(values, again[name])
    assert (drawn["rms"] >= 0).all() and set(np.unique(drawn["known"])) <= {0, 1}
    cells = drawn["x"][:, 5].reshape(count, by // 2, 2, bx // 2, 2).max(axis=(2, 4))
    np.testing.assert_array_equal(drawn["known"] > 0, cells > 0)


def test_small_and_large_frames_are_gathered(examples):
    drawn = [batches(examples, "gathered").draw(np.random.default_rng(n)) for n in range(8)]
    assert {batch["x"].shape[0] for batch in drawn} == {2, 8}


def test_the_truth_turns_with_its_frame(examples):
    """Whatever the turn, the truth lies where the statistics do."""
    flat = {name: np.zeros_like(values) for name, values in examples.items()}
    ramp = (
        np.arange(256, dtype=np.float32).reshape(16, 16) / 16
    )  # gentle: no block is far below its surroundings
    flat["planes"][:, :5] = flat["planes"][:, 5:] = 1
    flat["planes"][:, :4] = flat["background"][:] = ramp
    flat["rms"][:] = flat["weight"][:] = 1
    for seed in range(8):
        drawn = batches(flat, "whole").draw(np.random.default_rng(seed))
        n, by, bx = len(drawn["x"]), *drawn["background"].shape[1:]
        median = drawn["x"][:, 2].reshape(n, by, 2, bx, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(median, drawn["background"], atol=1e-3)


def test_the_truth_is_in_the_inputs_units(examples):
    one = {name: values[0] for name, values in examples.items()}
    moved = {name: values.copy() for name, values in one.items()}
    for name in ("background", "wide", "rms"):
        moved[name] *= 1000
    moved["planes"][:5] *= 1000
    expected, found = normalised(one), normalised(moved)
    seen = expected["weight"] > 0  # elsewhere the noise has no truth
    for name, values in found.items():
        part = seen if name == "rms" else ...
        np.testing.assert_allclose(values[part], expected[name][part], rtol=1e-3, atol=1e-3)
