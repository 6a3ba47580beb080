import subprocess
import sys

import numpy as np
import onnx
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skies import star_field
from toy_models import toy_card, toy_onnx

import bgrem
from bgrem.background import separate
from bgrem.detection.frame import HIGHEST_ENTRIES, LOWEST_ENTRIES, Frame
from bgrem.detection.photometry import uncertainty_of_model
from bgrem.inference.denoiser import frame_vector
from bgrem.inference.model import load_model
from bgrem.interfaces.background2d import DiffusionBackground2D
from bgrem.interfaces.removal import remove_background
from bgrem.network.calibration import Calibration
from bgrem.options import Options


def field(shape=(200, 230), level=1000.0, rms=10.0, seed=0):
    """Stars on a gradient with noise, float64."""
    gradient = 0.005 * rms * np.arange(shape[0])[:, None]
    stars = {"height": 60 * rms, "sigma": np.sqrt(2.5), "seed": seed}
    return gradient + star_field(shape, level=level, rms=rms, **stars)


def check_sum(parts, data):
    """sources + background + noise == data wherever the data are finite."""
    known = np.isfinite(data)
    s, b, n, d = (
        np.asarray(part, dtype=np.float64)[known]
        for part in (parts.sources, parts.background, parts.noise, data)
    )
    assert np.all(np.abs(s + b + n - d) <= 1e-6 * (abs(s) + abs(b) + abs(n) + abs(d)))


# ---- the parts -----------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(16, 120), st.integers(16, 120)),
    level=st.sampled_from([0.0, 1.0, -500.0, 1e7]),
    rms=st.sampled_from([1e-12, 1.0, 1e5]),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_the_parts_add_up(toy_model, shape, level, rms, dtype):
    data = np.random.default_rng(0).normal(level * rms, rms, shape).astype(dtype)
    parts = separate(data, model=toy_model)
    check_sum(parts, data)
    assert parts.sources.shape == shape


def test_stars_are_sources_and_the_sky_is_background(toy_model):
    data = field()
    parts = separate(data, model=toy_model)
    sky = 1000 + 0.05 * np.arange(200)[:, None]
    assert np.abs(parts.background - sky).max() < 3
    assert abs(np.median(parts.rms) - 10) < 0.5
    star = np.unravel_index(np.argmax(data), data.shape)
    assert parts.sources[star] > 100
    assert abs(np.median(parts.sources)) < 0.5
    assert abs(np.std(parts.noise[parts.sources < 1]) - 10) < 1


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "i8", "u8", "f2", ">f4", ">f8"])
def test_any_type_of_data(toy_model, dtype):
    data = field(level=100, rms=2).astype(dtype)
    kept = data.copy()
    parts = separate(data, model=toy_model)
    np.testing.assert_array_equal(data, kept)
    double = np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize == 8
    for part in (parts.sources, parts.background, parts.noise, parts.rms):
        assert part.dtype == (np.float64 if double else np.float32)
        assert part.dtype.isnative
    check_sum(parts, data)


@pytest.mark.parametrize("a", [1e-19, 1.0, 1e6])
@pytest.mark.parametrize("level", [0.0, 100.0, 1e4])
def test_neither_unit_nor_bias_level_matter(toy_model, a, level):
    data = field(level=0)
    reference = remove_background(data, model=toy_model)
    moved = remove_background(a * data + a * level * 10.0, model=toy_model)
    assert np.abs(moved / a - reference).max() < 1e-3 * 10.0


def test_the_input_is_not_changed(toy_model):
    data = field().astype(np.float32)
    kept = data.copy()
    parts = separate(data, model=toy_model)
    parts.sources[:] = 7
    np.testing.assert_array_equal(data, kept)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_tiles_leave_no_seam(toy_model, dtype):
    data = field((500, 420)).astype(dtype)
    tiled = separate(data, model=toy_model, tile=96)
    whole = separate(data, model=toy_model, tile=1024)
    np.testing.assert_allclose(tiled.sources, whole.sources, atol=1e-3 * 10)
    np.testing.assert_array_equal(tiled.mask, whole.mask)


