"""Colour mosaics are found, brought to one level or separated plane by plane, and put back."""

from functools import partial

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from bgrem.background import separate
from bgrem.inference.model import load_model
from bgrem.io.filter_arrays import mosaic_cell
from bgrem.io.restore import undo
from bgrem.options import Options, Run
from bgrem.processing.files import process_file
from bgrem.processing.mosaics import separate_mosaic
from bgrem.sky.mosaic_sky import phases_of

BAYER = ("RG", "GB")
X_TRANS = ("GGRGGB", "GGBGGR", "BRGRBG", "GGBGGR", "GGRGGB", "RBGBRG")
CYGM = ("GM", "CY", "MG", "CY")
QUAD = ("RRGG", "RRGG", "GGBB", "GGBB")
GAIN = {"R": 0.6, "G": 1.0, "B": 0.8, "C": 1.2, "Y": 1.5, "M": 0.5}
GAINS = (0.6, 1.0, 1.0, 0.8)  # of R, G, G, B
BAYER_PHASES = phases_of((2, 2))


def gains(pattern, shape):
    """The gain of each pixel of a pattern."""
    down, across = (-(-n // m) for n, m in zip(shape, (len(pattern), len(pattern[0])), strict=True))
    return np.tile([[GAIN[c] for c in row] for row in pattern], (down, across))[
        : shape[0], : shape[1]
    ]


def mosaic(shape=(96, 130), level=400.0, seed=0, pattern=BAYER):
    rng = np.random.default_rng(seed)
    light = level * gains(pattern, shape)
    return rng.normal(light, np.sqrt(light))


def starry(shape, pattern, *, fwhm=3.0, level=1000.0):
    """A mosaic with white stars of four electrons per count, and the light of the stars."""
    rng = np.random.default_rng(3)
    y, x = np.indices(shape)
    sigma = fwhm / 2.3548
    stars = sum(
        3e4 / (6.28 * sigma**2) * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2 / sigma**2)
        for a in np.arange(30, shape[1] - 20, 45.3)
        for b in np.arange(30, shape[0] - 20, 45.7)
    )
    gain = gains(pattern, shape)
    light = (level + stars) * gain
    return (light + rng.normal(size=shape) * np.sqrt(light) / 2).astype(np.float32), stars * gain


# --- the test


def test_a_mosaic_is_found():
    assert mosaic_cell(mosaic(), {}) == (2, 2)
    assert mosaic_cell(mosaic().astype(np.uint16), {}) == (2, 2)
    holes = mosaic()
    holes[10:20, 30:60] = np.nan
    assert mosaic_cell(holes, {}) == (2, 2)
    faint = mosaic(level=0.05)
    assert mosaic_cell(faint, {}) is None
    assert mosaic_cell(faint, {"BAYERPAT": "RGGB"}) == (2, 2)
    assert mosaic_cell(faint, {"COLORTYP": "bayer_rggb"}) == (2, 2)


@pytest.mark.parametrize(
    ("pattern", "cell"), [(BAYER, (2, 2)), (X_TRANS, (6, 6)), (CYGM, (4, 2)), (QUAD, (4, 4))]
)
def test_cells_of_any_size_are_found(pattern, cell):
    data = mosaic((204, 230), pattern=pattern)
    letters = "".join(pattern)
    assert mosaic_cell(data, {}) == cell
    assert mosaic_cell(data[1:, 3:], {}) == cell
    assert mosaic_cell(data, {"BAYERPAT": letters}) == cell
    assert mosaic_cell(data, {"BAYERPAT": "GRBG"}) == cell  # the card of another camera
    assert mosaic_cell(mosaic((96, 96), 0.05), {"BAYERPAT": " ".join(pattern)}) == cell
    assert mosaic_cell(np.stack([data, data]), {}) == cell
    data[:60] = 0  # no data
    assert mosaic_cell(data, {}) == cell


def test_a_card_tells_equal_colours_apart():
    data = mosaic((204, 230), pattern=X_TRANS)
    equal = np.where(gains(X_TRANS, data.shape) == 0.6, data + 80, data)  # red as bright as blue
    assert mosaic_cell(equal, {}) == (3, 3)
    assert mosaic_cell(equal, {"BAYERPAT": "XTRANS"}) == (6, 6)


def test_others_are_none():
    rng = np.random.default_rng(1)
    white = rng.normal(100, 5, (200, 230))
    assert mosaic_cell(white, {}) is None
    for value in ("none", "", "RGB", "SRGB", "MONO", 2, True, "GGGG"):
        assert mosaic_cell(white, {"BAYERPAT": value, "COLORTYP": value}) is None
    columns, rows = white.copy(), white.copy()
    columns[:, ::2] += 40
    columns[:, ::3] -= 20
    rows[::4] += 40
    assert mosaic_cell(columns, {}) is None
    assert mosaic_cell(rows, {}) is None
    assert mosaic_cell(rows + columns, {}) is None
    drizzled = np.kron(white[:100, :115], np.ones((2, 2))) + 0.1 * white
    assert mosaic_cell(drizzled, {}) is None
    quadrants = white.copy()
    quadrants[:100, :115] += 30
    assert mosaic_cell(quadrants, {}) is None
    assert mosaic_cell(np.zeros((96, 130)), {}) is None
    assert mosaic_cell(np.full((96, 130), np.nan), {}) is None
    assert mosaic_cell(mosaic((20, 20)), {"BAYERPAT": "RGGB"}) is None
    assert mosaic_cell(np.zeros((3, 96, 130)), {"BAYERPAT": "RGGB"}) is None


# --- the parts


@settings(max_examples=8, deadline=None)
@given(
    shape=st.tuples(st.integers(32, 70), st.integers(32, 70)),
    cell=st.sampled_from([(2, 2), (2, 4), (3, 1)]),
    dtype=st.sampled_from(["u2", "f4", "f8"]),
    lost=st.integers(0, 900),
)
def test_the_parts_add_up_and_nan_stays(toy_model, shape, cell, dtype, lost):
    data = mosaic(shape).astype(dtype)
    if dtype != "u2":
        data.flat[lost] = np.nan
    parts = separate_mosaic(partial(separate, model=toy_model), cell, data)
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
        partial(separate, model=toy_model), (2, 2), data, mask=mask, saturate=3000.0,
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


@pytest.fixture(scope="module")
def optical():
    return load_model("optical", threads=1)


@pytest.mark.parametrize("pattern", [BAYER, X_TRANS, CYGM])
def test_sharp_stars_of_a_mosaic_keep_light(optical, pattern):
    data, light = starry((200, 230), pattern)
    cell = len(pattern), len(pattern[0])
    parts = separate_mosaic(partial(separate, model=optical), cell, data)
    bright = light > 300
    assert parts.sources[bright].sum() / light[bright].sum() == pytest.approx(1, abs=0.03)
    sky = 1000 * gains(pattern, data.shape)
    assert abs(parts.background - sky).mean() < 2  # of a noise of 16
    np.testing.assert_allclose(parts.rms, np.sqrt(sky) / 2, rtol=0.2)
    assert parts.provenance.fwhm == pytest.approx(3, abs=0.3)
    np.testing.assert_allclose(
        parts.sources.astype(float) + parts.background + parts.noise, data, rtol=3e-7
    )
    assert parts.uncertainty.shape == parts.significance.shape == data.shape


@pytest.mark.parametrize(
    ("pattern", "fwhm", "planes"), [(BAYER, 3.5, False), (BAYER, 4.6, True), (X_TRANS, 4.5, False)]
)
def test_the_fwhm_is_that_of_whole_stars(toy_model, pattern, fwhm, planes):
    data, _ = starry((300, 300), pattern, fwhm=fwhm)
    cell = len(pattern), len(pattern[0])
    facts = separate_mosaic(partial(separate, model=toy_model), cell, data).provenance
    assert facts.fwhm == pytest.approx(fwhm, rel=0.05)
    assert facts.fwhm_from in ("stars", "faint stars")
    assert ("a Bayer mosaic: done as four planes" in facts.warnings) == planes


def test_light_of_one_colour_is_kept(optical):
    data, _ = starry((300, 300), X_TRANS)
    y, x = np.indices(data.shape)
    red = gains(X_TRANS, data.shape) == 0.6
    nebula = 200 * np.exp(-((x - 150) ** 2 + (y - 150) ** 2) / 2 / 14**2) * red
    with_nebula, without = (
        separate_mosaic(partial(separate, model=optical), (6, 6), d.astype(np.float32)).sources
        for d in (data + nebula, data)
    )
    kept = (with_nebula - without)[nebula > 20].sum() / nebula[nebula > 20].sum()
    assert kept == pytest.approx(1, abs=0.15)


def test_masks_of_a_whole_mosaic(toy_model):
    data, _ = starry((140, 150), X_TRANS)
    data[20:24, 30:33] = np.nan
    data[:9] = 0
    mask = np.zeros(data.shape, bool)
    mask[60:63, 70] = True
    data[60:63, 70] = 1e9
    data[100:104, 100:104] = 30000
    seen = []
    weight = np.ones(data.shape)
    weight[:, :75] = 4
    weight[120:126, 20:50] = np.inf  # no data
    data[120:126, 20:50] = -1e7
    parts = separate_mosaic(
        partial(separate, model=toy_model), (6, 6), data, mask=mask, weight=weight,
        weight_type="variance", saturate=20000.0, run=Run(progress=seen.append),
    )  # fmt: skip
    assert np.isnan(parts.sources[20:24, 30:33]).all()
    assert (parts.mask[20:24, 30:33] & 1 == 1).all()
    assert (parts.mask[60:63, 70] & 2 == 2).all() and (parts.sources[60:63, 70] == 0).all()
    assert np.count_nonzero(parts.mask & 2) == 3
    assert (parts.mask[:9] & 16 == 16).all() and (parts.mask[120:126, 20:50] & 16 == 16).all()
    assert abs(parts.sources[110:135, 15:60]).max() < 100
    core = np.s_[100:104, 100:104]
    assert (parts.mask[core] & 8 == 8).all()
    kept = parts.sources[core] + parts.background[core]
    np.testing.assert_allclose(kept, data[core], rtol=1e-5)
    left, right = parts.rms[30:50, 10:40].mean(), parts.rms[30:50, 110:140].mean()
    assert left / right == pytest.approx(2, rel=0.05)
    assert seen == sorted(seen) and seen[-1] == 1
    assert parts.provenance.weight == "variance" and parts.provenance.saturate == 20000


def test_options_of_a_whole_mosaic(toy_model):
    data = mosaic((140, 150), pattern=X_TRANS).astype(np.float64)
    data[70, 75] = -5000
    whole = partial(separate_mosaic, partial(separate, model=toy_model), (6, 6), data)
    parts = whole(options=Options(minpix="auto", norm=0.1, fwhm=3.5, box=64))
    np.testing.assert_allclose(parts.rms, 10, rtol=1e-5)
    assert parts.provenance.minpix == 0 and parts.provenance.norm == 0.1
    assert parts.provenance.fwhm == 3.5
    assert parts.sources.dtype == parts.noise.dtype == np.float64
    assert parts.noise[70, 75] < -4900
    scaled = separate_mosaic(partial(separate, model=toy_model), (6, 6), 1e-17 * data)
    same = separate_mosaic(partial(separate, model=toy_model), (6, 6), data)
    np.testing.assert_allclose(scaled.sources * 1e17, same.sources, rtol=1e-3, atol=1e-3)


# --- the file


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_a_file_of_another_cell(tmp_path, toy_model, dtype):
    data, _ = starry((140, 151), X_TRANS)
    cube = np.stack([data, data + 5]).astype(dtype)
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(cube, fits.Header({"BAYERPAT": "GRBG"})).writeto(path)
    planes = ["background", "noise", "rms", "mask", "uncertainty", "significance"]
    result = process_file(path, model=toy_model, save=planes)
    assert (
        "plane 1: a colour mosaic of 6 x 6 pixels: done as one image, each colour with its sky"
        in (result.warnings)
    )
    with fits.open(result.output) as hdus:
        level = np.median(hdus["BACKGROUND"].data[1] / gains(X_TRANS, data.shape))
    assert level == pytest.approx(1005, abs=12)
    restored = fits.getdata(undo(result.output))
    if dtype == "u2":
        np.testing.assert_array_equal(restored, cube)
    np.testing.assert_allclose(restored, cube, rtol=1e-6 if dtype == "f4" else 1e-14)
    other = process_file(path, model=toy_model, bayer="yes", prefix="yes_")
    np.testing.assert_array_equal(fits.getdata(other.output), fits.getdata(result.output))


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


@pytest.mark.parametrize("value", [0.0, 65535.0, np.nan])
@pytest.mark.parametrize("pattern", [BAYER, X_TRANS], ids=["Bayer", "X-Trans"])
def test_a_dead_position_costs_no_other(pattern, value):
    cell = len(pattern), len(pattern[0])
    data, stars = starry((192, 198), pattern)
    dead = np.zeros(data.shape, bool)
    dead[1 :: cell[0], 1 :: cell[1]] = True
    data[dead] = value
    parts = separate_mosaic(partial(separate, model="optical"), cell, data)
    bright = (stars > 200) & ~dead
    assert parts.sources[bright].sum() / stars[bright].sum() == pytest.approx(1, abs=0.12)
    assert (
        f"1 of {cell[0] * cell[1]} positions in the cell have no data" in parts.provenance.warnings
    )
    assert not np.nan_to_num(parts.sources[dead]).any()
