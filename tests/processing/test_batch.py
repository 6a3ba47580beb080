"""A night of images: workers, resume, shards, the log, and processes that are killed."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from skies import write_frame

from bgrem.inference.model import load_model
from bgrem.processing.batch import process_batch
from bgrem.processing.files import process_file
from bgrem.processing.outcome import Failure, Result
from bgrem.processing.workers import process_locally

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a Unix")


def command(*arguments):
    return [sys.executable, "-m", "bgrem", *map(str, arguments)]


def bgrem(*arguments, environment=ENVIRONMENT):
    return subprocess.run(
        command(*arguments),
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture
def stuck(tmp_path):
    """An input at which a process waits for ever: a pipe into which nobody writes."""
    path = tmp_path / "stuck.fits"
    os.mkfifo(path)
    return path


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def statuses(path):
    return {Path(entry["file"]).name: entry["status"] for entry in records(path)}


def images(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".jsonl")


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    names = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    return [child for child, name in names.items() if b"spawn_main" in name]


# --- workers


def test_workers_give_what_one_process_gives(night, toy_model, toy_model_path, tmp_path):
    (night / "page.fits").write_text("<html>")
    log = tmp_path / "results.jsonl"
    done = bgrem(
        "-f", night, "--workers", 2, "--log", log, "--model", toy_model_path, "--output-dir",
        tmp_path / "clean",
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 4
    bad, summary = done.stderr.splitlines()
    assert bad == f"bgrem: {night / 'page.fits'}: not a FITS file"
    assert summary.startswith("bgrem: 5 images in ")
    assert summary.endswith(" s: 4 done, 0 done before, 1 failed")
    for i in range(4):
        one = process_file(night / f"f{i}.fits", model=toy_model, output_dir=tmp_path / "one")
        both = [fits.getdata(tmp_path / name / one.output.name) for name in ("one", "clean")]
        np.testing.assert_array_equal(*both)
    entries = {Path(entry["file"]).name: entry for entry in records(log)}
    assert len(entries) == 5
    assert entries["page.fits"]["status"] == "failed"
    assert "not a FITS file" in entries["page.fits"]["error"]
    entry = entries["f0.fits"]
    assert (entry["status"], entry["model"], entry["error"]) == ("done", "toy", None)
    assert entry["output"] == str(tmp_path / "clean" / "BGRem_f0.fits")
    assert entry["sky"] == pytest.approx(200, abs=1)
    assert entry["rms"] == pytest.approx(3, rel=0.1)
    header = fits.getheader(entry["output"])
    assert (entry["fwhm"], entry["fwhm_from"]) == (header["BGR_FWHM"], header["BGR_FWSR"])
    assert entries["page.fits"]["fwhm"] is entries["page.fits"]["fwhm_from"] is None
    assert entry["seconds"] > 0
    assert isinstance(entry["warnings"], list)


def killing_the_reader(pipe, times):
    """Kill the process that reads a pipe, again and again, as the system does when memory is out."""

    def kill():
        for _ in range(times):
            with pipe.open("wb"):  # waits for a reader
                (child,) = multiprocessing.active_children()
                os.kill(child.pid, signal.SIGKILL)
                child.join()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_killed_process_loses_no_image(night, stuck, toy_model_path):
    thread = killing_the_reader(stuck, 2)
    paths = [stuck, night / "f0.fits", night / "f1.fits"]
    outcomes = list(process_locally(paths, workers=1, model=toy_model_path))
    thread.join()
    assert [type(outcome) for outcome in outcomes] == [Result, Result, Failure]
    assert outcomes[2].message == (
        f"{stuck}: its process was killed 2 times (signal 9, out of memory?)"
    )
    assert not multiprocessing.active_children()


def test_an_image_is_retried_after_its_process_died(night, stuck, toy_model_path):
    def repair():
        killing_the_reader(stuck, 1).join()
        stuck.unlink()
        write_frame(stuck)

    thread = threading.Thread(target=repair)
    thread.start()
    outcomes = list(process_locally([stuck, night / "f0.fits"], workers=1, model=toy_model_path))
    thread.join()
    assert sorted(outcome.output.name for outcome in outcomes) == [
        "BGRem_f0.fits", "BGRem_stuck.fits",
    ]  # fmt: skip


# --- resume


def start(*arguments):
    return subprocess.Popen(
        command(*arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, preexec_fn=heeds_interrupts,  # noqa: PLW1509
    )  # fmt: skip


def heeds_interrupts():
    """A shell that runs the tests in the background lets them ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_killed_batch_goes_on(night, stuck, toy_model_path, tmp_path):
    arguments = [
        "-f", night, stuck, "--workers", 2, "--model", toy_model_path, "--output-dir",
        tmp_path / "clean", "--log", tmp_path / "log.jsonl",
    ]  # fmt: skip
    process = start(*arguments)
    for _ in range(4):
        process.stdout.readline()
    crew = children(process.pid)
    process.kill()
    for child in crew:
        os.kill(child, signal.SIGKILL)
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "clean").glob("*.fits")}
    assert len(before) == 4
    stuck.unlink()
    write_frame(stuck)
    done = bgrem(*arguments)
    assert done.returncode == 0, done.stderr
    assert "1 done, 4 done before, 0 failed" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert statuses(tmp_path / "log.jsonl") == {
        **{f"f{i}.fits": "skipped" for i in range(4)}, "stuck.fits": "done",
    }  # fmt: skip


def test_an_output_not_in_the_journal_is_rewritten(night, toy_model, tmp_path):
    """The batch was killed when the output had its name and the journal did not say so."""
    options = {"model": toy_model, "output_dir": tmp_path}
    list(process_batch(night, **options))
    journal = tmp_path / "bgrem-journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    outcomes = list(process_batch(night, **options))
    assert [outcome.resumed for outcome in outcomes] == [True, True, True, False]
    assert all(outcome.resumed for outcome in process_batch(night, **options))


