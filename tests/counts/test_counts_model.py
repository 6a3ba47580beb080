"""The model of counts maps: its file and card, and the commands that do not take it."""

import numpy as np
import pytest

import bgrem
from bgrem.counts.counts_model import (
    CountsModel,
    counts_digest,
    has_counts_model,
    is_counts_model,
    load_counts_model,
)
from bgrem.inference.engine import ModelError
from bgrem.inference.model import optical_model


@pytest.fixture
def changed(counts_file, tmp_path):
    """A copy of the model's file with other entries in its card."""
    from bgrem.train.export import write_metadata

    def write(**entries):
        path = tmp_path / "changed.onnx"
        path.write_bytes(counts_file.read_bytes())
        write_metadata(path, entries)
        return path

    return write


@pytest.fixture
def named(counts_file, monkeypatch, tmp_path):
    """A folder in which the untrained network is the model "counts"."""
    (tmp_path / "counts.onnx").write_bytes(counts_file.read_bytes())
    monkeypatch.setenv("BGREM_MODELS", str(tmp_path))


def test_load_model_gives_it(counts_file, named):
    for model in (bgrem.load_model("counts"), bgrem.load_model(counts_file)):
        assert isinstance(model, CountsModel) and model.name == "toy"
        assert load_counts_model(model) is model
    assert counts_digest("auto") == counts_digest(counts_file) == model.sha256
    assert counts_digest("no") is None


def test_which_models_are_of_counts(counts_file, counts_model, toy_model, toy_model_path, tmp_path):
    assert all(map(is_counts_model, ("counts", counts_file, str(counts_file), counts_model)))
    for other in ("optical", toy_model, toy_model_path, tmp_path / "none.onnx", 3, "a\0b"):
        assert not is_counts_model(other)
    with pytest.raises(ModelError, match="not a model of counts maps"):
        CountsModel(toy_model_path)
    with pytest.raises(ModelError, match="not a model of counts maps"):
        load_counts_model(toy_model)
    with pytest.raises(ModelError, match="cannot be read"):
        CountsModel(tmp_path / "none.onnx")


def test_commands_for_frames_of_cameras_say_so(counts_file, counts_model, named):
    for model in ("counts", counts_file, counts_model):
        with pytest.raises(ModelError, match="is for maps of counts"):
            optical_model(model)
    with pytest.raises(ModelError, match="is for maps of counts"):
        bgrem.make_catalog(np.zeros((64, 64)), model=counts_model)


@pytest.mark.parametrize(
    "entries",
    [
        {"channels": ["sources"]},
        {"tile": 100},
        {"overlap": 128},
        {"multiple": 0},
        {"tile": "wide"},
        {"name": "n\N{LATIN SMALL LETTER O WITH DIAERESIS}"},
        {"false_alarms": [[3.0, -1.0]]},
        {"false_alarms": [3.0]},
        {"variance_factors": [1.0, 2.0, 3.0]},
    ],
)
def test_a_card_that_is_wrong(changed, entries):
    with pytest.raises(ModelError, match="card of the model"):
        CountsModel(changed(**entries))


def test_thresholds(changed):
    rows = [[2.0, 1000.0], [3.0, 100.0], [4.0, 5.0], [5.0, 0.3]]
    model = CountsModel(changed(false_alarms=rows))
    assert [model.threshold_for(n) for _, n in rows] == [s for s, _ in rows]
    assert 3.0 < model.threshold_for(30.0) < 4.0
    # A little beyond the table, as Gaussian noise falls; far beyond nothing is known.
    assert 5.0 < model.threshold_for(0.1) < 5.8
    assert model.threshold_for(0.001) is model.threshold_for(1e6) is None
    assert CountsModel(changed(false_alarms=[])).threshold_for(1.0) is None


def test_factors_of_the_variance(changed):
    model = CountsModel(changed(variance_factors=[[-2.0, 1.0], [0.0, 4.0]]))
    found = model.calibrated_variance(np.ones(4, np.float32), np.float32([0, 0.01, 0.1, 50]))
    assert found.tolist() == pytest.approx([1.0, 1.0, 2.5, 4.0]) and found.dtype == np.float32


def test_without_the_model_maps_are_frames_of_cameras(monkeypatch, tmp_path):
    from bgrem.inference import model as models

    monkeypatch.setattr(models, "INCLUDED", tmp_path)
    assert not has_counts_model()
    data = np.random.default_rng(1).poisson(0.3, (64, 64))
    with pytest.raises(ModelError, match="no model 'optical'"):
        bgrem.separate(data)
    with pytest.raises(ModelError, match="no model 'counts'"):
        bgrem.separate(data, model="counts")


def test_the_unit_or_a_given_map_makes_zeros_and_ones_counts(named):
    from astropy import units
    from astropy.nddata import NDData

    few = (np.random.default_rng(2).random((96, 96)) < 0.01).astype(np.int32)
    assert bgrem.separate(few).provenance.model == "optical"
    for data in (NDData(few, unit="ct"), units.Quantity(few, "ph")):
        assert bgrem.separate(data).provenance.model == "toy"
    assert bgrem.separate(few, psf=3.0).provenance.model == "toy"


def test_cubes_refuse_what_counts_have_not(counts_model):
    cube = np.random.default_rng(2).poisson(1.0, (2, 32, 32))
    with pytest.raises(ValueError, match="no weights"):
        bgrem.remove_background(cube, model=counts_model, weight=np.ones((32, 32)))
    done = []
    found = bgrem.remove_background(cube, model=counts_model, psf=3.0, progress=done.append)
    assert found.shape == cube.shape and done[-1] == 1.0


def test_the_background_of_photutils_is_that_of_a_camera(counts_model, named):
    data = np.random.default_rng(2).poisson(2.0, (64, 64))
    assert bgrem.DiffusionBackground2D(data).provenance.model == "optical"
    with pytest.raises(ModelError, match="is for maps of counts"):
        bgrem.DiffusionBackground2D(data, model=counts_model)
