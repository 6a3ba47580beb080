"""ONNX Runtime, the default engine and the reference of the others."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock

import numpy as np

from bgrem.inference.engine import (
    INPUT_NAMES,
    Channels,
    Engine,
    EngineUnavailable,
    ModelError,
    ModelFile,
    choose_channels,
    cores,
    first_line,
    is_out_of_memory,
)

__all__ = ["CPU_CALLS", "CUDA_PROVIDER", "OnnxRuntime", "differs_from_onnxruntime", "open_session"]

CUDA_PROVIDER = "CUDAExecutionProvider"
# Simultaneous calls on a CPU. More take more memory, 0.25 GB each with the tiles of the optical model.
CPU_CALLS = 2
LONGEST_REASON = 150  # characters
# Limits of safety of the difference between an engine and onnxruntime, on noise of unit deviation.
# Rounding makes a tenth of them.
LARGEST_ENGINE_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.5}


class OnnxRuntime(Engine):
    """ONNX Runtime, in float32.

    Raises
    ------
    ModelError
        If it cannot run the file.
    """

    name = "onnxruntime"

    def __init__(
        self, file: ModelFile, *, device: str = "auto", threads: int | None = None
    ) -> None:
        import onnxruntime  # takes a tenth of a second, which `import bgrem` must not

        session = None
        if device != "cpu" and CUDA_PROVIDER in onnxruntime.get_available_providers():
            # The GPU build is often installed on machines without a GPU or a driver.
            with suppress(Exception):
                providers = [(CUDA_PROVIDER, {"use_tf32": "0"})]
                session = _open_session(file, threads or cores(), providers)
        if session is not None and CUDA_PROVIDER in session.get_providers():
            self.device = "cuda"
        elif device == "cuda":
            raise EngineUnavailable("onnxruntime has no CUDA device")
        self._file = file
        self._threads = threads or cores()  # its own default ignores the process's CPU affinity
        self._lock = Lock()
        # A session for each number of threads; on a GPU there is one session.
        self._sessions = {self._threads: session or _open_session(file, self._threads, [])}
        if self.device == "cpu":
            self.at_once = min(CPU_CALLS, self._threads)
        self.metadata = self._session().get_modelmeta().custom_metadata_map
        counts = [_channel_count(output) for output in self._session().get_outputs()]
        channels = int(sum(counts)) if np.isfinite(counts).all() else None
        self.sizes = channels, self._entries()

    def _entries(self) -> int | None:
        """Length of the frame vector."""
        shapes = [node.shape for node in self._session().get_inputs() if node.name == "frame"]
        return shapes[0][1] if len(shapes[0]) == 2 and isinstance(shapes[0][1], int) else None

    def prepare(self, shape: tuple[int, ...], calls: int, channels: Channels) -> None:
        self._session(calls)

    def __call__(
        self, inputs: Mapping[str, np.ndarray], calls: int = 1, channels: Channels = None
    ) -> np.ndarray:
        session, feed = self._session(calls), dict(inputs)
        outputs = session.get_outputs()
        if channels is not None and all(i < _channel_count(outputs[0]) for i in channels):
            outputs = outputs[:1]
            feed |= {node.name: np.array(False) for node in session.get_overridable_initializers()}
        found = session.run([output.name for output in outputs], feed)
        whole = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        return choose_channels(whole, channels)

    def _session(self, calls: int = 1):
        """The session that has the share of the threads of one of several calls."""
        threads = self._threads if self.device == "cuda" else -(-self._threads // calls)
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = _open_session(self._file, threads, [])
            return self._sessions[threads]


def differs_from_onnxruntime(engine: Engine, reference: OnnxRuntime) -> bool:
    """Whether an engine gives other numbers than onnxruntime, on a small image of noise.

    A runtime may be wrong, and the weights of torch come from another file.

    Raises EngineUnavailable if the engine cannot run the model at all.
    """
    try:
        side = 2 * int(reference.metadata["multiple"])
        x = np.random.default_rng(0).standard_normal((1, 1, side, side)).astype(np.float32)
        frame = np.zeros((1, reference.sizes[1]), np.float32)
        inputs = {"x": x, "rate": np.ones(1, np.float32), "frame": frame}
        difference = float(np.abs(engine(inputs) - reference(inputs)).max())
    except Exception as error:  # noqa: BLE001 - the exceptions of the runtimes share no base
        raise EngineUnavailable(
            f"{engine.name} cannot run the model ({first_line(error)})"
        ) from None
    return not difference < LARGEST_ENGINE_DIFFERENCE[engine.precision]  # nan differs, too


def _channel_count(output) -> float:
    """Number of channels of an output; infinite if the file does not give it."""
    known = len(output.shape) == 4 and isinstance(output.shape[1], int)
    return output.shape[1] if known else np.inf


def _shortened(error: Exception) -> str:
    """The first line of an error, which may quote megabytes of the file."""
    text = "".join(c if c.isprintable() else "?" for c in first_line(error))
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _open_session(file: ModelFile, threads: int, providers: list):
    """The session of a model of frames of cameras."""
    session = open_session(file.content, threads, providers)
    inputs = {node.name for node in session.get_inputs()}
    if inputs != set(INPUT_NAMES) or session.get_outputs()[0].name != "channels":
        raise ModelError("its inputs and outputs are not those of a bgrem model")
    return session


def open_session(content: bytes, threads: int, providers: Sequence = ()):
    """A session of ONNX Runtime.

    Parameters
    ----------
    content : bytes
        Of an ONNX file.
    threads : int
    providers : sequence
        Those that are tried before the CPU.

    Raises
    ------
    ModelError
        If it cannot run the file.
    MemoryError
        If memory is exhausted.
    """
    import onnxruntime  # takes a tenth of a second, which `import bgrem` must not

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    # A planned memory pattern is one block for all layers, of which little is used twice.
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # an error is an exception, too
    # Between two tiles the threads of the network leave the CPU to the rest of the path.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(
            content,
            options,
            providers=[*providers, "CPUExecutionProvider"],
            enable_fallback=False,  # a fallback prints to stdout
        )
    except Exception as error:  # noqa: BLE001 - the exceptions of the runtime share no base
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from None
        raise ModelError(f"it is not a valid ONNX file ({_shortened(error)})") from None
