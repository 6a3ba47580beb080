"""Bayer mosaics are found, separated plane by plane and put back."""

from functools import partial

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from bgrem.background import separate
from bgrem.io.restore import undo
from bgrem.options import Options, Run
from bgrem.processing.bayer import BAYER_PHASES, is_bayer, separate_mosaic
from bgrem.processing.files import process_file

GAINS = (0.6, 1.0, 1.0, 0.8)  # of R, G, G, B


def mosaic(shape=(96, 130), level=400.0, seed=0):
    rng = np.random.default_rng(seed)
    data = np.empty(shape)
    for phase, gain in zip(BAYER_PHASES, GAINS, strict=True):
        data[phase] = rng.normal(gain * level, np.sqrt(gain * level), data[phase].shape)
    return data


# --- the test


def test_a_mosaic_is_found():
    assert is_bayer(mosaic(), {})
    assert is_bayer(mosaic().astype(np.uint16), {})
    holes = mosaic()
    holes[10:20, 30:60] = np.nan
    assert is_bayer(holes, {})
    faint = mosaic(level=0.05)
    assert not is_bayer(faint, {})
    assert is_bayer(faint, {"BAYERPAT": "RGGB"})


def test_others_are_none():
    rng = np.random.default_rng(1)
    white = rng.normal(100, 5, (96, 130))
    assert not is_bayer(white, {})
    assert not is_bayer(white, {"BAYERPAT": "none"})
    columns, rows = white.copy(), white.copy()
    columns[:, ::2] += 40
    rows[::2] += 40
    assert not is_bayer(columns, {})
    assert not is_bayer(rows, {})
    assert not is_bayer(rows + columns, {})
    assert not is_bayer(np.zeros((96, 130)), {})
    assert not is_bayer(np.full((96, 130), np.nan), {})
    assert not is_bayer(mosaic((20, 20)), {"BAYERPAT": "RGGB"})
    assert not is_bayer(np.zeros((3, 96, 130)), {"BAYERPAT": "RGGB"})


# --- the parts


@settings(max_examples=8, deadline=None)
@given(
    shape=st.tuples(st.integers(32, 70), st.integers(32, 70)),
    dtype=st.sampled_from(["u2", "f4", "f8"]),
    lost=st.integers(0, 900),
)
def test_the_parts_add_up_and_nan_stays(toy_model, shape, dtype, lost):
    data = mosaic(shape).astype(dtype)
    if dtype != "u2":
        data.flat[lost] = np.nan
    parts = separate_mosaic(partial(separate, model=toy_model), data)
    total = parts.sources.astype(float) + parts.background + parts.noise
    np.testing.assert_allclose(total, data, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(parts.sources), np.isnan(data.astype(float)))
    assert parts.sources.shape == parts.rms.shape == parts.mask.shape == shape


def test_each_plane_is_as_alone(toy_model):
    data = mosaic()
    data[40:44, 60:64] += 3000
    mask = np.zeros(data.shape, bool)
    mask[5, 6:9] = True
    seen = []
    parts = separate_mosaic(
        partial(separate, model=toy_model), data, mask=mask, saturate=3000.0,
        options=Options(fwhm=5.0, box=64), run=Run(progress=seen.append),
    )  # fmt: skip
    for phase in BAYER_PHASES:
        alone = separate(
            data[phase], mask=mask[phase], saturate=3000.0, fwhm=2.5, box=32, model=toy_model
        )
        for name in ("sources", "background", "rms", "mask", "uncertainty", "significance"):
            np.testing.assert_array_equal(getattr(parts, name)[phase], getattr(alone, name))
    assert parts.provenance["fwhm"] == 5.0
    assert seen == sorted(seen) and seen[-1] == 1
    # No pattern is left in the background's residual.
    rest = (data - parts.background)[~mask]
    assert abs(np.median(rest)) < 2


# --- the file


@pytest.mark.parametrize("shape", [(96, 130), (97, 131)])
def test_a_file(tmp_path, toy_model, shape):
    fits.PrimaryHDU(mosaic(shape).astype(np.uint16)).writeto(tmp_path / "a.fits")
    result = process_file(tmp_path / "a.fits", model=toy_model, save=["background", "noise"])
    assert "a Bayer mosaic: done as four planes" in result.warnings
    with fits.open(result.output) as hdus:
        levels = [np.median(hdus["BACKGROUND"].data[phase]) for phase in BAYER_PHASES]
    np.testing.assert_allclose(levels, np.multiply(GAINS, 400), atol=8)
    assert undo(result.output).read_bytes() == (tmp_path / "a.fits").read_bytes()
    one = process_file(tmp_path / "a.fits", model=toy_model, bayer="no", prefix="one_")
    assert one.warnings == ()
    with pytest.raises(ValueError, match="bayer must be one of auto, yes, no"):
        process_file(tmp_path / "a.fits", model=toy_model, bayer="maybe", prefix="x")