def test_any_order_of_memory(toy_model):
    data = field()
    reference = remove_background(data, model=toy_model)
    for other in (np.asfortranarray(data), np.repeat(data, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(remove_background(other, model=toy_model), reference)


# ---- bad pixels ----------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    bad=arrays(bool, (60, 70), elements=st.booleans()),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_what_is_not_finite_does_not_spread(toy_model, bad, value):
    bad[30, 30] = False
    bad[31, 31] = False
    data = np.random.default_rng(2).normal(50, 3, bad.shape)
    data[bad] = value
    parts = separate(data, model=toy_model)
    np.testing.assert_array_equal(np.isnan(parts.sources), bad)
    np.testing.assert_array_equal(np.isnan(parts.noise), bad)
    np.testing.assert_array_equal(parts.mask & 1, bad)
    assert np.all(np.isfinite(parts.background))
    assert np.all(parts.rms > 0)
    check_sum(parts, data)


def test_masked_pixels_go_to_the_noise(toy_model):
    data = field()
    mask = np.zeros(data.shape, dtype=bool)
    mask[50:60, 40:90] = True
    spoiled = np.where(mask, 1e9, data)
    parts = separate(spoiled, mask=mask, model=toy_model)
    assert np.all(parts.sources[mask] == 0)
    assert np.all(parts.noise[mask] > 9e8)
    np.testing.assert_array_equal((parts.mask & 2) != 0, mask)
    check_sum(parts, spoiled)
    # What is under the mask has no effect on the rest.
    other = separate(data, mask=mask, model=toy_model)
    np.testing.assert_array_equal(parts.sources, other.sources)


def test_a_mask_of_integers_and_one_with_nan(toy_model):
    data = field()
    mask = np.zeros(data.shape, dtype=np.int16)
    mask[3, 4] = 64
    data[5, 6] = np.nan
    mask[5, 6] = 1
    parts = separate(data, mask=mask, model=toy_model)
    assert parts.mask[3, 4] & 3 == 2
    assert parts.mask[5, 6] & 3 == 3
    assert parts.sources[3, 4] == 0
    assert np.isnan(parts.sources[5, 6])


def test_artefacts_of_the_model_are_in_the_mask(toy_model):
    data = field()
    data[100, 15] += 5000
    parts = separate(data, model=toy_model)
    assert parts.mask[100, 15] & 4
    assert np.mean(parts.mask == 0) > 0.99


def test_minpix_raises_pixels_for_the_model_only(toy_model):
    data = field()
    data[100:130, 100:130] = -1e6
    parts = separate(data, minpix=900, model=toy_model)
    raised = separate(np.maximum(data, 900), model=toy_model)
    np.testing.assert_array_equal(parts.sources, raised.sources)
    check_sum(parts, data)
    assert parts.provenance["minpix"] == 900


@pytest.mark.parametrize(("level", "expected"), [(1000, 0.0), (20, None)])
def test_minpix_auto_is_for_raw_frames(toy_model, level, expected):
    parts = separate(field(level=level), minpix="auto", model=toy_model)
    assert parts.provenance["minpix"] == expected


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_minpix_below_all_numbers_raises_nothing(toy_model):
    data = field(level=0.0).astype(np.float32)
    raised = separate(data, minpix=-1e300, model=toy_model).sources
    np.testing.assert_array_equal(raised, separate(data, model=toy_model).sources)


def test_wild_values_stay_where_they_are(toy_model):
    data = field()
    expected = remove_background(data, model=toy_model)
    data[0, 0] = 1e300
    sources = remove_background(data, model=toy_model)
    assert np.all(np.isfinite(sources))
    # The noise is 10: three hundredths of it, for what one pixel more or less does to the sky.
    np.testing.assert_allclose(sources[20:], expected[20:], atol=0.3)


# ---- options -------------------------------------------------------------------------


def test_norm_takes_the_place_of_the_noise_map(toy_model):
    parts = separate(field(), norm=0.05, model=toy_model)
    np.testing.assert_allclose(parts.rms, 20, rtol=1e-5)
    assert parts.provenance["norm"] == 0.05
    estimated = separate(field(), norm=0, model=toy_model)
    assert abs(estimated.provenance["rms"] - 10) < 0.5
    assert estimated.provenance["norm"] == 0


def test_provenance_says_how_it_was_done(toy_model, toy_model_path):
    provenance = separate(field(), model=toy_model_path, steps=3, fwhm=2.5).provenance
    assert provenance["version"] == bgrem.__version__
    assert provenance["model"] == "toy"
    assert provenance["sha256"] == toy_model.sha256
    assert provenance["engine"] == str(toy_model.engine)
    assert provenance["steps"] == 3
    assert provenance["fwhm"] == 2.5
    assert abs(provenance["level"] - 1000) < 15
    assert 0 <= provenance["lost_light"] < 1
    # The model of the tests is a smoothing, which takes the peaks of stars for noise.
    (line,) = provenance["warnings"]
    assert "of the light above 5 rms is in the noise, most near x=" in line


@pytest.mark.parametrize(("unit", "level"), [(1.0, 1e9), (1e-200, 0.0), (1e200, 0.0)])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_level_and_rms_are_those_of_double_precision(toy_model, unit, level):
    provenance = separate(unit * field(level=level), model=toy_model).provenance
    assert abs(provenance["level"] / unit - level) < 15
    assert abs(provenance["rms"] / unit - 10) < 0.5


def test_mostly_bad_data_bring_a_warning(toy_model):
    data = field()
    data[:150] = np.nan
    assert "75% of the pixels are bad" in separate(data, model=toy_model).provenance["warnings"]


def test_further_maps(toy_model):
    data = field()
    data[7, 8] = np.nan
    parts = separate(data, model=toy_model)
    expected = np.hypot(parts.rms, parts.background_error)  # log-variance 0
    np.testing.assert_allclose(parts.uncertainty[50:], expected[50:])
    assert np.isnan(parts.uncertainty[7, 8])
    assert np.isnan(parts.significance[7, 8])
    peak = np.unravel_index(np.nanargmax(data), data.shape)
    assert parts.significance[peak] > 3
    without = separate(data, model=toy_model, maps=())
    assert without.uncertainty is None
    assert without.significance is None
    np.testing.assert_array_equal(without.sources, parts.sources)
    np.testing.assert_array_equal(without.mask, parts.mask)


def test_progress_ends_at_one(toy_model):
    seen = []
    separate(field(), model=toy_model, tile=96, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(100), "2 axes"),
        (np.zeros((3, 30, 30)), "2 axes"),
        (np.ones((3, 3)), "too small"),
        (np.ones((1, 500)), "too small"),
        (np.zeros((0, 0)), "too small"),
        (np.ones((50, 50)), "constant"),
        (np.full((50, 50), np.nan), "no good pixel"),
        (np.ones((50, 50), dtype=complex), "real numbers"),
        (np.ones((50, 50), dtype=bool), "real numbers"),
        (np.full((50, 50), "x"), "real numbers"),
    ],
)
def test_data_that_cannot_be_separated(toy_model, data, message):
    with pytest.raises(ValueError, match=message) as error:
        separate(data, model=toy_model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "at least 1"),
        ({"steps": -3}, "at least 1"),
        ({"norm": -1.0}, "norm"),
        ({"norm": np.nan}, "norm"),
        ({"norm": 1e-300}, "norm 1e-300 is out of range, the noise is about 1"),
        ({"norm": 1e300}, "out of range"),
        ({"minpix": "low"}, "minpix"),
        ({"minpix": np.inf}, "minpix"),
        ({"fwhm": 0.0}, "fwhm"),
        ({"box": 2}, "box"),
        ({"tile": 32}, "too small for an overlap"),
        ({"maps": ("depth",)}, "unknown maps"),
        ({"mask": np.zeros((3, 3), dtype=bool)}, "mask has shape"),
        ({"mask": np.ones((200, 230), dtype=bool)}, "no good pixel"),
        ({"model": "nosuch"}, "no model"),
    ],
)
def test_options_out_of_range(toy_model, options, message):
    with pytest.raises(ValueError, match=message):
        separate(field(), **{"model": toy_model, **options})


