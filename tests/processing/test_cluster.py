"""A real Dask cluster over TCP: workers that are killed, run out of memory, join late."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from skies import flat_sky, write_frame

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

from bgrem.background import separate
from bgrem.inference.model import load_model, optical_model
from bgrem.processing.batch import process_batch
from bgrem.processing.cluster import map_blocks
from bgrem.processing.files import process_file
from bgrem.processing.outcome import Failure, Result

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def cluster():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, memory_limit="1.5GB",
            dashboard_address=None, protocol="tcp://", silence_logs="CRITICAL",
        ) as running,
    ):  # fmt: skip
        yield running


@pytest.fixture
def stuck(tmp_path):
    """An input at which a worker waits for ever: a pipe into which nobody writes."""
    path = tmp_path / "a_stuck.fits"
    os.mkfifo(path)
    return path


def reader_of(pipe):
    """The process that has a file open, other than this one."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if int(link.parts[2]) != os.getpid() and os.readlink(link).startswith(str(pipe)):
                return int(link.parts[2])
        except OSError:
            continue
    raise AssertionError("nobody reads the pipe")


def when_stuck(pipe, act):
    """Repair the input when a worker waits for it, then do something to that worker."""

    def run():
        with pipe.open("wb"):  # waits for a reader
            pid = reader_of(pipe)
            pipe.unlink()
            write_frame(pipe, 9)
            act(pid)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def check(outcomes, toy_model, tmp_path):
    """Every frame came out once, complete, as it does locally."""
    assert [type(outcome) for outcome in outcomes] == [Result] * 5, outcomes
    assert len({outcome.output for outcome in outcomes}) == 5
    for outcome in outcomes:
        local = process_file(outcome.input, model=toy_model, output_dir=tmp_path / "local")
        one, two = fits.getdata(local.output), fits.getdata(outcome.output)
        np.testing.assert_array_equal(one, two)


def batch(night, stuck, toy_model, cluster, tmp_path):
    return list(
        process_batch(
            [stuck, night], model=toy_model, scheduler=cluster.scheduler_address,
            output_dir=tmp_path / "clean",
        )
    )  # fmt: skip


def test_the_command(cluster, night, toy_model, toy_model_path, tmp_path):
    (night / "page.fits").write_text("<html>")
    command = [
        sys.executable, "-m", "bgrem", "-f", night, "--scheduler", cluster.scheduler_address,
        "--model", toy_model_path, "--output-dir", "clean", "--log", "log.jsonl",
    ]  # fmt: skip

    def run():
        return subprocess.run(
            list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=600,
            check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    done = run()
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    first, summary = lines
    assert first == f"bgrem: {night / 'page.fits'}: not a FITS file"
    assert "4 done, 0 done before, 1 failed" in summary
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sorted(Path(entry["file"]).name for entry in entries) == [
        "f0.fits", "f1.fits", "f2.fits", "f3.fits", "page.fits",
    ]  # fmt: skip
    for i in range(4):
        local = process_file(night / f"f{i}.fits", model=toy_model, output_dir=tmp_path / "local")
        both = [fits.getdata(tmp_path / name / local.output.name) for name in ("local", "clean")]
        np.testing.assert_array_equal(*both)
    assert "0 done, 4 done before, 1 failed" in run().stderr


def test_the_workers_use_the_given_engine(cluster, night, toy_model_path, tmp_path):
    pytest.importorskip("openvino")
    model = load_model(toy_model_path, engine="openvino")
    scheduler = cluster.scheduler_address
    outcomes = list(
        process_batch(night, model=model, scheduler=scheduler, output_dir=tmp_path / "o")
    )
    ran = [fits.getheader(outcome.output)["BGR_ENGN"] for outcome in outcomes]
    assert ran == [str(model.engine)] * 4 and ran[0].startswith("openvino cpu ")


def test_a_worker_that_is_killed(cluster, night, stuck, toy_model, tmp_path):
    thread = when_stuck(stuck, lambda pid: os.kill(pid, signal.SIGKILL))
    outcomes = batch(night, stuck, toy_model, cluster, tmp_path)
    thread.join()
    check(outcomes, toy_model, tmp_path)


def fill_memory(pid):
    """More than the worker may have."""
    if os.getpid() == pid:
        fill_memory.kept = bytearray(os.urandom(1 << 20)) * 1600


def test_a_worker_that_runs_out_of_memory(cluster, night, stuck, toy_model, tmp_path):
    def fill(pid):
        with distributed.Client(cluster, set_as_default=False) as client:
            client.run(fill_memory, pid, on_error="ignore")

    thread = when_stuck(stuck, fill)
    outcomes = batch(night, stuck, toy_model, cluster, tmp_path)
    thread.join()
    check(outcomes, toy_model, tmp_path)


def test_a_worker_that_joins_late(night, stuck, toy_model, tmp_path):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None,
        protocol="tcp://", silence_logs="CRITICAL",
    ) as cluster:  # fmt: skip
        joined = threading.Event()

        def join():
            with stuck.open("wb"):  # the only worker waits at the pipe; its end frees it
                cluster.scale(2)
                joined.wait(300)

        thread = threading.Thread(target=join, daemon=True)
        thread.start()
        outcomes = []
        for outcome in process_batch(
            [stuck, night], model=toy_model, scheduler=cluster.scheduler_address
        ):
            outcomes.append(outcome)
            if len(outcomes) == 4:
                joined.set()
        thread.join()
    assert [type(outcome) for outcome in outcomes] == [Result] * 4 + [Failure]
    assert outcomes[-1].input == stuck


def test_no_scheduler(night, toy_model, monkeypatch):
    monkeypatch.setattr("bgrem.processing.cluster.TIMEOUT", 1)
    with pytest.raises(ValueError, match="there is no scheduler at tcp://127.0.0.1:1"):
        list(process_batch(night, model=toy_model, scheduler="tcp://127.0.0.1:1"))


# --- one huge array


def test_a_huge_array_block_by_block(toy_model, toy_model_path):
    data = flat_sky((300, 420), 200, 3, seed=3)
    data[150, 200:220] += 100
    blocks = da.from_array(data, chunks=(150, 140))
    for part in ("sources", "background", "mask", "significance"):
        found = map_blocks(blocks, depth=64, model=toy_model_path, part=part)
        assert found.chunks == blocks.chunks
        values = found.compute(scheduler="threads")
        assert values.dtype == found.dtype
        # One block and what is around it, by hand.
        around = getattr(separate(data[86:300, 216:420], model=toy_model), part)
        np.testing.assert_array_equal(values[150:, 280:], around[64:, 64:])


def test_blocks_use_the_given_engine(toy_model_path, monkeypatch):
    asked = []
    load = optical_model
    monkeypatch.setattr(
        "bgrem.processing.cluster.optical_model",
        lambda path, **options: asked.append(options) or load(path, threads=1),
    )
    blocks = da.from_array(flat_sky((64, 80), 200, 3, seed=3, dtype=float), chunks=(64, 80))
    map_blocks(blocks, depth=0, model=toy_model_path, engine="torch", device="cuda").compute(
        scheduler="synchronous"
    )
    assert asked == [{"threads": 1, "engine": "torch", "device": "cuda"}]


def test_arrays_that_are_refused(toy_model_path):
    with pytest.raises(ValueError, match="2 axes, not 3"):
        map_blocks(da.zeros((2, 3, 4)), model=toy_model_path)
    with pytest.raises(ValueError, match="no part 'depth'; there are sources"):
        map_blocks(da.zeros((30, 40)), model=toy_model_path, part="depth")
