"""Masks and weights that are found beside an image."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from skies import flat_sky

from bgrem.io.companions import map_hdus, with_companions
from bgrem.io.maps import GivenMaps, maps_for
from bgrem.io.reading import FitsError, read_image
from bgrem.processing.files import process_file

SHAPE = (48, 64)


def sky(seed=0):
    return flat_sky(SHAPE, seed=seed)


def flags(**places):
    """A map of flags: value -> pixels."""
    values = np.zeros(SHAPE, np.int16)
    for value, place in places.items():
        values[place] = int(value[1:])
    return values


def found(path, hdu=None, given=None):
    image = read_image(path, hdu)
    return with_companions(image, GivenMaps() if given is None else given)


@pytest.fixture
def hubble(tmp_path):
    units = [fits.PrimaryHDU(header=fits.Header({"TELESCOP": "HST", "INSTRUME": "WFC3"}))]
    for ver in (1, 2):
        dq = flags(_256=(3, 4), _4096=(5, ver), _64=(7, 8))
        units += [
            fits.ImageHDU(sky(ver), name="SCI", ver=ver),
            fits.ImageHDU(np.full(SHAPE, 4.0 + ver, np.float32), name="ERR", ver=ver),
            fits.ImageHDU(dq, name="DQ", ver=ver),
        ]
    fits.HDUList(units).writeto(tmp_path / "flt.fits")
    return tmp_path / "flt.fits"


@pytest.fixture
def decam(tmp_path):
    dq = flags(_1=(3, 4), _3=(5, 6), _7=(7, 8))
    for kind, data in (("ooi", sky()), ("ood", dq), ("oow", np.ones(SHAPE, np.float32))):
        units = [fits.PrimaryHDU(), fits.CompImageHDU(data, name="N15")]
        fits.HDUList(units).writeto(tmp_path / f"c4d_170916_045042_{kind}_r_v1.fits.fz")
    return tmp_path / "c4d_170916_045042_ooi_r_v1.fits.fz"


def test_hubble(hubble):
    maps = found(hubble, "SCI,2")
    assert np.argwhere(maps.mask).tolist() == [[5, 2]]
    assert np.argwhere(maps.saturate).tolist() == [[3, 4]]
    assert maps.weight is None  # ERR is for those who ask for it
    assert maps.notes == (f"mask from {hubble}: HDU 6 (DQ)",)
    assert map_hdus(read_image(hubble)).keys() == {2, 3, 5, 6}
    assert found(hubble, "DQ") == GivenMaps()


@pytest.mark.parametrize(
    ("name", "bad", "sat"),
    [("NICMOS", 32, 64), ("JWST", 1, 2), ("STIS", 16, 256), ("WFPC2", 2048, 8), ("ACS", 16, 2048)],
)
def test_each_instrument_has_its_bits(hubble, name, bad, sat):
    with fits.open(hubble, mode="update") as hdus:
        hdus[0].header["INSTRUME"] = name
        hdus["DQ", 1].data = flags(**{f"_{bad}": (1, 2), f"_{sat}": (3, 4), "_1024": (5, 6)})
    maps = found(hubble, "SCI,1")
    assert np.argwhere(maps.mask).tolist() == [[1, 2]]
    assert np.argwhere(maps.saturate).tolist() == [[3, 4]]


@pytest.mark.parametrize(("detector", "saturated"), [("UVIS", 1), ("IR", 0)])
def test_light_in_the_zero_read_is_no_saturation(hubble, detector, saturated):
    with fits.open(hubble, mode="update") as hdus:
        hdus[0].header["DETECTOR"] = detector
        hdus["DQ", 1].data = flags(_2048=(3, 4))
    maps = found(hubble, "SCI,1")
    assert maps.saturate.sum() == saturated and not maps.mask.any()


def drizzled(hubble):
    """The first image with a WHT instead of its ERR."""
    with fits.open(hubble, mode="update") as hdus:
        hdus["ERR", 1].name = "WHT"


def test_the_weight_of_a_drizzled_image(hubble):
    drizzled(hubble)
    maps = found(hubble, "SCI,1")
    assert (maps.weight == 5).all() and maps.weight_type == "inverse"
    assert maps.notes[1] == f"inverse weight from {hubble}: HDU 2 (WHT)"


def test_an_empty_weight_map_is_not_used(hubble):
    drizzled(hubble)
    with fits.open(hubble, mode="update") as hdus:
        hdus["WHT", 1].data[:] = 0
    maps = found(hubble, "SCI,1")
    assert maps.weight is None
    assert "not used" in maps.notes[1]


def test_subaru(tmp_path):
    planes = {"MP_BAD": 0, "MP_SAT": 1, "MP_CR": 3, "MP_DETECTED": 5}
    header = fits.Header()
    for name, bit in planes.items():
        header[f"HIERARCH {name}" if len(name) > 8 else name] = bit
    mask = flags(_1=(1, 1), _2=(2, 2), _8=(3, 3), _32=(4, 4))
    units = [fits.PrimaryHDU(), fits.ImageHDU(sky()), fits.ImageHDU(mask, header)]
    fits.HDUList([*units, fits.ImageHDU(np.full(SHAPE, 25.0))]).writeto(tmp_path / "calexp.fits")
    maps = found(tmp_path / "calexp.fits")
    assert np.argwhere(maps.mask).tolist() == [[1, 1], [3, 3]]
    assert np.argwhere(maps.saturate).tolist() == [[2, 2]]
    assert (maps.weight == 25).all() and maps.weight_type == "variance"
    assert map_hdus(read_image(tmp_path / "calexp.fits")).keys() == {2, 3}


def test_cosmic_rays_of_a_coadd_were_left_out(tmp_path):
    header = fits.Header({"MP_BAD": 0, "MP_CR": 3, "HIERARCH MP_INEXACT_PSF": 6})
    mask = flags(_1=(1, 1), _8=(3, 3))
    path = tmp_path / "coadd.fits"
    for further, expected in ((0, [[1, 1], [3, 3]]), (64, [[1, 1]])):
        mask[9, 9] = further
        units = [fits.PrimaryHDU(), fits.ImageHDU(sky()), fits.ImageHDU(mask, header)]
        fits.HDUList(units).writeto(path, overwrite=True)
        assert np.argwhere(found(path).mask).tolist() == expected


@pytest.mark.parametrize(("version", "saturated"), [("V3.4.2", 2), ("V3.9", 3), ("V4.8.2a", 3)])
def test_the_version_determines_the_codes_of_decam(decam, version, saturated):
    path = decam.with_name(decam.name.replace("ooi", "ood"))
    with fits.open(path) as hdus:
        data = hdus[1].data
    data[9, 9] = 2
    primary = fits.PrimaryHDU(header=fits.Header({"PLVER": version}))
    fits.HDUList([primary, fits.CompImageHDU(data, name="N15")]).writeto(path, overwrite=True)
    maps = found(decam)
    assert set(data[maps.saturate]) >= {saturated}
    assert maps.mask[9, 9] == (saturated == 3)


def test_decam(decam):
    maps = found(decam)
    assert np.argwhere(maps.mask).tolist() == [[3, 4]]
    assert np.argwhere(maps.saturate).tolist() == [[5, 6]]
    assert (maps.weight == 1).all() and maps.weight_type == "inverse"
    decam.with_name(decam.name.replace("ooi", "ood")).unlink()
    assert found(decam).mask is None
    assert found(decam).weight is not None


def test_given_maps_take_precedence(hubble):
    image = read_image(hubble, "SCI,1")
    own = np.zeros(SHAPE, bool)
    maps = with_companions(image, maps_for(image, mask=own, weight=sky(), saturate=110.0))
    assert maps.mask is not None and not maps.mask.any()
    np.testing.assert_array_equal(maps.weight, sky())
    assert maps.saturate == 110.0 and maps.notes == ()
    both = found(hubble, "SCI,1", GivenMaps(saturate=110.0)).saturate
    np.testing.assert_array_equal(
        both, (image.data >= 110) | (np.indices(SHAPE) == [[[3]], [[4]]]).all(0)
    )


def test_frames_without_companions(tmp_path):
    units = [fits.PrimaryHDU(sky()), fits.ImageHDU(sky(), name="WHT")]
    fits.HDUList(units).writeto(tmp_path / "a_ooi_b.fits")
    assert found(tmp_path / "a_ooi_b.fits") == GivenMaps()


def test_the_file_says_what_was_taken(hubble, toy_model):
    result = process_file(hubble, hdu="all", model=toy_model, save=["mask", "rms"])
    with fits.open(result.output) as hdus:
        assert [hdu.header.get("BGR_HDU") for hdu in hdus[7:]] == [1, 1, 4, 4]
        assert hdus[7].data[5, 1] & 2 and hdus[7].data[3, 4] & 8
    assert sum("mask from" in told for told in result.warnings) == 2
    plain = process_file(hubble, model=toy_model, companions=False, overwrite=True, save=["mask"])
    assert not any("mask from" in told for told in plain.warnings)


def starry(seed=0):
    data = sky(seed)
    data[10:14, 30:34] += 5000
    return data


def write_planes(path, planes, telescope="", kind=fits.ImageHDU):
    """A file of planes, each (EXTNAME, data[, cards]), after an empty primary HDU."""
    units = [fits.PrimaryHDU(header=fits.Header({"TELESCOP": telescope}))]
    for name, data, *cards in planes:
        units.append(kind(data, fits.Header(*cards), name=name or None))
    fits.HDUList(units).writeto(path)
    return path


VARIANCE = np.full(SHAPE, 25.0, np.float32) + np.arange(SHAPE[1], dtype=np.float32)
BITS = flags(_4=(3, 4), _1=(5, slice(8)))
FILES = {
    "des": [("SCI", sky()), ("MSK", BITS), ("WGT", VARIANCE)],
    "jwst": [
        ("SCI", sky()), ("ERR", VARIANCE), ("DQ", BITS), ("AREA", VARIANCE), ("VAR_POISSON", VARIANCE),
        ("VAR_RNOISE", VARIANCE), ("VAR_FLAT", VARIANCE), ("CON", BITS), ("WHT", VARIANCE), ("BKG", VARIANCE),
    ],
    "euclid": [("DET11.SCI", sky()), ("DET11.RMS", VARIANCE), ("1-1.E.FLG", BITS)],
    "hst": [("SCI", sky()), ("ERR", VARIANCE), ("DQ", BITS), ("SAMP", BITS), ("TIME", VARIANCE)],
    "tess": [("MOD.OUT 2.1", sky()), ("UNCERTAINTY", VARIANCE), ("APERTURE", BITS)],
    "eso": [("DATA", sky()), ("STAT", VARIANCE), ("BADPIXELMASK", BITS)],
    "lsst": [("IMAGE", sky()), ("MASK", BITS), ("VARIANCE", VARIANCE)],
    "ps1": [("skycell.1", sky()), ("skycell.1.wt", VARIANCE), ("1.num", BITS), ("1.exp", VARIANCE)],
    "gemini": [("SCI", sky()), ("VAR", VARIANCE), ("OBJMASK", BITS), ("PSF", VARIANCE[:32, :32])],
    "standard error": [("SCI", sky()), ("SE", VARIANCE)],
    "stack": [("coadd", sky()), ("coadd.weight", VARIANCE), ("coverage map", BITS), ("expmap", VARIANCE), ("mskimg", BITS)],
    "without names": [("", sky()), ("", BITS), ("", BITS.astype(np.uint8))],
    "units": [
        ("", sky(), {"BUNIT": "adu"}), ("", VARIANCE, {"BUNIT": "adu**2"}), ("", VARIANCE, {"BUNIT": "s"}),
    ],
    "ogip": [("", sky(), {"HDUCLAS2": "DATA"}), ("", VARIANCE, {"HDUCLAS2": "ERROR"})],
}  # fmt: skip


@pytest.mark.parametrize("planes", FILES.values(), ids=FILES)
@pytest.mark.parametrize("kind", [fits.ImageHDU, fits.CompImageHDU])
def test_all_leaves_the_maps_as_they_are(tmp_path, toy_model, planes, kind):
    path = write_planes(tmp_path / "a.fits", planes, kind=kind)
    maps = map_hdus(read_image(path))
    assert list(maps) == list(range(2, len(planes) + 1))
    result = process_file(path, hdu="all", model=toy_model, companions=False)
    assert any("copied unchanged, maps known by" in line for line in result.warnings)
    before, after = (read_image(file) for file in (path, result.output))
    for old, new in zip(before.units[2:], after.units[2:], strict=True):
        bytes_of = [f.contents[u.start : u.end] for f, u in ((before, old), (after, new))]
        assert bytes_of[0] == bytes_of[1]
    assert not np.array_equal(before.data, after.data)


@pytest.mark.parametrize(
    "names",
    [["", "", ""], ["CCD1", "CCD2", "CCD3"], ["S1", "N15", "im7"], ["SCI", "SCI", "SCI"],
     ["EXP1", "EXP2", "EXP3"], ["OTA33.SCI", "OTA34.SCI", "OTA35.SCI"], ["SEG00", "SEG01", "SEG02"],
     ["Segment10", "BKG_SUB", "noise-reduced"]],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["i2", "u2", "f4", "mixed"])
def test_chips_of_a_mosaic_are_no_maps(tmp_path, names, dtype):
    kinds = ["f4", "i2", "u1"] if dtype == "mixed" else [dtype] * 3
    planes = [
        (n, sky(i).round().astype(k)) for i, (n, k) in enumerate(zip(names, kinds, strict=True))
    ]
    path = write_planes(tmp_path / "a.fits", planes)
    assert map_hdus(read_image(path)) == {}


def test_planes_of_bgrem_are_maps(tmp_path, toy_model):
    path = write_planes(tmp_path / "a.fits", [("CCD1", starry()), ("CCD2", starry(1))])
    saved = ["background", "noise", "uncertainty", "significance", "mask", "rms"]
    first = process_file(path, hdu="all", model=toy_model, save=saved)
    again = process_file(first.output, hdu="all", model=toy_model)
    assert "HDU 3 (BACKGROUND)" in again.warnings[0] and "and 4 more" in again.warnings[0]
    with fits.open(first.output) as before, fits.open(again.output) as after:
        assert len(before) == len(after)
        for old, new in zip(before[3:15], after[3:15], strict=True):
            np.testing.assert_array_equal(old.data, new.data)


def test_a_map_that_is_named_is_separated(tmp_path, toy_model):
    path = write_planes(tmp_path / "a.fits", [("SCI", sky()), ("WGT", sky(1))])
    result = process_file(path, hdu=2, model=toy_model)
    with fits.open(path) as before, fits.open(result.output) as after:
        np.testing.assert_array_equal(before[1].data, after[1].data)
        assert abs(np.median(after[2].data)) < 1 < np.median(before[2].data)


@pytest.mark.parametrize("first", ["MASK", "ERR", "EXP"])
def test_the_default_is_no_map(tmp_path, toy_model, first):
    path = write_planes(tmp_path / "a.fits", [(first, sky(1)), ("SCI", sky())])
    result = process_file(path, model=toy_model)
    assert result.warnings[0] == f"HDU 1 ({first}) is a map, took HDU 2 (SCI)"
    with fits.open(path) as before, fits.open(result.output) as after:
        np.testing.assert_array_equal(before[1].data, after[1].data)
        assert "BGR_VERS" in after[2].header


def test_a_file_of_maps_only(tmp_path, toy_model):
    path = write_planes(tmp_path / "a.fits", [("WHT", sky()), ("MASK", BITS)])
    with pytest.raises(FitsError, match=r"a.fits: holds no picture .*HDU 1 \(WHT\).*-h N"):
        process_file(path, hdu="all", model=toy_model)
    assert [file.name for file in tmp_path.iterdir()] == ["a.fits"]


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_the_mask_of_ccdproc(tmp_path, toy_model, suffix):
    mask = np.zeros(SHAPE, bool)
    mask[20:23] = True
    for number, kind in enumerate((StdDevUncertainty, VarianceUncertainty, InverseVariance)):
        path = tmp_path / f"{number}{suffix}"
        ccd = CCDData(
            starry(), unit="adu", mask=mask, uncertainty=kind(VARIANCE), psf=np.ones((3, 3))
        )
        ccd.write(path)
        maps = found(path)
        np.testing.assert_array_equal(maps.mask, mask)
        assert maps.weight is None  # it contains the photon noise of the sources
        assert list(map_hdus(read_image(path))) == [1, 2, 3]
        result = process_file(path, hdu="all", model=toy_model, save=["mask"])
        with fits.open(result.output) as hdus:
            assert hdus[0].header["BUNIT"] == "adu"
            np.testing.assert_array_equal((hdus[4].data & 2) > 0, mask)
        # The plane MASK of bgrem is not that of ccdproc.
        again = process_file(result.output, model=toy_model)
        assert sum("mask from" in line for line in again.warnings) == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(StdDevUncertainty, "rms"), (VarianceUncertainty, "variance"), (InverseVariance, "inverse")],
)
def test_the_type_of_an_uncertainty_given_as_weight(tmp_path, kind, expected):
    path = tmp_path / "a.fits"
    CCDData(sky(), unit="adu", uncertainty=kind(VARIANCE)).write(path)
    maps = maps_for(read_image(path), weight="UNCERT", weight_type="inverse")
    assert maps.weight_type == expected
    assert bool(maps.notes) == (expected != "inverse")
