"""A model of counts maps that is ready to run, and its card."""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np

from bgrem.inference.engine import ModelError, cores, first_line, is_out_of_memory
from bgrem.inference.model import available_models, model_file

__all__ = [
    "COUNTS_MODEL",
    "CountsModel",
    "has_counts_model",
    "is_counts_model",
    "load_counts_model",
]

COUNTS_MODEL = "counts"
COUNTS_INPUTS = ("planes", "kernel", "frame")
COUNTS_OUTPUTS = ("sources", "background", "variance", "significance")


class CountsModel:
    """A network of counts maps, run on ONNX Runtime in float32.

    Parameters
    ----------
    path : path
        An ONNX file that `bgrem-train` wrote.
    threads : int, optional
        Default: the number of cores.

    Attributes
    ----------
    name, version, licence, description : str
        Of the model's card.
    tile, overlap : int
        Sides in pixels.
    false_alarms : list of (float, float)
        Significances, rising, and how many false detections above them are expected on 1e4 noise-equivalent areas of
        the PSF; empty if the card has none.

    Raises
    ------
    ModelError
        If the file cannot be read, or is not such a model.
    """

    engine = "onnxruntime cpu float32"

    def __init__(self, path: str | os.PathLike, *, threads: int | None = None) -> None:
        self.path = Path(path)
        try:
            self._content = self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"the model {path} cannot be read: {error.strerror}") from None
        self._threads = threads or cores()
        entries = self._session.get_modelmeta().custom_metadata_map
        inputs = {node.name for node in self._session.get_inputs()}
        if entries.get("kind") != "counts" or inputs != set(COUNTS_INPUTS):
            raise ModelError(f"{path} is not a model of counts maps")
        try:
            self.name, self.version = entries["name"], entries["version"]
            self.licence = entries.get("licence", "")
            self.description = entries.get("description", "")
            self.tile, self.overlap = int(entries["tile"]), int(entries["overlap"])
            self.multiple = int(entries["multiple"])
            self.false_alarms = [
                (float(s), float(n)) for s, n in json.loads(entries.get("false_alarms", "[]"))
            ]
            self._factors = np.array(json.loads(entries.get("variance_factors", "[]")), np.float64)
            channels = tuple(json.loads(entries["channels"]))
        except (KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ModelError(f"the card of the model {path} cannot be read ({reason})") from None
        if channels != COUNTS_OUTPUTS:
            raise ModelError(f"the model {path} needs another version of bgrem")

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def _session(self):
        import onnxruntime  # takes a tenth of a second, which `import bgrem` must not

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.enable_mem_pattern = False
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(
                self._content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - the exceptions of the runtime share no base
            if is_out_of_memory(error):
                raise MemoryError(first_line(error)) from None
            raise ModelError(f"the model {self.path} cannot be used") from None

    def __call__(self, planes: np.ndarray, kernel: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Run the network on the bands of one field.

        Parameters
        ----------
        planes, kernel, frame : ndarray
            As of `bgrem.counts.counts_input.CountsInput`; the sides of the planes are multiples of ``multiple``.

        Returns
        -------
        ndarray, (k, 4, ny, nx) float32
            Sources, background, variance of the sources, significance.
        """
        feed = {"planes": planes, "kernel": kernel, "frame": frame}
        try:
            return self._session.run(None, {k: np.ascontiguousarray(v) for k, v in feed.items()})[0]
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(first_line(error)) from None
            raise

    def calibrated_variance(self, variance: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """The variance of the sources, corrected by the card's factors.

        Parameters
        ----------
        variance, sources : ndarray
            As the network gives them.

        Returns
        -------
        ndarray, float32
        """
        if not len(self._factors):
            return variance
        level, factor = self._factors.T
        place = np.log10(np.maximum(sources, 1e-12))
        return (variance * np.interp(place, level, factor)).astype(np.float32)

    def threshold_for(self, per_area: float) -> float | None:
        """Significance above which a number of false detections per 1e4 PSF areas is expected, None if unknown."""
        if not self.false_alarms:
            return None
        significance, number = np.array(self.false_alarms).T
        order = np.argsort(number)
        logs = np.log(number[order])
        at = float(np.clip(np.log(per_area), logs[0], logs[-1]))
        return float(np.interp(at, logs, significance[order]))


def load_counts_model(
    model: "str | os.PathLike | CountsModel" = COUNTS_MODEL, *, threads: int | None = None
) -> CountsModel:
    """Load a model of counts maps by its name or from its ONNX file.

    Raises
    ------
    ModelError
        If there is none, or the file is not a model of counts maps.
    """
    if isinstance(model, CountsModel):
        return model
    return CountsModel(model_file(model), threads=threads)


def has_counts_model() -> bool:
    """Whether the package holds a model of counts maps."""
    return COUNTS_MODEL in available_models()


def is_counts_model(model: object) -> bool:
    """Whether a model's name or file is that of a model of counts maps."""
    if isinstance(model, CountsModel):
        return True
    if not isinstance(model, str | os.PathLike):
        return False
    name = os.path.expanduser(model)
    if name == COUNTS_MODEL:
        return True
    if not name.endswith(".onnx") or not os.path.isfile(name):
        return False
    try:
        CountsModel(name)
    except ModelError:
        return False
    return True
