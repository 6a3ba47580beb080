"""What runs a network: the engine, on which device, and how both are chosen.

The rule, for what the user asks of ``engine`` and ``device``:

- Engine "auto" is onnxruntime. Only where "cuda" is asked for, and onnxruntime has no CUDA device,
  is it torch, if that has one. OpenVINO is never chosen by itself, though it is the fastest on a
  processor that has bfloat16: a result must not depend on what else is installed.
- Device "auto" is a CUDA device where the engine has one, and else the processor. The usual
  onnxruntime has none (onnxruntime-gpu has), so that nobody comes to a GPU by accident.
- What is asked for by name and is not there is told in one warning, and onnxruntime runs on the
  processor: the work is done all the same.

The file that an engine is given is the same ONNX file for all; torch takes the weights from the
``.safetensors`` of the same stem beside it.
"""

import json
import os
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from bgrem.inference.openvino_graph import filter_in_phases, restricted

__all__ = [
    "DEVICES",
    "ENGINES",
    "Engine",
    "EngineWarning",
    "ModelError",
    "ModelFile",
    "cores",
    "start_engine",
]

CUDA = "CUDAExecutionProvider"
# From onnxruntime on an image of noise of unit deviation: rounding makes a tenth of it.
LARGEST_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.5}
AT_ONCE = 2  # more take more memory: 0.25 GB each with the tiles of the optical model


Channels = tuple[int, ...] | None


class ModelError(ValueError):
    """A file is no model that this version can use."""


class EngineWarning(UserWarning):
    """An engine or a device that was asked for is not here; another one does the work."""


class Unavailable(Exception):
    """Why an engine cannot run a model here, in a few words."""


class ModelFile(NamedTuple):
    """An ONNX file: where it lies, and its bytes."""

    path: Path
    content: bytes


class Engine:
    """A network that is ready to run.

    Attributes
    ----------
    name : str
        One of `ENGINES`.
    device : str
        "cpu" or "cuda".
    precision : str
        "float32" or "bfloat16", of the convolutions.
    libraries : float
        Bytes of memory that its libraries take beyond those of onnxruntime.
    at_once : int
        Calls that are best made at once, each with its part of the threads: on a processor two
        are faster than one with all of them, whose slowest thread the others wait for.
    metadata : dict of str to str
        That of the ONNX file.
    """

    name = ""
    device = "cpu"
    precision = "float32"
    libraries = 0.0
    at_once = 1
    metadata: dict[str, str]

    def __str__(self) -> str:
        return f"{self.name} {self.device} {self.precision}"

    def prepare(self, shape: tuple[int, ...], calls: int, channels: Channels) -> None:
        """Do before the first call what need not wait for it; no more than a gain of time.

        Parameters
        ----------
        shape : tuple of int
            Of the images "x".
        calls, channels
            As for a call.
        """

    def __call__(
        self, inputs: Mapping[str, np.ndarray], calls: int = 1, channels: Channels = None
    ) -> np.ndarray:
        """Run the network.

        Parameters
        ----------
        inputs : mapping of str to `~numpy.ndarray`
            float32: "x" of shape (n, 1, h, w), "rate" (1,) and "frame" (1, k).
        calls : int
            How many are made at once, by as many threads, this one included.
        channels : tuple of int, optional
            Those that are wanted, in that order; default: all.

        Returns
        -------
        `~numpy.ndarray`
            The channels, a new array, float32 of shape (n, c, h, w).
        """
        raise NotImplementedError


