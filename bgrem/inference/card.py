"""The card of a model: how it is to be used.

The card is part of the metadata of the ONNX file, so nothing about a model is written in this
package.
"""

import json
import math
from dataclasses import MISSING, dataclass, fields
from typing import get_args

from bgrem.inference.engine import ModelError
from bgrem.network.calibration import Calibration
from bgrem.network.significance_constants import SignificanceConstants

__all__ = ["NORMALISATION", "SCHEDULE", "ModelCard"]

SCHEDULE = "cosine"
NORMALISATION = "centre-mad-mesh"
LARGEST_SIDE = 1 << 14  # pixels, of a tile or a box
LONGEST_NAME = 60  # characters: it stands in a card of the header
LONGEST_ENTRY = 1 << 20  # characters
LONGEST_MESSAGE = 150
# Entries that are objects of their own, with `from_json` and `to_json`.
NESTED_ENTRIES = {"calibration": Calibration, "significance": SignificanceConstants}
_DEFAULT_CONSTANTS = SignificanceConstants()


@dataclass(frozen=True)
class ModelCard:
    """How a model is to be used.

    Attributes
    ----------
    name, version : str
        Name and version of the model.
    channels : tuple of str
        Names of the output channels. The first is "residual", the estimate of everything except
        the sources. "log_variance" (of the sources, in squared sky rms), "artefact" (a logit) and
        "significance" may follow.
    frame : tuple of str
        Names of the entries of the frame vector, among `bgrem.detection.frame.FRAME_NAMES`.
    schedule : str
        Noise schedule, "cosine".
    tile, overlap, multiple : int
        Side of a tile in pixels, overlap of neighbouring tiles in pixels, and the number of which
        both are multiples.
    box : int
        Side in pixels of a cell of the sky mesh in the model's training: the local level that the network
        is given follows wider light.
    normalisation : str
        Rule that converts an image to units of its sky rms, "centre-mad-mesh".
    training_digest : str
        SHA-256 of the training configuration.
    licence, description : str
        Text for people.
    lowest, highest : tuple of float
        Range of each entry of the frame vector in the training frames; empty if unknown.
    memory_per_pixel : float
        Bytes of memory inside the network per pixel of a tile, float32 on the CPU. The default is
        the value measured on the optical model, plus 10 %.
    significance : `~bgrem.network.significance_constants.SignificanceConstants`
        Constants of the significance.
    calibration : `~bgrem.network.calibration.Calibration` or None
        Corrections of the uncertainty and false alarms of the significance.
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
    memory_per_pixel: float = 200.0
    significance: SignificanceConstants = _DEFAULT_CONSTANTS
    calibration: Calibration | None = None

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> "ModelCard":
        """Read a card from the metadata of an ONNX file.

        Raises
        ------
        ModelError
            If an entry is missing or unreadable, or this version does not support it.
        """
        if max(map(len, metadata.values()), default=0) > LONGEST_ENTRY:
            raise ModelError("its card is too long")
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        missing = [name for name in needed if name not in metadata]
        if missing:
            raise ModelError(f"it has no card of a bgrem model ({', '.join(missing)} missing)")
        try:
            given = [field for field in fields(cls) if field.name in metadata]
            card = cls(**{f.name: _parse(f.name, metadata[f.name], f.type) for f in given})
        except (
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            ArithmeticError,
            RecursionError,
        ) as error:
            reason = " ".join(str(error).split())[:LONGEST_MESSAGE]
            raise ModelError(f"its card cannot be read ({reason})") from None
        card._check()
        return card

    def to_metadata(self) -> dict[str, str]:
        """Entries for the metadata of an ONNX file; lists and numbers as JSON."""
        entries = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _as_text(entry) for name, entry in entries.items() if entry is not None}

    def _check(self) -> None:
        if self.schedule != SCHEDULE or self.normalisation != NORMALISATION:
            raise ModelError(
                f"it needs another version of bgrem (schedule {self.schedule!r}, "
                f"normalisation {self.normalisation!r})"
            )
        if self.channels[:1] != ("residual",):
            raise ModelError("its first channel is not the residual")
        self._check_sides()
        for name, text in (("name", self.name), ("version", self.version)):
            if not (text.isascii() and text.isprintable() and 0 < len(text) <= LONGEST_NAME):
                raise ModelError(f"its {name} is not 1 to {LONGEST_NAME} printable characters")
        if not 0 < self.memory_per_pixel < math.inf:
            raise ModelError("its memory per pixel is out of range")
        if {len(self.lowest), len(self.highest)} - {0, len(self.frame)} or not all(
            map(math.isfinite, (*self.lowest, *self.highest))
        ):
            raise ModelError("its range of the frame vector is not that of its entries")

    def _check_sides(self) -> None:
        sides = self.tile, self.multiple, self.box
        if min(sides) < 1 or max(sides) > LARGEST_SIDE or not 0 <= self.overlap < self.tile:
            raise ModelError("its tile, overlap, multiple or box is out of range")
        if self.tile % self.multiple or self.overlap % self.multiple:
            raise ModelError(f"its tile or overlap is not a multiple of {self.multiple}")


def _as_text(entry) -> str:
    if isinstance(entry, tuple(NESTED_ENTRIES.values())):
        return entry.to_json()
    return entry if isinstance(entry, str) else json.dumps(entry)


def _parse(name: str, text: str, kind: type):
    if name in NESTED_ENTRIES:
        return NESTED_ENTRIES[name].from_json(text)
    if kind in (str, int, float):
        return kind(text)
    (item, _) = get_args(kind)
    return tuple(item(entry) for entry in json.loads(text))
