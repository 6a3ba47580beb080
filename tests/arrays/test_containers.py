"""What goes in comes out: type, unit, WCS, meta, mask, and the type of the uncertainty."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    NDDataArray,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import flat_sky

from bgrem.background import separate
from bgrem.interfaces.removal import remove_background


def sky(dtype="f4", unit=1.0):
    return (unit * flat_sky((40, 50), seed=2, dtype=float)).astype(dtype)


@pytest.mark.parametrize("kind", [NDData, CCDData, NDDataArray])
@pytest.mark.parametrize(
    ("given", "returned", "of_sigma"),
    [
        (None, StdDevUncertainty, lambda s: s),
        (StdDevUncertainty, StdDevUncertainty, lambda s: s),
        (VarianceUncertainty, VarianceUncertainty, lambda s: s**2),
        (InverseVariance, InverseVariance, lambda s: 1 / s**2),
        (UnknownUncertainty, StdDevUncertainty, lambda s: s),
    ],
)
def test_the_type_of_the_uncertainty_is_kept(toy_model, kind, given, returned, of_sigma):
    values = sky(unit=1e-22)
    data = kind(values, unit=u.Jy, uncertainty=given and given(np.ones_like(values)))
    result = remove_background(data, model=toy_model)
    assert type(result) is kind
    assert type(result.uncertainty) is returned
    sigma = separate(values, model=toy_model).uncertainty.astype(np.float64)
    np.testing.assert_allclose(result.uncertainty.array, of_sigma(sigma), rtol=1e-6)
    assert data.uncertainty is None or (data.uncertainty.array == 1).all()


def test_arithmetic_goes_on(toy_model):
    data = CCDData(sky(), unit=u.adu, uncertainty=VarianceUncertainty(np.ones((40, 50))))
    half = remove_background(data, model=toy_model).divide(2 * u.s)
    assert half.unit == u.adu / u.s
    assert isinstance(half.uncertainty, VarianceUncertainty)


@settings(max_examples=10, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "i2", "f4", "f8"]),
    wrap=st.sampled_from(
        [np.asarray, lambda a: a * u.adu, lambda a: CCDData(a, unit="adu"), np.ma.array, NDData]
    ),
)
def test_the_same_type_comes_back(toy_model, dtype, wrap):
    data = wrap(sky(dtype))
    result = remove_background(data, model=toy_model)
    assert type(result) is type(data)
    # An NDData has no shape of its own.
    assert np.shape(getattr(result, "data", result)) == np.shape(getattr(data, "data", data))
    assert getattr(result, "unit", None) == getattr(data, "unit", None)


@pytest.mark.parametrize("kind", [NDData, CCDData, NDDataArray])
def test_the_psf_is_kept(toy_model, kind):
    data = kind(sky(), unit=u.adu, psf=np.ones((3, 3)))
    result = remove_background(data, model=toy_model)
    np.testing.assert_array_equal(result.psf, data.psf)
    assert result.psf is not data.psf


def test_the_flags_are_kept(toy_model):
    data = NDDataArray(sky(), flags=np.eye(40, 50, dtype=int))
    np.testing.assert_array_equal(remove_background(data, model=toy_model).flags, data.flags)
