"""How an output came about, as its header tells it."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

__all__ = ["provenance_cards", "provenance_history", "warnings_of"]

# Provenance of a plane: its keys, the cards that hold them, and what these mean.
FACTS = {
    "version": ("BGR_VERS", "version of bgrem"),
    "model": ("BGR_MODL", "name of the model"),
    "sha256": ("BGR_HASH", "SHA-256 of the model file, first 16 digits"),
    "engine": ("BGR_ENGN", "what ran the model"),
    "steps": ("BGR_STEP", "diffusion steps"),
    "norm": ("BGR_NORM", "normalisation factor, 0 = rms map"),
    "level": ("BGR_LEVL", "median sky level"),
    "rms": ("BGR_RMS", "median rms of the sky"),
    "minpix": ("BGR_MINP", "pixels below it were raised to it"),
    "saturate": ("BGR_SATU", "saturation level"),
    "weight": ("BGR_WGHT", "type of the weight map"),
    "fwhm": ("BGR_FWHM", "[pix] FWHM of the point-spread function"),
    "signif_1": ("BGR_SIG1", "SIGNIF of 1 false detection per Mpix"),
    "signif_10": ("BGR_SG10", "SIGNIF of 10 false detections per Mpix"),
}
NUMBERED_PLANES = 999  # "BGR_L999" fills the eight letters of a keyword


def provenance_cards(
    facts: Sequence[dict], *, nonnegative: bool, keep_level: bool
) -> list[tuple[str, object, str]]:
    """Provenance as cards; the level and rms of each plane of a cube have numbered ones.

    Parameters
    ----------
    facts : sequence of dict
        `bgrem.separation.Separation.provenance` of each plane; of one that was left alone, its
        warnings only.
    nonnegative, keep_level : bool
        As for `bgrem.processing.files.process_file`.

    Returns
    -------
    list of tuple
        Keyword, value and comment.
    """
    first = next(fact for fact in facts if "model" in fact)
    cards = [
        (keyword, _card_value(first[key]), comment)
        for key, (keyword, comment) in FACTS.items()
        if _card_value(first.get(key)) is not None
    ]
    for n, fact in enumerate(facts[:NUMBERED_PLANES] if len(facts) > 1 else (), start=1):
        if "model" in fact:
            cards.append((f"BGR_L{n}", fact["level"], f"median sky level of plane {n}"))
            cards.append((f"BGR_R{n}", fact["rms"], f"median rms of the sky of plane {n}"))
    cards.append(("BGR_NNEG", nonnegative, "negative sources were clipped to 0"))
    cards.append(("BGR_KEEP", keep_level, "the median sky level was added back"))
    now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    cards.append(("BGR_DATE", now, "UTC of the processing"))
    cards.append(("BGR_WARN", len(warnings_of(facts)), "warnings, see HISTORY"))
    return cards


def _card_value(value: object) -> object:
    """A value as a card can hold it, None where it cannot."""
    if isinstance(value, str):
        return _ascii(value[:16] if len(value) == 64 else value)
    if value is None or not np.isfinite(value):
        return None
    return value


def provenance_history(facts: Sequence[dict]) -> list[str]:
    """What was done and noticed, as lines of HISTORY; ``facts`` as for `provenance_cards`."""
    first = next(fact for fact in facts if "model" in fact)
    lines = [
        f"bgrem {first['version']} kept the sources of this image and took away its",
        "background and noise (data = sources + background + noise).",
    ]
    return lines + [f"bgrem warning: {_ascii(warning)}" for warning in warnings_of(facts)]


def _ascii(text: str) -> str:
    """A text as FITS headers can hold it."""
    return text.encode("ascii", "replace").decode()


def warnings_of(facts: Sequence[dict]) -> tuple[str, ...]:
    """What the path noticed, with the plane where there are several; see `provenance_cards`."""
    named = [f"plane {n}: " if len(facts) > 1 else "" for n in range(1, len(facts) + 1)]
    return tuple(
        name + warning
        for name, fact in zip(named, facts, strict=True)
        for warning in fact.get("warnings", ())
    )