# ---- containers ----------------------------------------------------------------------


def test_arrays_and_lists_give_arrays(toy_model):
    data = field((40, 50))
    result = remove_background(data, model=toy_model)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(remove_background(data.tolist(), model=toy_model), result)


def test_a_quantity_keeps_its_unit(toy_model):
    data = field() * u.Jy
    result = remove_background(data, model=toy_model)
    assert isinstance(result, u.Quantity)
    assert result.unit == u.Jy
    np.testing.assert_array_equal(result.value, remove_background(data.value, model=toy_model))


def test_a_masked_array_keeps_its_mask(toy_model):
    mask = np.zeros((200, 230), dtype=bool)
    mask[3:9] = True
    result = remove_background(np.ma.array(field(), mask=mask), model=toy_model)
    assert isinstance(result, np.ma.MaskedArray)
    np.testing.assert_array_equal(result.mask, mask)
    assert np.all(result.data[mask] == 0)


@pytest.mark.parametrize("kind", [NDData, CCDData])
def test_nddata_keeps_all_but_its_values(toy_model, kind):
    values = field()
    mask = np.zeros(values.shape, dtype=bool)
    mask[3:9] = True
    wcs = WCS(naxis=2)
    data = kind(
        values,
        unit=u.adu,
        wcs=wcs,
        meta={"OBJECT": "M 67"},
        mask=mask,
        uncertainty=StdDevUncertainty(np.ones_like(values)),
    )
    extra = np.zeros_like(mask)
    extra[20:25] = True
    result = remove_background(data, mask=extra, model=toy_model)
    assert type(result) is kind
    assert result.unit == u.adu
    assert result.meta["OBJECT"] == "M 67"
    assert result.wcs.naxis == 2
    assert isinstance(result.uncertainty, StdDevUncertainty)
    np.testing.assert_array_equal(result.mask, mask)
    assert np.all(result.data[mask | extra] == 0)
    np.testing.assert_array_equal(data.data, values)
    with pytest.raises(ValueError, match="shape"):
        remove_background(data, mask=extra[:5], model=toy_model)


