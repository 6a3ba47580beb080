"""The choice of the engine that runs a network, and of its device.

The rule, for the user's ``engine`` and ``device``:

- Engine "auto" is onnxruntime. With device "cuda" it is torch if onnxruntime has no CUDA device
  and torch has one. OpenVINO is never chosen automatically, although it is the fastest on a CPU
  with bfloat16: a result must not depend on which packages are installed.
- Device "auto" is a CUDA device if the engine has one, and otherwise the CPU. The usual
  onnxruntime has none (onnxruntime-gpu has), so a GPU is not used by accident.
- If the requested engine or device is not available, there is one warning, and onnxruntime runs
  on the CPU instead.

All engines read the same ONNX file. Torch reads the weights from the ``.safetensors`` file of the
same stem beside it.
"""

import warnings

from bgrem.inference.engine import (
    Engine,
    EngineUnavailable,
    EngineWarning,
    ModelError,
    ModelFile,
    cores,
)
from bgrem.inference.onnxruntime_engine import OnnxRuntime
from bgrem.inference.openvino_engine import OpenVino
from bgrem.inference.torch_engine import Torch

__all__ = [
    "DEVICES", "ENGINES", "Engine", "EngineWarning", "ModelError", "ModelFile", "cores",
    "start_engine",
]  # fmt: skip

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (OnnxRuntime, OpenVino, Torch)
}
DEVICES = ("cpu", "cuda")


def start_engine(
    file: ModelFile, *, engine: str = "auto", device: str = "auto", threads: int | None = None
) -> Engine:
    """Make a model's file ready to run.

    Parameters
    ----------
    engine : str
        One of `ENGINES`, or "auto"; see `bgrem.inference.engines` for the rule.
    device : str
        One of `DEVICES`, or "auto".
    threads : int, optional
        Number of threads on the CPU. Default: the number of cores.

    Raises
    ------
    ValueError
        If there is no such engine or device.
    ModelError
        If the file is not a model that can be run.

    Warns
    -----
    EngineWarning
        If the request is not available; onnxruntime runs on the CPU then.
    """
    _check_choice("engine", engine, ENGINES)
    _check_choice("device", device, DEVICES)
    names = [engine] if engine != "auto" else ["onnxruntime"]
    if (engine, device) == ("auto", "cuda"):
        names.append("torch")
    reasons = []
    for name in names:
        try:
            return ENGINES[name](file, device=device, threads=threads)
        except EngineUnavailable as error:
            reasons.append(str(error))
    warnings.warn(
        f"{', '.join(reasons)}: onnxruntime runs on the CPU instead", EngineWarning, stacklevel=2
    )
    return OnnxRuntime(file, device="cpu", threads=threads)


def _check_choice(option: str, value: str, known) -> None:
    if value not in ("auto", *known):
        raise ValueError(f"{option} must be one of auto, {', '.join(known)}, not {value!r}")
