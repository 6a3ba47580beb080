"""Sky networks: found beside their model, run in every orientation, refused in one sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from skies import exponential_disc, star_field, white_noise

from bgrem.inference.model import INCLUDED, ModelError, available_models, load_model
from bgrem.inference.sky_model import SkyModel
from bgrem.options import ERROR_SIDES
from bgrem.sky.blocks import block_statistics

INCLUDED_SKY = INCLUDED / "optical.sky.onnx"


@pytest.fixture(scope="module")
def sky_model():
    return SkyModel(INCLUDED_SKY, threads=1)


def frame(shape=(320, 448)):
    """Stars, a wide disc and noise."""
    stars = star_field(shape, level=0.0, rms=1.0, height=100.0, sigma=1.6)
    return (stars + exponential_disc(shape, 200, 150, 50, 3.0)).astype(np.float32)


def statistics(image=None):
    return block_statistics(frame() if image is None else image)


def changed(blocks, unit=1.0, offset=0.0):
    """The statistics of an image times a unit plus an offset."""
    planes = blocks.planes.astype(np.float64)
    planes[:5] *= unit
    planes[:4] += offset
    return replace(blocks, planes=planes.astype(np.float32))


def outputs(sky):
    return sky.background, sky.rms, sky.error, sky.chance


def test_it_gives_the_sky_of_cells(sky_model):
    blocks = statistics()
    found = sky_model(blocks)
    for plane in outputs(found):
        assert plane.shape == tuple(n // 2 for n in blocks.good.shape)
        assert plane.dtype == np.float32 and np.isfinite(plane).all()
    assert np.median(found.background) == pytest.approx(0, abs=0.5)
    assert np.median(found.rms) == pytest.approx(1, abs=0.2)
    assert (found.rms > 0).all() and (found.error > 0).all()
    assert (found.chance >= 0).all() and (found.chance <= 1).all()


@pytest.mark.parametrize("unit", [2.0**-20, 1e-3, 1e5])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_unit_and_offset_pass_through(sky_model, unit, offset):
    blocks = statistics()
    one, other = sky_model(blocks), sky_model(changed(blocks, unit, offset * unit))
    level = (other.background - offset * unit) / unit
    np.testing.assert_allclose(level, one.background, atol=2e-3 if offset else 1e-4)
    np.testing.assert_allclose(other.rms / unit, one.rms, rtol=1e-3)
    np.testing.assert_allclose(other.error / unit, one.error, rtol=2e-3)
    np.testing.assert_allclose(other.chance, one.chance, atol=2e-3)


def test_a_power_of_two_changes_no_digit(sky_model):
    blocks = statistics()
    one, other = sky_model(blocks), sky_model(changed(blocks, 1024))
    for name in ("background", "rms"):
        np.testing.assert_array_equal(getattr(other, name), 1024 * getattr(one, name))
    np.testing.assert_array_equal(other.chance, one.chance)


@pytest.mark.parametrize(
    "turn",
    [np.flipud, np.fliplr, np.transpose, np.rot90, lambda x: np.rot90(x, 2)],
    ids=["flip y", "flip x", "transpose", "quarter", "half"],
)
def test_flips_and_quarter_turns_pass_through(sky_model, turn):
    image = frame()
    expected = sky_model(statistics(image))
    found = sky_model(statistics(np.ascontiguousarray(turn(image))))
    np.testing.assert_allclose(found.background, turn(expected.background), atol=3e-4)
    for one, other in zip(outputs(found), outputs(expected), strict=True):
        np.testing.assert_allclose(one, turn(other), atol=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (20, 33), (17, 700)])
def test_any_size_has_a_sky(sky_model, shape):
    blocks = statistics(white_noise(shape))
    found = sky_model(blocks)
    assert found.background.shape == tuple(n // 2 for n in blocks.good.shape)
    assert np.isfinite(outputs(found)).all()


def test_unknown_blocks_may_hold_anything(sky_model):
    bad = np.zeros((256, 320), bool)
    bad[:100, 100:200] = True
    blocks = block_statistics(white_noise(bad.shape), bad)
    spoiled = blocks.planes.copy()
    spoiled[:5, ~blocks.good] = np.nan
    np.testing.assert_array_equal(
        outputs(sky_model(replace(blocks, planes=spoiled))), outputs(sky_model(blocks))
    )


def test_errors_of_means_are_calibrated_by_the_side_of_a_block(sky_model):
    blocks = statistics()
    factors = {side: sky_model(replace(blocks, side=side)).error_of_means for side in (8, 16, 88)}
    assert all(of_side[0] == 1 and min(of_side) > 0 for of_side in factors.values())
    assert factors[8] != factors[16] and all(len(f) == len(ERROR_SIDES) for f in factors.values())


# --- files


def copied(toy_model_path, folder, sky=None):
    path = folder / "mine.onnx"
    path.write_bytes(Path(toy_model_path).read_bytes())
    if sky is not None:
        (folder / "mine.sky.onnx").write_bytes(sky)
    return path


def test_the_included_network_is_the_default(toy_model_path, tmp_path):
    model = load_model(copied(toy_model_path, tmp_path), threads=1)
    assert model.sky.path == INCLUDED_SKY and model.sky is model.sky
    assert len(model.sky.sha256) == 64


def test_a_network_beside_its_model_is_used(toy_model_path, tmp_path):
    path = copied(toy_model_path, tmp_path, INCLUDED_SKY.read_bytes())
    model = load_model(path, threads=1)
    assert model.sky.path == tmp_path / "mine.sky.onnx"
    assert np.isfinite(outputs(model.sky(statistics(white_noise((64, 64)))))).all()


def test_sky_networks_are_no_models(toy_model_path, tmp_path, monkeypatch):
    copied(toy_model_path, tmp_path, INCLUDED_SKY.read_bytes())
    monkeypatch.setenv("BGREM_MODELS", str(tmp_path))
    assert "mine" in available_models()
    assert not [name for name in available_models() if "sky" in name]
    with pytest.raises(ModelError) as error:
        load_model(tmp_path / "mine.sky.onnx")
    assert "\n" not in str(error.value)


def check_refusal(path, message):
    with pytest.raises(ModelError, match=message) as error:
        SkyModel(path)(statistics(white_noise((32, 32))))
    text = str(error.value)
    assert "\n" not in text and len(text) < 100 + len(str(path)) and str(path) in text


@pytest.mark.parametrize("kept", [0, 1, 1000, -1])
def test_damaged_files_are_refused(tmp_path, kept):
    path = tmp_path / "cut.sky.onnx"
    path.write_bytes(INCLUDED_SKY.read_bytes()[:kept])
    check_refusal(path, "cannot be used")


def test_other_files_are_refused(tmp_path, toy_model_path):
    path = tmp_path / "page.sky.onnx"
    path.write_bytes(b"<html>not found</html>")
    check_refusal(path, "cannot be used")
    check_refusal(toy_model_path, "is not a sky network")
    check_refusal(tmp_path / "none.sky.onnx", "No such file")


def test_a_network_of_another_kind_is_refused(tmp_path):
    model = onnx.load(INCLUDED_SKY)
    for entry in model.metadata_props:
        if entry.key == "kind":
            entry.value = "sea"
    onnx.save(model, tmp_path / "a.sky.onnx")
    check_refusal(tmp_path / "a.sky.onnx", "is not a sky network")
