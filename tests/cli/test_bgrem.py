"""The command as a user calls it."""

import os
import select
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from astropy.io import fits
from skies import flat_sky

from bgrem.cli.bgrem import _attach_values, main, make_parser

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, "-m", "bgrem"]


def bgrem(*arguments, command=RUN, cwd=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "img.fits"
    fits.PrimaryHDU(flat_sky((64, 80), 200, 3, seed=5)).writeto(path)
    return path


def parsed(*arguments):
    parser = make_parser()
    return parser.parse_args(_attach_values(["-f", "a.fits", *arguments], parser))


# --- both forms of the command


@pytest.mark.parametrize("command", [RUN, [sys.executable, str(ROOT / "bgrem.py")]])
def test_one_image(frame, toy_model_path, command):
    before = frame.read_bytes()
    done = bgrem("-f", frame.name, "--model", toy_model_path, command=command, cwd=frame.parent)
    assert done.returncode == 0
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    path, *facts = line.split("  ")
    assert path == "BGRem_img.fits"
    assert [fact.split("=")[0] for fact in facts] == ["model", "level", "rms", "norm", "seconds"]
    assert frame.read_bytes() == before
    assert sorted(p.name for p in frame.parent.iterdir()) == ["BGRem_img.fits", "img.fits"]


def test_every_flag(frame, toy_model_path):
    done = bgrem(
        "-f", frame, "-h", "0", "-s", "2", "-n", "0.3", "-m", "-1e-12", "-p", "-x", "--output-dir",
        frame.parent / "out", "--mask", "0", "--save", "background,noise,rms,mask", "--nonnegative",
        "--keep-level", "--model", toy_model_path, "--fwhm", "2.5", "--box", "32", "--quiet",
    )  # fmt: skip
    # The mask is the image itself, so no pixel is good: the flags are all taken, the image is not.
    assert done.returncode == 1
    assert "no good pixel" in done.stderr
    assert not (frame.parent / "out").exists()


def test_the_original_call(frame, toy_model_path):
    done = bgrem(
        "-f", frame, "-i", "0", "-s", "2", "-n", "0.3", "-m", "-1e-12", "-p", "-x",
        "--model", toy_model_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    header = fits.getheader(frame.parent / "-ximg.fits")
    assert (header["BGR_STEP"], header["BGR_NORM"], header["BGR_MINP"]) == (2, 0.3, -1e-12)


def test_several_images_one_bad(frame, toy_model_path):
    (frame.parent / "page.fits").write_text("<html>404</html>")
    done = bgrem(
        "-f", frame.parent / "page.fits", frame.parent / "none.fits", "-f", frame,
        "--model", toy_model_path, "--save", "noise",
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.splitlines() == [
        f"bgrem: {frame.parent / 'page.fits'}: not a FITS file",
        f"bgrem: {frame.parent / 'none.fits'}: no such file",
    ]
    assert len(fits.open(frame.parent / "BGRem_img.fits")) == 2


def test_quiet_prints_errors_only(frame, toy_model_path, capsys):
    arguments = ["-f", str(frame), "--model", toy_model_path, "--quiet"]
    assert main(arguments) == 0
    assert capsys.readouterr() == ("", "")
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "exists already" in err


def test_existing_output(frame, toy_model_path, capsys):
    arguments = ["-f", str(frame), "--model", toy_model_path]
    assert [main(arguments), main(arguments), main([*arguments, "--overwrite"])] == [0, 1, 0]


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_empty_prefix_does_not_overwrite_the_input(frame, toy_model_path, overwrite, capsys):
    before = frame.read_bytes()
    assert main(["-f", str(frame), "-p", "", "--model", toy_model_path, *overwrite]) == 1
    assert "would overwrite the input" in capsys.readouterr().err
    assert frame.read_bytes() == before
    out = ["--output-dir", str(frame.parent / "out")]
    assert main(["-f", str(frame), "-p", "", "--model", toy_model_path, *out]) == 0
    assert (frame.parent / "out" / "img.fits").exists()


def test_a_file_name_that_is_not_unicode(frame, toy_model_path):
    odd = os.fsencode(frame.parent) + b"/a\xff.fits"
    try:
        Path(os.fsdecode(odd)).write_bytes(frame.read_bytes())
    except OSError:
        pytest.skip("the file system takes no such name")
    done = subprocess.run(
        [*RUN, "-f", odd, str(frame), "--model", toy_model_path], capture_output=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"},
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert b"/BGRem_a\xff.fits  model=" in first
    assert b"BGRem_img.fits" in second


# --- help and usage


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help(arguments):
    done = bgrem(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    for flag in (
        "--file",
        "--hdu",
        "--steps",
        "--norm",
        "--minpix",
        "--prefix",
        "--mask",
        "--save",
    ):
        assert flag in done.stdout
    assert "-i " not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_version():
    import bgrem as package

    assert bgrem("--version").stdout == f"bgrem {package.__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == package.__version__


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-s", "1"], "required: -f"),
        (["-f"], "expected at least one"),
        (["-f", "a.fits", "-s", "0"], "-s/--steps: 0 is below 1"),
        (["-f", "a.fits", "-s", "-3"], "-s/--steps: -3 is below 1"),
        (["-f", "a.fits", "-s", "two"], "'two' is not a whole number"),
        (["-f", "a.fits", "-n", "-1"], "-1 is below 0"),
        (["-f", "a.fits", "-n", "nan"], "nan is not finite"),
        (["-f", "a.fits", "-m", "low"], "'low' is not a number"),
        (["-f", "a.fits", "-p", "a/b"], "goes to --output-dir"),
        (["-f", "a.fits", "--save", "noise,stars"], "is not a list of background, noise"),
        (["-f", "a.fits", "--fwhm", "0"], "not above 0"),
        (["-f", "a.fits", "--box", "15"], "15 is below 16"),
        (["-f", "a.fits", "--over"], "unrecognized arguments: --over"),
        (["-f", "a.fits", "-h"], "-h/--hdu: expected one argument"),
        (["a.fits"], "required: -f"),
        (["-f", "a.fits", "--model", "nonesuch"], "nonesuch"),
        (["-f", "a.fits", "--model", "none.onnx"], "none.onnx"),
    ],
)
def test_wrong_usage(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("bgrem: ")
    assert sentence in err


def test_values_that_look_like_flags():
    assert parsed("-m", "-1e-12").minpix == -1e-12
    assert parsed("-m", "-.5").minpix == -0.5
    assert parsed("-m-3").minpix == -3
    assert parsed("--minpix", "-3").minpix == -3
    assert parsed("--minpix=-3").minpix == -3
    assert parsed("-p", "-x").prefix == "-x"
    assert parsed("-p", "--quiet").prefix == "--quiet"
    assert parsed("-p", "").prefix == ""
    assert parsed("-p", "a=b ").prefix == "a=b "


def test_defaults_and_names():
    options = parsed()
    assert (options.hdu, options.steps, options.norm, options.minpix) == (None, 1, 0, "auto")
    assert (options.prefix, options.model, options.save) == ("BGRem_", "auto", ())
    assert parsed("-m", "none").minpix is None
    assert parsed("-i", "SCI").hdu == parsed("-h", "SCI").hdu == parsed("-hSCI").hdu == "SCI"
    assert parsed("-f", "b", "c", "-f", "d").files == ["a.fits", "b", "c", "d"]
    assert parsed("--save", "Mask, rms,mask").save == ("mask", "rms")


# --- manners


def test_an_interrupt_leaves_nothing_behind(frame, toy_model_path):
    big = frame.parent / "large.fits"
    fits.PrimaryHDU(flat_sky((1500, 1500), 200, 3, seed=6)).writeto(big)
    process = subprocess.Popen(
        [*RUN, "-f", str(frame), str(big), "-s", "200", "--model", toy_model_path],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background lets them ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    process.stdout.readline()  # the small one is done, the large one takes half a minute
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted\n"
    names = sorted(path.name for path in frame.parent.iterdir())
    assert names == ["BGRem_img.fits", "img.fits", "large.fits"]


def test_an_interrupt_while_writing(frame, toy_model_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bgrem.io.writing.checked_header", interrupted)
    assert main(["-f", str(frame), "--model", toy_model_path]) == 130
    assert [path.name for path in frame.parent.iterdir()] == ["img.fits"]


def test_progress_is_shown_on_a_terminal_only(frame, toy_model_path):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    subprocess.run(
        [*RUN, "-f", str(frame), "--model", toy_model_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=writer, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    shown = os.read(reader, 4096) if select.select([reader], [], [], 10)[0] else b""
    os.close(writer)
    os.close(reader)
    assert b"img.fits" in shown


def test_a_missing_dependency_is_named():
    code = (
        "import sys; sys.modules['astropy'] = None;"
        "from bgrem.cli.bgrem import main; sys.exit(main(['-f', 'a.fits']))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bgrem: astropy")
    assert done.stderr.endswith("is not installed (pip install 'bgrem')\n")
