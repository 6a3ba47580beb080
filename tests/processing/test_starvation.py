"""Full disks, little memory, read-only folders, two runs at once: one sentence, and nothing half written."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from skies import write_frame

from bgrem.inference.model import load_model
from bgrem.io.restore import undo
from bgrem.processing.batch import process_batch
from bgrem.processing.files import process_file, process_files
from bgrem.processing.outcome import Failure, Result
from bgrem.processing.workers import process_locally

resource = pytest.importorskip("resource")
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def largest_file(size):
    """No file may become longer, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "name, options",
    [
        ("f.fits", {}),
        ("f.fits", {"save": ["background", "noise"]}),
        ("f.fits.gz", {}),
        ("f.fits", {"memory": 1.5e9}),
        ("f.fits.fz", {"hdu": "all", "save": ["background", "noise"]}),
    ],
)
def test_a_full_disk_leaves_no_output(tmp_path, toy_model, name, options):
    path = tmp_path / name
    if name.endswith(".fz"):
        values = np.random.default_rng(2).normal(100, 5, (64, 64)).astype(np.int16)
        tiles = [fits.CompImageHDU(values, name=f"CCD{i}") for i in (1, 2)]
        fits.HDUList([fits.PrimaryHDU(), *tiles]).writeto(path)
    else:
        write_frame(path)
    whole = process_file(path, model=toy_model, output_dir=tmp_path / "whole", **options).output
    length = whole.stat().st_size
    for size in [0, 1, 2880, length // 3, length // 2, length - 2880, length - 1]:
        with largest_file(size):
            (outcome,) = process_files([path], model=toy_model, **options)
        assert isinstance(outcome, Failure)
        assert "File too large" in outcome.message and "\n" not in outcome.message
        assert sorted(tmp_path.iterdir()) == sorted([path, tmp_path / "whole"])
    with largest_file(1 << 24):
        assert isinstance(next(process_files([path], model=toy_model, **options)), Result)


def test_a_full_disk_leaves_no_restored_file(tmp_path, toy_model):
    write_frame(tmp_path / "f.fits")
    output = process_file(tmp_path / "f.fits", model=toy_model, save=["background", "noise"]).output
    length = (tmp_path / "f.fits").stat().st_size
    for size in (0, 2880, length - 1):
        with largest_file(size), pytest.raises(ValueError, match="File too large") as error:
            undo(output)
        assert "\n" not in str(error.value)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody may write")
def test_a_folder_that_cannot_be_written(night, toy_model):
    outcomes = list(process_files(night, model=toy_model, output_dir="/proc/night"))
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert "/proc/night/BGRem_" in outcome.message and "cannot be written" in outcome.message
    (first, *_) = process_batch(night, model=toy_model, output_dir="/proc/night")
    assert "/proc/night" in first.message and "\n" not in first.message


LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from bgrem.cli.bgrem import main
sys.exit(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is not kept")
# With less the C library itself may end a process that starts threads, with more the image may fit.
@pytest.mark.parametrize("limit", [650_000_000])
def test_little_memory_is_reported_as_such(tmp_path, limit):
    rng = np.random.default_rng(1)
    path = tmp_path / "wide.fits"
    fits.writeto(path, rng.normal(100, 5, (1500, 1500)).astype(np.float32))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), "-f", str(path)],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr in (f"bgrem: {path}: not enough memory\n", "bgrem: not enough memory\n")
    assert list(tmp_path.iterdir()) == [path]


class Exhausted:
    """An engine at its limit, as ONNX Runtime, OpenVINO or torch report it."""

    def __init__(self, engine, error):
        self._engine, self._error = engine, error

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def __call__(self, *_):
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
        Exception(
            "Status Message: bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("can't start new thread"),
        MemoryError("Unable to allocate 9 GiB"),
    ],
)
def test_an_engine_out_of_memory_fails_one_image(night, toy_model_path, error):
    model = load_model(toy_model_path, threads=1)
    model.engine = Exhausted(model.engine, error)
    outcomes = list(process_files(night, model=model))
    assert [o.message for o in outcomes] == [f"{o.input}: not enough memory" for o in outcomes]


def test_two_runs_of_one_output(tmp_path, toy_model):
    path = tmp_path / "f.fits"
    write_frame(path)
    outcomes = []

    def run():
        outcomes.extend(process_files([path], model=toy_model, overwrite=True))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(outcome, Result) for outcome in outcomes) and len(outcomes) == 2
    alone = process_file(path, model=toy_model, output_dir=tmp_path / "alone").output
    both = [fits.getdata(name) for name in (outcomes[0].output, alone)]
    np.testing.assert_array_equal(*both)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_model_that_is_swapped_while_workers_start(night, toy_model_path):
    (outcome,) = process_locally([night / "f0.fits"], workers=1, model=toy_model_path, digest="0")
    assert outcome.message == (
        f"{night / 'f0.fits'}: the model {toy_model_path} has changed since the batch began"
    )


def test_a_model_that_goes_while_workers_start(night, toy_model_path, tmp_path):
    model = tmp_path / "mine.onnx"
    model.write_bytes(Path(toy_model_path).read_bytes()[:-500])
    outcomes = list(process_locally([night / "f0.fits"], workers=1, model=str(model)))
    (outcome,) = outcomes
    assert outcome.message.startswith(f"{night / 'f0.fits'}: the model {model} cannot be used: ")
    assert "\n" not in outcome.message
