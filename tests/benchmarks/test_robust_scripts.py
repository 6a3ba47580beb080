"""The commands of `benchmarks/robust`: what they make and how they judge it."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bgrem.io.reading import read_image

ROBUST = Path(__file__).resolve().parents[2] / "benchmarks" / "robust"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def command(monkeypatch):
    """Imports a command of the folder by its name."""
    monkeypatch.syspath_prepend(str(ROBUST))
    return importlib.import_module


def test_every_kind_of_file_is_sound(command, tmp_path):
    base_files, path = command("base_files"), tmp_path / "a.fits"
    for kind in base_files.KINDS:
        path.write_bytes(base_files.base_file(kind, 1))
        assert min(read_image(path).data.shape) >= 2


def test_a_seed_always_gives_the_same_file(command):
    trial, base_files = command("trial"), command("base_files")
    outputs = [base_files.base_file("int16", 1)]
    for seed in range(40):
        assert trial.broken_file(seed, outputs) == trial.broken_file(seed, outputs)


def test_mutations_change_files(command):
    mutations, base_files = command("mutations"), command("base_files")
    contents = base_files.base_file("RICE_1 int16", 1)
    layout = mutations._layout(contents)
    for change in mutations.CHANGES:
        rng = np.random.default_rng(5)
        assert any(bytes(change(rng, bytearray(contents), layout)) != contents for _ in range(5))


def test_wrong_outcomes_are_faults(command, tmp_path):
    trial = command("trial")
    path = tmp_path / "f.fits"
    path.write_bytes(b"")
    good = f"{path}: the file is empty"
    assert trial._checked_sentence(good, path) == "/f.fits: the file is empty"
    for message in ("empty", f"{good}\n", good + 400 * "x", f"{path}: unexpected KeyError"):
        with pytest.raises(trial.Fault):
            trial._checked_sentence(message, path)
    (tmp_path / ".bgrem-half.fits").write_bytes(b"")
    with pytest.raises(trial.Fault, match="is left"):
        trial._checked_sentence(good, path)


def test_a_few_broken_files_give_no_fault(command, tmp_path, capsys):
    mutate = command("mutate")
    arguments = ["--count", "12", "--first", "200", "--real", "0", "--folder", str(tmp_path)]
    assert mutate.main(arguments) == 0
    assert capsys.readouterr().out.startswith("12 broken files: ")
    lines = (tmp_path / "seeds.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["seed"] for line in lines) == list(range(200, 212))
    assert mutate.main(arguments) == 0  # nothing is left to do
    assert len(list(tmp_path.glob("seed*"))) == 1
