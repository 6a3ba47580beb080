"""A network with its card: find it, load it, run it.

The card travels in the metadata of the ONNX file, so that a model says itself how
it wants to be used and nothing about it is written in this package.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import get_args

import numpy as np

from bgrem.inference.calibration import Calibration
from bgrem.inference.engines import ModelError, ModelFile, start_engine

__all__ = [
    "Model",
    "ModelCard",
    "ModelError",
    "ModelNotFoundError",
    "available_models",
    "load_model",
]

INCLUDED = Path(__file__).parents[1] / "models"
SCHEDULE = "cosine"
NORMALISATION = "centre-mad-mesh"


class ModelNotFoundError(ModelError):
    """There is no model of that name."""


@dataclass(frozen=True)
class ModelCard:
    """What a model says about itself.

    Attributes
    ----------
    name, version : str
        Of the model.
    channels : tuple of str
        Names of the output channels. The first is "residual", the estimate of all that
        is not sources; "log_variance" (of the sources, in squared sky rms), "artefact" (a
        logit) and "significance" may follow.
    frame : tuple of str
        Names of the entries of the frame vector, among `bgrem.detection.frame.FRAME_NAMES`.
    schedule : str
        Noise schedule, "cosine".
    tile, overlap, multiple : int
        Side of a tile, pixels that neighbours share, and what both are multiples of.
    box : int
        Side in pixels of a cell of the sky mesh with which the model was trained.
    normalisation : str
        Rule that brings an image to units of its sky rms, "centre-mad-mesh".
    training_digest : str
        SHA-256 of the training configuration.
    licence, description : str
        For people.
    lowest, highest : tuple of float
        Range of each entry of the frame vector that the training frames reach; empty where
        unknown.
    calibration : `~bgrem.inference.calibration.Calibration` or None
        What the model's uncertainty and significance are worth.
    """

    name: str
    version: str
    channels: tuple[str, ...]
    frame: tuple[str, ...]
    schedule: str
    tile: int
    overlap: int
    multiple: int
    box: int
    normalisation: str
    training_digest: str
    licence: str
    description: str
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    calibration: Calibration | None = None

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> "ModelCard":
        """Read a card from the metadata of an ONNX file.

        Raises
        ------
        ModelError
            If an entry is missing or unreadable, or asks for what this version cannot do.
        """
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        missing = [name for name in needed if name not in metadata]
        if missing:
            raise ModelError(f"it has no card of a bgrem model ({', '.join(missing)} missing)")
        try:
            given = [field for field in fields(cls) if field.name in metadata]
            card = cls(**{f.name: _parse(metadata[f.name], f.type) for f in given})
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"its card cannot be read ({error})") from None
        card._check()
        return card

    def to_metadata(self) -> dict[str, str]:
        """Entries for the metadata of an ONNX file; lists and numbers as JSON."""
        entries = {field.name: getattr(self, field.name) for field in fields(self)}
        calibration = entries.pop("calibration")
        metadata = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in entries.items()
        }
        return metadata | ({"calibration": calibration.to_json()} if calibration else {})

    def _check(self) -> None:
        if self.schedule != SCHEDULE or self.normalisation != NORMALISATION:
            raise ModelError(
                f"it needs another version of bgrem (schedule {self.schedule!r}, "
                f"normalisation {self.normalisation!r})"
            )
        if self.channels[:1] != ("residual",):
            raise ModelError("its first channel is not the residual")
        if min(self.tile, self.multiple, self.box) < 1 or self.overlap < 0:
            raise ModelError("its tile, overlap, multiple or box is out of range")
        if {len(self.lowest), len(self.highest)} - {0, len(self.frame)}:
            raise ModelError("its range of the frame vector is not that of its entries")


def _parse(text: str, kind: type):
    if kind is str:
        return text
    if kind is int:
        return int(text)
    if kind == Calibration | None:
        return Calibration.from_json(text)
    (item, _) = get_args(kind)
    return tuple(item(entry) for entry in json.loads(text))


class Model:
    """A network that is ready to run.

    Parameters
    ----------
    path : path
        An ONNX file with a card.
    threads : int, optional
        Number of threads. Default: as many as there are cores.
    engine : str
        "onnxruntime", "openvino", "torch", or "auto" by the rule of `bgrem.inference.engines`.
    device : str
        "cpu", "cuda" or "auto".

    Attributes
    ----------
    path : `~pathlib.Path`
        The file.
    card : ModelCard
        What the model says about itself.
    sha256 : str
        Hexadecimal SHA-256 of the file.
    engine : `~bgrem.inference.engines.Engine`
        What runs it; as a text, its name, device and precision.
    asked : dict
        ``engine`` and ``device`` as they were given, to load the model again elsewhere.

    Raises
    ------
    ModelError
        If the file cannot be read, or is no model that this version can use.
    ValueError
        If there is no such engine or device. One that is not installed is none: a warning tells,
        and onnxruntime runs on the processor.
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
        self.path = Path(path)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"the model {path} cannot be read: {error.strerror}") from None
        self._digest = hashlib.sha256(content)
        try:
            self.engine = start_engine(ModelFile(self.path, content), threads=threads, **self.asked)
            self.card = ModelCard.from_metadata(self.engine.metadata)
        except ModelError as error:
            raise ModelError(f"the model {path} cannot be used: {error}") from None

    @cached_property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __repr__(self) -> str:
        return f"<Model {self.card.name} {self.card.version}, {self.path}>"

    def prepare(
        self, shape: tuple[int, int], *, calls: int = 1, channels: tuple[int, ...] | None = None
    ) -> None:
        """Make ready for images of shape (h, w), of which so many come at once; it only saves time."""
        with suppress(Exception):  # a call will tell what is wrong
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
            How many are made at once, by as many threads; each has its part of the cores.
        channels : tuple of int, optional
            Those that are wanted, as places in ``card.channels``. Default: all.

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
        return self.engine(inputs, calls, channels)


def _folders() -> list[Path]:
    """Folders that hold models: those of $BGREM_MODELS, then the package's own."""
    named = os.environ.get("BGREM_MODELS", "").split(os.pathsep)
    return [Path(folder).expanduser() for folder in named if folder] + [INCLUDED]


def available_models() -> tuple[str, ...]:
    """Names of the models in the package and in the folders of ``$BGREM_MODELS``.

    Returns
    -------
    tuple of str
        Sorted.
    """
    return tuple(sorted({path.stem for folder in _folders() for path in folder.glob("*.onnx")}))


def load_model(
    name_or_path: str | os.PathLike,
    *,
    threads: int | None = None,
    engine: str = "auto",
    device: str = "auto",
) -> Model:
    """Load a model by its name, or from an ONNX file.

    Parameters
    ----------
    name_or_path : str or path
        One of `available_models`, or the path of an ``.onnx`` file. A model in
        ``$BGREM_MODELS`` stands before one of the same name in the package.
    threads, engine, device
        As for `Model`.

    Returns
    -------
    Model

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    ModelError
        If the file is no model that this version can use.
    """
    load = partial(Model, threads=threads, engine=engine, device=device)
    name = os.fspath(name_or_path)
    if name.endswith(".onnx"):
        if not os.path.isfile(name):
            raise ModelNotFoundError(f"there is no model file {name}")
        return load(name)
    for folder in _folders():
        path = folder / f"{name}.onnx"
        if os.path.basename(name) == name and path.is_file():
            return load(path)
    known = ", ".join(available_models()) or "none"
    raise ModelNotFoundError(f"there is no model {name!r} (available: {known})")
