"""Fixtures shared by the tests."""

import os

import onnx
import pytest
from skies import write_frame
from toy_models import toy_card, toy_onnx

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def toy_model_path(tmp_path_factory) -> str:
    """An ONNX model that works everywhere a real one does, and is quick."""
    path = tmp_path_factory.mktemp("models") / "toy.onnx"
    onnx.save(toy_onnx(toy_card()), path)
    return str(path)


@pytest.fixture(scope="session")
def toy_model(toy_model_path):
    """The loaded toy model, on one thread."""
    from bgrem.inference.model import load_model

    return load_model(toy_model_path, threads=1)


@pytest.fixture(scope="session")
def one_thread():
    """PyTorch on one thread: sums of many are not the same bit by bit."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_config():
    """A training of seconds, whose losses fall."""
    pytest.importorskip("torch")
    from bgrem.network.unet import NetworkConfig
    from bgrem.train.config import TrainingConfig

    return TrainingConfig(
        name="tiny", description="for tests", seed=6, steps=60, warmup=5, decay=20, batch=4,
        tile=64, parent=128, box=64, window=4, reuse=20.0, learning_rate=3e-3, ema=0.9,
        network=NetworkConfig(
            widths=(8, 8, 8, 12, 16), encoder=(0, 1, 1, 1, 1), decoder=(1, 1, 1, 1), embedding=16
        ),
        inference={"tile": 192, "overlap": 64, "box": 64},
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(one_thread, tiny_config, tmp_path_factory):
    """The folder of a finished tiny training, and the training."""
    from bgrem.train.loop import train

    folder = tmp_path_factory.mktemp("trained")
    return folder, train(tiny_config, folder, workers=0, report=10, save=25, validation=0)


@pytest.fixture
def night(tmp_path):
    """A folder of four frames."""
    folder = tmp_path / "night"
    folder.mkdir()
    for i in range(4):
        write_frame(folder / f"f{i}.fits", i)
    return folder
