"""A model of counts maps that is ready to run, and its card."""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np

from bgrem.inference.card import LONGEST_MESSAGE
from bgrem.inference.engine import ModelError, cores, first_line, is_out_of_memory
from bgrem.inference.onnxruntime_engine import open_session

__all__ = ["CountsModel", "holds_counts_model"]

# Thresholds of fewer false detections than the card has: down to a fifth of its smallest number, from its last entries.
FARTHEST_BELOW, TAIL_ENTRIES = 5.0, 5
COUNTS_INPUTS = ("planes", "kernel", "frame")
COUNTS_OUTPUTS = ("sources", "background", "variance", "significance")
# The entry kind = counts of the metadata, as a protocol buffer holds it: key and value, each with its length.
KIND_IN_FILE = b"\n\x04kind\x12\x06counts"


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
    tile, overlap, multiple : int
        Largest side of a tile, overlap of neighbouring tiles, and the number of which both are multiples, in pixels.
    false_alarms, false_alarms_unknown : list of (float, float)
        Significances, rising, and how many false detections above them are expected on 1e4 noise-equivalent areas of
        the PSF, of maps whose exposure is given, and of others, in which a gap is not known; empty if the card has none.

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
            self._read_card(entries)
        except (KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:LONGEST_MESSAGE]
            raise ModelError(f"the card of the model {path} cannot be read ({reason})") from None

    def _read_card(self, entries: dict[str, str]) -> None:
        """The attributes, from the metadata of the file; the lists are JSON."""
        self.name, self.version = entries["name"], entries["version"]
        self.licence = entries.get("licence", "")
        self.description = entries.get("description", "")
        self.tile, self.overlap, self.multiple = (
            int(entries[name]) for name in ("tile", "overlap", "multiple")
        )
        self.false_alarms, self.false_alarms_unknown = (
            [(float(s), float(n)) for s, n in json.loads(entries.get(name, "[]"))]
            for name in ("false_alarms", "false_alarms_unknown")
        )
        factors = np.array(json.loads(entries.get("variance_factors", "[]")), np.float64)
        self._factors = factors.reshape(-1, 2)
        if tuple(json.loads(entries["channels"])) != COUNTS_OUTPUTS:
            raise ValueError("other channels: it needs another version of bgrem")
        sides = self.tile, self.overlap, self.multiple
        if min(self.tile, self.multiple) < 1 or not 0 <= self.overlap < self.tile:
            raise ValueError(f"tile, overlap and multiple are {sides}")
        if self.tile % self.multiple or self.overlap % self.multiple:
            raise ValueError(f"tile or overlap is not a multiple of {self.multiple}")
        if not (self.name.isascii() and self.name.isprintable() and self.name):
            raise ValueError("the name is not of printable characters")
        alarms = self.false_alarms + self.false_alarms_unknown
        if not all(np.isfinite(s) and n > 0 for s, n in alarms):
            raise ValueError("its false alarms are out of range")

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def _session(self):
        try:
            return open_session(self._content, self._threads)
        except ModelError as error:
            raise ModelError(f"the model {self.path} cannot be used: {error}") from None

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
        if not self._factors.size:
            return variance
        level, factor = self._factors.T
        place = np.log10(np.maximum(sources, 1e-12))
        return (variance * np.interp(place, level, factor)).astype(np.float32)

    def threshold_for(self, per_area: float, *, exposure: bool = True) -> float | None:
        """Significance above which a number of false detections per 1e4 PSF areas is expected.

        Between the entries of the card the logarithm of the number is interpolated. Below its smallest number, down to
        a fifth of it, that logarithm falls linearly with the squared significance, as for Gaussian noise.

        Parameters
        ----------
        per_area : float
            False detections per 1e4 noise-equivalent areas of the PSF.
        exposure : bool
            Whether the exposure of the map is given.

        Returns
        -------
        float or None
            None where the card does not say it.
        """
        table = self.false_alarms if exposure else self.false_alarms_unknown or self.false_alarms
        if not table:
            return None
        significance, number = np.array(sorted(table, reverse=True)).T
        logs, asked = np.log(number), np.log(per_area)
        if logs[0] <= asked <= logs[-1]:
            return float(np.interp(asked, logs, significance))
        if not logs[0] - np.log(FARTHEST_BELOW) <= asked < logs[0] or len(logs) < 2:
            return None
        slope = np.polyfit(significance[:TAIL_ENTRIES] ** 2, logs[:TAIL_ENTRIES], 1)[0]
        return (
            float(np.sqrt(significance[0] ** 2 + (asked - logs[0]) / slope)) if slope < 0 else None
        )


def holds_counts_model(path: str | os.PathLike) -> bool:
    """Whether an ONNX file is a model of counts maps; it is not loaded for that.

    Parameters
    ----------
    path : path
    """
    try:
        return KIND_IN_FILE in Path(path).read_bytes()
    except OSError:
        return False
