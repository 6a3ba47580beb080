"""Configurations: read from TOML, checked, and told apart by their digest."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from bgrem.train.config import TrainingConfig, load_config

TINY = """
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


def test_a_configuration_is_read(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(steps=7))
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
        ("tile = 100", "tile must be a multiple of 16"),
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


def test_the_configuration_that_is_shipped_can_be_read():
    config = load_config(Path(__file__).parents[2] / "configs" / "optical.toml")
    assert config.name == "optical" and (config.steps > 1000 or "," in config.start)