def test_images_that_changed_are_not_skipped(night, toy_model, tmp_path):
    def again(**options):
        outcomes = process_batch(night / "f0.fits", model=toy_model, output_dir=tmp_path, **options)
        (outcome,) = outcomes
        return outcome

    assert not again().resumed
    assert again().resumed
    assert again(overwrite=True).resumed
    assert "exists already" in again(steps=2).message
    assert not again(steps=2, overwrite=True).resumed
    assert "exists already" in again().message
    os.utime(night / "f0.fits")
    assert "exists already" in again(steps=2).message
    assert not again(steps=2, overwrite=True).resumed
    again(steps=2).output.unlink()
    assert not again(steps=2).resumed
    (tmp_path / "BGRem_f0.fits").write_text("")
    assert again(steps=2).output.stat().st_size > 0


def test_outputs_of_another_engine_are_replaced(night, toy_model_path, tmp_path):
    def again(precision):
        model = load_model(toy_model_path, threads=1)
        model.engine.precision = precision
        options = {"output_dir": tmp_path / "out", "overwrite": True}
        (outcome,) = process_batch(night / "f0.fits", model=model, **options)
        return outcome.resumed

    assert [again(name) for name in ("float32", "float32", "bfloat16")] == [False, True, False]


def test_a_foreign_output_is_refused(night, toy_model_path):
    (night / "BGRem_f1.fits").write_text("mine")
    done = bgrem("-f", night, "--workers", 1, "--model", toy_model_path)
    assert done.returncode == 1
    assert "BGRem_f1.fits: exists already (--overwrite replaces it)" in done.stderr
    assert (night / "BGRem_f1.fits").read_text() == "mine"
    assert "3 done, 0 done before, 1 failed" in done.stderr


# --- Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_processes(night, stuck, toy_model_path, number):
    process = start("-f", night, stuck, "--workers", 2, "--model", toy_model_path)
    for _ in range(4):
        process.stdout.readline()
    crew = children(process.pid)
    assert len(crew) == 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert err == ("interrupted\n" if number == signal.SIGINT else "")
    for _ in range(200):
        if not any(Path(f"/proc/{child}").exists() for child in crew):
            break
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in crew)
    assert images(night) == sorted(f"{p}f{i}.fits" for i in range(4) for p in ("", "BGRem_"))


# --- shards


def test_shards_are_disjoint_and_complete(night, toy_model, tmp_path):
    options = {"model": toy_model, "output_dir": tmp_path}
    shares = [
        [outcome.input.name for outcome in process_batch(night, shard=(i, 3), **options)]
        for i in (1, 2, 3)
    ]
    assert [sorted(share) for share in shares] == [["f0.fits", "f3.fits"], ["f1.fits"], ["f2.fits"]]
    # The whole knows what the shards have done.
    assert all(outcome.resumed for outcome in process_batch(night, **options))
    with pytest.raises(ValueError, match="no shard 4 of 3"):
        list(process_batch(night, shard=(4, 3), **options))


def test_two_inputs_of_one_output_in_different_shards(night, toy_model, tmp_path):
    twin = tmp_path / "f0.fits"
    write_frame(twin)
    options = {"model": toy_model, "output_dir": tmp_path / "out"}
    paths = [night / "f0.fits", twin]
    first, second = (list(process_batch(paths, shard=(i, 2), **options)) for i in (1, 2))
    assert isinstance(first[0], Result)
    assert "is already that of" in second[0].message


def test_the_example_for_slurm(night, toy_model_path, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "bgrem").write_text(f'#!/bin/sh\nexec {sys.executable} -m bgrem "$@"\n')
    (tools / "bgrem").chmod(0o755)
    clean = tmp_path / "clean"
    for task in (1, 2):
        environment = {
            **ENVIRONMENT, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2",
            "SLURM_CPUS_PER_TASK": "1",
        }  # fmt: skip
        done = subprocess.run(
            ["sh", ROOT / "examples" / "slurm.sh", night, clean, "--model", toy_model_path],
            env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "2 done" in done.stderr
    assert images(clean) == [f"BGRem_f{i}.fits" for i in range(4)]
    found = [statuses(clean / f"results-{task}.jsonl") for task in (1, 2)]
    assert sorted([*found[0], *found[1]]) == [f"f{i}.fits" for i in range(4)]


# --- the log


def test_the_log_without_workers(night, toy_model_path, tmp_path):
    log = tmp_path / "log.jsonl"
    arguments = ["-f", night / "f0.fits", "--model", toy_model_path, "--log", log, "--quiet"]
    assert bgrem(*arguments).returncode == 0
    assert statuses(log) == {"f0.fits": "done"}
    assert bgrem(*arguments).returncode == 1  # one image: an existing output is refused
    assert statuses(log) == {"f0.fits": "failed"}


def test_a_log_replaces_nothing_but_a_log(night, toy_model_path, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (night / "f1.fits", night / "none.fits", tmp_path / "notes.txt"):
        before = path.read_bytes() if path.exists() else None
        done = bgrem("-f", night / "f0.fits", "--model", toy_model_path, "--log", path)
        assert done.returncode == 1
        assert done.stderr == f"bgrem: {path}: is not a log and is not overwritten\n"
        assert (path.read_bytes() if path.exists() else None) == before
    done = bgrem("-f", night, "--model", toy_model_path, "--log", tmp_path / "no" / "log")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_invalid_shards(text):
    done = bgrem("-f", "a.fits", "--shard", text)
    assert done.returncode == 2
    assert "is not I/N with I from 1 to N" in done.stderr
