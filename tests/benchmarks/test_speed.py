"""The commands of `benchmarks/speed`, at tiny sizes: what they count and compare, no time of theirs."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("galsim")
ROOT = Path(__file__).resolve().parents[2]
SPEED = ROOT / "benchmarks" / "speed"


@pytest.fixture
def command(monkeypatch):
    """Imports a command of the folder by its name."""
    monkeypatch.syspath_prepend(str(SPEED))
    return importlib.import_module


@pytest.fixture
def frame(tmp_path):
    rng = np.random.default_rng(7)
    path = tmp_path / "frame.fits"
    data = rng.normal(1000, 20, (230, 210))
    data[::31, ::29] += 2000
    fits.writeto(path, data.astype(np.float32))
    return path


# ---- processes -------------------------------------------------------------------------


def test_the_memory_of_a_process_is_its_own(command):
    measure = command("process").measure
    held = np.ones(40_000_000)
    usage = measure([sys.executable, "-I", "-S", "-c", "x = bytearray(50_000_000)"])
    assert 50e6 < usage.peak < 150e6 < held.nbytes
    assert usage.seconds > 0 and usage.processor > 0


def test_a_command_that_fails_says_why(command):
    process = command("process")
    with pytest.raises(process.CommandError, match="no such luck"):
        process.measure([sys.executable, "-c", "raise SystemExit('no such luck')"])
    with pytest.raises(process.CommandError, match="signal 9"):
        process.measure([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(process.CommandError, match="No such file"):
        process.measure(["/no/such/program"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no affinity")
def test_a_command_sees_its_allowed_cores(command):
    code = "import os, sys; sys.exit(len(os.sched_getaffinity(0)) != 1)"
    command("process").measure([sys.executable, "-c", code], cores=1)


# ---- the published network -------------------------------------------------------------


def test_the_network_has_the_parameters_of_its_layers(command):
    published = command("published")
    # Two 3 x 3 convolutions of each level down and up, by hand.
    inputs = [64, 16, 32, 64, 128], [32, 64, 128, 256]
    widths = [16, 32, 64, 128, 256], [16, 32, 64, 128]
    pairs = [(i, w) for row in zip(inputs, widths, strict=True) for i, w in zip(*row, strict=True)]
    convolutions = sum(9 * (i + w) * w + 2 * w for i, w in pairs)
    upwards = sum((9 * 2 * w + 1) * w for w in widths[1])
    gates = sum(3 * (w + 1) * w + 4 * w for w in (64, 128))
    ends = 2 * 32 + 17
    assert published.parameters() == convolutions + upwards + gates + ends
    held = [math.prod(array.dims) for array in published.onnx_network().graph.initializer
            if array.data_type == 1]  # fmt: skip
    assert sum(held) == published.parameters() + published.EMBEDDING // 2


def test_the_network_gives_an_image_for_an_image(command):
    published = command("published")
    network = published.run_by_onnxruntime(published.onnx_network(64).SerializeToString(), 1)
    tiles = np.random.default_rng(1).standard_normal((2, 64, 64)).astype(np.float32)
    noise = network(tiles, 0.9)
    assert noise.shape == tiles.shape and np.isfinite(noise).all() and noise.std() > 0
    assert np.allclose(noise[1:], network(tiles[1:], 0.9), atol=1e-3)
    assert not np.allclose(noise, network(tiles, 0.1), atol=1e-3)


def test_tensorflow_gives_the_same(command):
    pytest.importorskip("tensorflow")
    published = command("published")
    one = published.run_by_onnxruntime(published.onnx_network(64).SerializeToString(), 1)
    tiles = np.random.default_rng(1).standard_normal((2, 64, 64)).astype(np.float32)
    assert np.allclose(one(tiles, 0.9), published.run_by_tensorflow(64)(tiles, 0.9), atol=1e-3)


@pytest.mark.parametrize("shape", [(200, 200), (400, 600), (333, 517), (90, 401)])
def test_tiles_join_to_the_image(command, shape):
    published = command("published")
    image = np.random.default_rng(2).normal(size=shape)
    tiles = published.cut(image)
    assert tiles.shape[1:] == (256, 256)
    assert len(tiles) == math.prod(math.ceil(side / 200) for side in shape)
    assert np.array_equal(published.joined(tiles, shape), image)


@pytest.mark.parametrize("steps", [1, 3])
def test_cleaning_takes_off_what_the_network_says(command, steps):
    published = command("published")
    image = np.random.default_rng(3).normal(100, 5, (230, 410))
    nothing = published.clean(image, lambda tiles, variance: 0 * tiles, steps=steps)
    assert nothing.shape == image.shape and nothing.min() == 0
    inner = image[:200, :200] - np.median(published.cut(image)[0])
    assert np.allclose(nothing[:200, :200], np.maximum(inner, 0), atol=1e-3)
    first = published.clean(image, lambda tiles, variance: tiles)
    assert np.abs(first).max() < 0.01  # the first rate is 0.99995


# ---- the floor -------------------------------------------------------------------------


def test_operations_are_counted_by_shapes(command, toy_model_path):
    floor = command("floor")
    # The toy model has one convolution, 9 x 9.
    assert floor.count_operations(toy_model_path, side=64).products == pytest.approx(81)
    network = command("published").onnx_network(64)
    operations = floor.count_operations(network, side=64)
    double = [(64, 16), (16, 32), (32, 64), (64, 128), (128, 256)]
    down = sum(9 * (i + w) * w / 4**level for level, (i, w) in enumerate(double))
    up = sum((9 * 2 * w * w / 4 + 9 * 3 * w * w) / 4**n for n, w in enumerate((16, 32, 64, 128)))
    gates = sum(3 * w * w / 4**n for n, w in ((2, 64), (3, 128)))
    assert operations.products == pytest.approx(32 + down + up + gates + 16)
    assert operations.layers > 4 * 64


def test_the_shipped_network_can_be_counted(command):
    from bgrem.inference.model import load_model

    operations = command("floor").count_operations(load_model("optical", threads=1).path)
    assert 1e3 < operations.products < 5e4 and operations.layers > 100


def test_rates_are_measured(command):
    rates = command("floor").measure_rates(1, 64, 1 << 16)
    assert rates["G multiply-adds/s"] > 0 and rates["GB/s copied"] > 0


def test_a_stage_is_told_beside_its_floor(command, toy_model, frame, tmp_path):
    floor, stages = command("floor"), command("stages")
    timing = stages.time_stages(frame, toy_model, output_dir=tmp_path / "out")
    assert set(timing.seconds) == {stage.name for stage in stages.STAGES} | {"the rest"}
    # Every stage is found under its name, and none is counted twice.
    assert min(timing.seconds.values()) > 0
    assert timing.planes == 2 and timing.pixels >= 230 * 210
    assert 0 < timing.outside < timing.whole
    rates = {"G multiply-adds/s": 1.0, "G in bfloat16": None, "GB/s copied": 2.0}
    rows = floor.stage_rows(timing, toy_model, 230 * 210 / 1e6, rates)
    network = next(row for row in rows if row["stage"] == "network")
    passes = timing.pixels / (230 * 210)
    assert network["floor"] == pytest.approx(1e-3 * 81 * passes)
    assert network["bytes"] == pytest.approx(12 * passes)
    read = next(row for row in rows if row["stage"] == "read")
    assert read["floor"] == pytest.approx(1e-3 * 8 / 2)
    assert rows[-1]["floor"] == pytest.approx(sum(row["floor"] for row in rows[:-1]))


def test_nested_functions_are_timed_apart(command, monkeypatch):
    stages = command("stages")
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(now))
    clock = stages.Clock()
    inner = clock.timed("network", lambda: None)

    def rows():
        inner()
        yield 1

    assert list(clock.timed("tiles", rows)()) == [1]
    # Calling, the first row with the network in it, and the end: 10 each beyond the network's 10.
    assert clock.of("network") == 10 and clock.of("tiles") == 10 + 20 + 10
    assert clock.of_this_thread() == 50


def test_what_runs_at_once_counts_once(command):
    covered = command("stages")._covered
    assert covered([(5.0, 7.0), (1.0, 3.0), (2.0, 4.0), (6.0, 6.5)]) == 5.0
    assert covered([]) == 0


# ---- the suite -------------------------------------------------------------------------


def test_the_frame_is_a_scene_and_its_reflections(command, tmp_path):
    part = np.arange(300.0).reshape(10, 30)[:, :10]
    data = fits.getdata(command("suite").write_frame(tmp_path / "a.fits", 25, part))
    assert data.dtype.itemsize == 4 and data.shape == (25, 25)
    assert np.array_equal(data[:10, :10], part) and np.array_equal(data[10:20, :10], part[::-1])
    assert np.array_equal(data[20:, 20:], part[:5, :5])


def test_engines_are_those_of_the_help(command, monkeypatch):
    suite = command("suite")
    text = "  --engine {auto,fast,exact}\n   what runs the model {or not}"
    done = subprocess.CompletedProcess([], 0, stdout=text)
    monkeypatch.setattr(suite, "said", lambda command: done)
    assert suite.engines() == ["fast", "exact"]
    done.stdout = "  --model MODEL"
    assert suite.engines() == []


def test_engines_that_are_not_here_say_so(command, monkeypatch):
    suite = command("suite")
    monkeypatch.setattr(suite, "engines", lambda: ["onnxruntime", "fast", "torch"])
    known = {("torch", "cpu"): ("torch cpu float32", ""),
             ("torch", "cuda"): ("torch cuda float32", "")}  # fmt: skip
    monkeypatch.setattr(
        suite, "probed", lambda model, *at: known.get(at, (at[0], f"{at[0]} is not installed"))
    )
    methods = suite.bgrem_methods("optical")
    names = ["bgrem", "bgrem, fast", "bgrem, torch cpu float32", "bgrem, torch cuda float32"]
    assert [method.name for method in methods] == names
    assert methods[1].missing == "fast is not installed"
    words = methods[-1].command(Path("a.fits"), Path("out"), 2)
    assert words[-4:] == ["--engine", "torch", "--device", "cuda"]


def test_what_is_missing_is_told_once(command, tmp_path):
    suite = command("suite")
    options = suite.make_parser().parse_args(["--sides", "64", "128", "--steps", "1", "4"])
    method = suite.Method("toy", lambda *_: [], True, "no toy")
    frames = {64: tmp_path / "64.fits", 128: tmp_path / "128.fits"}
    for path in frames.values():
        path.touch()
    (row,) = suite.compared([method], frames, options, tmp_path)
    assert row["remark"] == "no toy" and row["seconds"] is None
    tensorflow = suite.published_methods(None, tmp_path)[0]
    assert "TensorFlow" in tensorflow.name and "--tensorflow" in tensorflow.missing


def test_a_method_that_fails_leaves_the_others(command, tmp_path):
    suite = command("suite")
    options = suite.make_parser().parse_args(["--quick"])
    path = tmp_path / "64.fits"
    path.touch()
    good = suite.Method("good", lambda *_: [sys.executable, "-S", "-c", "pass"])
    bad = suite.Method("bad", lambda *_: [sys.executable, "-S", "-c", "raise SystemExit('full')"])
    rows = suite.compared([good, bad], {64: path}, options, tmp_path)
    assert rows[0]["time / good"] == 1 and rows[0]["remark"] == ""
    assert rows[1]["remark"] == "failed: full" and rows[1]["time / good"] is None


def test_ratios_are_those_of_the_same_frame(command):
    suite = command("suite")
    rows = [
        {"what": what, "side": side, "steps": steps, "seconds": s, "peak GB": s, "remark": ""}
        for what, side, steps, s in [("a", 64, 1, 2.0), ("a", 64, 4, 8.0), ("b", 64, 4, 16.0),
                                     ("c", 64, None, 1.0), ("b", 32, 1, 1.0)]
    ]  # fmt: skip
    assert [row["time / a"] for row in suite.with_ratios(rows)] == [1, 1, 2, 0.5, None]


@pytest.mark.parametrize("name", ["sep", "photutils", "wavelets"])
def test_rivals_make_a_frame_of_a_frame(command, name, frame, tmp_path):
    rivals = command("rivals")
    pytest.importorskip(rivals.RIVALS[name][0])
    rivals.main([name, str(frame), str(tmp_path / "out.fits")])
    made = fits.getdata(tmp_path / "out.fits")
    assert made.shape == (230, 210) and abs(np.median(made)) < 10


def test_suite(toy_model_path, tmp_path):
    done = subprocess.run(
        [sys.executable, SPEED / "suite.py", "--quick", "--methods", "bgrem", "sextractor", "sep",
         "--tables", "methods", "stages", "--model", toy_model_path, "--json", tmp_path / "a.json"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert "whole commands" in done.stdout and "stages of bgrem, 256 pixels" in done.stdout
    content = json.loads((tmp_path / "a.json").read_text())
    compared, stages = content["tables"].values()
    row = compared[0]
    assert row["what"] == "bgrem" and row["side"] == 256 and row["time / bgrem"] == 1
    assert row["Mpix/s"] == pytest.approx(0.065536 / row["seconds"])
    assert row["GB beyond"] == pytest.approx(row["peak GB"] - 0.000267840, abs=1e-6)
    assert stages[-1]["stage"] == "all" and stages[-1]["%, -s 1"] == pytest.approx(100)
    assert content["card"]["name"] == "toy"


@pytest.mark.slow
def test_suite_with_threads_and_workers(command, toy_model_path, tmp_path):
    suite = command("suite")
    suite.main(["--quick", "--tables", "threads", "workers", "--model", toy_model_path,
                "--json", str(tmp_path / "a.json")])  # fmt: skip
    threads, batch = json.loads((tmp_path / "a.json").read_text())["tables"].values()
    assert threads[0]["threads"] == 1 and threads[0]["speed-up"] == 1
    assert batch[0]["images/s"] == pytest.approx(2 / batch[0]["seconds"])
    assert batch[-1]["batch"] == "one process, all cores"


# ---- the sky ---------------------------------------------------------------------------


def test_sky_is_timed_both_ways(command, toy_model_path, tmp_path):
    sky, path = command("sky"), tmp_path / "sky.json"
    arguments = ["--sides", "96", "--repeat", "1", "--model", toy_model_path, "--threads", "1"]
    sky.main([*arguments, "--json", str(path)])
    (row,) = json.loads(path.read_text())["rows"]
    assert row["share"] > 0 and row["network / mesh"] > 0
    assert row["peak with mesh, GB"] >= row["peak of the mesh sky, GB"] > 0.03