class OnnxRuntime(Engine):
    """ONNX Runtime, in float32; the other engines are measured against it.

    Raises
    ------
    ModelError
        If the file is none that it can run.
    """

    name = "onnxruntime"

    def __init__(
        self, file: ModelFile, *, device: str = "auto", threads: int | None = None
    ) -> None:
        import onnxruntime  # takes a tenth of a second, which `import bgrem` must not

        session = None
        if device != "cpu" and CUDA in onnxruntime.get_available_providers():
            # Its GPU build is often installed where there is no GPU, or no driver.
            with suppress(Exception):
                session = _session(file, threads or cores(), [(CUDA, {"use_tf32": "0"})])
        if session is not None and CUDA in session.get_providers():
            self.device = "cuda"
        elif device == "cuda":
            raise Unavailable("onnxruntime has no CUDA device")
        self._file = file
        self._threads = threads or cores()  # left to itself it counts those that others have
        self._lock = Lock()
        # By the threads that each has; with a GPU there is one.
        self._sessions = {self._threads: session or _session(file, self._threads, [])}
        if self.device == "cpu":
            self.at_once = min(AT_ONCE, self._threads)
        self.metadata = self._session().get_modelmeta().custom_metadata_map

    @property
    def entries(self) -> int:
        """Length of the frame vector."""
        return next(node.shape[1] for node in self._session().get_inputs() if node.name == "frame")

    def prepare(self, shape: tuple[int, ...], calls: int, channels: Channels) -> None:
        self._session(calls)

    def __call__(
        self, inputs: Mapping[str, np.ndarray], calls: int = 1, channels: Channels = None
    ) -> np.ndarray:
        session, feed = self._session(calls), dict(inputs)
        outputs = session.get_outputs()
        if channels is not None and all(i < _size(outputs[0]) for i in channels):
            outputs = outputs[:1]
            feed |= {node.name: np.array(False) for node in session.get_overridable_initializers()}
        found = session.run([output.name for output in outputs], feed)
        return _chosen(found[0] if len(found) == 1 else np.concatenate(found, axis=1), channels)

    def _session(self, calls: int = 1):
        """The session that has its part of the threads."""
        threads = self._threads if self.device == "cuda" else -(-self._threads // calls)
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = _session(self._file, threads, [])
            return self._sessions[threads]


class OpenVino(Engine):
    """OpenVINO on the processor, in bfloat16 where that has it and else in float32.

    On a simulated frame of 1.3 Mpix (``benchmarks/path/engines.py``) bfloat16 moves the sources by
    0.0012 of the local noise sqrt(1 + x / 30) in the root mean square and by 0.059 at most, the
    uncertainty by 1 % and the significance by 0.022.
    """

    name = "openvino"
    libraries = 80e6

    def __init__(
        self,
        file: ModelFile,
        *,
        device: str = "auto",
        threads: int | None = None,
        precision: str | None = None,
    ) -> None:
        if device == "cuda":
            raise Unavailable("openvino runs on no CUDA device")
        self._library = _library("openvino")
        try:
            self._core = self._library.Core()
            able = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except Exception as error:  # noqa: BLE001 - its exceptions share no base
            raise Unavailable(f"openvino cannot be started ({_first_line(error)})") from None
        self._file = file
        reference = OnnxRuntime(file, device="cpu", threads=1)
        self.metadata, self._entries = reference.metadata, reference.entries
        self.precision = precision or ("bfloat16" if able else "float32")
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[self.precision],
            # Pinned, the threads of several processes would all be on the same few cores.
            "ENABLE_CPU_PINNING": False,
        }
        threads = threads or cores()
        self._settings["INFERENCE_NUM_THREADS"] = threads
        self.at_once = min(AT_ONCE, threads)
        self._lock = Lock()
        self._ready: tuple = ()  # for which images, and how many at once
        if not _difference(self, reference) < LARGEST_DIFFERENCE[self.precision]:
            raise Unavailable(f"openvino does not run {file.path.name} as it should")

    def prepare(self, shape: tuple[int, ...], calls: int, channels: Channels) -> None:
        self._requests_for(shape, calls, channels)

    def __call__(
        self, inputs: Mapping[str, np.ndarray], calls: int = 1, channels: Channels = None
    ) -> np.ndarray:
        requests = self._requests_for(inputs["x"].shape, calls, channels)
        request = requests.get()
        try:
            return request.infer(dict(inputs))[0]
        finally:
            requests.put(request)

    def _requests_for(self, *wanted) -> SimpleQueue:
        """Requests that are free; each serves one thread at a time."""
        with self._lock:
            if self._ready != wanted:
                self._requests, self._ready = SimpleQueue(), ()  # the next take the memory of these
                network = self._compiled(*wanted)
                for _ in range(wanted[1]):
                    self._requests.put(network.create_infer_request())
                self._ready = wanted
            return self._requests

    def _compiled(self, shape: tuple[int, ...], calls: int, channels: Channels):
        """The network for one shape of images: all tiles of one have the same.

        For images of any shape, OpenVINO 2026.4 gives wrong numbers on some (3 rms on 192 x 192).
        """
        network = self._core.read_model(self._file.content)
        network.reshape({"x": shape, "rate": (1,), "frame": (1, self._entries)})
        filter_in_phases(network, self._library)
        network = restricted(network, channels, self._library)
        return self._core.compile_model(network, "CPU", {**self._settings, "NUM_STREAMS": calls})


class Torch(Engine):
    """PyTorch, in float32 on the processor or a CUDA device."""

    name = "torch"
    libraries = 180e6

    def __init__(
        self, file: ModelFile, *, device: str = "auto", threads: int | None = None
    ) -> None:
        self._torch = torch = _library("torch")
        if device != "cpu" and torch.cuda.is_available():
            self.device = "cuda"
        elif device == "cuda":
            raise Unavailable("torch has no CUDA device")
        reference = OnnxRuntime(file, device="cpu", threads=1)
        self.metadata = reference.metadata
        self._threads = threads
        self._lock = Lock()  # the number of threads is one for the whole process
        self._network = _network(file.path, self.metadata, self.device)
        if not _difference(self, reference) < LARGEST_DIFFERENCE[self.precision]:
            weights = _weights(file.path).name
            raise Unavailable(f"the weights in {weights} are not those of {file.path.name}")

    def __call__(
        self, inputs: Mapping[str, np.ndarray], calls: int = 1, channels: Channels = None
    ) -> np.ndarray:
        torch = self._torch
        # TF32, which cuDNN takes by default, has 10 bits.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with self._lock, _threads(torch, self._threads), torch.inference_mode(), exact:
            tensors = [torch.tensor(inputs[name], device=self.device) for name in _INPUTS]
            return _chosen(torch.cat(self._network(*tensors), dim=1).cpu().numpy(), channels)


