"""Sky networks: found beside their model, run in every orientation, refused in one sentence."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from skies import exponential_disc, star_field, white_noise

from bgrem.inference.model import INCLUDED, ModelError, available_models, load_model
from bgrem.inference.sky_model import SkyModel
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
    return block_statistics(frame() if image is None else image).planes


def test_it_gives_the_sky_of_cells(sky_model):
    planes = statistics()
    found = sky_model(planes)
    assert found.shape == (4, planes.shape[1] // 2, planes.shape[2] // 2)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    background, rms, _, chance = found
    assert np.median(background) == pytest.approx(0, abs=0.5)
    assert np.median(rms) == pytest.approx(1, abs=0.2)
    assert (rms > 0).all() and (chance >= 0).all() and (chance <= 1).all()


@pytest.mark.parametrize("unit", [2.0**-20, 1e-3, 1e5])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_unit_and_offset_pass_through(sky_model, unit, offset):
    planes = statistics()
    moved = planes.astype(np.float64)
    moved[:5] *= unit
    moved[:4] += offset * unit
    one, other = sky_model(planes), sky_model(moved.astype(np.float32))
    level = (other[0] - offset * unit) / unit
    np.testing.assert_allclose(level, one[0], atol=2e-3 if offset else 1e-4)
    np.testing.assert_allclose(other[1] / unit, one[1], rtol=1e-3)
    np.testing.assert_allclose(other[2] - np.log(unit), one[2], atol=2e-3)
    np.testing.assert_allclose(other[3], one[3], atol=2e-3)


def test_a_power_of_two_changes_no_digit(sky_model):
    planes = statistics()
    moved = planes.copy()
    moved[:5] *= np.float32(1024)
    one, other = sky_model(planes), sky_model(moved)
    np.testing.assert_array_equal(other[:2], 1024 * one[:2])
    np.testing.assert_array_equal(other[3], one[3])


@pytest.mark.parametrize(
    "turn",
    [np.flipud, np.fliplr, np.transpose, np.rot90, lambda x: np.rot90(x, 2)],
    ids=["flip y", "flip x", "transpose", "quarter", "half"],
)
def test_flips_and_quarter_turns_pass_through(sky_model, turn):
    image = frame()
    expected = [turn(plane) for plane in sky_model(statistics(image))]
    found = sky_model(statistics(np.ascontiguousarray(turn(image))))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found[0], expected[0], atol=3e-4)


@pytest.mark.parametrize("shape", [(16, 16), (20, 33), (17, 700)])
def test_any_size_has_a_sky(sky_model, shape):
    planes = statistics(white_noise(shape))
    found = sky_model(planes)
    assert found.shape[1:] == (planes.shape[1] // 2, planes.shape[2] // 2)
    assert np.isfinite(found).all()


def test_unknown_blocks_may_hold_anything(sky_model):
    bad = np.zeros((256, 320), bool)
    bad[:100, 100:200] = True
    planes = block_statistics(white_noise(bad.shape), bad).planes
    spoiled = planes.copy()
    spoiled[:5, planes[5] == 0] = np.nan
    np.testing.assert_array_equal(sky_model(spoiled), sky_model(planes))


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
    assert np.isfinite(model.sky(statistics(white_noise((64, 64))))).all()


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
