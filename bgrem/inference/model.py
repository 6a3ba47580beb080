"""A model, a network with its card: find it, load it, run it."""

import hashlib
import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Literal, overload

import numpy as np

from bgrem.inference.card import ModelCard
from bgrem.inference.counts_session import CountsModel, holds_counts_model
from bgrem.inference.engine import ModelError, ModelFile, first_line, is_out_of_memory
from bgrem.inference.engines import start_engine
from bgrem.inference.sky_model import SkyModel

__all__ = [
    "INCLUDED", "Model", "ModelCard", "ModelError", "ModelNotFoundError", "available_models",
    "load_model", "model_file", "optical_model",
]  # fmt: skip

INCLUDED = Path(__file__).parents[1] / "models"
SKY_SUFFIX = ".sky.onnx"


class ModelNotFoundError(ModelError):
    """There is no model of that name."""


class Model:
    """A network that is ready to run.

    Parameters
    ----------
    path : path
        An ONNX file with a card.
    threads : int, optional
        Number of threads. Default: the number of cores.
    engine : str
        "onnxruntime", "openvino", "torch", or "auto"; see `bgrem.inference.engines` for the rule.
    device : str
        "cpu", "cuda" or "auto".

    Attributes
    ----------
    path : `~pathlib.Path`
        The file.
    card : ModelCard
        How the model is to be used.
    sha256 : str
        Hexadecimal SHA-256 of the file.
    engine : `~bgrem.inference.engine.Engine`
        The engine that runs it; its ``str`` gives name, device and precision.
    sky : SkyModel
        The sky network: that of the file ``NAME.sky.onnx`` beside ``NAME.onnx``, or the included one.
    asked : dict
        ``engine`` and ``device`` as given, to load the model in another process.

    Raises
    ------
    ModelError
        If the file cannot be read, or is not a model that this version can use.
    ValueError
        If there is no such engine or device. If one is not installed, there is a warning, and
        onnxruntime runs on the CPU.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        threads: int | None = None,
        engine: str = "auto",
        device: str = "auto",
    ) -> None:
        self.asked = {"engine": engine, "device": device}
        self._threads = threads
        self.path = Path(path)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"the model {path} cannot be read: {error.strerror}") from None
        self._digest = hashlib.sha256(content)
        try:
            self.engine = start_engine(ModelFile(self.path, content), threads=threads, **self.asked)
            self.card = ModelCard.from_metadata(self.engine.metadata)
            _check_sizes(self.card, self.engine.sizes)
        except ModelError as error:
            raise ModelError(f"the model {path} cannot be used: {error}") from None

    @cached_property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @cached_property
    def sky(self) -> SkyModel:
        beside = self.path.with_suffix(SKY_SUFFIX)
        path = beside if beside.is_file() else INCLUDED / f"optical{SKY_SUFFIX}"
        return SkyModel(path, threads=self._threads)

    def __repr__(self) -> str:
        return f"<Model {self.card.name} {self.card.version}, {self.path}>"

    def prepare(
        self, shape: tuple[int, int], *, calls: int = 1, channels: tuple[int, ...] | None = None
    ) -> None:
        """Prepare for simultaneous calls with images of shape (h, w); this only saves time."""
        with suppress(Exception):  # the call itself raises the error
            self.engine.prepare((1, 1, *shape), calls, channels)

    def __call__(
        self,
        x: np.ndarray,
        rate: float,
        frame: np.ndarray,
        *,
        calls: int = 1,
        channels: tuple[int, ...] | None = None,
    ) -> np.ndarray:
        """Run the network.

        Parameters
        ----------
        x : `~numpy.ndarray`
            Images in units of their sky rms, float32 of shape (n, 1, h, w), with h and w
            multiples of ``card.multiple``.
        rate : float
            Noise rate, in (0, 1].
        frame : `~numpy.ndarray`
            The frame vector, float32 of shape (k,), in the order of ``card.frame``.
        calls : int
            Number of simultaneous calls, one per thread; each has its share of the cores.
        channels : tuple of int, optional
            Indices in ``card.channels`` of the requested channels. Default: all.

        Returns
        -------
        `~numpy.ndarray`
            float32 of shape (n, c, h, w), in the order of ``channels``.
        """
        inputs = {
            "x": np.ascontiguousarray(x, dtype=np.float32),
            "rate": np.array([rate], dtype=np.float32),
            "frame": np.asarray(frame, dtype=np.float32)[None],
        }
        try:
            return self.engine(inputs, calls, channels)
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(first_line(error)) from None
            raise


def _check_sizes(card: ModelCard, sizes: tuple[int | None, int | None]) -> None:
    """Check that the card names what the network gives and takes."""
    for names, size, what in zip(
        (card.channels, card.frame), sizes, ("channels", "entries of the frame vector"), strict=True
    ):
        if size is not None and len(names) != size:
            raise ModelError(f"its card has {len(names)} {what}, its network {size}")


def _folders() -> list[Path]:
    """Folders with models: those of $BGREM_MODELS, then the package's own."""
    named = os.environ.get("BGREM_MODELS", "").split(os.pathsep)
    return [Path(folder).expanduser() for folder in named if folder] + [INCLUDED]


