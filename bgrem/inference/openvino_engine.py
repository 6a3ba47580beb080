"""OpenVINO on the CPU."""

from collections.abc import Mapping
from queue import SimpleQueue
from threading import Lock

import numpy as np

from bgrem.inference.engine import (
    Channels,
    Engine,
    EngineUnavailable,
    ModelFile,
    choose_channels,
    cores,
    first_line,
    import_library,
)
from bgrem.inference.onnxruntime_engine import CPU_CALLS, OnnxRuntime, differs_from_onnxruntime

__all__ = ["OpenVino"]


class OpenVino(Engine):
    """OpenVINO on the CPU, in bfloat16 if the CPU supports it and in float32 otherwise.

    On a simulated frame of 1.3 Mpix (``benchmarks/path/engines.py``) bfloat16 changes the sources
    by 0.0012 of the local noise sqrt(1 + x / 30) in the root mean square and by 0.059 at most, the
    uncertainty by 1 % and the significance by 0.022; measured with an earlier form of the graph.
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
            raise EngineUnavailable("openvino runs on no CUDA device")
        self._library = import_library("openvino")
        try:
            self._core = self._library.Core()
            able = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except Exception as error:  # noqa: BLE001 - its exceptions share no base
            raise EngineUnavailable(f"openvino cannot be started ({first_line(error)})") from None
        self._file = file
        reference = OnnxRuntime(file, device="cpu", threads=1)
        self.metadata, self.sizes = reference.metadata, reference.sizes
        self.precision = precision or ("bfloat16" if able else "float32")
        threads = threads or cores()
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[self.precision],
            "INFERENCE_NUM_THREADS": threads,
            # With pinning, the threads of several processes share the same few cores.
            "ENABLE_CPU_PINNING": False,
        }
        self.at_once = min(CPU_CALLS, threads)
        self._lock = Lock()
        self._ready: tuple = ()  # the shape, calls and channels of the requests
        if differs_from_onnxruntime(self, reference):
            raise EngineUnavailable(f"openvino gives wrong numbers for {file.path.name}")

    def prepare(self, shape: tuple[int, ...], calls: int, channels: Channels) -> None:
        self._requests_for(shape, calls, channels)

    def __call__(
        self, inputs: Mapping[str, np.ndarray], calls: int = 1, channels: Channels = None
    ) -> np.ndarray:
        requests = self._requests_for(inputs["x"].shape, calls, channels)
        request = requests.get()
        try:
            found = list(request.infer(dict(inputs)).values())
        finally:
            requests.put(request)
        whole = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        return choose_channels(whole, channels)

    def _requests_for(self, *wanted) -> SimpleQueue:
        """The free requests; each serves one thread at a time."""
        with self._lock:
            if self._ready != wanted:
                self._requests, self._ready = SimpleQueue(), ()  # frees the memory of the old ones
                network = self._compiled(*wanted)
                for _ in range(wanted[1]):
                    self._requests.put(network.create_infer_request())
                self._ready = wanted
            return self._requests

    def _compiled(self, shape: tuple[int, ...], calls: int, channels: Channels):
        """The network for one shape of images; all tiles of an image have the same.

        For images of any shape, OpenVINO 2026.4 gives wrong numbers on some (3 rms on 192 x 192).
        """
        network = self._core.read_model(self._file.content)
        network.reshape({"x": shape, "rate": (1,), "frame": (1, self.sizes[1])})
        results = network.get_results()
        if channels is not None and max(channels) < results[0].shape[1]:
            # The significance is a second output, which takes a fifth of the time.
            network = self._library.Model(results[:1], network.get_parameters())
        return self._core.compile_model(network, "CPU", {**self._settings, "NUM_STREAMS": calls})