def test_it_stands_where_a_photutils_background_stood(toy_model):
    data = field() * u.adu
    sky = DiffusionBackground2D(data, model=toy_model)
    for name in ("background", "background_rms", "background_median", "background_rms_median"):
        assert getattr(sky, name).unit == u.adu
    parts = separate(data.value, model=toy_model)
    np.testing.assert_array_equal(sky.background.value, parts.background)
    np.testing.assert_array_equal((sky.sources + sky.noise).value, parts.sources + parts.noise)
    assert abs(sky.background_median.value - 1000) < 15
    assert sky.uncertainty.unit == u.adu
    assert sky.significance.shape == sky.mask.shape == data.shape
    assert sky.provenance == parts.provenance
    assert isinstance(DiffusionBackground2D(data.value, model=toy_model).background, np.ndarray)


def test_its_attributes_are_those_of_photutils(toy_model):
    photutils = pytest.importorskip("photutils.background")
    theirs = photutils.Background2D(field(), 64)
    sky = DiffusionBackground2D(field(), model=toy_model)
    assert abs(sky.background_median - theirs.background_median) < 3
    assert abs(sky.background_rms_median - theirs.background_rms_median) < 2
    np.testing.assert_allclose(sky.background, theirs.background, atol=10)
    assert sky.background_rms.shape == theirs.background_rms.shape


