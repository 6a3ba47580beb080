"""Every engine agrees with ONNX Runtime, which replaces those that are not available."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from astropy.io import fits
from toy_models import toy_card

from bgrem.background import separate
from bgrem.cli.bgrem import make_parser
from bgrem.inference import engine as engine_module
from bgrem.inference.engine import Engine, EngineUnavailable
from bgrem.inference.engines import DEVICES, ENGINES, EngineWarning, ModelFile
from bgrem.inference.model import INCLUDED, load_model
from bgrem.inference.onnxruntime_engine import CUDA_PROVIDER
from bgrem.network.significance_constants import SignificanceConstants

ROOT = Path(__file__).resolve().parents[2]
OPTICAL = INCLUDED / "optical.onnx"
ORT = "onnxruntime cpu float32"
KNEE = 30.0  # local noise of a pixel x is sqrt(1 + x / KNEE), in units of the sky's rms
SIGNIFICANCE_ERRORS = 100.0  # as in `bgrem.train.export`


def file_of(path):
    return ModelFile(Path(path), Path(path).read_bytes())


def started(name, path, device="cpu", **options):
    if device == "cpu":
        pytest.importorskip(name)
        return ENGINES[name](file_of(path), device=device, **{"threads": 1, **options})
    try:
        return ENGINES[name](file_of(path), device=device)
    except EngineUnavailable as error:
        pytest.skip(str(error))


def inputs_of(entries, side=192, count=2, seed=0):
    """White noise with pixels of 1 to 1e4, as the export is tested with."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 1, side, side)).astype(np.float32)
    x[..., ::17, ::13] += (10 ** rng.uniform(0, 4, x[..., ::17, ::13].shape)).astype(np.float32)
    frame = rng.uniform(-0.5, 0.5, (1, entries)).astype(np.float32)
    return {"x": x, "rate": np.float32([0.7]), "frame": frame}


