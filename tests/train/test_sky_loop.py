"""Training of a sky network: exact resume, its file, its configuration, its command."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("galsim")

from bgrem.cli.train import main
from bgrem.inference.sky_model import SkyModel
from bgrem.network.sky_network import SkyNetwork, SkyNetworkConfig
from bgrem.sky.blocks import BlockStatistics
from bgrem.train import sky_frames, sky_loop
from bgrem.train.config import SkyConfig, load_config
from bgrem.train.export import export_sky, model_path
from bgrem.train.sky_loop import SkyTraining, train_sky

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = SkyConfig(
    name="tiny", seed=3, steps=4, warmup=1, decay=2, batch=2, frames=2, large_frames=1,
    network=SkyNetworkConfig(widths=(4, 4, 4, 4, 4), scales=(0.7, 3.0)),
)  # fmt: skip
TOML = """
kind = "sky"
name = "tiny"
steps = 2
warmup = 1
decay = 1
batch = 2
frames = 2
large_frames = 1
[network]
widths = [4, 4, 4, 4, 4]
scales = [0.7, 3.0]
"""


@pytest.fixture(autouse=True)
def small_frames(monkeypatch):
    monkeypatch.setattr(sky_loop, "SMALL", (64, 64))
    monkeypatch.setattr(sky_loop, "LARGE", (128, 128))
    monkeypatch.setattr(sky_frames, "FRAMES_OF_A_FILE", 2)


def examples(count):
    drawn = [sky_frames.draw_example((1, n), (64, 64)) for n in range(count)]
    return {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}


def tensors(training):
    both = [*training.network.parameters(), *training.average.parameters()]
    return torch.cat([p.detach().ravel() for p in both])


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    calls = []

    def stop():
        calls.append(None)
        return len(calls) == 2

    whole = train_sky(CONFIG, tmp_path / "a", validation=0, scenes=1)
    stopped = train_sky(CONFIG, tmp_path / "b", validation=0, scenes=1, stop=stop)
    assert stopped.step == 2 and not model_path(CONFIG, tmp_path / "b").exists()
    resumed = train_sky(CONFIG, tmp_path / "b", validation=4, scenes=1)
    assert resumed.step == whole.step == 4
    assert torch.equal(tensors(resumed), tensors(whole))
    assert '"median"' in (tmp_path / "b" / "log.jsonl").read_text()
    assert model_path(CONFIG, tmp_path / "b").name == "tiny.sky.onnx"


def test_a_training_of_another_kind_is_refused(tmp_path):
    SkyTraining(CONFIG).save(tmp_path / "c.pt")
    with pytest.raises(ValueError, match="another configuration"):
        SkyTraining(replace(CONFIG, seed=4)).load(tmp_path / "c.pt")


def test_validation_gives_errors_in_sky_rms():
    found = SkyTraining(CONFIG).validate(examples(3))
    assert found.keys() == {"quartile", "median", "mean", "high", "rms"}
    assert all(np.isfinite(value) and value >= 0 for value in found.values())
    assert found["quartile"] <= found["median"] <= found["high"]


def test_the_file_gives_what_the_network_gives(tmp_path):
    from safetensors.torch import load_file

    training = SkyTraining(CONFIG)
    path = export_sky(training, tmp_path, examples(2), examples(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.sky.onnx", "tiny.sky.safetensors"]
    weights = load_file(path.with_suffix(".safetensors"))
    other = SkyNetwork(CONFIG.network)
    other.load_state_dict(weights)
    session = SkyModel(path, threads=1)._session
    for shape in ((1, 8, 32, 32), (1, 8, 64, 160)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.1
        with torch.no_grad():
            expected = other.eval()(x)
        (found,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 3", "unknown option stepps"),
        ("tile = 192", "unknown option tile"),
        ("[weights]\ncolour = 1.0", "unknown option weights.colour"),
        ("[network]\nwidth = 3", "unknown option network.width"),
        ("batch = 2.5", "batch must be of type int"),
        ("frames = 0", "frames must be above 0"),
        ("steps = 5\ndecay = 6", "decay must be between"),
        ("whole = 0.7", "shares whose sum is 1"),
        ("whole = 1.6\ncut = -0.85", "shares whose sum is 1"),
        ("[network]\nwidths = [4, 4]", "network.widths needs five"),
        ("[network]\nscales = []", "network.scales one or more"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text('kind = "sky"\n' + text)
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_the_command_trains_a_sky_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sky_loop, "train_sky", partial(train_sky, scenes=2))
    (tmp_path / "tiny.toml").write_text(TOML)
    words = [tmp_path / "tiny.toml", "--output-dir", tmp_path / "run", "--device", "cpu"]
    words += ["--threads", 1, "--workers", 1, "--validate-every", 0, "--quiet"]
    assert main([str(word) for word in words]) == 0
    out, err = capsys.readouterr()
    path = tmp_path / "run" / "tiny.sky.onnx"
    assert (out, err) == (f"{path}\n", "") and path.exists()
    blocks = BlockStatistics(np.ones((6, 8, 8), np.float32), 8, (0, 0), (64, 64))
    path.unlink()
    assert main([*map(str, words), "--export-only"]) == 0
    assert np.isfinite(SkyModel(path, threads=1)(blocks).background).all()
