"""Pixels that are no linear function of the light: asinh-scaled stacks, magnitudes.

The stacks of Pan-STARRS 1 hold asinh magnitudes (Lupton, Gunn & Szalay 1999, AJ 118, 1406):
``stored = a * asinh((flux - BOFFSET) / (2 * BSOFTEN))`` with ``a = 2.5 / ln 10`` (Waters et al. 2020,
ApJS 251, 4; https://outerspace.stsci.edu/display/PANSTARRS/PS1+Stack+images).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgrem.storage.opening import FitsError

__all__ = ["ASINH_NOTE", "SCALE_CARDS", "AsinhScale", "asinh_scale", "check_linear"]

# Cards of the scale. They belong to the pixels of one HDU, and planes beside it do not take them.
SCALE_CARDS = SOFTENING, OFFSET = ("BSOFTEN", "BOFFSET")
MAGNITUDE = 2.5 / math.log(10)
ASINH_NOTE = (
    "asinh-scaled pixels (BSOFTEN, BOFFSET): separated as linear flux; the sources have the scale of "
    "the input, all other planes are linear"
)
# Units that are logarithms, as people spell them; without one of WORDS a unit is none.
WORDS = re.compile(r"mag|dex|db|log|ln|sqrt|asinh|luptitude", re.IGNORECASE)
SPELLINGS = re.compile(
    r"(?<![a-z])((ab|st|vega)[ _]?)?mag(nitude)?s?([ _]?(ab|st|vega))?(?![a-z])"
    r"|(?<![a-z])(dex|dbm?|luptitudes?)(?![a-z])|(?<![a-z])(log(10|e)?|ln)(\s*\(|[\s_]+\S|$)"
    r"|^(sqrt|asinh)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class AsinhScale:
    """The asinh scale of the pixels of an image.

    Parameters
    ----------
    softening : float
        BSOFTEN, above 0, in units of the flux.
    offset : float
        BOFFSET, the flux at a stored value of 0.
    """

    softening: float
    offset: float

    def linear(self, stored: np.ndarray) -> np.ndarray:
        """The flux of stored values, float64; infinite where it is beyond double precision."""
        with np.errstate(over="ignore"):
            sinh = np.sinh(np.asarray(stored, np.float64) / MAGNITUDE)
            return self.offset + 2 * self.softening * sinh

    def stored(self, flux: np.ndarray) -> np.ndarray:
        """The stored values of a flux, float64."""
        return MAGNITUDE * np.arcsinh(
            (np.asarray(flux, np.float64) - self.offset) / (2 * self.softening)
        )


def asinh_scale(header: Mapping[str, Any], label: str = "") -> AsinhScale | None:
    """The asinh scale that a header gives, None if it gives none.

    ``label`` is the origin of the header, for the message. Raises FitsError if its cards cannot be used.
    """
    if SOFTENING not in header:
        return None
    values = header[SOFTENING], header.get(OFFSET, 0.0)
    usable = all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in values
    )
    if not usable or values[0] <= 0:
        raise FitsError(f"{label} has an unusable BSOFTEN or BOFFSET ({values[0]}, {values[1]})")
    return AsinhScale(float(values[0]), float(values[1]))


def check_linear(header: Mapping[str, Any], label: str) -> None:
    """Refuse an image whose unit is a logarithm, such as a magnitude: raises FitsError."""
    unit = str(header.get("BUNIT", "")).strip()
    if _is_logarithmic(unit):
        raise FitsError(
            f"{label} is in {unit}, in which light does not add up: convert it to a flux "
            "(10**(-0.4 * mag) for magnitudes) and change BUNIT"
        )


def _is_logarithmic(unit: str) -> bool:
    if not WORDS.search(unit):
        return False
    if SPELLINGS.search(unit):
        return True
    from astropy import units  # takes as long as all else here

    known = units.Unit(unit, parse_strict="silent")
    if isinstance(known, units.UnrecognizedUnit):
        return False
    return isinstance(known, units.LogUnit) or units.dex in known.decompose().bases
