"""Gain, zero point and places on the sky from headers."""

import numpy as np
import pytest
from astropy.coordinates import FK5, SkyCoord
from astropy.wcs import WCS

from bgrem.io.header_facts import sky_places, zero_point_of_header


@pytest.mark.parametrize(
    ("header", "magnitude"),
    [
        ({"MAGZERO": 26.1}, 26.1), ({"MAGZPT": 25, "PHOTZP": 20.0}, 25.0), ({"PHOTZP": -22.5}, -22.5),
        ({"PHOTFLAM": 7.0e-20, "PHOTPLAM": 5921.0, "BUNIT": "electron/s"}, 26.617),
        ({"PHOTFLAM": 7.0e-20, "PHOTPLAM": 5921.0, "BUNIT": "DN", "EXPTIME": 100.0}, 31.617), ({"BUNIT": "nanomaggy"}, 22.5),
        ({"BUNIT": "MJy/sr", "PIXAR_SR": 2.3e-14}, 28.0), ({"BUNIT": "Jy"}, 8.9), ({"BUNIT": "uJy"}, 23.9),
        ({"BUNIT": "mJy"}, 16.4),
    ],
)  # fmt: skip
def test_zero_points(header, magnitude):
    assert zero_point_of_header(header).magnitude == pytest.approx(magnitude, abs=0.01)


@pytest.mark.parametrize(
    "header", [{}, {"MAGZERO": "none"}, {"MAGZERO": 0.0}, {"ZP": 1e9}, {"BUNIT": "adu"}, {"BUNIT": "MJy"},
               {"PHOTFLAM": 0.0, "PHOTPLAM": 5000.0, "BUNIT": "DN/s"}, {"MAGZERO": True},
               {"PHOTFLAM": 7e-20, "PHOTPLAM": 5000.0}, {"PHOTFLAM": 7e-20, "PHOTPLAM": 5000.0, "BUNIT": "DN"}],
)  # fmt: skip
def test_no_zero_point(header):
    assert zero_point_of_header(header) is None


def world(ctype=("RA---TAN", "DEC--TAN"), **cards):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ctype
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (359.999, -30.0), (50, 60), (-1e-4, 1e-4)
    for name, value in cards.items():
        setattr(wcs.wcs, name, value)
    return wcs


def test_places_are_those_of_astropy():
    x, y = np.array([0.0, 37.3, 500.0]), np.array([0.0, 11.9, 4.0])
    wcs = world(radesys="ICRS")
    places = sky_places(wcs, x, y)
    expected = wcs.pixel_to_world(x, y)
    assert places.system == "ICRS"
    assert np.abs(places.alpha - expected.ra.deg).max() < 1e-9
    assert np.abs(places.delta - expected.dec.deg).max() < 1e-9
    assert (places.alpha >= 0).all()


def test_old_and_galactic_systems_become_icrs():
    x, y = np.array([10.0]), np.array([20.0])
    old = world(radesys="FK5", equinox=1950.0)
    places = sky_places(old, x, y)
    expected = SkyCoord(old.pixel_to_world(x, y), frame=FK5(equinox="J1950")).icrs
    assert places.system == "ICRS"
    assert places.delta == pytest.approx(expected.dec.deg, abs=1e-9)
    assert sky_places(world(("GLON-TAN", "GLAT-TAN")), x, y).system == "ICRS"
    assert sky_places(world(radesys="FK5", equinox=2000.0), x, y).system == "FK5"


def test_declination_may_be_the_first_axis():
    x, y = np.array([10.0]), np.array([20.0])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ("DEC--TAN", "RA---TAN")
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (2.0, 150.0), (50, 60), (1e-4, -1e-4)
    places, expected = sky_places(wcs, x, y), wcs.pixel_to_world(x, y)
    assert places.alpha == pytest.approx(expected.ra.deg, abs=1e-9)
    assert places.delta == pytest.approx(expected.dec.deg, abs=1e-9)


@pytest.mark.parametrize("changes", [{"radesys": "FOO"}, {"ctype": ("HPLN-TAN", "HPLT-TAN")},
                                     {"ctype": ("MALN-TAN", "MALT-TAN")}, {"cdelt": (0.0, 0.0)}])  # fmt: skip
def test_systems_that_are_not_known_give_no_places(changes):
    changes = dict(changes)
    wcs = world(changes.pop("ctype", ("RA---TAN", "DEC--TAN")))
    for name, value in changes.items():
        setattr(wcs.wcs, name, value)
    assert sky_places(wcs, np.zeros(1), np.zeros(1)) is None


def test_no_celestial_axes():
    assert sky_places(None, np.zeros(1), np.zeros(1)) is None
    assert sky_places(WCS(naxis=2), np.zeros(1), np.zeros(1)) is None
