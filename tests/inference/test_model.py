"""Models: found, loaded and run by their cards."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from toy_models import toy_card

from bgrem.arrays.tiling import tile_grid
from bgrem.inference.memory import least_memory
from bgrem.inference.model import (
    ModelCard,
    ModelError,
    ModelNotFoundError,
    available_models,
    load_model,
)
from bgrem.network.significance_constants import SignificanceConstants


@pytest.fixture
def folder(toy_model_path, tmp_path, monkeypatch):
    """A folder in $BGREM_MODELS that holds the toy model as "mine"."""
    (tmp_path / "mine.onnx").write_bytes(Path(toy_model_path).read_bytes())
    monkeypatch.setenv("BGREM_MODELS", str(tmp_path))
    return tmp_path


def rewritten(toy_model_path, path, **changes):
    """The toy model with other metadata; None takes an entry away."""
    model = onnx.load(toy_model_path)
    entries = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v for k, v in entries.items() if v is not None})
    onnx.save(model, path)
    return path


def test_a_model_runs_with_its_card(toy_model, toy_model_path):
    card = toy_model.card
    x = np.random.default_rng(0).normal(size=(2, 1, 48, 32)).astype(np.float32)
    channels = toy_model(x, 1.0, np.zeros(len(card.frame), dtype=np.float32))
    assert channels.shape == (2, len(card.channels), 48, 32)
    assert channels.dtype == np.float32
    assert card.channels[0] == "residual"
    assert toy_model.sha256 == hashlib.sha256(Path(toy_model_path).read_bytes()).hexdigest()
    assert "toy" in repr(toy_model)


def test_a_card_survives_its_metadata(toy_model):
    metadata = toy_model.card.to_metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    assert ModelCard.from_metadata(metadata) == toy_model.card


def test_older_cards_have_default_constants(toy_model_path, tmp_path):
    path = rewritten(
        toy_model_path, tmp_path / "older.onnx", significance=None, memory_per_pixel=None
    )
    card = load_model(path, threads=1).card
    assert card.significance == SignificanceConstants()
    assert card.memory_per_pixel == 200.0


def test_memory_per_pixel_is_the_cards():
    card = toy_card(memory_per_pixel=1e4)
    more = replace(card, memory_per_pixel=1e4 + 50)
    (height, width), _ = tile_grid((300, 200), tile=192, overlap=32, multiple=16)
    added = least_memory((300, 200), more, ()) - least_memory((300, 200), card, ())
    assert added == 50 * height * width


def test_models_in_bgrem_models_are_found(folder):
    assert "mine" in available_models()
    assert load_model("mine", threads=1).path == folder / "mine.onnx"


def test_a_missing_folder_holds_no_models(monkeypatch, tmp_path):
    monkeypatch.setenv("BGREM_MODELS", str(tmp_path / "nowhere"))
    assert isinstance(available_models(), tuple)


@pytest.mark.parametrize("name", ["nosuch", "../mine", "nosuch.onnx", ""])
def test_unknown_models_are_reported_with_known_ones(folder, name):
    with pytest.raises(ModelNotFoundError) as error:
        load_model(name)
    assert name in str(error.value)
    assert name.endswith(".onnx") or "mine" in str(error.value)


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError, match="not a valid ONNX file"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": None, "tile": None}, "tile, box missing"),
        ({"tile": "many"}, "cannot be read"),
        ({"channels": "residual"}, "cannot be read"),
        ({"schedule": "linear"}, "another version"),
        ({"normalisation": "zscale"}, "another version"),
        ({"channels": '["centre"]'}, "not the residual"),
        ({"box": "0"}, "out of range"),
        ({"memory_per_pixel": "0"}, "memory per pixel is out of range"),
        ({"significance": '{"centre_radius": "much"}'}, "cannot be read"),
        ({"significance": "[]"}, "cannot be read"),
    ],
)
def test_unusable_cards_are_refused(toy_model_path, tmp_path, changes, message):
    path = rewritten(toy_model_path, tmp_path / "changed.onnx", **changes)
    with pytest.raises(ModelError, match=message) as error:
        load_model(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": '["residual"]'},
        {"channels": '["residual", "a", "b", "c", "d"]'},
        {"channels": "{}"},
        {"channels": "7"},
        {"frame": '["fwhm"]'},
        {"tile": "1000000000"},
        {"tile": "-16"},
        {"tile": "inf"},
        {"overlap": "1000000000"},
        {"overlap": "192"},
        {"overlap": "33"},
        {"multiple": "1000000000"},
        {"multiple": "0"},
        {"multiple": "7"},
        {"box": "1000000000"},
        {"name": LONG},
        {"name": "two\nlines"},
        {"name": ""},
        {"version": LONG},
        {"description": 2 * LONG},
        {"tile": LONG},
        {"channels": "[" * 100_000},
        {"memory_per_pixel": "nan"},
        {"memory_per_pixel": "1e400"},
        {"lowest": "[NaN]"},
        {"significance": "[1]"},
        {"significance": "{"},
        {"calibration": '{"x": 1}'},
    ],
    ids=lambda changes: " ".join(f"{k}={v[:20]!r}" for k, v in changes.items()),
)
def test_cards_out_of_range_are_refused(toy_model_path, tmp_path, changes):
    path = rewritten(toy_model_path, tmp_path / "bad.onnx", **changes)
    with pytest.raises(ModelError) as error:
        load_model(path)
    text = str(error.value)
    assert text.startswith(f"the model {path} cannot be used: ")
    assert "\n" not in text and len(text) < 300 + len(str(path))


def test_files_that_are_no_models_are_refused(toy_model_path, tmp_path):
    content = Path(toy_model_path).read_bytes()
    path = tmp_path / "bad.onnx"
    rng = np.random.default_rng(1)
    others = [
        b"",
        b"SIMPLE  =                    T",
        rng.bytes(5000),
        b"\x08" * 5000,
        LONG.encode(),
    ]
    cut = [content[:length] for length in (1, 100, len(content) // 2, len(content) - 1)]
    for text in [*others, *cut]:
        path.write_bytes(text)
        with pytest.raises(ModelError) as error:
            load_model(path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300 + len(str(path))
