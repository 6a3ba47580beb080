"""Training: losses, schedule, exact resume, export, and the command around it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("galsim")

from bgrem import load_model
from bgrem.background import separate
from bgrem.cli.train import main
from bgrem.frame import FRAME_NAMES
from bgrem.network import CHANNELS, NetworkConfig
from bgrem.train import (
    Training,
    TrainingConfig,
    card,
    checkpoint_path,
    export,
    export_error,
    learning_rate_factor,
    load_config,
    load_weights,
    losses,
    model_path,
    train,
)

TINY = TrainingConfig(
    name="tiny", description="for tests", seed=5, steps=60, warmup=5, decay=20, batch=4, tile=64,
    parent=128, box=64, window=4, reuse=20.0, learning_rate=3e-3, ema=0.9,
    network=NetworkConfig(
        widths=(8, 8, 8, 12, 16), encoder=(0, 1, 1, 1, 1), decoder=(1, 1, 1, 1), embedding=16
    ),
    inference={"tile": 192, "overlap": 64, "box": 64},
)  # fmt: skip
TOML = """
name = "tiny"
description = "for tests"
seed = 5
steps = {steps}
warmup = 5
decay = 2
batch = 2
tile = 64
parent = 128
box = 64
window = 2
[network]
widths = [4, 4, 4, 4, 4]
encoder = [0, 1, 1, 1, 1]
decoder = [1, 1, 1, 1]
embedding = 8
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished tiny training, and the training."""
    folder = tmp_path_factory.mktemp("trained")
    training = train(TINY, folder, workers=0, report=10, save=25, validation=0)
    return folder, training


def weights_of(training):
    return torch.cat([p.detach().ravel() for p in training.network.parameters()])


def average_of(training):
    return torch.cat([p.detach().ravel() for p in training.average.parameters()])


# ---- training ------------------------------------------------------------------------


def losses_of(training):
    """Losses of the averaged network on the same tiles for all, by name."""
    window = Training(TINY).window(workers=0)
    window.advance(0)
    batch = window.sample(np.random.default_rng(0), count=16, tile=64)
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    rate = torch.ones(16)
    with torch.no_grad():
        channels = training.average(tensors["x"], rate, tensors["frame"])
    return {k: v.item() for k, v in losses(channels, tensors["x"], rate, tensors).items()}


def total_of(parts):
    """What the training minimises."""
    return sum(TINY.weights.get(name, 1.0) * value for name, value in parts.items())


def test_the_losses_fall(trained):
    before, after = losses_of(Training(TINY)), losses_of(trained[1])
    assert after["sources"] < 0.95 * before["sources"]
    assert total_of(after) < total_of(before)


def test_the_log_has_a_line_of_losses_every_some_steps(trained):
    folder, training = trained
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 61, 10))
    assert lines[-1]["minutes_left"] == 0 and lines[0]["tiles_per_second"] > 0
    assert {"sources", "variance", "artefact", "centre", "gradient"} <= lines[0].keys()
    assert training.step == TINY.steps


def test_a_resumed_training_is_the_one_that_was_not_interrupted(trained, tmp_path):
    calls = []

    def stop():
        calls.append(None)
        return len(calls) == 17

    stopped = train(TINY, tmp_path, workers=0, validation=0, stop=stop)
    assert stopped.step == 17 and not model_path(TINY, tmp_path).exists()
    resumed = train(TINY, tmp_path, workers=0, validation=20, scenes=1)
    assert resumed.step == TINY.steps
    assert torch.equal(weights_of(resumed), weights_of(trained[1]))
    assert torch.equal(average_of(resumed), average_of(trained[1]))


def test_the_seed_decides(trained):
    short = replace(TINY, steps=12, decay=0)
    one, two, other = (Training(c) for c in (short, short, replace(short, seed=6)))
    for training in (one, two, other):
        window = training.window(workers=0)
        for _ in range(2):
            training.advance(window)
    assert torch.equal(weights_of(one), weights_of(two))
    assert not torch.equal(weights_of(one), weights_of(other))


def test_the_average_follows_the_weights():
    training = Training(TINY)
    window = training.window(workers=0)
    expected = average_of(training)
    for step in range(3):
        training.advance(window)
        decay = min(TINY.ema, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights_of(training)
    torch.testing.assert_close(average_of(training), expected)


def test_a_step_without_a_finite_gradient_changes_nothing(monkeypatch):
    training = Training(TINY)
    window = training.window(workers=0)
    before = weights_of(training)
    sample = window.sample

    def broken(*arguments, **options):
        batch = sample(*arguments, **options)
        batch["x"][:] = np.nan
        return batch

    monkeypatch.setattr(window, "sample", broken)
    training.advance(window)
    assert torch.equal(weights_of(training), before) and training.step == 1


def test_learning_rate_rises_stays_and_falls():
    config = replace(TINY, steps=100, warmup=10, decay=20)
    factors = np.array([learning_rate_factor(step, config) for step in range(101)])
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    assert np.all(factors[10:81] == 1)
    assert np.all(np.diff(factors[81:]) < 0)
    assert factors[90] == pytest.approx(0.505) and factors[100] == pytest.approx(0.01)


# ---- losses --------------------------------------------------------------------------


def example(seed=0, side=32):
    """A batch of two tiles with a star, and the image at rate 1."""
    rng = np.random.default_rng(seed)
    sources = torch.zeros(2, 1, side, side)
    sources[:, :, 10:13, 10:13] = 50.0
    noise = torch.from_numpy(rng.normal(size=sources.shape).astype(np.float32))
    batch = {
        "sources": sources,
        "x": sources + noise,
        "artefact": torch.zeros_like(sources),
        "weight": torch.ones_like(sources),
        "centre": torch.zeros_like(sources, dtype=torch.int8),
    }
    return batch, torch.ones(2)


def channels_of(residual):
    """Channels with this residual, and nothing said on the rest."""
    rest = torch.zeros(2, 3, *residual.shape[2:])
    return torch.cat([residual, rest], dim=1)


def test_a_perfect_answer_has_no_loss():
    batch, rate = example()
    perfect = losses(channels_of(batch["x"] - batch["sources"]), batch["x"], rate, batch)
    assert perfect["sources"].item() < 1e-6
    nothing = losses(channels_of(batch["x"]), batch["x"], rate, batch)
    assert nothing["sources"].item() > 1


def test_a_perfect_answer_at_a_lower_rate_has_no_loss():
    batch, _ = example()
    rate = torch.tensor([0.5, 0.1])
    residual = batch["x"] - batch["sources"]
    x = batch["sources"] + rate[:, None, None, None] * residual
    parts = losses(channels_of(residual), x, rate, batch)
    assert parts["sources"].item() < 1e-6
    # Only the observed image has an uncertainty, artefacts and centres.
    assert all(parts[name].item() == 0 for name in ("variance", "artefact", "centre"))


def test_nothing_counts_under_the_mask():
    batch, rate = example()
    batch["weight"][:, :, :8] = 0
    residual = batch["x"] - batch["sources"]
    spoilt = residual.clone()
    spoilt[:, :, :8] += 100
    batch["centre"][:, :, 20:] = -1
    channels, wrong = channels_of(residual), channels_of(spoilt)
    wrong[:, 3, 20:] = 30.0  # not scored
    for name, value in losses(channels, batch["x"], rate, batch).items():
        assert losses(wrong, batch["x"], rate, batch)[name].item() == pytest.approx(value.item())


def test_a_huge_artefact_has_a_gradient_that_is_finite_and_not_zero():
    batch, rate = example()
    batch["x"][0, 0, 5, 5] += 1e5
    channels = channels_of(torch.zeros_like(batch["x"])).requires_grad_()
    sum(losses(channels, batch["x"], rate, batch).values()).backward()
    gradient = channels.grad[0, 0, 5, 5].item()
    assert np.isfinite(gradient) and gradient != 0
    assert torch.isfinite(channels.grad).all()
    # It does not drown the others either.
    assert abs(gradient) < 1e3 * channels.grad[0, 0].abs().median().item()


def test_the_variance_is_best_where_it_is_the_error_squared():
    batch, rate = example()
    residual = batch["x"] - batch["sources"] + 0.5  # wrong by 0.5 everywhere
    values = []
    for log_variance in (-3.0, 2 * np.log(0.5), 1.0):
        channels = channels_of(residual)
        channels[:, 1] = log_variance
        values.append(losses(channels, batch["x"], rate, batch)["variance"].item())
    assert values[1] < values[0] and values[1] < values[2]


# ---- checkpoints and configurations ----------------------------------------------------


def test_a_checkpoint_of_another_configuration_is_refused(trained):
    path = checkpoint_path(trained[0])
    with pytest.raises(ValueError, match="another configuration .batch, seed differ"):
        Training(replace(TINY, seed=6, batch=2)).load(path)
    with pytest.raises(ValueError, match="another configuration"):
        Training(replace(TINY, seed=6)).load(path, extend=True)


def test_a_label_may_change(trained):
    training = Training(
        replace(TINY, description="new", inference={"tile": 256, "overlap": 64, "box": 64})
    )
    training.load(checkpoint_path(trained[0]))
    assert training.step == TINY.steps


def test_a_training_can_be_extended_until_its_rate_falls(tmp_path):
    training = Training(TINY)
    longer = replace(TINY, steps=90, decay=30)
    for step, possible in [(40, True), (41, False)]:
        training.step = step
        training.save(tmp_path / "c.pt")
        with pytest.raises(ValueError, match="steps differ"):
            Training(longer).load(tmp_path / "c.pt")
        if possible:
            extended = Training(longer)
            extended.load(tmp_path / "c.pt", extend=True)
            assert extended.step == step
        else:
            with pytest.raises(ValueError, match="no longer be changed"):
                Training(longer).load(tmp_path / "c.pt", extend=True)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for content in (b"", b"nonsense", b"\x80\x02N."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a checkpoint"):
            Training(TINY).load(path)


def test_a_configuration_is_read(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TOML.format(steps=7))
    config = load_config(path)
    assert (config.steps, config.network.widths) == (7, (4, 4, 4, 4, 4))
    assert config.weights == TrainingConfig().weights
    assert config.digest == load_config(path).digest != TrainingConfig().digest


@pytest.mark.parametrize(
    "text, message",
    [
        ("stepps = 3", "unknown option stepps"),
        ("[network]\nwidth = 3", "unknown option network.width"),
        ("[weights]\ncolour = 1.0", "unknown option weights.colour"),
        ('steps = "many"', "steps must be of type int"),
        ("batch = 2.5", "batch must be of type int"),
        ("batch = 0", "batch must be above 0"),
        ("steps = 5\ndecay = 6", "decay must be between"),
        ("tile = 100", "tile must be a multiple of 32"),
        ("tile = 1024", "at most the parent"),
        ("[network]\nwidths = [4, 4]", "network.encoder needs"),
        ("steps = ", "Invalid value"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")


# ---- export --------------------------------------------------------------------------


def test_the_model_is_the_average_and_has_a_full_card(trained):
    folder, training = trained
    model = load_model(model_path(TINY, folder), threads=1)
    entries = model.card
    assert entries.name == "tiny" and entries.licence == "BSD-3-Clause"
    assert entries.channels == CHANNELS and entries.frame == FRAME_NAMES
    assert (entries.tile, entries.overlap, entries.multiple, entries.box) == (192, 64, 32, 64)
    assert entries.training_digest == TINY.digest
    assert export_error(training.average, model.path) < 1e-4
    assert export_error(training.network, model.path) > 1e-3


def test_card_is_strings():
    entries = card(TINY, 60)
    assert all(isinstance(value, str) for value in entries.values())
    assert entries["training_steps"] == "60"


@pytest.mark.parametrize("shape", [(32, 32), (64, 160)])
def test_the_model_gives_what_the_network_gives(trained, shape):
    folder, training = trained
    model = load_model(model_path(TINY, folder), threads=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 1, *shape)).astype(np.float32)
    x[:, :, 10, 10] = 3000
    frame = rng.normal(size=len(FRAME_NAMES)).astype(np.float32)
    found = model(x, 0.4, frame)
    with torch.no_grad():
        expected = training.average(
            torch.from_numpy(x), torch.tensor([0.4]), torch.from_numpy(frame)[None]
        )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-3)


def test_the_path_runs_with_the_model(trained):
    model = load_model(model_path(TINY, trained[0]), threads=1)
    data = np.random.default_rng(0).normal(100, 5, (150, 170)).astype(np.float32)
    parts = separate(data, model=model)
    assert np.isfinite(parts.sources).all() and parts.sources.shape == data.shape
    assert parts.uncertainty is not None and parts.significance is not None
    assert parts.provenance["model"] == "tiny"


def test_the_weights_start_another_training(trained):
    folder, training = trained
    path = model_path(TINY, folder).with_suffix(".safetensors")
    tuned = Training(replace(TINY, start=str(path)))
    assert torch.equal(weights_of(tuned), average_of(training))
    fresh = Training(TINY).network
    load_weights(fresh, path)
    assert torch.equal(fresh.head.weight, training.average.head.weight)


def test_an_export_that_differs_is_not_left_behind(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("bgrem.train.export_error", lambda network, path: 2e-4)
    with pytest.raises(ValueError, match="differs from the trained network by 2.0e-04"):
        export(trained[1], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_configuration_that_is_shipped_can_be_read():
    from pathlib import Path

    config = load_config(Path(__file__).parents[1] / "configs" / "optical.toml")
    assert config.name == "optical" and asdict(config)["steps"] > 1000


# ---- the command -----------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, capsys):
    """Run the command with a configuration of some steps; gives code, stdout, stderr."""
    path = tmp_path / "tiny.toml"
    folder = tmp_path / "run"

    def run(*arguments, steps=4):
        path.write_text(TOML.format(steps=steps))
        words = [path, "--output-dir", folder, "--device", "cpu", "--workers", 0, "--threads", 1]
        words += ["--validate-every", 0, *arguments]
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    run.folder = folder
    return run


def test_command_trains_resumes_and_exports(command):
    code, out, err = command("--stop-after", "0", "--report-every", "1")
    assert code == 0 and out == f"{command.folder / 'tiny.onnx'}\n"
    assert "step 1 of 4" in err and "minutes left" in err
    code, out, err = command()
    assert code == 0 and "resumed at step 1 of 4" in err
    assert torch.load(checkpoint_path(command.folder))["step"] == 4
    (command.folder / "tiny.onnx").unlink()
    code, out, err = command("--export-only")
    assert (code, err) == (0, "") and (command.folder / "tiny.onnx").exists()


def test_command_extends_when_told(command):
    command("--stop-after", "0", "--quiet")
    code, out, err = command("--quiet", steps=5)
    assert (code, out) == (1, "") and err.count("\n") == 1 and "steps differ" in err
    code, _, err = command("--quiet", "--extend", steps=5)
    assert (code, err) == (0, "")


def test_command_refuses_in_one_sentence(command, tmp_path, capsys):
    code, out, err = command("--export-only")
    assert (code, out) == (1, "") and err.startswith("bgrem-train: ") and err.count("\n") == 1
    code = main([str(tmp_path / "none.toml"), "--output-dir", str(tmp_path / "x")])
    assert code == 1 and "No such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["config.toml"])
    assert ended.value.code == 2 and "--output-dir" in capsys.readouterr().err


def test_command_saves_when_interrupted(command, monkeypatch):
    import signal

    advance, before = Training.advance, signal.getsignal(signal.SIGINT)

    def interrupted(self, window):
        signal.raise_signal(signal.SIGINT)
        return advance(self, window)

    monkeypatch.setattr(Training, "advance", interrupted)
    code, out, err = command("--quiet")
    assert (code, out) == (130, "") and "saved at step 1 of 4" in err
    assert torch.load(checkpoint_path(command.folder))["step"] == 1
    assert signal.getsignal(signal.SIGINT) is before