def without(monkeypatch, *names):
    """As if the libraries were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def no_cuda(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    without(monkeypatch, "torch")


# --- the same numbers


@pytest.mark.parametrize(
    ("name", "device", "options"),
    [
        ("openvino", "cpu", {"precision": "float32"}),
        ("torch", "cpu", {}),
        ("torch", "cuda", {}),
        ("onnxruntime", "cuda", {}),
    ],
)
def test_float32_engines_agree_on_the_optical_model(name, device, options):
    engine = started(name, OPTICAL, device, **options)
    reference = started("onnxruntime", OPTICAL)
    assert str(engine) == f"{name} {device} float32"
    assert engine.metadata == reference.metadata
    inputs = inputs_of(8)
    found, expected = engine(inputs), reference(inputs)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert difference(found, expected, inputs["x"]) < 1e-4
    np.testing.assert_array_equal(engine(inputs), found)


def difference(found, expected, x, channels=range(4)):
    """The largest one in units of the local noise; a hundredth of that of the significance.

    A significance below -10 is the logarithm of a chance of 1e-5, of which the rounding shows: a thousandth.
    """
    scale = np.sqrt(1 + np.maximum(x, 0) / KNEE)
    ratio = np.array([1.0 if channel < 3 else SIGNIFICANCE_ERRORS for channel in channels])
    ratio = ratio[:, None, None] * np.where((ratio[:, None, None] > 1) & (expected < -10), 10, 1)
    return np.abs((found - expected) / scale / ratio).max()


def test_openvino_agrees_on_the_toy_model(toy_model_path):
    engine = started("openvino", toy_model_path, precision="float32")
    inputs = {**inputs_of(8), "x": inputs_of(8)["x"] / 100}  # its one kernel is 9 pixels wide
    assert np.abs(engine(inputs) - started("onnxruntime", toy_model_path)(inputs)).max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 1, 160, 96), (2, 1, 64, 64)])
def test_openvino_takes_images_of_any_shape(shape):
    """Compiled for all shapes at once, it is wrong by 3 rms on these."""
    engine = started("openvino", OPTICAL, precision="float32")
    reference = started("onnxruntime", OPTICAL)
    for scale in (1, 2):
        n, c, h, w = shape
        x = np.random.default_rng(1).standard_normal((n, c, scale * h, scale * w))
        inputs = {**inputs_of(8, 32, 1), "x": x.astype(np.float32)}
        assert difference(engine(inputs), reference(inputs), inputs["x"]) < 1e-4


def test_bfloat16_hardly_changes_the_sources():
    pytest.importorskip("openvino")
    pytest.importorskip("galsim")
    from bgrem.simulate import Scene, draw

    model = load_model("optical", engine="openvino", threads=1)
    if model.engine.precision != "bfloat16":
        pytest.skip("the processor has no bfloat16")
    sky = draw(Scene(shape=(640, 640)), np.random.default_rng([20_261_122, 7]))
    found = separate(sky.data, model=model)
    expected = separate(sky.data, model=load_model("optical", threads=1))
    x = np.maximum(expected.sources / expected.rms, 0)
    moved = np.abs(found.sources - expected.sources) / (expected.rms * np.sqrt(1 + x / KNEE))
    assert 0 < moved.max() < 0.1
    assert np.sqrt((moved**2).mean()) < 0.002
    change = found.uncertainty / expected.uncertainty - 1
    assert np.sqrt((change**2).mean()) < 0.02
    change = np.abs(found.significance - expected.significance)
    assert np.quantile(change, 0.999) < 0.1 and change.max() < 0.2


# --- what is chosen


def test_the_default_is_onnxruntime_and_silent(toy_model_path, monkeypatch, recwarn):
    no_cuda(monkeypatch)
    for device in ("auto", "cpu"):
        assert str(load_model(toy_model_path, device=device).engine) == ORT
    assert not [found for found in recwarn if issubclass(found.category, EngineWarning)]


@pytest.mark.parametrize(
    ("engine", "device", "sentence"),
    [
        ("openvino", "auto", "openvino is not installed (pip install 'bgrem[openvino]')"),
        ("torch", "auto", "torch is not installed (pip install 'bgrem[torch]')"),
        ("onnxruntime", "cuda", "onnxruntime has no CUDA device"),
        ("openvino", "cuda", "openvino runs on no CUDA device"),
        (
            "auto",
            "cuda",
            "onnxruntime has no CUDA device, torch is not installed (pip install 'bgrem[torch]')",
        ),
    ],
)
def test_unavailable_requests_are_reported_once(
    toy_model_path, monkeypatch, engine, device, sentence
):
    no_cuda(monkeypatch)
    without(monkeypatch, "openvino")
    with pytest.warns(EngineWarning) as caught:
        model = load_model(toy_model_path, threads=1, engine=engine, device=device)
    assert [str(warning.message) for warning in caught] == [
        f"{sentence}: onnxruntime runs on the CPU instead"
    ]
    assert str(model.engine) == ORT
    inputs = inputs_of(8, 64)
    expected = started("onnxruntime", toy_model_path)(inputs)
    np.testing.assert_array_equal(model(inputs["x"], 0.7, inputs["frame"][0]), expected)


def test_a_broken_library_is_not_available(toy_model_path, monkeypatch):
    def broken(name):
        raise OSError("libcuda.so: cannot open shared object file\nmore")

    monkeypatch.setattr(engine_module, "import_module", broken)
    with pytest.warns(EngineWarning, match=r"openvino cannot be imported \(libcuda.so: .* file\)"):
        assert str(load_model(toy_model_path, engine="openvino").engine) == ORT


class Pretended(Engine):
    """An engine with a GPU."""

    name = "torch"

    def __init__(self, file, *, device, threads):
        self.device = device
        self.metadata = started("onnxruntime", file.path).metadata


def test_torch_runs_where_only_it_has_cuda(toy_model_path, monkeypatch, recwarn):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(ENGINES, "torch", Pretended)
    assert str(load_model(toy_model_path, device="cuda").engine) == "torch cuda float32"
    assert str(load_model(toy_model_path).engine) == ORT
    assert not [found for found in recwarn if issubclass(found.category, EngineWarning)]


@pytest.fixture
def gpu_build(monkeypatch):
    """The GPU build of onnxruntime: the providers of its sessions, and a list that is true with a GPU."""
    given, there = [], []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, content, options, *, providers, **others):
            given.append(providers)
            self._gpu = providers[0] != "CPUExecutionProvider"
            if self._gpu and not there:
                raise RuntimeError("no CUDA-capable device is detected")
            super().__init__(content, options, providers=providers[-1:], **others)

        def get_providers(self):
            return [CUDA_PROVIDER] * self._gpu + ["CPUExecutionProvider"]

    known = [CUDA_PROVIDER, "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return given, there


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_onnxruntime_takes_a_gpu_in_full_precision(toy_model_path, gpu_build, device):
    given, there = gpu_build
    there.append("a GPU")
    assert str(load_model(toy_model_path, device=device).engine) == "onnxruntime cuda float32"
    assert given == [[(CUDA_PROVIDER, {"use_tf32": "0"}), "CPUExecutionProvider"]]
    given.clear()
    assert str(load_model(toy_model_path, device="cpu").engine) == ORT
    assert given == [["CPUExecutionProvider"]]


def test_the_gpu_build_without_a_gpu_is_silent(toy_model_path, gpu_build, capfd, recwarn):
    assert str(load_model(toy_model_path).engine) == ORT
    assert capfd.readouterr() == ("", "")
    assert not [found for found in recwarn if issubclass(found.category, EngineWarning)]


@pytest.mark.parametrize("option", ["engine", "device"])
def test_unknown_engines_and_devices_are_refused(toy_model_path, option):
    with pytest.raises(ValueError, match=f"{option} must be one of auto, .*, not 'tpu'"):
        load_model(toy_model_path, **{option: "tpu"})


def test_the_command_knows_every_engine_and_device():
    choices = {action.dest: action.choices for action in make_parser()._actions}
    assert choices["engine"] == ("auto", *ENGINES)
    assert choices["device"] == ("auto", *DEVICES)


# --- torch and its weights


@pytest.fixture
def write_small(tmp_path):
    """Write a small network as a training does: ONNX and safetensors."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from bgrem.network.unet import AttentionUNet, NetworkConfig
    from bgrem.train.export import export_onnx

    def write(name="small", **entries):
        torch.manual_seed(0)
        config = NetworkConfig(widths=(4, 4, 8), encoder=(0, 1, 1), decoder=(1, 1), embedding=4)
        network = AttentionUNet(config)
        path = tmp_path / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export_onnx(network, path, toy_card(name=name, multiple=8, **entries).to_metadata())
        save_file(network.state_dict(), path.with_suffix(".safetensors"))
        return path, network

    return write


