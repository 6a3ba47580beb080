"""The command bgrem-simulate and the files that it writes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from bgrem.cli.simulate import main
from bgrem.io.reading import read_image
from bgrem.simulate import Scene
from bgrem.simulate.scene_files import load_scene, read_scene, whole_numbers

SMALL = ["--shape", "64,80", "--quiet"]


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
    assert list(parts) == ["DATA", "SOURCES", "BACKGROUND", "NOISE", "MASK", "TRUTH"]
    assert parts["MASK"].dtype == np.uint8
    assert parts["DATA"].shape == (64, 80)
    numbers = {name: parts[name].astype(np.float64) for name in list(parts)[:4]}
    rest = numbers["DATA"] - numbers["SOURCES"] - numbers["BACKGROUND"] - numbers["NOISE"]
    size = sum(np.abs(plane) for plane in numbers.values())
    assert (np.abs(rest) <= 1e-6 * size).all()
    assert set(parts["TRUTH"].dtype.names) >= {"x", "y", "flux", "snr", "kind"}


def test_header_is_that_of_an_observed_frame(folder):
    main([*SMALL, "--fwhm", "5", "--pixel-scale", "0.3"])
    header = fits.getheader("scene.fits")
    assert header["BUNIT"] == "adu"
    assert header["GAIN"] == Scene().gain
    assert header["SATURATE"] == pytest.approx(Scene().full_well / Scene().gain)
    assert header["SEEING"] == pytest.approx(1.5)
    wcs = WCS(header)
    assert wcs.wcs.ctype[0] == "RA---TAN"
    assert wcs.proj_plane_pixel_scales()[1].to_value("arcsec") == pytest.approx(0.3)
    fits.open("scene.fits", checksum=True).verify("exception")


@pytest.mark.parametrize("extra", [[], ["--training-sky"], ["--integers"], ["--compress"]])
def test_a_scene_is_drawn_again_from_its_file(folder, extra):
    assert main([*SMALL, "--seed", "5", "--first", "3", *extra]) == 0
    name = "scene.fits.fz" if extra == ["--compress"] else "scene.fits"
    form = [option for option in extra if option == "--integers"]
    assert main(["--scene", name, "--name", "again", "--quiet", *form]) == 0
    first, again = planes(name), planes("again.fits")
    for part in first:
        assert np.array_equal(first[part], again[part]), part


def test_a_scene_depends_on_seed_and_number_alone(folder):
    main([*SMALL, "--count", "3", "--seed", "2"])
    main([*SMALL, "--seed", "2", "--first", "2", "--name", "third"])
    main([*SMALL, "--seed", "4", "--first", "2", "--name", "other"])
    third = planes("scene_0002.fits")["DATA"]
    assert np.array_equal(third, planes("third.fits")["DATA"])
    assert not np.array_equal(third, planes("scene_0001.fits")["DATA"])
    assert not np.array_equal(third, planes("other.fits")["DATA"])


def test_every_field_can_be_set_in_a_file(folder):
    (folder / "all.toml").write_text(fields_as_toml())
    assert load_scene("all.toml") == Scene()
    (folder / "some.toml").write_text("[scene]\nstars = 50\namplifier_size = [100, 200]\n")
    scene = load_scene("some.toml", fwhm=3.0)
    assert (scene.stars, scene.amplifier_size, scene.fwhm) == (50.0, (100, 200), 3.0)
    main(["--scene", "some.toml", "--set", "sky=77", "--quiet"])
    assert read_scene("scene.fits")[0] == dataclasses.replace(
        Scene(), stars=50.0, amplifier_size=(100, 200), sky=77.0
    )


def fields_as_toml():
    values = dataclasses.asdict(Scene()).items()
    pairs = ((name, list(v) if isinstance(v, tuple) else v) for name, v in values)
    return "".join(f"{name} = {value}\n" for name, value in pairs)


def test_the_fields_are_listed_as_toml(folder, capsys):
    assert main(["--list-fields"]) == 0
    assert capsys.readouterr().out == fields_as_toml()


def test_integers_are_stored_as_such(folder):
    main([*SMALL, "--integers", "--compress", "--set", "bias=1000"])
    with fits.open("scene.fits.fz") as hdus:
        data = hdus["DATA"]
        assert data.data.dtype.kind == "i"
        assert data.header["SCENE QUANTISATION"] * np.hypot(300**0.5, 9) == pytest.approx(2.2)
        rest = data.data - sum(
            hdus[name].data.astype(np.float64) for name in ("SOURCES", "BACKGROUND", "NOISE")
        )
    assert (rest == 0).all()
    assert read_image("scene.fits.fz").data.shape == (64, 80)


def test_the_truth_apart(folder, capsys):
    main(["--shape", "64", "--truth-apart", "--compress", "--name", "sky"])
    assert capsys.readouterr().out.startswith("sky.fits.fz sky_truth.fits.fz: 64 x 64 px")
    assert list(planes("sky.fits.fz")) == ["DATA"]
    assert list(planes("sky_truth.fits.fz")) == ["SOURCES", "BACKGROUND", "NOISE", "MASK", "TRUTH"]


def test_existing_files_are_kept(folder, capsys):
    main(SMALL)
    before = (folder / "scene.fits").read_bytes()
    assert "scene.fits exists" in refused(capsys, *SMALL, "--seed", "9")
    assert (folder / "scene.fits").read_bytes() == before
    assert main([*SMALL, "--seed", "9", "--overwrite", "--output-dir", "."]) == 0
    assert (folder / "scene.fits").read_bytes() != before
    assert [path.name for path in folder.iterdir()] == ["scene.fits"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "starz=3"], 1, "is it stars?"),
        (["--set", "stars=-3"], 1, "stars is -3"),
        (["--set", "stars"], 2, "FIELD=VALUE"),
        (["--shape", "8"], 1, "at least 16"),
        (["--shape", "64,64,3"], 2, "NY,NX"),
        (["--scene", "none.toml"], 1, "none.toml"),
        (["--scene", "bad.toml"], 1, "bad.toml: not TOML"),
        (["--scene", "type.toml"], 1, "type.toml: stars is 'many', not a number"),
        (["--scene", "vary.toml"], 1, "vary is not understood"),
        (["--scene", "text.fits"], 1, "text.fits"),
        (["--scene", "plain.fits"], 1, "describes no scene"),
        (["--training-sky", "--fwhm", "3"], 2, "--training-sky"),
        (["--training-sky", "--scene", "a.toml"], 2, "not allowed"),
        (["--count", "0"], 2, "below 1"),
        (["--name", "a/b"], 2, "--output-dir"),
        (["--output-dir", "text.fits"], 1, "text.fits"),
        (["--bias", "3"], 2, "--bias"),
        (["--integers", "--set", "bias=0.5"], 1, "bias is 0.5"),
    ],
)
def test_bad_usage_gets_one_sentence(folder, capsys, arguments, code, words):
    (folder / "bad.toml").write_text("stars = = 3")
    (folder / "type.toml").write_text("stars = 'many'")
    (folder / "vary.toml").write_text("[scene]\nstars = 3\n[vary]\nsky = [1, 2]\n")
    (folder / "text.fits").write_text("no FITS")
    fits.PrimaryHDU(np.zeros((32, 32))).writeto(folder / "plain.fits")
    before = set(folder.iterdir())
    assert words in refused(capsys, *arguments, code=code)
    assert set(folder.iterdir()) == before


SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "meerlicht_sample.fits.fz"


def test_the_bundled_sample_is_what_it_says():
    data = read_image(SAMPLE).data
    parts = planes(SAMPLE.with_name("meerlicht_sample_truth.fits.fz"))
    total = sum(parts[name].astype(np.float64) for name in ("SOURCES", "BACKGROUND", "NOISE"))
    assert np.array_equal(data, total)
    scene, seed, number = read_scene(SAMPLE)
    described = load_scene(SAMPLE.with_name("meerlicht_sample.toml"))
    assert scene == dataclasses.replace(described, **whole_numbers(described))
    assert (seed, number) == (1, 0)
    assert (parts["TRUTH"]["snr"] > 2).sum() > 300
    size = sum(path.stat().st_size for path in SAMPLE.parent.glob("meerlicht_sample*"))
    assert size < 2_000_000
