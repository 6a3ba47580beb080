"""Paths as users give them, and texts as they are shown: one line, without control characters."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from skies import flat_sky

from bgrem import aperture_fluxes, detect_peaks, process_file, separate, undo
from bgrem.cli.bgrem import main
from bgrem.cli.simulate import main as simulate
from bgrem.cli.undo import main as undo_main
from bgrem.inference.model import load_model
from bgrem.io.maps import maps_for
from bgrem.io.reading import FitsError, read_image
from bgrem.processing.batch import process_batch
from bgrem.processing.files import process_files
from bgrem.storage.names import home_path, named_hdu, visible_text

SHAPE = (48, 64)
HOSTILE = "a\x1b[31m\n\r\t\x07<script>alert(1)</script>&\"'\u202egnp\u2066\x7f\x9b.fits"
INVISIBLE = "\x1b\n\r\t\x07\u202e\u2066\x7f\x9b"


def sky(seed=0):
    data = flat_sky(SHAPE, seed=seed)
    data[10:14, 30:34] += 500
    return data


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with images in it, and another working folder."""
    folder, working = tmp_path / "home", tmp_path / "working"
    folder.mkdir()
    working.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(working)
    mask = np.zeros(SHAPE, np.uint8)
    mask[3, 4] = 1
    units = [fits.PrimaryHDU(), fits.ImageHDU(sky(), name="SCI"), fits.ImageHDU(sky(1), name="TWO")]
    fits.HDUList([*units, fits.ImageHDU(mask, name="FLAGS")]).writeto(folder / "a.fits")
    yield folder
    assert not list(working.iterdir()), "a folder named ~ was made"


def test_home_of_paths_in_python(home, toy_model):
    result = process_file(
        "~/a.fits", model=toy_model, output_dir="~/out", mask="~/a.fits[FLAGS]", save=["mask"]
    )
    assert result.output == home / "out" / "BGRem_a.fits"
    assert fits.getdata(result.output, "MASK")[3, 4] & 2
    (listed,) = process_files("~/*.fits", model=toy_model)
    assert listed.output == home / "BGRem_a.fits"
    assert read_image(Path("~/a.fits")).hdu == 1
    assert home_path("~/b") == home / "b" and home_path("~nobody-here/b") == Path("~nobody-here/b")


def test_home_of_paths_of_the_commands(home, toy_model_path, capsys):
    (home / "toy.onnx").write_bytes(Path(toy_model_path).read_bytes())
    options = ["--model=~/toy.onnx", "--log=~/log.jsonl", "--weight=~/a.fits[TWO]"]
    saved = ["--save", "background,noise", "--mask=~/a.fits[3]"]
    assert main(["-f", "~/a.fits", "--output-dir=~/out", *options, *saved]) == 0
    assert json.loads((home / "log.jsonl").read_text())["output"] == str(home / "out/BGRem_a.fits")
    assert undo_main(["~/out/BGRem_a.fits", "-o", "~/back.fits"]) == 0
    assert undo_main(["~/out/BGRem_a.fits", "--output-dir", "~/restored"]) == 0
    (home / "scene.toml").write_text("shape = [64, 64]\n")
    assert simulate(["--scene", "~/scene.toml", "--output-dir=~/drawn", "--quiet"]) == 0
    assert (home / "back.fits").exists() and any((home / "drawn").iterdir())
    assert load_model("~/toy.onnx").path == home / "toy.onnx"
    capsys.readouterr()


def test_home_in_a_training(home, tiny_config):
    from bgrem.train.config import load_config

    (home / "own.toml").write_text('start = "~/w.safetensors"\nframes = ["~/a.fits", "b.fits"]\n')
    config = load_config("~/own.toml")
    assert config.start == str(home / "w.safetensors")
    assert config.frames == (str(home / "a.fits"), "b.fits")


@pytest.mark.parametrize(("hdu", "index"), [("TWO", 2), ("2", 2), ("two,1", 2), ("SCI", 1)])
def test_an_hdu_named_in_brackets(home, toy_model, hdu, index):
    result = process_file(f"{home}/a.fits[{hdu}]", model=toy_model)
    assert result.output == home / "BGRem_a.fits"
    with fits.open(home / "a.fits") as before, fits.open(result.output) as after:
        changed = [i for i in (1, 2, 3) if not np.array_equal(before[i].data, after[i].data)]
    assert changed == [index]
    (same,) = process_files(f"~/a.fits[{hdu}]", model=toy_model, overwrite=True)
    assert same.output == result.output
    assert read_image(f"~/a.fits[{hdu}]").hdu == index


def test_brackets_of_names_and_globs(home, toy_model):
    data = (home / "a.fits").read_bytes()
    for name in ("b1.fits", "b2.fits", "c.fits[SCI]", "d[1].fits"):
        (home / name).write_bytes(data)

    def outputs(given):
        return [found.output.name for found in process_files(given, model=toy_model)]

    assert outputs("~/b[12].fits") == ["BGRem_b1.fits", "BGRem_b2.fits"]
    assert outputs("~/c.fits[SCI]") == ["BGRem_c.fits[SCI]"]
    assert outputs("~/d[1].fits[TWO]") == ["BGRem_d[1].fits"]
    assert named_hdu("~/missing.fits[1]") == (home / "missing.fits[1]", None)
    _, second = process_files(["~/a.fits[SCI]", "~/a.fits[TWO]"], model=toy_model)
    assert "is already that of" in second.message
    with pytest.raises(FitsError, match=r"a.fits: there is no HDU named NONE"):
        process_file("~/a.fits[NONE]", model=toy_model, overwrite=True)
    image = read_image("~/a.fits", "SCI")
    with pytest.raises(FitsError, match="no such file .it was to be the mask"):
        maps_for(image, mask="~/missing.fits[1]")


