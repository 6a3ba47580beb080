"""Which detector an image is of, as its header says it, and its readout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bgrem.io.reading import FitsError, FitsImage, as_planes
from bgrem.storage.hdus import lengths

__all__ = ["DETECTOR_CARDS", "Detector", "check_detector", "detector_of"]

# Cards that name the camera, the detector, its binning, its window and its amplifiers. What is absent, or
# stands in one of two headers only, does not count.
DETECTOR_CARDS = (
    "INSTRUME", "CAMERA", "DETECTOR", "DETNAM", "DETNAME", "DETSER", "SERIALNO", "CCDNAME", "CCDID", "CCD-ID",
    "CHIPID", "CCDNUM", "CCDCHIP", "CCDSENS", "EXTNAME", "XBINNING", "YBINNING", "CCDSUM", "CCDBIN1", "CCDBIN2",
    "BINNING", "BINX", "BINY", "XORGSUBF", "YORGSUBF", "CCDSEC", "DETSEC", "SUBARRAY", "AMPNAME", "CCDAMP",
    "NAMPS", "READMODE",
)  # fmt: skip


@dataclass(frozen=True)
class Detector:
    """A detector and how it was read out.

    Attributes
    ----------
    hdu : int
        Index of the HDU of its image.
    shape : tuple of int
        Shape (ny, nx) of its image.
    cards : tuple of (str, str)
        Keywords of `DETECTOR_CARDS` with their values.
    """

    hdu: int
    shape: tuple[int, int]
    cards: tuple[tuple[str, str], ...]

    def difference(self, other: "Detector") -> str:
        """What another detector differs in, as the end of a sentence; empty for the same."""
        if self.shape != other.shape:
            return f"{lengths(self.shape)} pixels, not {lengths(other.shape)}"
        own, others = dict(self.cards), dict(other.cards)
        for keyword in own.keys() & others.keys():
            if own[keyword] != others[keyword]:
                return f"{keyword} {own[keyword]}, not {others[keyword]}"
        return "" if self.hdu == other.hdu else f"its image in HDU {self.hdu}, not {other.hdu}"


def detector_of(image: FitsImage) -> Detector:
    """The detector of an image, by its header and the primary one."""
    ny, nx = as_planes(image.data).shape[1:]
    return Detector(image.hdu, (int(ny), int(nx)), _cards_in(image.header, image.primary))


def check_detector(header: Mapping[str, Any], label: str, image: FitsImage) -> None:
    """Refuse the map of another detector than that of an image, with a FitsError.

    ``header`` is that of the map, ``label`` its origin. The name of the HDU does not count.
    """
    own = detector_of(image)
    cards = tuple(card for card in _cards_in(header, {}) if card[0] != "EXTNAME")
    if difference := Detector(own.hdu, own.shape, cards).difference(own):
        raise FitsError(
            f"{label} is the map of another detector than that of {image.label}: {difference}"
        )


def _cards_in(header: Mapping[str, Any], primary: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    for keyword in DETECTOR_CARDS:
        value = header.get(keyword, primary.get(keyword))
        text = " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
        if text:
            found.append((keyword, text))
    return tuple(found)
