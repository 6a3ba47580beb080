"""Training: schedule, exact resume, checkpoints."""

import json
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("galsim")

from bgrem.network.unet import AttentionUNet, NetworkConfig
from bgrem.train.export import model_path
from bgrem.train.loop import Training, checkpoint_path, train
from bgrem.train.losses import losses
from bgrem.train.schedule import learning_rate_factor, load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def weights_of(training):
    return torch.cat([p.detach().ravel() for p in training.network.parameters()])


def average_of(training):
    return torch.cat([p.detach().ravel() for p in training.average.parameters()])


# ---- training ------------------------------------------------------------------------


def losses_of(training):
    """Losses of the averaged network on the same tiles for all, by name."""
    window = Training(training.config).window(workers=0)
    window.advance(0)
    batch = window.sample(np.random.default_rng(0), count=16, tile=64)
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    rate = torch.ones(16)
    with torch.no_grad():
        channels = training.average(tensors["x"], rate, tensors["frame"])
    return {k: v.item() for k, v in losses(channels, tensors["x"], rate, tensors).items()}


def test_the_losses_fall(tiny_config, trained):
    before, after = losses_of(Training(tiny_config)), losses_of(trained[1])
    assert after["sources"] < 0.95 * before["sources"]
    # What the training minimises.
    weights = {"sources": 1.0, **tiny_config.weights}
    assert sum(w * after[k] for k, w in weights.items()) < sum(
        w * before[k] for k, w in weights.items()
    )


def test_the_log_has_lines_of_losses(tiny_config, trained):
    folder, training = trained
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 61, 10))
    assert lines[-1]["minutes_left"] == 0 and lines[0]["tiles_per_second"] > 0
    assert {"sources", "variance", "artefact", "centre", "gradient"} <= lines[0].keys()
    assert training.step == tiny_config.steps


def test_a_resumed_training_equals_an_uninterrupted_one(tiny_config, trained, tmp_path):
    calls = []

    def stop():
        calls.append(None)
        return len(calls) == 17

    stopped = train(tiny_config, tmp_path, workers=0, validation=0, stop=stop)
    assert stopped.step == 17 and not model_path(tiny_config, tmp_path).exists()
    resumed = train(tiny_config, tmp_path, workers=0, validation=20, scenes=1)
    assert resumed.step == tiny_config.steps
    assert torch.equal(weights_of(resumed), weights_of(trained[1]))
    assert torch.equal(average_of(resumed), average_of(trained[1]))


def test_no_process_is_left_behind(tiny_config, tmp_path):
    short = replace(tiny_config, steps=2, decay=0, parent=64)
    assert train(short, tmp_path, workers=1, validation=0, stop=lambda: True).step == 1
    assert multiprocessing.active_children() == []


def test_the_seed_decides(tiny_config, trained):
    short = replace(tiny_config, steps=12, decay=0)
    one, two, other = (Training(c) for c in (short, short, replace(short, seed=7)))
    for training in (one, two, other):
        window = training.window(workers=0)
        for _ in range(2):
            training.advance(window)
    assert torch.equal(weights_of(one), weights_of(two))
    assert not torch.equal(weights_of(one), weights_of(other))


def test_the_average_follows_the_weights(tiny_config):
    training = Training(tiny_config)
    window = training.window(workers=0)
    expected = average_of(training)
    for step in range(3):
        training.advance(window)
        decay = min(tiny_config.ema, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights_of(training)
    torch.testing.assert_close(average_of(training), expected)


def test_a_step_without_a_finite_gradient_changes_nothing(tiny_config, monkeypatch):
    training = Training(tiny_config)
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


def test_learning_rate_rises_stays_and_falls(tiny_config):
    config = replace(tiny_config, steps=100, warmup=10, decay=20)
    factors = np.array([learning_rate_factor(step, config) for step in range(101)])
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    assert np.all(factors[10:81] == 1)
    assert np.all(np.diff(factors[81:]) < 0)
    assert factors[90] == pytest.approx(0.505) and factors[100] == pytest.approx(0.01)


# ---- checkpoints ---------------------------------------------------------------------


def test_a_checkpoint_of_another_configuration_is_refused(tiny_config, trained):
    path = checkpoint_path(trained[0])
    with pytest.raises(ValueError, match="another configuration .batch, seed differ"):
        Training(replace(tiny_config, seed=7, batch=2)).load(path)
    with pytest.raises(ValueError, match="another configuration"):
        Training(replace(tiny_config, seed=7)).load(path, extend=True)


def test_a_label_may_change(tiny_config, trained):
    training = Training(
        replace(tiny_config, description="new", inference={"tile": 256, "overlap": 64, "box": 64})
    )
    training.load(checkpoint_path(trained[0]))
    assert training.step == tiny_config.steps


def test_a_training_can_be_extended_early(tiny_config, tmp_path):
    training = Training(tiny_config)
    longer = replace(tiny_config, steps=90, decay=30)
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


def test_what_is_no_checkpoint_is_refused(tiny_config, tmp_path):
    path = tmp_path / "checkpoint.pt"
    for content in (b"", b"nonsense", b"\x80\x02N."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a checkpoint"):
            Training(tiny_config).load(path)


def test_the_weights_start_another_training(tiny_config, trained):
    folder, training = trained
    path = model_path(tiny_config, folder).with_suffix(".safetensors")
    tuned = Training(replace(tiny_config, start=str(path)))
    assert torch.equal(weights_of(tuned), average_of(training))
    fresh = Training(tiny_config).network
    load_weights(fresh, path)
    assert torch.equal(fresh.head.weight, training.average.head.weight)


def test_levels_that_the_network_lacks_are_left_out(tmp_path):
    from safetensors.torch import save_file

    deep, shallow = (
        AttentionUNet(
            NetworkConfig(
                widths=(4,) * (n + 1), encoder=(0,) + (1,) * n, decoder=(1,) * n, embedding=4
            )
        )
        for n in (3, 2)
    )
    weights = {name: values.clone() for name, values in deep.state_dict().items()}
    save_file(weights, tmp_path / "deep.safetensors")
    load_weights(shallow, tmp_path / "deep.safetensors")
    assert weights.keys() > shallow.state_dict().keys()
    for name, values in shallow.state_dict().items():
        assert torch.equal(values, weights[name])


def test_several_files_give_the_mean_of_their_weights(tmp_path):
    from safetensors.torch import save_file

    network = AttentionUNet(NetworkConfig(widths=(4, 4), encoder=(0, 1), decoder=(1,), embedding=4))
    own = {name: values.clone() for name, values in network.state_dict().items()}
    lacking = {name: values + 2.0 for name, values in own.items() if "trust" not in name}
    save_file({name: values + 1.0 for name, values in own.items()}, tmp_path / "a.safetensors")
    save_file(lacking, tmp_path / "b.safetensors")
    load_weights(network, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    for name, values in network.state_dict().items():
        expected = own[name] + (0.5 if "trust" in name else 1.5)
        assert torch.allclose(values, expected, atol=1e-6)
    save_file({"strange": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="weights of another network: strange"):
        load_weights(network, tmp_path / "c.safetensors")
