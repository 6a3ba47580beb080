"""PyTorch on a CPU or a CUDA device."""

import json
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np

from bgrem.inference.engine import (
    INPUT_NAMES,
    Channels,
    Engine,
    EngineUnavailable,
    ModelFile,
    choose_channels,
    first_line,
    import_library,
)
from bgrem.inference.onnxruntime_engine import OnnxRuntime, differs_from_onnxruntime

__all__ = ["Torch"]


class Torch(Engine):
    """PyTorch, in float32 on the CPU or a CUDA device."""

    name = "torch"
    libraries = 180e6

    def __init__(
        self, file: ModelFile, *, device: str = "auto", threads: int | None = None
    ) -> None:
        self._torch = torch = import_library("torch")
        if device != "cpu" and torch.cuda.is_available():
            self.device = "cuda"
        elif device == "cuda":
            raise EngineUnavailable("torch has no CUDA device")
        reference = OnnxRuntime(file, device="cpu", threads=1)
        self.metadata, self.sizes = reference.metadata, reference.sizes
        self._threads = threads
        self._lock = Lock()  # torch has one number of threads for the whole process
        self._network = _network(file.path, self.metadata, self.device)
        if differs_from_onnxruntime(self, reference):
            weights = _weights(file.path).name
            raise EngineUnavailable(f"the weights in {weights} are not those of {file.path.name}")

    def __call__(
        self, inputs: Mapping[str, np.ndarray], calls: int = 1, channels: Channels = None
    ) -> np.ndarray:
        torch = self._torch
        # cuDNN uses TF32 by default, which has 10 bits.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with self._lock, _threads(torch, self._threads), torch.inference_mode(), exact:
            tensors = [torch.tensor(inputs[name], device=self.device) for name in INPUT_NAMES]
            whole = torch.cat(self._network(*tensors), dim=1).cpu().numpy()
        return choose_channels(whole, channels)


def _weights(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def _network(path: Path, metadata: Mapping[str, str], device: str):
    """The network of an ONNX file, built from its metadata and the weights beside it."""
    load_file = import_library("safetensors.torch", extra="torch").load_file
    from bgrem.network.significance import WithSignificance
    from bgrem.network.significance_constants import SignificanceConstants
    from bgrem.network.unet import AttentionUNet, NetworkConfig

    if "network" not in metadata:
        raise EngineUnavailable(f"{path.name} does not describe its network for torch")
    if not _weights(path).is_file():
        raise EngineUnavailable(f"torch needs {_weights(path).name} beside {path.name}")
    try:
        network = AttentionUNet(NetworkConfig(**json.loads(metadata["network"])))
        network.load_state_dict(load_file(_weights(path)))
        constants = SignificanceConstants.from_json(metadata.get("significance", "{}"))
        return WithSignificance(network, constants).eval().requires_grad_(False).to(device)
    except Exception as error:  # noqa: BLE001 - those of safetensors and torch share no base
        reason = first_line(error)
        raise EngineUnavailable(f"torch cannot use {_weights(path).name} ({reason})") from None


@contextmanager
def _threads(torch, number: int | None):
    """Set torch's number of threads, and restore the caller's at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