_INPUTS = ("x", "rate", "frame")
ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (OnnxRuntime, OpenVino, Torch)
}
DEVICES = ("cpu", "cuda")


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_engine(
    file: ModelFile, *, engine: str = "auto", device: str = "auto", threads: int | None = None
) -> Engine:
    """Make a model's file ready to run.

    Parameters
    ----------
    file : ModelFile
    engine : str
        One of `ENGINES`, or "auto"; the rule is that of `bgrem.inference.engines`.
    device : str
        One of `DEVICES`, or "auto".
    threads : int, optional
        Number of threads on the processor. Default: as many as there are cores.

    Returns
    -------
    Engine

    Raises
    ------
    ValueError
        If there is no such engine or device.
    ModelError
        If the file is no model that can be run.

    Warns
    -----
    EngineWarning
        If what was asked for is not here; onnxruntime runs on the processor then.
    """
    _check("engine", engine, ENGINES)
    _check("device", device, DEVICES)
    named = [engine] if engine != "auto" else ["onnxruntime"]
    if (engine, device) == ("auto", "cuda"):
        named.append("torch")
    reasons = []
    for name in named:
        try:
            return ENGINES[name](file, device=device, threads=threads)
        except Unavailable as error:
            reasons.append(str(error))
    warnings.warn(
        f"{', '.join(reasons)}: onnxruntime runs on the CPU instead", EngineWarning, stacklevel=2
    )
    return OnnxRuntime(file, device="cpu", threads=threads)


def _size(output) -> float:
    """Number of channels of an output; one that does not tell has all."""
    return output.shape[1] if isinstance(output.shape[1], int) else np.inf


def _chosen(found: np.ndarray, channels: Channels) -> np.ndarray:
    return found if channels is None else found[:, list(channels)]


def _check(option: str, value: str, known) -> None:
    if value not in ("auto", *known):
        raise ValueError(f"{option} must be one of auto, {', '.join(known)}, not {value!r}")


def _library(name: str, extra: str | None = None) -> Any:
    """A module that an extra of the package brings."""
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        top = name.split(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            advice = f"pip install 'bgrem[{extra or top}]'"
            raise Unavailable(f"{top} is not installed ({advice})") from None
        raise Unavailable(f"{top} cannot be imported ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _difference(engine: Engine, reference: OnnxRuntime) -> float:
    """By how much an engine differs from onnxruntime, on a small image of noise.

    A runtime may be wrong, and the weights that torch takes come from another file.

    Raises
    ------
    Unavailable
        If it cannot run the model at all.
    """
    try:
        side = 2 * int(reference.metadata["multiple"])
        x = np.random.default_rng(0).standard_normal((1, 1, side, side)).astype(np.float32)
        frame = np.zeros((1, reference.entries), np.float32)
        inputs = {"x": x, "rate": np.ones(1, np.float32), "frame": frame}
        return float(np.abs(engine(inputs) - reference(inputs)).max())
    except Exception as error:  # noqa: BLE001 - the exceptions of the runtimes share no base
        raise Unavailable(f"{engine.name} cannot run the model ({_first_line(error)})") from None


# --- onnxruntime


def _session(file: ModelFile, threads: int, providers: list):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    # Planned ahead, the memory of all layers is one block, in which little is used twice.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    # Between two tiles the threads of the network leave the processor to the rest of the path.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(
            file.content,
            options,
            providers=[*providers, "CPUExecutionProvider"],
            enable_fallback=False,  # which would be told on stdout
        )
    except Exception as error:  # noqa: BLE001 - the exceptions of the runtime share no base
        raise ModelError(f"it is not a valid ONNX file ({_first_line(error)})") from None
    inputs = {node.name for node in session.get_inputs()}
    if inputs != set(_INPUTS) or session.get_outputs()[0].name != "channels":
        raise ModelError("its inputs and outputs are not those of a bgrem model")
    return session


# --- torch


def _weights(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def _network(path: Path, metadata: Mapping[str, str], device: str):
    """The network of an ONNX file, built again from its metadata and the weights beside it."""
    load_file = _library("safetensors.torch", extra="torch").load_file
    from bgrem.network.significance import WithSignificance
    from bgrem.network.unet import AttentionUNet, NetworkConfig

    if "network" not in metadata:
        raise Unavailable(f"{path.name} does not say of which network for torch it was made")
    if not _weights(path).is_file():
        raise Unavailable(f"torch needs {_weights(path).name} beside {path.name}")
    try:
        network = AttentionUNet(NetworkConfig(**json.loads(metadata["network"])))
        network.load_state_dict(load_file(_weights(path)))
        return WithSignificance(network).eval().requires_grad_(False).to(device)
    except Exception as error:  # noqa: BLE001 - those of safetensors and torch share no base
        raise Unavailable(
            f"torch cannot take {_weights(path).name} ({_first_line(error)})"
        ) from None


@contextmanager
def _threads(torch, number: int | None):
    """Torch with so many threads: it has one number for the process, which is the caller's."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
