"""The command bgrem-train as a user calls it."""

import signal
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("galsim")

from bgrem.cli.train import main
from bgrem.train.loop import Training, checkpoint_path

TOML = """
name = "tiny"
description = "for tests"
seed = 5
steps = {steps}
warmup = 5
decay = 2
batch = 2
tile = 64
parent = 128
box = 64
window = 2
[network]
widths = [4, 4, 4, 4, 4]
encoder = [0, 1, 1, 1, 1]
decoder = [1, 1, 1, 1]
embedding = 8
[inference]
calibration = 2
"""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def command(tmp_path, capsys):
    """Run the command with a configuration of some steps; gives code, stdout, stderr."""
    path = tmp_path / "tiny.toml"
    folder = tmp_path / "run"

    def run(*arguments, steps=4):
        path.write_text(TOML.format(steps=steps))
        words = [path, "--output-dir", folder, "--device", "cpu", "--workers", 0, "--threads", 1]
        words += ["--validate-every", 0, *arguments]
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    run.folder = folder
    return run


def test_command_trains_resumes_and_exports(command):
    code, out, err = command("--stop-after", "0", "--report-every", "1")
    assert code == 0 and out == f"{command.folder / 'tiny.onnx'}\n"
    assert "step 1 of 4" in err and "minutes left" in err
    code, out, err = command()
    assert code == 0 and "resumed at step 1 of 4" in err
    assert torch.load(checkpoint_path(command.folder))["step"] == 4
    (command.folder / "tiny.onnx").unlink()
    code, out, err = command("--export-only")
    assert (code, err) == (0, "") and (command.folder / "tiny.onnx").exists()


def test_command_extends_on_request(command):
    command("--stop-after", "0", "--quiet")
    code, out, err = command("--quiet", steps=5)
    assert (code, out) == (1, "") and err.count("\n") == 1 and "steps differ" in err
    code, _, err = command("--quiet", "--extend", steps=5)
    assert (code, err) == (0, "")


def test_command_refuses_in_one_sentence(command, tmp_path, capsys):
    code, out, err = command("--export-only")
    assert (code, out) == (1, "") and err.startswith("bgrem-train: ") and err.count("\n") == 1
    code = main([str(tmp_path / "none.toml"), "--output-dir", str(tmp_path / "x")])
    assert code == 1 and "No such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["config.toml"])
    assert ended.value.code == 2 and "--output-dir" in capsys.readouterr().err


def test_command_saves_when_interrupted(command, monkeypatch):
    advance, before = Training.advance, signal.getsignal(signal.SIGINT)

    def interrupted(self, window):
        signal.raise_signal(signal.SIGINT)
        return advance(self, window)

    monkeypatch.setattr(Training, "advance", interrupted)
    code, out, err = command("--quiet")
    assert (code, out) == (130, "") and "saved at step 1 of 4" in err
    assert torch.load(checkpoint_path(command.folder))["step"] == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_command_names_missing_packages(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "bgrem.train.export", None)
    code, out, err = command()
    assert (code, out) == (1, "")
    assert err == "bgrem-train: bgrem.train.export is not installed (pip install 'bgrem[train]')\n"
