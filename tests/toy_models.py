"""A model of a few layers, for tests that need any model."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bgrem.inference.card import ModelCard


def toy_card(**changes) -> ModelCard:
    """The card of the toy model, with some entries changed."""
    from bgrem.detection.frame import FRAME_NAMES

    entries = {
        "name": "toy",
        "version": "0",
        "channels": ("residual", "log_variance", "artefact", "significance"),
        "frame": tuple(FRAME_NAMES),
        "schedule": "cosine",
        "tile": 192,
        "overlap": 32,
        "multiple": 16,
        "box": 64,
        "normalisation": "centre-mad-mesh",
        "training_digest": "0" * 64,
        "licence": "BSD-3-Clause",
        "description": "sources exceed 1 rms in the smoothed image; for tests",
    }
    return ModelCard(**{**entries, **changes})


def toy_onnx(card: ModelCard) -> onnx.ModelProto:
    """residual = x - relu(smooth(x) - 1): what is bright and wide is a source.

    The artefact logit is x - 5 smooth(x) - 5, positive on single bright pixels; the
    significance is smooth(x) - 3; the log-variance is 0.
    """
    profile = np.exp(-0.5 * (np.arange(-4, 5) / 1.2) ** 2)
    kernel = np.outer(profile, profile)
    kernel = (kernel / kernel.sum()).astype(np.float32)[None, None]
    constants = {
        "kernel": kernel,
        "one": np.float32([1]),
        "three": np.float32([3]),
        "five": np.float32([5]),
        "zero": np.float32([0]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["smooth"], pads=[4, 4, 4, 4]),
        helper.make_node("Sub", ["smooth", "one"], ["above"]),
        helper.make_node("Relu", ["above"], ["sources"]),
        helper.make_node("Sub", ["x", "sources"], ["noise"]),
        # The rate and the frame vector are used, with no effect at a rate of 1.
        helper.make_node("ReduceSum", ["frame"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Div", ["noise", "rate"], ["scaled"]),
        helper.make_node("Add", ["scaled", "nothing"], ["residual"]),
        helper.make_node("Mul", ["x", "zero"], ["log_variance"]),
        helper.make_node("Mul", ["smooth", "five"], ["wide"]),
        helper.make_node("Sub", ["x", "wide"], ["sharp"]),
        helper.make_node("Sub", ["sharp", "five"], ["artefact"]),
        helper.make_node("Sub", ["smooth", "three"], ["significance"]),
        helper.make_node(
            "Concat", ["residual", "log_variance", "artefact", "significance"], ["channels"], axis=1
        ),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            tensor("x", TensorProto.FLOAT, ["n", 1, "h", "w"]),
            tensor("rate", TensorProto.FLOAT, [1]),
            tensor("frame", TensorProto.FLOAT, [1, len(card.frame)]),
        ],
        [tensor("channels", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, card.to_metadata())
    onnx.checker.check_model(model)
    return model
