"""Catalogues as files, by the real command."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import parse, validate
from astropy.io.votable.ucd import parse_ucd
from astropy.table import QTable
from catalogue_frames import frame_of_stars

from bgrem.catalogue.catalogue_files import read_catalogue
from bgrem.catalogue.table import CATALOGUE_COLUMNS, UCDS
from bgrem.io.reading import FitsError
from bgrem.processing.batch import process_batch
from bgrem.processing.files import process_file


def bgrem(*arguments, cwd):
    command = [sys.executable, "-m", "bgrem"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    data, _ = frame_of_stars(shape=(160, 180), count=9)
    header = fits.Header({"GAIN": 4.0, "MAGZERO": 25.5, "BUNIT": "adu", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
                          "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 80.0, "CRPIX2": 80.0, "CDELT1": -1e-4,
                          "CDELT2": 1e-4})  # fmt: skip
    fits.writeto(folder / "a.fits", data.astype(np.float32), header)
    fits.writeto(folder / "b.fits", data[::-1].astype(np.float32), header)
    return folder


def test_beside_the_output(folder):
    result = process_file(folder / "a.fits", catalog=True, prefix="one_")
    assert result.catalog == folder / "one_a.cat.fits"
    table = read_catalogue(result.catalog)
    assert len(table) >= 9
    header = fits.getheader(result.catalog, 1)
    assert header["BGR_GAIN"] == 4.0
    assert (header["BGR_ZP"], header["BGR_ZPS"]) == (25.5, "MAGZERO")
    assert header["TUNIT11"] == "adu"
    assert fits.getheader(result.catalog, 1)["EXTNAME"] == "SOURCES"
    magnitude = 25.5 - 2.5 * np.log10(np.asarray(table["FLUX_PSF"]))
    assert np.allclose(np.asarray(table["MAG_PSF"]), magnitude, atol=1e-9)


def test_all_formats_hold_the_same(folder):
    for suffix in (".fits", ".ecsv", ".vot"):
        done = bgrem("-f", "a.fits", "--overwrite", "--catalog", f"list{suffix}", cwd=folder)
        assert done.returncode == 0, done.stderr
    files = [folder / f"list{suffix}" for suffix in (".fits", ".ecsv", ".vot")]
    tables = [QTable.read(file, **({"hdu": 1} if file.suffix == ".fits" else {})) for file in files]
    for table in tables[1:]:
        assert table.colnames == tables[0].colnames
        for name in table.colnames:
            assert np.allclose(np.asarray(table[name]), np.asarray(tables[0][name]), equal_nan=True)
            description = " ".join(table[name].info.description.split())
            assert description == CATALOGUE_COLUMNS[name].description
    assert tables[0]["ALPHA_J2000"].unit == "deg"


def test_the_completeness_is_an_extension(folder):
    result = process_file(folder / "a.fits", catalog=True, overwrite=True, save=("uncertainty",))
    table = read_catalogue(result.catalog)
    selection = table.meta["SELECTION"]
    assert set(np.asarray(selection["KIND"])) >= {"points", "galaxies"}
    assert (np.asarray(selection["N_FOUND"]) <= np.asarray(selection["N_PLANTED"])).all()
    assert selection["FLUX"].unit == "adu"
    assert {"P_REAL"} <= set(table.colnames)
    catalogue, image = fits.getheader(result.catalog, 1), fits.getheader(result.output)
    assert catalogue["BGR_CALI"] == "frame"
    assert image["BGR_SG10"] == pytest.approx(catalogue["BGR_SG10"])
    assert image["BGR_SIG1"] == pytest.approx(catalogue["BGR_SIG1"])
    plain = process_file(folder / "a.fits", prefix="plain_", overwrite=True, save=("uncertainty",))
    one, other = (fits.getdata(r.output, "UNCERT") for r in (plain, result))
    assert not np.array_equal(one, other)


def test_without_a_calibration_it_is_that_of_the_model(folder):
    result = process_file(folder / "a.fits", catalog=True, overwrite=True, calibrate=False)
    table = read_catalogue(result.catalog)
    assert "P_REAL" not in table.colnames
    assert "SELECTION" not in table.meta
    assert fits.getheader(result.catalog, 1)["BGR_CALI"] == "model"


def test_purity_sets_the_list(folder):
    result = process_file(folder / "a.fits", catalog=True, overwrite=True, purity=0.95)
    assert read_catalogue(result.catalog)["P_REAL"].min() >= 0.95 - 1e-9


def test_votable_is_valid(folder):
    process_file(folder / "a.fits", catalog=folder / "valid.vot", overwrite=True)
    assert validate(folder / "valid.vot", output=None)
    fields = parse(folder / "valid.vot", verify="exception").get_first_table().fields
    assert {field.name: field.ucd for field in fields if field.ucd} == {
        field.name: UCDS[field.name] for field in fields if field.name in UCDS
    }


@pytest.mark.parametrize("ucd", sorted(set(UCDS.values())))
def test_ucds_are_of_the_vocabulary(ucd):
    parse_ucd(ucd, check_controlled_vocabulary=True, has_colon=False)


def test_many_images_are_gathered(folder):
    done = bgrem("-f", "a.fits", "b.fits", "--overwrite", "--catalog", "night.fits", cwd=folder)
    assert done.returncode == 0, done.stderr
    night = QTable.read(folder / "night.fits", hdu=1)
    each = [len(QTable.read(folder / f"BGRem_{name}.cat.fits", hdu=1)) for name in "ab"]
    assert [list(night["FILE"]).count(f"{name}.fits") for name in "ab"] == each


def test_planes_of_a_cube_and_all_hdus_are_named(folder):
    data = fits.getdata(folder / "a.fits")
    fits.writeto(folder / "cube.fits", np.stack([data, data]), overwrite=True)
    result = process_file(folder / "cube.fits", catalog=True, overwrite=True)
    assert set(QTable.read(result.catalog, hdu=1)["PLANE"]) == {"1", "2"}
    hdus = fits.HDUList(
        [fits.PrimaryHDU(), fits.ImageHDU(data, name="N1"), fits.ImageHDU(data, name="N2")]
    )
    hdus.writeto(folder / "mef.fits", overwrite=True)
    result = process_file(folder / "mef.fits", hdu="all", catalog=True, overwrite=True)
    planes = set(QTable.read(result.catalog, hdu=1)["PLANE"])
    assert len(planes) == 2
    assert any("N1" in plane for plane in planes)


def test_a_bayer_mosaic_has_its_colours(folder):
    data = fits.getdata(folder / "a.fits").astype(np.float64)
    mosaic = np.kron(data, np.ones((2, 2)))
    mosaic += np.random.default_rng(1).normal(0, 3, mosaic.shape)
    mosaic[::2, ::2] *= 1.5
    mosaic[1::2, 1::2] *= 0.6
    header = fits.Header({"BAYERPAT": "RGGB"})
    fits.writeto(folder / "bayer.fits", mosaic.astype(np.float32), header, overwrite=True)
    result = process_file(folder / "bayer.fits", catalog=True, overwrite=True, bayer="yes")
    table = QTable.read(result.catalog, hdu=1)
    assert set(table["PLANE"]) == {"R", "G1", "G2", "B"}
    assert table["x"].value.max() > 200


def test_memory_limit_changes_nothing(folder):
    free = process_file(folder / "a.fits", catalog=folder / "free.fits", overwrite=True)
    bound = process_file(
        folder / "a.fits", catalog=folder / "bound.fits", overwrite=True, memory=6e8
    )
    one, other = (QTable.read(result.catalog, hdu=1) for result in (free, bound))
    for name in one.colnames:
        assert np.allclose(
            np.asarray(one[name]), np.asarray(other[name]), rtol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--catalog", "list.txt"), "does not end in"),
        (("--detect", "b.fits"), "--catalog"),
        (("--catalog", "--gain", "0"), "not above 0"),
        (("--catalog", "--false-rate", "-1"), "below 0"),
        (("--catalog", "--zeropoint", "x"), "not a number"),
        (("--catalog", "--purity", "1.5"), "between 0 and 1"),
        (("--catalog", "--purity", "0.9", "--no-calibrate"), "calibration"),
    ],
)  # fmt: skip
def test_wrong_usage(folder, arguments, said):
    done = bgrem("-f", "a.fits", *arguments, "--prefix", "wrong_", cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(folder.glob("wrong_*"))


@pytest.mark.parametrize("name", ["a.fits", "b.fits", "own_a.fits", "mask.fits"])
def test_no_other_file_is_replaced(folder, name):
    fits.writeto(folder / "mask.fits", np.zeros((160, 180), np.uint8), overwrite=True)
    before = {path: path.read_bytes() for path in folder.glob("*.fits")}
    arguments = ["--detect", "b.fits", "--mask", "mask.fits", "--overwrite", "--prefix", "own_"]
    done = bgrem("-f", "a.fits", *arguments, "--catalog", name, cwd=folder)
    assert done.returncode == 1
    assert "would overwrite" in done.stderr
    assert {path: path.read_bytes() for path in folder.glob("*.fits")} == before
    if name == "a.fits":
        done = bgrem("-f", "a.fits", "b.fits", "--overwrite", "--catalog", name, cwd=folder)
        assert done.returncode == 2
        assert (folder / name).read_bytes() == before[folder / name]


def test_images_of_other_units_and_names_are_gathered(folder):
    data = fits.getdata(folder / "a.fits")
    for name, unit in (("nächt 1.fits", "Jy"), ("two.fits", "")):
        fits.writeto(folder / name, data, fits.Header({"BUNIT": unit}), overwrite=True)
    for target in ("all.fits", "all.vot"):
        done = bgrem(
            "-f", "nächt 1.fits", "two.fits", "--overwrite", "--catalog", target, cwd=folder
        )
        assert done.returncode == 0, done.stderr
    table = read_catalogue(folder / "all.fits")
    assert np.array_equal(table["NUMBER"], np.arange(1, len(table) + 1))
    assert not getattr(table["FLUX_PSF"], "unit", None)
    assert "FILE" in table.meta["SELECTION"].colnames


def test_an_empty_catalogue_is_read_back(folder):
    fits.writeto(
        folder / "none.fits",
        np.random.default_rng(1).normal(0, 1, (64, 64)).astype(np.float32),
        overwrite=True,
    )
    for suffix in ("fits", "ecsv", "vot"):
        path = folder / f"empty.{suffix}"
        process_file(
            folder / "none.fits", catalog=path, overwrite=True, false_rate=1.0, calibrate=False
        )
        assert len(QTable.read(path)) == 0


def test_a_mosaic_and_an_image_that_is_none_are_refused(folder):
    size = fits.getdata(folder / "bayer.fits").shape
    fits.writeto(
        folder / "plain.fits",
        np.random.default_rng(1).normal(0, 1, size).astype(np.float32),
        overwrite=True,
    )
    with pytest.raises(FitsError, match="mosaic"):
        process_file(
            folder / "bayer.fits", catalog=True, overwrite=True, detect=folder / "plain.fits"
        )


def test_numbers_of_the_model_are_reported(folder):
    small = fits.getdata(folder / "a.fits")[:60, :60]
    fits.writeto(folder / "corner.fits", small, overwrite=True)
    result = process_file(folder / "corner.fits", catalog=True, overwrite=True)
    assert fits.getheader(result.catalog, 1)["BGR_CALI"] == "model"
    assert any("numbers of the model" in warning for warning in result.warnings)
    assert any("Gaussian PSF" in warning for warning in result.warnings)
    assert fits.getheader(result.output)["BGR_WARN"] == len(result.warnings)
    whole = process_file(folder / "a.fits", catalog=True, overwrite=True)
    assert not any("catalogue" in warning for warning in whole.warnings)


def test_a_catalogue_that_is_gone_is_made_again(folder, tmp_path):
    options = {"catalog": True, "calibrate": False, "output_dir": tmp_path, "workers": 1}
    (first,) = process_batch(folder / "a.fits", **options)
    (again,) = process_batch(folder / "a.fits", **options)
    assert again.resumed
    first.catalog.unlink()
    (made,) = process_batch(folder / "a.fits", **options)
    assert not made.resumed
    assert made.catalog.exists()


@pytest.mark.parametrize("code", [
    "from bgrem.cli.bgrem import main; main(['-f', 'a.fits', '--catalog', '--prefix', 'no_'])",
    "from bgrem import make_catalog",
])  # fmt: skip
def test_without_scipy_one_sentence_says_so(folder, code):
    code = f"import sys; sys.modules['scipy'] = None; {code}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert (
        "a catalogue needs SciPy, which is not installed (pip install 'bgrem[catalog]')"
        in done.stderr
    )
    assert not list(folder.glob("no_*"))


def test_failures_write_nothing(folder):
    fits.writeto(folder / "small.fits", np.ones((40, 40), np.float32), overwrite=True)
    done = bgrem(
        "-f", "a.fits", "--catalog", "--detect", "small.fits", "--prefix", "no_", cwd=folder
    )
    assert done.returncode == 1
    assert "40 x 40 pixels" in done.stderr
    assert not list(folder.glob("no_*"))
    (folder / "there.fits").touch()
    done = bgrem("-f", "a.fits", "--catalog", "there.fits", "--prefix", "no_", cwd=folder)
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert not list(folder.glob("no_*"))
    done = bgrem("-f", "a.fits", "--catalog", "--false-rate", "1e7", "--prefix", "no_", cwd=folder)
    assert done.returncode == 1
    assert "per Mpix" in done.stderr
    assert not list(folder.glob("no_*"))
