"""Counts maps of the command bgrem-simulate, and the files that it writes."""

import tomllib
from dataclasses import asdict

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from bgrem.cli.simulate import main
from bgrem.counts_scenes.counts_files import (
    COUNTS_PRESETS,
    counts_scene,
    draw_numbered_counts,
    is_counts_scene,
    read_counts_scene,
    write_counts,
)
from bgrem.counts_scenes.poisson_scene import COUNTS_TRUTH, CountsScene

SMALL = ["--scene", "counts", "--shape", "48,64", "--quiet"]
NAMES = ["DATA", "SOURCES", "BACKGROUND", "NOISE", "EXPOSURE", "TEMPLATE", "PSF", "TRUTH"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planes(path):
    with fits.open(path) as hdus:
        return {hdu.name: np.array(hdu.data) for hdu in hdus if hdu.data is not None}


def refused(capsys, *arguments, code=1):
    """Run what must fail; the one line that it says."""
    try:
        assert main([*arguments]) == code
    except SystemExit as exit_:
        assert exit_.code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bgrem-simulate: ")
    assert err.count("\n") == 1
    return err


def test_parts_add_up_in_the_file(folder):
    assert main(SMALL) == 0
    parts = planes("scene.fits")
    assert list(parts) == NAMES
    assert parts["DATA"].dtype.newbyteorder("=") == np.int32
    assert parts["DATA"].shape == (48, 64)
    assert parts["PSF"].sum() == pytest.approx(1, abs=1e-5)
    numbers = {name: parts[name].astype(np.float64) for name in NAMES[:4]}
    rest = numbers["DATA"] - numbers["SOURCES"] - numbers["BACKGROUND"] - numbers["NOISE"]
    assert np.abs(rest).max() <= 1e-6 * max(np.abs(plane).max() for plane in numbers.values())
    assert parts["TRUTH"].dtype.names == COUNTS_TRUTH.names


def test_header_is_that_of_an_observed_map(folder):
    main([*SMALL, "--pixel-scale", "180"])
    with fits.open("scene.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert all(hdu.verify_checksum() == 1 for hdu in hdus)
        header = hdus["DATA"].header
        # Without the time: the same map is the same file at any time.
        assert not any(sign.isdigit() for sign in header.comments["CHECKSUM"])
        assert "BUNIT" not in hdus["EXPOSURE"].header
        assert hdus["SOURCES"].header["BUNIT"] == "ct"
        assert WCS(hdus["BACKGROUND"].header).wcs.ctype[0] == "GLON-TAN"
    assert header["BUNIT"] == "ct"
    wcs = WCS(header)
    assert wcs.proj_plane_pixel_scales()[1].to_value("deg") == pytest.approx(0.05)
    assert wcs.pixel_to_world_values(31.5, 23.5) == pytest.approx((0, 0), abs=1e-9)


def test_a_cube_has_its_energies(folder):
    assert main(["--scene", "fermi", "--shape", "32", "--set", "bands=3", "--quiet"]) == 0
    parts = planes("scene.fits")
    assert [*parts] == [*NAMES, "EBOUNDS"]
    for name in NAMES[:6]:
        assert parts[name].shape == (3, 32, 32), name
    assert parts["PSF"].shape == (3, 31, 31)
    assert parts["EBOUNDS"]["E_MIN"].tolist() == [1, 3, 9]
    assert parts["EBOUNDS"]["E_MAX"].tolist() == [3, 9, 27]
    header = fits.getheader("scene.fits")
    assert (header["CTYPE3"], header["CUNIT3"]) == ("Energy", "GeV")


def test_a_cube_opens_in_gammapy(folder):
    maps = pytest.importorskip("gammapy.maps")
    main(["--scene", "fermi", "--shape", "32,48", "--set", "bands=3", "--quiet"])
    counts = maps.Map.read("scene.fits")
    assert counts.geom.axes[0].edges.to_value("GeV") == pytest.approx([1, 3, 9, 27])
    assert counts.data.sum() == planes("scene.fits")["DATA"].sum()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scene", "counts", "--shape", "40"],
        ["--scene", "fermi", "--shape", "40", "--set", "bands=2", "--pixel-scale", "90"],
        ["--scene", "chandra", "--shape", "64,48", "--set", "gaps=1"],
        ["--scene", "random-counts", "--shape", "40,56"],
    ],
)
def test_a_scene_is_drawn_again_from_its_file(folder, arguments):
    assert main([*arguments, "--seed", "5", "--first", "3", "--quiet"]) == 0
    assert main(["--scene", "scene.fits", "--name", "again", "--quiet"]) == 0
    assert (folder / "scene.fits").read_bytes() == (folder / "again.fits").read_bytes()
    assert main(["--scene", "scene.fits", "--seed", "6", "--name", "other", "--quiet"]) == 0
    first, other = planes("scene.fits"), planes("other.fits")
    assert not np.array_equal(first["EXPOSURE"], other["EXPOSURE"])


def test_a_map_depends_on_seed_and_number_alone(folder):
    main([*SMALL, "--count", "3", "--seed", "2"])
    main([*SMALL, "--first", "2", "--seed", "2", "--name", "alone"])
    assert sorted(path.name for path in folder.glob("scene*")) == [
        f"scene_000{number}.fits" for number in range(3)
    ]
    assert (folder / "scene_0002.fits").read_bytes() == (folder / "alone.fits").read_bytes()
    assert not np.array_equal(planes("scene_0000.fits")["DATA"], planes("scene_0001.fits")["DATA"])