@pytest.fixture
def small(write_small):
    return write_small()


def test_torch_runs_a_network_of_any_size(small):
    path, _ = small
    found, expected = (started(name, path)(inputs_of(8, 64)) for name in ("torch", "onnxruntime"))
    assert np.abs(found - expected).max() < 1e-3
    assert found.flags.writeable and not np.shares_memory(found, expected)


def test_the_card_sets_the_significance(write_small):
    changed = SignificanceConstants(gathering_sigma=0.6, least_chance=1e-6)
    inputs = inputs_of(8, 64)
    found = {}
    for name, entries in (("default", {}), ("changed", {"significance": changed})):
        path, _ = write_small(name, **entries)
        found[name], reference = (started(e, path)(inputs) for e in ("torch", "onnxruntime"))
        assert difference(found[name], reference, inputs["x"]) < 1e-4
        cards = [load_model(path, engine=e, threads=1).card for e in ("torch", "onnxruntime")]
        assert cards[0] == cards[1]
        assert cards[0].significance == entries.get("significance", SignificanceConstants())
    np.testing.assert_array_equal(found["default"][:, :3], found["changed"][:, :3])
    assert np.abs(found["default"][:, 3] - found["changed"][:, 3]).min() > 0


def test_other_weights_are_refused(small):
    from safetensors.torch import save_file

    path, network = small
    weights = {name: 1.5 * value for name, value in network.state_dict().items()}
    save_file(weights, path.with_suffix(".safetensors"))
    with pytest.warns(EngineWarning, match="in small.safetensors are not those of small.onnx: "):
        assert str(load_model(path, engine="torch").engine) == ORT


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "torch needs small.safetensors beside small.onnx"), (b"<html>", "torch cannot use")],
)
def test_missing_or_broken_weights_are_reported(small, content, sentence):
    weights = small[0].with_suffix(".safetensors")
    weights.unlink()
    if content:
        weights.write_bytes(content)
    with pytest.warns(EngineWarning, match=sentence):
        assert str(load_model(small[0], engine="torch").engine) == ORT


def test_torch_needs_the_description_of_the_network(toy_model_path):
    pytest.importorskip("torch")
    with pytest.warns(EngineWarning, match="toy.onnx does not describe its network"):
        assert str(load_model(toy_model_path, engine="torch").engine) == ORT


