"""The catalogue of a frame against what was drawn into it."""

import catalogue_frames
import numpy as np
import pytest
from catalogue_frames import FRAME_FWHM, GAIN
from skies import exponential_disc

from bgrem import separate
from bgrem.catalogue import source_measurement
from bgrem.catalogue.source_measurement import FLAG_BITS, measure_sources


def matched(table, truth):
    """Rows of the table, one for each true star that is listed, and which stars are."""
    x, y = (np.asarray(table[axis].value) for axis in "xy")
    distance = np.hypot(x[:, None] - truth[0], y[:, None] - truth[1])
    star = np.flatnonzero(distance.min(axis=0) < 1.5)
    return table[distance.argmin(axis=0)[star]], star


def test_stars_are_listed_once_with_their_places(known_table, known_frame):
    rows, star = matched(known_table, known_frame[1])
    assert len(star) == len(known_frame[1][0])
    assert len(known_table) <= len(star) + 6
    for axis, true in zip("xy", known_frame[1], strict=False):
        pull = (rows[axis].value - true[star]) / rows[f"ERR{axis.upper()}_IMAGE"].value
        assert abs(np.median(pull)) < 0.6
        assert 0.5 < np.sqrt(np.median(pull**2) / 0.455) < 1.6
    assert np.allclose(rows["X_IMAGE"].value, rows["x"].value + 1)


@pytest.mark.parametrize("name", ["FLUX_PSF", "FLUX_AUTO"])
def test_fluxes_are_right_and_so_are_their_errors(known_table, known_frame, name):
    rows, star = matched(known_table, known_frame[1])
    true = known_frame[1][2][star]
    flux, error = (np.asarray(rows[n]) for n in (name, name.replace("FLUX", "FLUXERR")))
    bright = true > np.median(true)
    assert np.median(flux[bright] / true[bright]) == pytest.approx(1, abs=0.02)
    pull = (flux - true) / error
    assert 0.5 < np.sqrt(np.median(pull**2) / 0.455) < 1.7


def test_circles_agree_with_each_other(known_table, known_frame):
    rows, star = matched(known_table, known_frame[1])
    bright = known_frame[1][2][star] > np.median(known_frame[1][2])
    ratio = np.asarray(rows["FLUX_APER"])[bright] / np.asarray(rows["FLUX_PSF"])[bright][:, None]
    assert np.median(ratio, axis=0) == pytest.approx([1, 1, 1], abs=0.02)


def test_stars_are_points_and_the_disc_is_not(known_table, known_frame):
    rows, star = matched(known_table, known_frame[1])
    bright = known_frame[1][2][star] > np.median(known_frame[1][2])
    assert np.median(rows["CLASS_STAR"][bright]) > 0.8
    assert np.median(rows["FWHM_IMAGE"].value[bright]) == pytest.approx(FRAME_FWHM, rel=0.15)
    ny, nx = known_frame[0].shape
    disc = np.hypot(known_table["x"].value - nx + 22, known_table["y"].value - ny + 22) < 4
    assert disc.any()
    assert known_table["CLASS_STAR"][disc].min() < 0.1
    assert known_table["FLUX_AUTO"][disc].max() > known_table["FLUX_PSF"][disc].max()


@pytest.mark.parametrize(("factor", "offset"), [(1e-18, 0.0), (2.0, 5e3), (1e5, -3e6)])
def test_another_unit_changes_nothing_but_the_unit(known_frame, known_table, factor, offset):
    parts = separate(known_frame[0] * factor + offset)
    table = parts.catalog(gain=GAIN / factor)
    assert len(table) == len(known_table)
    assert np.allclose(table["x"].value, known_table["x"].value, atol=2e-3)
    for name in ("FLUX_PSF", "FLUX_AUTO", "FLUXERR_PSF"):
        mine, other = np.asarray(table[name]) / factor, np.asarray(known_table[name])
        assert np.allclose(mine, other, rtol=2e-3, atol=2e-3 * np.abs(other).max() / 100)
    assert np.array_equal(table["FLAGS"], known_table["FLAGS"])