@pytest.mark.parametrize("name", COUNTS_PRESETS)
def test_presets_are_scenes(name):
    scene = counts_scene(name, shape=[64, 64])
    assert scene.shape == (64, 64)
    assert is_counts_scene(name)
    sky = draw_numbered_counts(scene, seed=1, number=0)
    assert sky.counts.sum() > 0


def test_the_fields_are_listed_as_toml_that_can_be_read(folder, capsys):
    assert main(["--scene", "counts", "--list-fields"]) == 0
    text = capsys.readouterr().out
    listed = tomllib.loads(text)
    assert listed.pop("kind") == "counts"
    assert listed == {**asdict(CountsScene()), "shape": [200, 200]}
    (folder / "mine.toml").write_text(text)
    assert is_counts_scene("mine.toml")
    assert counts_scene("mine.toml") == CountsScene()


def test_fields_of_a_file_and_of_the_command(folder):
    (folder / "mine.toml").write_text('kind = "counts"\nshape = [40, 48]\nlevel = 7\ngaps = 1\n')
    main([
        "--scene", "mine.toml", "--set", "population=pulsars", "--set", "density=0", "--fwhm", "2.5", "--quiet"
    ])  # fmt: skip
    scene, seed, number = read_counts_scene("scene.fits")
    assert (seed, number) == (0, 0)
    assert scene == CountsScene(
        shape=(40, 48), level=7.0, gaps=1, population="pulsars", density=0.0, fwhm=2.5
    )


def test_the_truth_apart(folder, capsys):
    arguments = ["--scene", "fermi", "--shape", "32", "--set", "bands=2", "--truth-apart"]
    assert main(arguments) == 0
    assert "scene.fits scene_truth.fits: 32 x 32 px, 2 bands, " in capsys.readouterr().out
    assert list(planes("scene.fits")) == ["DATA", "EBOUNDS"]
    assert list(planes("scene_truth.fits")) == [*NAMES[1:], "EBOUNDS"]


def test_existing_files_are_kept(folder, capsys):
    (folder / "scene_truth.fits").write_text("mine")
    message = refused(capsys, *SMALL, "--truth-apart")
    assert "scene_truth.fits exists (--overwrite replaces it)" in message
    assert sorted(path.name for path in folder.iterdir()) == ["scene_truth.fits"]
    assert main([*SMALL, "--truth-apart", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "populaton=1"], 1, "no field 'populaton' (is it population?)"),
        (["--set", "population=quasars"], 1, "population is 'quasars', none of blazars,"),
        (["--set", "gaps=1.5"], 1, "gaps is 1.5, not a whole number"),
        (["--set", "level=1,2"], 1, "level is [1, 2], not a number"),
        (["--set", "plane=2"], 1, "plane is 2, outside 0 to 1"),
        (["--shape", "8"], 1, "two sides of at least 16 pixels"),
        (["--fwhm", "0"], 1, "fwhm is 0, outside 0.5 to 20"),
        (["--compress"], 2, "no --integers or --compress"),
        (["--integers"], 2, "no --integers or --compress"),
    ],
)
def test_bad_usage_gets_one_sentence(folder, capsys, arguments, code, words):
    assert words in refused(capsys, "--scene", "counts", *arguments, code=code)
    assert not list(folder.iterdir())


def test_a_random_scene_has_no_fields_to_set(folder, capsys):
    message = refused(capsys, "--scene", "random-counts", "--set", "level=1", code=2)
    assert "draws every field at random" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("level = true", "level is True, not a number"),
        ('bands = "2"', "bands is '2', not a whole number"),
        ("bands = nan", "bands is nan, not a whole number"),
        ("shape = 64", "shape is 64, not two whole numbers"),
        ("shape = [64, 64.5]", "not two whole numbers"),
        ("population = 3", "population is 3, not a name"),
    ],
)
def test_a_wrong_type_in_a_file_gets_one_sentence(folder, capsys, text, words):
    (folder / "mine.toml").write_text(f'kind = "counts"\n{text}\n')
    assert words in refused(capsys, "--scene", "mine.toml")


def test_what_is_no_scene_of_counts(folder):
    (folder / "optical.toml").write_text("stars = 5\n")
    (folder / "broken.toml").write_text("stars = \n")
    (folder / "text.fits").write_text("no FITS")
    fits.PrimaryHDU(np.zeros((4, 4))).writeto("other.fits")
    for name in (None, "optical.toml", "broken.toml", "text.fits", "other.fits", "nothing.fits"):
        assert not is_counts_scene(name), name
    with pytest.raises(ValueError, match="describes no scene of counts"):
        read_counts_scene("other.fits")


def test_maps_of_optical_scenes_are_not_changed(folder):
    """A file of an optical scene is still drawn again as one."""
    assert main(["--shape", "48", "--quiet"]) == 0
    assert not is_counts_scene("scene.fits")
    assert main(["--scene", "scene.fits", "--name", "again", "--quiet"]) == 0
    assert "MASK" in planes("again.fits")


def test_write_counts_states_the_seed_it_is_given(folder):
    sky = draw_numbered_counts(CountsScene(shape=(32, 32)), seed=8, number=4)
    write_counts("a.fits", sky, seed=8, number=4)
    write_counts("b.fits", sky)
    assert read_counts_scene("a.fits")[1:] == (8, 4)
    assert read_counts_scene("b.fits")[1:] == (None, None)
    with pytest.raises(FileExistsError):
        write_counts("a.fits", sky)
