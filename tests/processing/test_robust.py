"""Real files, sound and broken: each is handled rightly or refused in one sentence."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from bgrem.io.reading import read_image
from bgrem.processing.files import process_files

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("BGREM_SHARED_DATA", ROOT.parent / "shared" / "data"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not there")

REFUSED = {
    "astropy_group.fits": "random groups",
    "astropy_table.fits": "none of the 2 HDUs holds an image",
    "astropycomp_compressed_with_nan.fits": "too small",
    "galsim_testD.fits.bz2": "too small",
    "synth_all_nan.fits": "no good pixel",
    "synth_header_claims_1e15_pixels.fits": "truncated, HDU 0 announces 4000000000000000 bytes",
    "synth_html_error_page.fits": "not a FITS file",
    "synth_n_by_one.fits": "too small",
    "synth_one_by_n.fits": "too small",
    "synth_one_d.fits": "one-dimensional",
    "synth_tiny_3x3.fits": "too small",
    "synth_truncated.fits.gz": "truncated",
    "synth_truncated_header.fits": "truncated",
    "legacy_c4d_170916_045042_ood_r_ls9.N15.fits": "constant",
    "sextractor_galaxies.weight.fits": "constant",
    "catalog_gll_psc_v16.fit.gz": "holds an image",
    "catalog_gll_psch_v13.fit.gz": "holds an image",
    "fermigc_psf_00.fits": "holds an image",
}
LARGE = 600_000  # pixels; larger images are only read here, for the sake of time


def files_of(folder):
    return sorted((DATA / folder).glob("*")) if DATA.is_dir() else []


def processed(path, toy_model, tmp_path, **options):
    (outcome,) = process_files([path], model=toy_model, output_dir=tmp_path, **options)
    return outcome


@pytest.mark.parametrize(
    "path", files_of("robust") + files_of("optical"), ids=lambda path: path.name
)
def test_handled_or_refused(path, toy_model, tmp_path):
    if path.name not in REFUSED and read_image(path).data.size > LARGE:
        pytest.skip("large")
    outcome = processed(path, toy_model, tmp_path, save=["background", "noise"])
    if path.name in REFUSED:
        assert outcome.message.startswith(f"{path}: ")
        assert REFUSED[path.name] in outcome.message
        assert "\n" not in outcome.message
        assert "unexpected" not in outcome.message
        assert list(tmp_path.iterdir()) == []
        return
    image, result = read_image(path), read_image(outcome.output)
    assert result.hdu == image.hdu
    assert result.data.shape == image.data.shape
    assert result.data.dtype == image.data.dtype
    np.testing.assert_array_equal(np.isnan(result.data), ~np.isfinite(image.data))
    parts = [
        read_image(outcome.output, name).data.astype(float) for name in ("BACKGROUND", "NOISE")
    ]
    parts.append(result.data.astype(float))
    good = np.isfinite(image.data)
    scale = sum(abs(part) for part in parts) + abs(image.data)
    assert np.all(abs(sum(parts) - image.data)[good] <= 1e-6 * scale[good])


@pytest.mark.parametrize(
    "path", [path for folder in ("robust", "optical", "counts") for path in files_of(folder)
             if path.name not in REFUSED], ids=lambda path: path.name,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_values_are_those_that_astropy_reads(path):
    image = read_image(path)
    with fits.open(path) as hdus:
        expected = np.asarray(hdus[image.hdu].data)
    # astropy scales 16-bit integers in single precision, two roundings where this has one.
    np.testing.assert_allclose(image.data, expected.astype(image.data.dtype), rtol=2e-7)


def test_a_counts_cube_with_empty_planes(toy_model, tmp_path):
    outcome = processed(DATA / "counts" / "fermigc_ccube_00.fits", toy_model, tmp_path)
    assert fits.getdata(outcome.output).shape == (28, 80, 80)


def test_the_table_beside_an_image_is_carried(toy_model, tmp_path):
    path = DATA / "optical" / "hst_wfpc2_4plane_cube.fits"
    outcome = processed(path, toy_model, tmp_path)
    table = path.read_bytes()[fits.open(path)[1].fileinfo()["hdrLoc"] :]
    assert outcome.output.read_bytes().endswith(table)
