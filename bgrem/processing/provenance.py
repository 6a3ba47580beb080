"""How an output came about, as the cards of its header."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from bgrem.separation import NoteOfAllPlanes, Provenance
from bgrem.storage.names import visible_text

__all__ = ["LeftAlone", "PlaneFacts", "provenance_cards", "provenance_history", "warnings_of"]

# The values of a provenance, the cards that hold them, and what these mean.
PROVENANCE_CARDS = {
    "version": ("BGR_VERS", "version of bgrem"),
    "model": ("BGR_MODL", "name of the model"),
    "sha256": ("BGR_HASH", "SHA-256 of the model file, first 16 digits"),
    "engine": ("BGR_ENGN", "what ran the model"),
    "steps": ("BGR_STEP", "diffusion steps"),
    "norm": ("BGR_NORM", "normalisation factor, 0 = rms map"),
    "sky": ("BGR_SKY", "what measured the sky, SHA-256 of its file"),
    "extended": ("BGR_EXT", "where light wider than the box is"),
    "level": ("BGR_LEVL", "median sky level"),
    "rms": ("BGR_RMS", "median rms of the sky"),
    "error_64": ("BGR_E64", "times BKGERR: error of means over 64 x 64 pix"),
    "error_256": ("BGR_E256", "times BKGERR: error of means over 256 x 256 pix"),
    "minpix": ("BGR_MINP", "pixels below it were raised to it"),
    "saturate": ("BGR_SATU", "saturation level"),
    "weight": ("BGR_WGHT", "type of the weight map"),
    "fwhm": ("BGR_FWHM", "[pix] FWHM of the point-spread function"),
    "fwhm_from": ("BGR_FWSR", "where BGR_FWHM is from"),
    "lost_light": ("BGR_LOST", "part of the light above 5 rms in the noise"),
    "signif_1": ("BGR_SIG1", "SIGNIF of 1 false detection per Mpix"),
    "signif_10": ("BGR_SG10", "SIGNIF of 10 false detections per Mpix"),
}
NUMBERED_PLANES = 999  # "BGR_L999" fills the eight letters of a keyword


@dataclass(frozen=True)
class LeftAlone:
    """A plane that could not be separated, and why in a few words."""

    reason: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know of the plane."""
        return (f"left alone, {self.reason}",)


PlaneFacts = Provenance | LeftAlone


def provenance_cards(
    planes: Sequence[PlaneFacts], *, nonnegative: bool, keep_level: bool
) -> list[tuple[str, object, str]]:
    """Provenance as cards (keyword, value, comment); level and rms of the planes of a cube are numbered.

    At least one plane must have been separated.
    """
    first = _first(planes)
    cards = [
        (keyword, _card_value(first[key]), comment)
        for key, (keyword, comment) in PROVENANCE_CARDS.items()
        if _card_value(first[key]) is not None
    ]
    for n, plane in enumerate(planes[:NUMBERED_PLANES] if len(planes) > 1 else (), start=1):
        if isinstance(plane, Provenance):
            cards.append((f"BGR_L{n}", plane.level, f"median sky level of plane {n}"))
            cards.append((f"BGR_R{n}", plane.rms, f"median rms of the sky of plane {n}"))
    cards.append(("BGR_NNEG", nonnegative, "negative sources were clipped to 0"))
    cards.append(("BGR_KEEP", keep_level, "the median sky level was added back"))
    now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    cards.append(("BGR_DATE", now, "UTC of the processing"))
    cards.append(("BGR_WARN", len(warnings_of(planes)), "warnings, see HISTORY"))
    return cards


def _first(planes: Sequence[PlaneFacts]) -> Provenance:
    return next(plane for plane in planes if isinstance(plane, Provenance))


def _card_value(value: object) -> object:
    """A value as a card can hold it, None where it cannot."""
    if isinstance(value, str):
        return _ascii(value[:16] if len(value) == 64 else value)
    if value is None or not np.isfinite(value):
        return None
    return value


def provenance_history(planes: Sequence[PlaneFacts]) -> list[str]:
    """What was done and noticed, as lines of HISTORY; ``planes`` as for `provenance_cards`."""
    lines = [
        f"bgrem {_first(planes).version} kept the sources of this image and took away its",
        "background and noise (data = sources + background + noise).",
    ]
    return lines + [f"bgrem warning: {_ascii(warning)}" for warning in warnings_of(planes)]


def _ascii(text: str) -> str:
    """A text as FITS headers can hold it."""
    return visible_text(text).encode("ascii", "replace").decode()


def warnings_of(planes: Sequence[PlaneFacts]) -> tuple[str, ...]:
    """What was noticed, with the plane where there are several; see `provenance_cards`."""
    several = len(planes) > 1
    noticed = [
        warning
        if isinstance(warning, NoteOfAllPlanes)
        else f"plane {n}: {warning}"
        if several
        else warning
        for n, plane in enumerate(planes, start=1)
        for warning in plane.warnings
    ]
    return tuple(dict.fromkeys(noticed))
