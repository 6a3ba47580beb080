"""What a header states for a catalogue: the gain, the zero point and the places on the sky."""

import warnings
from dataclasses import dataclass

import numpy as np

__all__ = [
    "GAIN_KEYWORDS", "SkyPlaces", "ZeroPoint", "gain_of_header", "sky_places", "wcs_of",
    "zero_point_of_header",
]  # fmt: skip

#: Keywords that observatories use for electrons per data unit; where there is EGAIN, GAIN is a
#: setting of the camera.
GAIN_KEYWORDS = ("EGAIN", "GAIN", "ATODGAIN", "CCDGAIN", "GAINA", "GAIN1")
#: Keywords of the magnitude of one data unit, as pipelines and SExtractor's users write them.
ZERO_POINT_KEYWORDS = (
    "MAGZERO", "MAGZPT", "MAGZP", "MAG_ZP", "ZEROPNT", "ZEROPOINT", "ZPT", "ZP", "PHOTZP", "PHOT_ZP", "MAGZEROP",
    "SEXMGZPT",
)  # fmt: skip
AB_OF_JANSKY = 8.90  # magnitude of 1 Jy (Oke & Gunn 1983, ApJ 266, 713)
LEAST, MOST = -30.0, 60.0  # magnitudes that a zero point may have


@dataclass(frozen=True)
class ZeroPoint:
    """Magnitude of one data unit, and where it is from."""

    magnitude: float
    source: str


@dataclass(frozen=True, eq=False)
class SkyPlaces:
    """Right ascension and declination in degrees, (n,) float64 each, and their reference system."""

    alpha: np.ndarray
    delta: np.ndarray
    system: str


def gain_of_header(header):
    """Electrons per data unit that a header states, and the keyword; (None, "") where none does."""
    for keyword in GAIN_KEYWORDS:
        value = header.get(keyword)
        if _is_number(value) and 0 < value < np.inf:
            return float(value), keyword
    return None, ""


def zero_point_of_header(header):
    """The zero point that a header states.

    Cards of a magnitude (`ZERO_POINT_KEYWORDS`) come first, then PHOTFLAM with PHOTPLAM as of HST (AB
    magnitudes of a rate; Bohlin 2016, AJ 152, 60; counts need EXPTIME, and both a BUNIT), then units of flux density: a pixel's MJy/sr with PIXAR_SR, Jy and
    nanomaggies.

    Parameters
    ----------
    header : mapping

    Returns
    -------
    ZeroPoint or None
    """
    for keyword in ZERO_POINT_KEYWORDS:
        value = header.get(keyword)
        if _is_number(value) and LEAST < value < MOST and value != 0:
            return ZeroPoint(float(value), keyword)
    flam, pivot = header.get("PHOTFLAM"), header.get("PHOTPLAM")
    seconds = _seconds_of_unit(header)
    if seconds and _is_number(flam) and _is_number(pivot) and flam > 0 and pivot > 0:
        magnitude = -2.5 * np.log10(flam) - 5 * np.log10(pivot) - 2.408 + 2.5 * np.log10(seconds)
        return ZeroPoint(float(magnitude), "PHOTFLAM, PHOTPLAM (AB)")
    return _zero_point_of_unit(header)


def _zero_point_of_unit(header):
    unit = str(header.get("BUNIT", "")).replace(" ", "").lower()
    area = header.get("PIXAR_SR")
    if unit == "mjy/sr" and _is_number(area) and area > 0:
        return ZeroPoint(float(AB_OF_JANSKY - 2.5 * np.log10(1e6 * area)), "BUNIT, PIXAR_SR (AB)")
    known = {"jy": 0.0, "mjy": 7.5, "ujy": 15.0, "microjy": 15.0, "njy": 22.5}
    # mJy is a milli-, MJy a mega-Jansky.
    if unit in known and not str(header.get("BUNIT")).strip().startswith("MJ"):
        return ZeroPoint(AB_OF_JANSKY + known[unit], "BUNIT (AB)")
    if unit in ("nanomaggy", "nanomaggies", "nmgy"):
        return ZeroPoint(22.5, "BUNIT")
    return None


def _seconds_of_unit(header):
    """Seconds by which the pixels of a header count more than a rate; None where that is not known."""
    unit = str(header.get("BUNIT", "")).replace(" ", "").lower()
    if "/s" in unit or unit.endswith(("s-1", "s**-1", "s^-1")):
        return 1.0
    exposure = header.get("EXPTIME")
    return float(exposure) if unit and _is_number(exposure) and exposure > 0 else None


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def sky_places(wcs, x, y):
    """Places on the sky by a WCS with its distortions.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
    x, y : (n,) array
        In pixels, 0-based.

    Returns
    -------
    SkyPlaces or None
        ICRS or FK5 of J2000, whichever the WCS has; other systems become ICRS. None where the WCS has no
        celestial axes.
    """
    from astropy.coordinates import FK5, ICRS, SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    if wcs is None:
        return None
    try:
        if not wcs.has_celestial:
            return None
        sky = wcs.celestial
        frame = wcs_to_celestial_frame(sky)
        world = sky.all_pix2world(x, y, 0)
    except Exception:  # noqa: BLE001 - astropy raises many classes for systems that it does not know
        return None
    if not abs(np.linalg.det(sky.pixel_scale_matrix)) > 0:
        return None
    lon, lat = world[sky.wcs.lng], world[sky.wcs.lat]
    equatorial = isinstance(frame, ICRS) or (
        isinstance(frame, FK5) and abs(frame.equinox.jyear - 2000.0) < 1e-6
    )
    if equatorial:
        return SkyPlaces(lon % 360, lat, frame.name.upper())
    try:
        places = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    except Exception:  # noqa: BLE001 - such as places on the Sun
        return None
    return SkyPlaces(places.ra.deg, places.dec.deg, "ICRS")


def wcs_of(image):
    """The WCS of an image with its distortions, None where the header has none or it is not valid."""
    from astropy.io import fits
    from astropy.wcs import WCS

    header = image.header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if any(key.startswith(("CPDIS", "D2IM")) for key in header):
                with fits.open(image.path) as file:
                    return WCS(header, fobj=file)
            return WCS(header)
        except Exception:  # noqa: BLE001 - astropy raises many classes for headers that are not valid
            return None
