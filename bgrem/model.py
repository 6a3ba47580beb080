"""A network with its card: find it, load it, run it.

The card travels in the metadata of the ONNX file, so that a model says itself how
it wants to be used and nothing about it is written in this package.
"""

import hashlib
import json
import os
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from bgrem.calibration import Calibration

__all__ = [
    "Model",
    "ModelCard",
    "ModelError",
    "ModelNotFoundError",
    "available_models",
    "load_model",
]

INCLUDED = Path(__file__).parent / "models"
SCHEDULE = "cosine"
NORMALISATION = "centre-mad-mesh"


class ModelError(ValueError):
    """A file is no model that this version can use."""


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
        is not sources; "log_variance" (of the sources, in squared sky rms), "artefact"
        and "centre" (logits) may follow.
    frame : tuple of str
        Names of the entries of the frame vector, among `bgrem.frame.FRAME_NAMES`.
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
    calibration : `~bgrem.calibration.Calibration` or None
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

    Attributes
    ----------
    path : `~pathlib.Path`
        The file.
    card : ModelCard
        What the model says about itself.
    sha256 : str
        Hexadecimal SHA-256 of the file.

    Raises
    ------
    ModelError
        If the file cannot be read, or is no model that this version can use.
    """

    def __init__(self, path: str | os.PathLike, *, threads: int | None = None) -> None:
        self.path = Path(path)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"the model {path} cannot be read: {error.strerror}") from None
        self._digest = hashlib.sha256(content)
        try:
            self._session = _start_session(content, threads)
            self.card = ModelCard.from_metadata(self._session.get_modelmeta().custom_metadata_map)
        except ModelError as error:
            raise ModelError(f"the model {path} cannot be used: {error}") from None

    @cached_property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __repr__(self) -> str:
        return f"<Model {self.card.name} {self.card.version}, {self.path}>"

    def __call__(self, x: np.ndarray, rate: float, frame: np.ndarray) -> np.ndarray:
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

        Returns
        -------
        `~numpy.ndarray`
            float32 of shape (n, c, h, w), in the order of ``card.channels``.
        """
        inputs = {
            "x": np.ascontiguousarray(x, dtype=np.float32),
            "rate": np.array([rate], dtype=np.float32),
            "frame": np.asarray(frame, dtype=np.float32)[None],
        }
        return self._session.run(["channels"], inputs)[0]


def _start_session(content: bytes, threads: int | None):
    import onnxruntime  # takes a tenth of a second, which `import bgrem` must not

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # Between two tiles the threads of the network leave the processor to the rest of the path.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    available = onnxruntime.get_available_providers()
    providers = [
        name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available
    ]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # noqa: BLE001 - the exceptions of the runtime share no base
        raise ModelError(f"it is not a valid ONNX file ({_first_line(error)})") from None
    names = {node.name for node in session.get_inputs()}, {n.name for n in session.get_outputs()}
    if names[0] != {"x", "rate", "frame"} or "channels" not in names[1]:
        raise ModelError("its inputs and outputs are not those of a bgrem model")
    return session


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


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


def load_model(name_or_path: str | os.PathLike, *, threads: int | None = None) -> Model:
    """Load a model by its name, or from an ONNX file.

    Parameters
    ----------
    name_or_path : str or path
        One of `available_models`, or the path of an ``.onnx`` file. A model in
        ``$BGREM_MODELS`` stands before one of the same name in the package.
    threads : int, optional
        Number of threads. Default: as many as there are cores.

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
    name = os.fspath(name_or_path)
    if name.endswith(".onnx"):
        if not os.path.isfile(name):
            raise ModelNotFoundError(f"there is no model file {name}")
        return Model(name, threads=threads)
    for folder in _folders():
        path = folder / f"{name}.onnx"
        if os.path.basename(name) == name and path.is_file():
            return Model(path, threads=threads)
    known = ", ".join(available_models()) or "none"
    raise ModelNotFoundError(f"there is no model {name!r} (available: {known})")
