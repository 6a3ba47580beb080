"""What is left of files that were not finished, and nothing else, is removed."""

import subprocess
import sys
from pathlib import Path

from bgrem.storage.temporary import _machine, remove_leftovers, remove_orphans, temporary_path


def test_the_temporary_name_keeps_folder_and_suffix(tmp_path):
    path = tmp_path / "night.2.fits.gz"
    names = {temporary_path(path) for _ in range(10)}
    assert len(names) == 10
    for name in names:
        assert name.parent == tmp_path and name.name.startswith(".bgrem-")
        assert name.suffixes[-2:] == [".fits", ".gz"]
    long = tmp_path / ("a" * 245 + ".fits")
    temporary_path(long).write_text("")


def test_only_leftovers_of_these_files_are_removed(tmp_path):
    ours, theirs = tmp_path / "a.fits", tmp_path / "b.fits"
    kept = [ours, theirs, temporary_path(theirs), tmp_path / ".bgrem-1234.fits"]
    for path in [*kept, temporary_path(ours), temporary_path(ours)]:
        path.write_text("x")
    remove_leftovers([ours, tmp_path / "none" / "a.fits"])
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    remove_leftovers([])


def test_a_killed_command_leaves_nothing_after_the_next(night, toy_model_path, tmp_path):
    """The batch that goes on where another was killed takes its half-written files away."""
    left = temporary_path(tmp_path / "BGRem_f1.fits")
    left.write_text("half")
    command = [
        sys.executable, "-m", "bgrem", "-f", night, "--workers", "1", "--model", toy_model_path,
        "--output-dir", tmp_path,
    ]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    assert not left.exists() and (tmp_path / "BGRem_f1.fits").exists()


def test_files_of_ended_processes_are_removed(tmp_path):
    path = tmp_path / "a.fits"
    code = f"from bgrem.storage.temporary import temporary_path as t; print(t(__import__('pathlib').Path({str(path)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    orphan, own = Path(done.stdout.strip()), temporary_path(path)
    elsewhere = own.with_name(own.name.replace(_machine(), "0" * 6))
    for file in (orphan, own, elsewhere, path):
        file.write_text("x")
    remove_orphans(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([own, elsewhere, path])