# ---- the package ---------------------------------------------------------------------


def test_the_public_names_are_few_and_sorted():
    assert bgrem.__all__ == sorted(bgrem.__all__)
    assert all(callable(getattr(bgrem, name)) for name in bgrem.__all__)
    assert set(bgrem.__all__) <= set(dir(bgrem))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = bgrem.nonsense


def test_an_import_loads_and_prints_nothing():
    code = "import sys, bgrem; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    heavy = {
        "numpy", "scipy", "astropy", "sep", "onnxruntime", "tqdm", "torch", "galsim", "dask",
        "matplotlib",
    }  # fmt: skip
    assert not heavy & set(run.stdout.split())


def test_the_path_itself_needs_little():
    code = "import sys, bgrem.background; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    late = {"torch", "galsim", "dask", "matplotlib", "onnxruntime", "astropy"}
    assert not late & set(run.stdout.split())


def test_an_unlike_frame_is_reported():
    frame = Frame(1.9, -0.6, -0.6, 0.0, 0.03, 0.0, 4000.0)
    limits = {"lowest": tuple(LOWEST_ENTRIES.tolist()), "highest": tuple(HIGHEST_ENTRIES.tolist())}
    vector, unlike = frame_vector(frame, toy_card(**limits))
    assert unlike == ["correlation_x", "correlation_y"]
    np.testing.assert_array_equal(vector, frame.vector())
    entries, unlike = frame_vector(frame, toy_card())
    assert unlike == []
    np.testing.assert_array_equal(entries, frame.entries())


def test_the_uncertainty_is_corrected_by_the_card(toy_model_path, tmp_path):
    calibration = Calibration(
        (0.1, 10.0), (2.0, 2.0), (0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (9.0, 1.0)
    )
    path = tmp_path / "calibrated.onnx"
    onnx.save(toy_onnx(toy_card(calibration=calibration)), path)
    data = field()
    plain = separate(data, model=toy_model_path)
    corrected = separate(data, model=str(path))
    own = uncertainty_of_model(plain)
    np.testing.assert_allclose(uncertainty_of_model(corrected), 2 * own, rtol=1e-4)
    assert plain.provenance["signif_1"] is None
    assert corrected.provenance["signif_1"] == 1.0
    assert corrected.provenance["signif_10"] is None  # beyond the table
    raw = separate(data, model=str(path), calibrated=False)
    np.testing.assert_array_equal(raw.uncertainty, plain.uncertainty)


@pytest.mark.parametrize("function", [remove_background, DiffusionBackground2D])
def test_warnings_name_the_line_of_the_caller(function, toy_model):
    mask = np.zeros((200, 230), bool)
    mask[:, :150] = True
    with pytest.warns(AstropyUserWarning, match="65% of the pixels are bad") as told:
        function(field(), mask=mask, model=toy_model)
    assert told[0].filename == __file__


def test_threads_make_no_difference(toy_model_path):
    """Two tiles at once, in any order, are merged as one after the other."""
    data = field((300, 260))
    found = [
        separate(data, model=load_model(toy_model_path, threads=threads), tile=96)
        for threads in (1, 2, 3)
    ]
    for parts in found[1:]:
        np.testing.assert_array_equal(parts.sources, found[0].sources)
        np.testing.assert_array_equal(parts.mask, found[0].mask)


def test_options_and_keywords_reach_the_path(toy_model):
    options = Options(steps=2, fwhm=3.0)
    assert separate(field(), model=toy_model, options=options, fwhm=4.0).provenance.fwhm == 4.0
    one, two = (
        remove_background(field(), model=toy_model, **chosen)
        for chosen in ({"options": options}, {"steps": 2, "fwhm": 3.0})
    )
    np.testing.assert_array_equal(one, two)
