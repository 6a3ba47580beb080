"""What OpenVINO's graph of a network is changed to gives what the graph gave."""

from pathlib import Path

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")

from bgrem.detection.frame import FRAME_NAMES
from bgrem.inference.openvino_graph import PHASES, filter_in_phases

ops = openvino.opset13
MODEL = Path(__file__).resolve().parents[2] / "bgrem" / "models" / "optical.onnx"
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def filters(shape, taps, axis, *, stride=1, same=True):
    """A convolution of an image of one channel by a kernel that is an input, along an axis."""
    image = ops.parameter(shape, np.float32, name="image")
    sides = [1, 1, 1, 1]
    sides[axis] = taps
    kernel = ops.parameter(sides, np.float32, name="kernel")
    pads = [taps // 2 if same and axis == side else 0 for side in (2, 3)]
    result = ops.convolution(image, kernel, [stride, stride], pads, pads, [1, 1])
    return openvino.Model([result], [image, kernel])


def run(model, shape, taps):
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=taps).astype(np.float32)
    compiled = openvino.Core().compile_model(model, "CPU", EXACT)
    return compiled([image, kernel.reshape(compiled.input(1).shape)])[0]


def kernels_of(model):
    """Channels that each convolution gives."""
    nodes = [node for node in model.get_ops() if node.get_type_name() == "Convolution"]
    return [node.input_value(1).get_partial_shape()[0].get_length() for node in nodes]


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize(("taps", "shape"), [(25, (1, 1, 64, 48)), (5, (1, 1, 16, 96))])
def test_a_filter_in_phases_is_the_same_filter(axis, taps, shape):
    expected = run(filters(shape, taps, axis), shape, taps)
    model = filters(shape, taps, axis)
    filter_in_phases(model, openvino)
    assert kernels_of(model) == [PHASES]
    np.testing.assert_allclose(run(model, shape, taps), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 1, 40, 40), {}),  # no whole number of phases
        ((1, 1, 64, 64), {"stride": 2}),
        ((1, 1, 64, 64), {"same": False}),
        ((2, 1, 64, 64), {}),
    ],
)
def test_other_convolutions_stay(shape, options):
    model = filters(shape, 9, 3, **options)
    filter_in_phases(model, openvino)
    assert kernels_of(model) == [1]


def test_the_shipped_model_filters_in_phases():
    model = openvino.Core().read_model(MODEL)
    model.reshape({"x": (1, 1, 192, 192), "rate": (1,), "frame": (1, len(FRAME_NAMES))})
    before = kernels_of(model)
    filter_in_phases(model, openvino)
    assert kernels_of(model).count(PHASES) == before.count(PHASES) + 2  # along rows and columns
