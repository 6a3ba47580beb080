"""The model file: the averaged weights, a full card, and the output of the network."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("galsim")

from bgrem import load_model
from bgrem.background import separate
from bgrem.detection.frame import FRAME_NAMES, HIGHEST_ENTRIES, LOWEST_ENTRIES
from bgrem.network.significance import MODEL_CHANNELS, WithSignificance
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.train.export import card, export, export_error, model_path


def test_model_is_the_average_with_a_card(tiny_config, trained):
    folder, training = trained
    model = load_model(model_path(tiny_config, folder), threads=1)
    entries = model.card
    assert entries.name == "tiny" and entries.licence == "BSD-3-Clause"
    assert entries.channels == MODEL_CHANNELS and entries.frame == FRAME_NAMES
    assert (entries.tile, entries.overlap, entries.multiple, entries.box) == (192, 64, 32, 64)
    assert entries.training_digest == tiny_config.digest
    assert export_error(training.average, model.path) < 1e-4
    assert export_error(training.network, model.path) > 1e-3


def test_card_is_strings(tiny_config):
    entries = card(tiny_config, 60)
    assert all(isinstance(value, str) for value in entries.values())
    assert entries["training_steps"] == "60"
    assert json.loads(entries["significance"]) == asdict(SignificanceConstants())
    assert float(entries["memory_per_pixel"]) == 200.0


@pytest.mark.parametrize("shape", [(32, 32), (64, 160)])
def test_model_gives_the_output_of_the_network(tiny_config, trained, shape):
    folder, training = trained
    model = load_model(model_path(tiny_config, folder), threads=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 1, *shape)).astype(np.float32)
    x[:, :, 10, 10] = 3000
    frame = rng.normal(size=len(FRAME_NAMES)).astype(np.float32)
    found = model(x, 0.4, frame)
    with torch.no_grad():
        expected = WithSignificance(training.average)(
            torch.from_numpy(x), torch.tensor([0.4]), torch.from_numpy(frame)[None]
        )
    np.testing.assert_allclose(found, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-3)


def test_path_runs_with_the_model(tiny_config, trained):
    model = load_model(model_path(tiny_config, trained[0]), threads=1)
    data = np.random.default_rng(0).normal(100, 5, (150, 170)).astype(np.float32)
    parts = separate(data, model=model)
    assert np.isfinite(parts.sources).all() and parts.sources.shape == data.shape
    assert parts.uncertainty is not None and parts.significance is not None
    assert parts.provenance["model"] == "tiny"


def test_card_holds_range_calibration_and_constants(trained, tmp_path):
    config = replace(trained[1].config, inference={**trained[1].config.inference, "calibration": 2})
    trained[1].config, before = config, trained[1].config
    try:
        entries = load_model(str(export(trained[1], tmp_path))).card
    finally:
        trained[1].config = before
    assert entries.lowest == tuple(LOWEST_ENTRIES.tolist())
    assert entries.highest == tuple(HIGHEST_ENTRIES.tolist())
    assert entries.significance == SignificanceConstants()
    assert entries.memory_per_pixel == 200.0
    assert entries.calibration.threshold_for(300.0) < entries.calibration.threshold_for(30.0)


def test_wrong_exports_are_not_written(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("bgrem.train.export.export_error", lambda network, path: 2e-4)
    with pytest.raises(ValueError, match="differs from the trained network by 2.0e-04"):
        export(trained[1], tmp_path)
    assert not list(tmp_path.iterdir())