def test_a_batch_resumes_an_hdu_in_brackets(home, toy_model_path):
    given = {"paths": "~/a.fits[TWO]", "model": toy_model_path, "output_dir": "~/out"}
    assert [outcome.resumed for _ in range(2) for outcome in process_batch(**given)] == [
        False,
        True,
    ]
    with fits.open(home / "a.fits", mode="update") as hdus:
        hdus["TWO"].data[0, 0] += 1
    fits.setval(home / "a.fits", "CHANGED", value="x" * 60, ext=0)
    (again,) = process_batch(**given, overwrite=True)
    assert not again.resumed and again.input == home / "a.fits[TWO]"


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_hostile_names_take_one_line(tmp_path, toy_model_path, capsys, workers):
    path = tmp_path / HOSTILE.replace("/", "")
    fits.writeto(path, sky())
    bad = tmp_path / "bad\n\x1b[2J.fits"
    bad.write_text("no")
    log = tmp_path / "log.jsonl"
    command = ["-f", str(path), str(bad), "--model", toy_model_path, "--log", str(log), *workers]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and r"\x1b[31m\n" in out and r"\u202e" in out
    assert r"bad\n\x1b[2J.fits: not a FITS file" in err
    for text in (out, err, log.read_text(), *(p.read_text() for p in tmp_path.glob("*journal*"))):
        assert not set(INVISIBLE) & set(text.replace("\n", ""))
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert {entry["file"] for entry in entries} == {str(path), str(bad)}
    if workers:
        assert main([*command, "--quiet"]) == 1  # the journal has the name as it is
        assert [json.loads(line)["status"] for line in log.read_text().splitlines()].count(
            "skipped"
        )


def test_hostile_headers_stay_text(tmp_path, toy_model_path, capsys):
    pytest.importorskip("jinja2")
    script = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    header = fits.Header({"OBJECT": script, "BUNIT": "<b>adu", "TELESCOP": "'\"><svg onload=a()>"})
    header["HISTORY"] = script
    units = [fits.PrimaryHDU(), fits.ImageHDU(sky(), header, name="<i>SCI")]
    paths = [
        tmp_path / name for name in (HOSTILE.replace("/", ""), "javascript:alert(1)#?%41.fits")
    ]
    for path in paths:
        fits.HDUList(units).writeto(path)
        raw = path.read_bytes().replace(b"onerror", b"\x1b[31m\n\x9b")
        path.write_bytes(raw)
    files = [str(path) for path in paths]
    assert main(["-f", *files, "--model", toy_model_path, "--report", "--prefix", ""]) == 1
    assert main(["-f", *files, "--model", toy_model_path, "--report", "--prefix", "x_"]) == 0
    pages = [path.read_text(encoding="utf-8") for path in tmp_path.glob("x_*.html")]
    assert len(pages) == 3
    for page in pages:
        assert not {"alert(1)</script>", "<img src=x", "<svg onload", "<b>adu", "<i>SCI"} & {
            text for text in ("alert(1)</script>", "<img src=x", "<svg onload", "<b>adu", "<i>SCI")
            if text in page
        }  # fmt: skip
        assert not set("\x1b\r\x07\u202e\u2066\x7f\x9b") & set(page)
    index = (tmp_path / "x_index.html").read_text(encoding="utf-8")
    assert 'href="x_javascript%3Aalert%281%29%23%3F%2541.fits.html"' in index
    assert not set(INVISIBLE) & set(capsys.readouterr().err.replace("\n", ""))


def test_names_that_are_no_text_stay(capsys):
    assert visible_text("caf\udce9.fits") == "caf\udce9.fits"
    assert visible_text("é ü 星.fits") == "é ü 星.fits"
    assert visible_text("\x1b\x9b\u202e\u2028") == r"\x1b\x9b\u202e\u2028"


@pytest.mark.parametrize("value", [0x7FA00000, 0x7F800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x00000001])
@pytest.mark.parametrize("order", [">", "<"])
def test_no_value_gives_a_warning_of_numpy(tmp_path, toy_model, value, order):
    data = sky().astype(f"{order}f4")
    data.view(f"{order}u4")[3:5, 3] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        parts = separate(data, model=toy_model)
        assert np.isfinite(parts.sources[20, 20]) and parts.noise.shape == parts.background.shape
        fits.writeto(tmp_path / "a.fits", data)
        saved = ["background", "noise", "rms", "mask", "uncertainty"]
        process_file(tmp_path / "a.fits", model=toy_model, save=saved, plot=True)
        undo(tmp_path / "BGRem_a.fits")
        peaks = detect_peaks(data, threshold=5.0)
        aperture_fluxes(data, peaks["x"], peaks["y"], 4.0)


def test_no_warning_of_python_on_the_terminal(tmp_path, toy_model_path):
    data = sky()
    data.view("u4")[3, 3] = 0x7FA00000
    fits.writeto(tmp_path / "a.fits", data)
    code = (
        "import sys, warnings; from bgrem.cli import bgrem as command; whole = command._report\n"
        "def noisy(*a):\n"
        "    warnings.warn('for programmers', RuntimeWarning); warnings.warn('for\\nusers')\n"
        "    return whole(*a)\n"
        "command._report = noisy; sys.exit(command.main(sys.argv[1:]))"
    )
    call = [sys.executable, "-c", code, "-f", str(tmp_path / "a.fits"), "--model", toy_model_path]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert "bgrem: for users\n" in done.stderr
    assert all(line.startswith("bgrem: ") for line in done.stderr.splitlines())
    assert "programmers" not in done.stderr and "Warning" not in done.stderr