def test_strips_change_nothing(known_parts, monkeypatch):
    whole, _ = measure_sources(known_parts, threshold=2.0)
    monkeypatch.setattr(source_measurement, "STRIP_PIXELS", 100 * 320)
    monkeypatch.setattr(source_measurement, "MARGIN", 60)
    strips, _ = measure_sources(known_parts, threshold=2.0)
    assert np.array_equal(whole["signif"], strips["signif"])
    for name in ("x", "y", "psf", "auto", "a"):
        assert np.allclose(whole[name], strips[name], rtol=1e-3, atol=1e-3, equal_nan=True), name


def test_bad_pixels_are_flagged_and_do_not_spread(known_frame):
    data, (x, y, flux) = known_frame
    data = data.copy()
    order = np.argsort(-flux)
    holed, saturated = order[0], order[1]
    data[round(y[holed]), round(x[holed]) + 1] = np.nan
    mask = np.zeros(data.shape, bool)
    mask[:, 5] = True
    level = data[round(y[saturated]), round(x[saturated])] * 0.8
    parts = separate(data, mask=mask, saturate=float(level))
    table = parts.catalog(gain=GAIN)
    rows, star = matched(table, known_frame[1])
    bits = dict(zip(star, rows["FLAGS"], strict=True))
    assert bits[holed] & 16
    assert bits[saturated] & 4
    clean = [s for s in star if not bits[s]]
    assert len(clean) > 20
    number = {s: n for n, s in enumerate(star)}
    assert np.isfinite(np.asarray(rows["FLUX_PSF"])[[number[s] for s in clean]]).all()
    assert rows["FLUX_PSF"][number[holed]] == pytest.approx(flux[holed], rel=0.05)


def test_close_stars_are_separated():
    data, (x, y, flux) = catalogue_frames.frame_of_stars(count=25, snr=(300.0, 301.0))
    paired, apart = slice(0, 12), 1.4 * FRAME_FWHM
    light = np.zeros(data.shape)
    for a, b, f in zip(x[paired], y[paired], flux[paired], strict=True):
        catalogue_frames.add_star(light, a + apart, b, f, fwhm=FRAME_FWHM)
    table = separate(data + light).catalog(gain=GAIN)
    both = np.concatenate([x, x[paired] + apart]), np.concatenate([y, y[paired]])
    rows, star = matched(table, (*both, None))
    assert len(star) == len(both[0])
    assert len(np.unique(rows["NUMBER"])) == len(star)
    in_pair = np.isin(star % 25, np.arange(12))
    assert (rows["FLAGS"][in_pair] & 3).astype(bool).all()
    assert np.asarray(rows["FLUX_PSF"]) == pytest.approx(flux.max(), rel=0.04)


def test_a_wide_galaxy_is_where_it_is():
    rng = np.random.default_rng(5)
    disc = exponential_disc((300, 320), 150.0, 140.0, 40.0, 40.0)
    disc += exponential_disc((300, 320), 150.0, 140.0, 3.0, 60.0)  # a bulge
    table = separate(rng.normal(500, 5, (300, 320)) + disc).catalog()
    distance = np.hypot(table["x"].value - 150, table["y"].value - 140)
    row = table[distance.argmin()]
    assert distance.min() < 8
    assert 30 < row["FLUX_RADIUS"].value < 100


def test_the_order_of_images_does_not_matter(known_frame):
    separate(np.random.default_rng(0).normal(10, 1, (24, 24))).catalog()
    again = separate(known_frame[0]).catalog(gain=GAIN)
    assert len(again) > 40


def test_an_empty_frame_has_an_empty_catalogue():
    parts = separate(np.random.default_rng(0).normal(10, 1, (64, 64)))
    table = parts.catalog(threshold=30.0, zeropoint=25.0)
    assert len(table) == 0
    assert "FLUX_PSF" in table.colnames


def test_without_significance_there_is_no_catalogue(known_frame):
    parts = separate(known_frame[0][:64, :64], maps=())
    with pytest.raises(ValueError, match="significance"):
        parts.catalog()


def test_detected_on_another_image(known_frame, known_parts):
    dark = np.random.default_rng(3).normal(100, 5, known_frame[0].shape)
    table = separate(dark).catalog(detected=known_parts)
    _, star = matched(table, known_frame[1])
    assert len(star) == len(known_frame[1][0])
    pull = np.asarray(table["FLUX_PSF"]) / np.asarray(table["FLUXERR_PSF"])
    assert np.abs(np.nanmedian(pull)) < 1


def test_every_bit_has_its_own_place():
    assert all(bit & (bit - 1) == 0 for bit in FLAG_BITS)
