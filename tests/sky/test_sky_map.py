"""Skies in data units, of an image and of a mosaic, and the wide light in them."""

from dataclasses import replace

import numpy as np
import pytest

from bgrem.sky.measured import sky_of_mesh
from bgrem.sky.mesh import Mesh
from bgrem.sky.mosaic_sky import MosaicSky
from bgrem.sky.standard import SkyMap

SHAPE = (40, 60)
WIDE = np.linspace(0, 3, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)


def a_sky(**wide):
    cell = np.ones((1, 1), np.float32)
    return SkyMap(sky_of_mesh(Mesh(cell, cell, 64, SHAPE)), 100.0, 2.0, **wide)


@pytest.mark.parametrize("in_background", [False, True])
def test_wide_light_is_in_one_part(in_background):
    sky = a_sky(wide=WIDE, in_background=in_background)
    np.testing.assert_allclose(sky.wide_light[:], 2 * WIDE)
    np.testing.assert_allclose(sky.background[:], 102 + in_background * 2 * WIDE)


def test_a_sky_may_lack_wide_light():
    assert a_sky().wide_light is None
    assert MosaicSky([a_sky()] * 4, (2, 2), (80, 120)).wide_light is None


def test_wide_light_of_planes_is_interleaved():
    planes = [a_sky(wide=WIDE), a_sky(), a_sky(), a_sky()]
    light = MosaicSky(planes, (2, 2), (80, 120)).wide_light[:]
    np.testing.assert_allclose(light[::2, ::2], 2 * WIDE)
    assert not light[1::2].any() and not light[:, 1::2].any()


def test_wide_light_of_a_whole_mosaic():
    whole = a_sky(wide=WIDE, in_background=True)
    planes = [a_sky()] * 2
    planes = [replace(plane, sky=_narrow(plane.sky)) for plane in planes]
    mosaic = MosaicSky(planes, (1, 2), SHAPE, whole)
    np.testing.assert_allclose(mosaic.wide_light[:], 2 * whole.wide_light[:])
    in_sources = replace(mosaic, whole=replace(whole, in_background=False))
    assert in_sources.wide_light is None


def _narrow(sky):
    """The same sky, half as wide."""
    return sky_of_mesh(replace(sky.mesh, shape=(SHAPE[0], SHAPE[1] // 2)))