def test_an_engine_that_is_wrong_is_not_taken(toy_model_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(ENGINES["openvino"], "__call__", lambda self, inputs: inputs["x"])
    with pytest.warns(EngineWarning, match="openvino gives wrong numbers for toy.onnx"):
        assert str(load_model(toy_model_path, engine="openvino").engine) == ORT


def test_an_engine_that_breaks_down_is_not_taken(toy_model_path, monkeypatch):
    pytest.importorskip("openvino")

    def broken(self, inputs):
        raise RuntimeError("no kernel\nat line 5")

    monkeypatch.setattr(ENGINES["openvino"], "__call__", broken)
    with pytest.warns(EngineWarning, match=r"openvino cannot run the model \(no kernel\): "):
        assert str(load_model(toy_model_path, engine="openvino").engine) == ORT


# --- channels and calls


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("channels", [(0,), (0, 2), (3, 0, 1)])
def test_some_channels_are_those_of_all(name, channels):
    options = {"precision": "float32"} if name == "openvino" else {}
    engine = started(name, OPTICAL, **options)
    inputs = inputs_of(8, 96)
    expected = engine(inputs)[:, list(channels)]
    found = engine(inputs, 1, channels)
    assert found.shape == (2, len(channels), 96, 96) and found.flags.writeable
    assert difference(found, expected, inputs["x"], channels) < 1e-4


def test_channels_of_a_model_with_one_output(toy_model_path):
    engine = started("openvino", toy_model_path, precision="float32")
    inputs = inputs_of(8, 64)
    np.testing.assert_array_equal(engine(inputs, 1, (2, 0)), engine(inputs)[:, [2, 0]])


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_calls_at_once_give_what_one_gives(name, toy_model_path):
    engine = started(name, toy_model_path, threads=3)
    assert engine.at_once == 2
    several = [inputs_of(8, 64, seed=seed) for seed in range(6)]
    engine.prepare((2, 1, 64, 64), 2, None)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda inputs: engine(inputs, 2), several))
    for inputs, one in zip(several, found, strict=True):
        np.testing.assert_array_equal(one, engine(inputs))


@pytest.mark.parametrize("name", ENGINES)
def test_one_thread_makes_one_call(name, toy_model_path):
    if name == "torch":
        assert ENGINES["torch"].at_once == 1
    else:
        assert started(name, toy_model_path, threads=1).at_once == 1


# --- threads


def test_torch_restores_the_threads_of_the_process(small):
    torch = pytest.importorskip("torch")
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        engine = ENGINES["torch"](file_of(small[0]), threads=1)
        engine._network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        engine(inputs_of(8, 64))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_openvino_has_its_threads_and_pins_none(toy_model_path):
    engine = started("openvino", toy_model_path)
    engine(inputs_of(8, 64))
    network = engine._requests.get().get_compiled_model()
    assert network.get_property("INFERENCE_NUM_THREADS") == 1
    assert network.get_property("ENABLE_CPU_PINNING") is False


def test_threads_may_share_an_engine(toy_model_path):
    engine = started("openvino", toy_model_path, precision="float32")
    reference = started("onnxruntime", toy_model_path)
    several = [inputs_of(8, side, 1) for side in (64, 32, 64, 96)]
    several = [{**inputs, "x": inputs["x"] / 100} for inputs in several]
    with ThreadPoolExecutor(4) as pool:
        for inputs, found in zip(several, pool.map(engine, several), strict=True):
            assert np.abs(found - reference(inputs)).max() < 1e-4


# --- the command and its workers


@pytest.fixture
def night(tmp_path):
    for i in range(2):
        data = np.random.default_rng(i).normal(200, 3, (64, 80)).astype(np.float32)
        fits.PrimaryHDU(data).writeto(tmp_path / f"f{i}.fits")
    return tmp_path


def bgrem(night, model, *arguments, first=ROOT):
    return subprocess.run(
        [
            sys.executable, "-m", "bgrem", "-f", *sorted(night.glob("f?.fits")), "--model", model,
            "--output-dir", night / "out", "--overwrite", *map(str, arguments),
        ],
        env={**os.environ, "PYTHONPATH": f"{first}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def engines_of(night):
    return [fits.getheader(path)["BGR_ENGN"] for path in sorted((night / "out").glob("*.fits"))]


@pytest.mark.parametrize("workers", [(), ("--workers", 2)])
def test_the_command_passes_the_engine_on(night, toy_model_path, workers):
    pytest.importorskip("openvino")
    done = bgrem(night, toy_model_path, "--engine", "openvino", *workers)
    assert done.returncode == 0, done.stderr
    assert [line.startswith("openvino cpu ") for line in engines_of(night)] == [True, True]
    facts = [fact.split("=")[0] for fact in done.stdout.splitlines()[0].split("  ")[1:]]
    assert facts == ["model", "level", "rms", "norm", "seconds"]


@pytest.mark.parametrize("workers", [(), ("--workers", 2)])
def test_the_command_reports_a_missing_engine_once(night, toy_model_path, workers):
    folder = night / "libraries"
    folder.mkdir()
    (folder / "openvino.py").write_text(
        "raise ModuleNotFoundError('No module named openvino', name='openvino')\n"
    )
    arguments = ("--engine", "openvino", *workers)
    done = bgrem(night, toy_model_path, *arguments, first=folder)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    sentence, *summary = done.stderr.splitlines()
    assert sentence == (
        "bgrem: openvino is not installed (pip install 'bgrem[openvino]'): "
        "onnxruntime runs on the CPU instead"
    )
    assert len(summary) == (1 if workers else 0)
    assert engines_of(night) == [ORT, ORT]
    assert bgrem(night, toy_model_path, *arguments, "--quiet", first=folder).stderr == ""