def available_models() -> tuple[str, ...]:
    """Names of the models in the package and in the folders of ``$BGREM_MODELS``.

    Returns
    -------
    tuple of str
        Sorted.
    """
    files = (path for folder in _folders() for path in folder.glob("*.onnx"))
    return tuple(sorted({path.stem for path in files if not path.name.endswith(SKY_SUFFIX)}))


@overload
def load_model(
    name_or_path: Literal["counts"],
    *,
    threads: int | None = ...,
    engine: str = ...,
    device: str = ...,
) -> CountsModel: ...


@overload
def load_model(
    name_or_path: str | os.PathLike,
    *,
    threads: int | None = ...,
    engine: str = ...,
    device: str = ...,
) -> Model: ...


def load_model(
    name_or_path: str | os.PathLike,
    *,
    threads: int | None = None,
    engine: str = "auto",
    device: str = "auto",
) -> Model | CountsModel:
    """Load a model by its name, or from an ONNX file.

    Parameters
    ----------
    name_or_path : str or path
        One of `available_models`, or the path of an ``.onnx`` file. A model in
        ``$BGREM_MODELS`` takes precedence over one of the same name in the package.
    threads, engine, device
        As for `Model`. A model of counts maps always runs on onnxruntime on the CPU.

    Returns
    -------
    Model or CountsModel
        The second for the file of a model of counts maps.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    ModelError
        If the file is not a model that this version can use.
    """
    path = model_file(name_or_path)
    if holds_counts_model(path):
        return CountsModel(path, threads=threads)
    return Model(path, threads=threads, engine=engine, device=device)


def optical_model(
    model: str | os.PathLike | Model | CountsModel,
    *,
    threads: int | None = None,
    engine: str = "auto",
    device: str = "auto",
) -> Model:
    """A model of frames of cameras, loaded where it is not yet.

    Parameters
    ----------
    model : str, path or a loaded model
        "auto" is the included one.
    threads, engine, device
        As for `load_model`.

    Raises
    ------
    ModelError
        As for `load_model`, or if the model is one of counts maps.
    """
    if isinstance(model, Model):
        return model
    model = "optical" if model == "auto" else model
    if isinstance(model, CountsModel) or holds_counts_model(path := model_file(model)):
        name = model.name if isinstance(model, CountsModel) else model
        raise ModelError(
            f"the model {name} is for maps of counts; a model of frames of cameras is needed here"
        )
    return Model(path, threads=threads, engine=engine, device=device)


def model_file(name_or_path: str | os.PathLike) -> Path:
    """The ONNX file of a model, by its name or path.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    """
    name = os.path.expanduser(name_or_path)
    if "\0" in name:
        raise ModelNotFoundError(f"there is no model {name!r}")
    if name.endswith(".onnx"):
        if not os.path.isfile(name):
            raise ModelNotFoundError(f"there is no model file {name}")
        return Path(name)
    for folder in _folders():
        path = folder / f"{name}.onnx"
        if os.path.basename(name) == name and path.is_file():
            return path
    known = ", ".join(available_models()) or "none"
    raise ModelNotFoundError(f"there is no model {name!r} (available: {known})")
