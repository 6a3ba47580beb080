"""An engine, which runs a network, and what all engines share."""

import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "INPUT_NAMES", "Channels", "Engine", "EngineUnavailable", "EngineWarning", "ModelError",
    "ModelFile", "choose_channels", "cores", "first_line", "import_library", "is_out_of_memory",
]  # fmt: skip

INPUT_NAMES = ("x", "rate", "frame")
# How libraries in C++ say that memory or threads are exhausted; their exceptions share no base.
EXHAUSTED = re.compile(
    r"bad.alloc|BFCArena::Alloc|out of memory|not enough memory|allocate memory|start new thread"
    r"|Resource temporarily unavailable", re.IGNORECASE,
)  # fmt: skip

Channels = tuple[int, ...] | None


class ModelError(ValueError):
    """A file is not a model that this version can use."""


class EngineWarning(UserWarning):
    """The requested engine or device is not available; another one is used instead."""


class EngineUnavailable(Exception):
    """Why an engine cannot run a model here, in a few words."""


class ModelFile(NamedTuple):
    """An ONNX file: its path and its bytes."""

    path: Path
    content: bytes


class Engine:
    """A network that is ready to run.

    Attributes
    ----------
    name : str
        One of `bgrem.inference.engines.ENGINES`.
    device : str
        "cpu" or "cuda".
    precision : str
        "float32" or "bfloat16", of the convolutions.
    libraries : float
        Bytes of memory that its libraries take in addition to those of onnxruntime.
    at_once : int
        Number of simultaneous calls that takes the least time, each with its share of the
        threads. On a CPU two calls are faster than one with all threads, which waits for its
        slowest thread.
    metadata : dict of str to str
        Metadata of the ONNX file.
    sizes : tuple of int or None
        Number of output channels and length of the frame vector; None where the file does not give them.
    """

    name = ""
    device = "cpu"
    precision = "float32"
    libraries = 0.0
    at_once = 1
    metadata: dict[str, str]
    sizes: tuple[int | None, int | None] = (None, None)

    def __str__(self) -> str:
        return f"{self.name} {self.device} {self.precision}"

    def prepare(self, shape: tuple[int, ...], calls: int, channels: Channels) -> None:
        """Do the work that a first call would wait for; this is optional and only saves time.

        Parameters
        ----------
        shape : tuple of int
            Shape of the images "x".
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
            Number of simultaneous calls, one per thread, including this one.
        channels : tuple of int, optional
            Indices of the requested channels, in the order of the output. Default: all.

        Returns
        -------
        `~numpy.ndarray`
            The channels, a new array, float32 of shape (n, c, h, w).
        """
        raise NotImplementedError


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_channels(found: np.ndarray, channels: Channels) -> np.ndarray:
    """The requested channels of an array (n, c, h, w); all of them for None."""
    return found if channels is None else found[:, list(channels)]


def import_library(name: str, extra: str | None = None) -> Any:
    """Import a module of which an extra of the package, by default of its own name, brings the library.

    Raises EngineUnavailable if it cannot be imported.
    """
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        top = name.split(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            advice = f"pip install 'bgrem[{extra or top}]'"
            raise EngineUnavailable(f"{top} is not installed ({advice})") from None
        raise EngineUnavailable(f"{top} cannot be imported ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().split("\n")[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that memory or threads are exhausted."""
    return isinstance(error, MemoryError) or bool(EXHAUSTED.search(str(error)))
