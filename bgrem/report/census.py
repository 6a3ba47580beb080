"""Detections by SExtractor on the image, detections by bgrem, and the fluxes of those in both."""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.filters import members
from bgrem.detection.detect import detect_on_sources, detect_peaks
from bgrem.detection.frame import TYPICAL_FWHM
from bgrem.detection.photometry import aperture_fluxes, aperture_uncertainties
from bgrem.detection.sextractor import detect_sextractor_default
from bgrem.masks.flags import ARTEFACT, MASKED, NOT_FINITE
from bgrem.separation import Separation

__all__ = ["Census", "take_census"]

CENSUS_SIDE = 4096  # pixels; detections are compared in the middle of larger images
LOWEST_PEAK = 1.0  # sky rms, of the smoothed sources; for models without a significance plane
NEAR_ARTEFACT = 2  # pixels from an artefact at which a detection still counts as one


@dataclass(frozen=True, eq=False)
class Census:
    """Detections before and after; positions in pixels, 0-based, with pixel centres at integers.

    Attributes
    ----------
    both, gained : (n, 2) array
        x, y of the detections by bgrem that SExtractor also makes, and of those that it misses.
    lost, artefacts : (n, 2) array
        x, y of the detections by SExtractor alone. `artefacts` are those that the model flags as
        artefacts (cosmic rays, hot pixels, trails).
    on_sources, on_data, snr : (n,) array
        Aperture fluxes of `both` on the sources and on data - background, in units of the sky rms,
        and the S/N of the second; its noise is that of the sky.
    recipe : str
        How bgrem's detections were made.
    radius : float
        Radius of the apertures and of the matching, in pixels.
    window : tuple of slice
        The part of the image in which detections are compared.
    """

    both: np.ndarray
    gained: np.ndarray
    lost: np.ndarray
    artefacts: np.ndarray
    on_sources: np.ndarray
    on_data: np.ndarray
    snr: np.ndarray
    recipe: str
    radius: float
    window: tuple[slice, slice]


def take_census(parts: Separation) -> Census:
    """Detect on an image before and after, and compare."""
    window = _middle(parts.data.shape)
    bad = (parts.mask[window] & (NOT_FINITE | MASKED)) != 0
    fwhm = parts.provenance["fwhm"]
    radius = max(2.0, fwhm if np.isfinite(fwhm) else TYPICAL_FWHM)
    rms, without_sky, sources = _in_sky_rms(parts, window)
    found, recipe = _found_by_bgrem(parts, window, sources / rms, bad)
    default = _places(detect_sextractor_default(_centred(parts, window), mask=bad))
    known = _near(found, default, radius)
    missed = default[~_near(default, found, radius)]
    artefact = _on_artefact(missed, parts.mask[window])

    both = found[known]
    on_data = aperture_fluxes(without_sky, *both.T, radius)
    corner = (window[1].start, window[0].start)
    return Census(
        both=both + corner,
        gained=found[~known] + corner,
        lost=missed[~artefact] + corner,
        artefacts=missed[artefact] + corner,
        on_sources=aperture_fluxes(sources, *both.T, radius),
        on_data=on_data,
        snr=on_data / aperture_uncertainties(rms, *both.T, radius),
        recipe=recipe,
        radius=radius,
        window=window,
    )


def _middle(shape) -> tuple[slice, slice]:
    starts = [max((n - CENSUS_SIDE) // 2, 0) for n in shape]
    rows, columns = (slice(i, min(i + CENSUS_SIDE, n)) for i, n in zip(starts, shape, strict=True))
    return rows, columns


def _found_by_bgrem(parts: Separation, window, snr, bad) -> tuple[np.ndarray, str]:
    """Positions of bgrem's detections, and how they were made."""
    threshold = parts.provenance["signif_10"]
    if parts.significance is None or threshold is None:
        peaks = detect_on_sources(snr, 1.0, threshold=LOWEST_PEAK, mask=bad)
        return _places(peaks), f"maxima of the smoothed sources above {LOWEST_PEAK:g} sky rms"
    peaks = detect_peaks(parts.significance[window], threshold=threshold, mask=bad)
    return _places(peaks), f"maxima of SIGNIF above BGR_SG10 = {threshold:.3g}"


def _places(detections) -> np.ndarray:
    return np.column_stack([detections["x"], detections["y"]])


def _near(places: np.ndarray, others: np.ndarray, radius: float) -> np.ndarray:
    """Whether each place has one of the others within the radius."""
    found = np.zeros(len(places), bool)
    if not (len(places) and len(others)):
        return found
    # Cells as wide as the radius, numbered along rows: three neighbours in a row are one range.
    corner = np.minimum(places.min(axis=0), others.min(axis=0)) - radius
    own, theirs = (((xy - corner) // radius).astype(np.int64) for xy in (places, others))
    width = max(own[:, 0].max(), theirs[:, 0].max()) + 2
    number = theirs @ [1, width]
    order = np.argsort(number, kind="stable")
    for row in (-1, 0, 1):
        middle = own @ [1, width] + row * width
        first, last = np.searchsorted(number[order], [middle - 1, middle + 2])
        place, other = members(first, last)
        apart = places[place] - others[order[other]]
        found[place[np.hypot(*apart.T) < radius]] = True
    return found


def _on_artefact(places: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Whether the model flags a pixel near each place as an artefact."""
    x, y = np.rint(places).astype(int).T
    found = np.zeros(len(places), bool)
    for dy in range(-NEAR_ARTEFACT, NEAR_ARTEFACT + 1):
        for dx in range(-NEAR_ARTEFACT, NEAR_ARTEFACT + 1):
            row = np.clip(y + dy, 0, mask.shape[0] - 1)
            column = np.clip(x + dx, 0, mask.shape[1] - 1)
            found |= (mask[row, column] & ARTEFACT) != 0
    return found


def _centred(parts: Separation, window) -> np.ndarray:
    """The data less the median sky level, in sky rms: single precision and SEP need such numbers."""
    centred = (
        np.subtract(parts.data[window], parts.sky.median_level, dtype=np.float64)
        / parts.sky.median_rms
    )
    return centred.astype(np.float32)


def _in_sky_rms(parts: Separation, window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rms, data - background and sources, in units of the median rms of the sky."""
    rows, columns = window
    unit = parts.sky.median_rms
    rms = parts.sky.rms[rows][:, columns] / unit
    background = parts.sky.background[rows][:, columns]
    without_sky = np.subtract(parts.data[window], background, dtype=np.float64) / unit
    return rms, without_sky, parts.sources[window] / unit
