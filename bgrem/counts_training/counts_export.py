"""From the averaged weights of a training to the counts model that bgrem takes."""

import warnings
from dataclasses import asdict
from functools import partial
from itertools import chain

import numpy as np
import torch

from bgrem.counts.bands import separate_bands
from bgrem.counts.counts_model import CountsModel
from bgrem.counts_scenes.poisson_scene import draw_counts, random_counts_scene
from bgrem.counts_training.counts_card import (
    CHECKED_LEVELS,
    WITH_EXPOSURE,
    WITHOUT_EXPOSURE,
    blank_skies,
    measure_false_alarms,
    measure_variance_factors,
)
from bgrem.network.counts_network import COUNTS_CHANNELS, COUNTS_FRAME, COUNTS_PLANES, CountsNetwork
from bgrem.network.poisson_filters import CORRELATION, KERNEL_SIDE
from bgrem.train.export import model_path, write_metadata

__all__ = ["export_counts", "export_counts_error", "write_counts_graph"]

# Of the square root of the expected counts, and of the significance: single precision makes a fifth of it.
LARGEST_DIFFERENCE = 2e-2
CALIBRATION = 7  # a stream of random numbers of its own


def export_counts(training, directory):
    """Write the averaged weights as ``NAME.onnx`` and ``NAME.safetensors``.

    Parameters
    ----------
    training : `~bgrem.counts_training.counts_loop.CountsTraining`
    directory : path-like

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    ValueError
        If the exported network does not give what the trained one gives; there is no file then.
    """
    from safetensors.torch import save

    config = training.config
    network = CountsNetwork(config.network)
    network.load_state_dict(training.average.state_dict())
    path = model_path(config, directory)
    temporary = path.with_suffix(".part.onnx")
    try:
        write_counts_graph(network.eval(), temporary)
        write_metadata(temporary, _card(config, training.step))
        error = export_counts_error(network, temporary)
        if not error < LARGEST_DIFFERENCE:
            raise ValueError(
                f"the exported model differs from the trained network by {error:.1e} of the "
                f"Poisson noise, more than {LARGEST_DIFFERENCE:.0e}; it was not written"
            )
        write_metadata(temporary, _measured(temporary, config))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    weights = {name: values.contiguous() for name, values in network.state_dict().items()}
    path.with_suffix(".safetensors").write_bytes(save(weights))
    return path


def _measured(path, config):
    """What the card says of false detections and of the variance, measured on maps that are not trained on."""
    number = config.inference["calibration"]
    if not number:
        return {}
    separate = partial(separate_bands, model=CountsModel(path))

    def blank():
        return chain.from_iterable(blank_skies(level, number) for level in CHECKED_LEVELS)

    rngs = (np.random.default_rng([config.seed, CALIBRATION, i]) for i in range(number))
    skies = (draw_counts(random_counts_scene(rng), rng) for rng in rngs)
    return {
        "false_alarms": measure_false_alarms(separate, blank(), known=WITH_EXPOSURE),
        "false_alarms_unknown": measure_false_alarms(separate, blank(), known=WITHOUT_EXPOSURE),
        "variance_factors": measure_variance_factors(separate, skies),
    }


def write_counts_graph(network, path):
    """Write a network to an ONNX file, without a card.

    Parameters
    ----------
    network : CountsNetwork
    path : path-like
    """
    side = 2 * network.multiple
    example = (
        torch.ones(2, len(COUNTS_PLANES), side, side),
        torch.full((2, 1, KERNEL_SIDE, KERNEL_SIDE), 1 / KERNEL_SIDE**2),
        torch.zeros(2, len(COUNTS_FRAME)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding")
        torch.onnx.export(
            network, example, str(path), dynamo=False, opset_version=17,
            input_names=["planes", "kernel", "frame"], output_names=["channels"],
            custom_opsets={CORRELATION.split("::")[0]: 1},
            dynamic_axes={
                "planes": {0: "bands", 2: "height", 3: "width"},
                "kernel": {0: "bands"},
                "frame": {0: "bands"},
                "channels": {0: "bands", 2: "height", 3: "width"},
            },
        )  # fmt: skip
    _replace_correlations(path)


def _replace_correlations(path):
    """Write the correlations of an ONNX file as loops over the bands, whose number a convolution must know."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(path))
    graph = model.graph
    kind = CORRELATION.split("::")[1]
    for number, node in enumerate(graph.node):
        if node.op_type == kind:
            graph.node[number].CopyFrom(_loop_over_bands(*node.input, node.output[0], f"n{number}"))
    graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
    graph.initializer.append(helper.make_tensor("first axis", TensorProto.INT64, [1], [0]))
    # The number of bands is the first side of the planes.
    sizes = [
        helper.make_node("Shape", ["planes"], ["shape of planes"], start=0, end=1),
        helper.make_node("Squeeze", ["shape of planes", "first axis"], ["bands of planes"]),
    ]
    nodes = [*sizes, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    kept = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _loop_over_bands(maps, kernels, found, name):
    """A node that correlates each of the maps with its kernels; all are names of values in the graph."""
    from onnx import TensorProto, helper

    half = KERNEL_SIDE // 2
    band, one, go_on, part = (f"{name} {word}" for word in ("band", "one", "go on", "part"))
    nodes = [
        helper.make_node("Gather", [maps, one], [f"{name} map"], axis=0),
        helper.make_node("Unsqueeze", [f"{name} map", "first axis"], [f"{name} whole map"]),
        helper.make_node("Gather", [kernels, one], [f"{name} kernel"], axis=0),
        helper.make_node("Unsqueeze", [f"{name} kernel", f"{name} second axis"], [f"{name} whole kernel"]),
        helper.make_node(
            "Conv", [f"{name} whole map", f"{name} whole kernel"], [part],
            kernel_shape=[KERNEL_SIDE] * 2, pads=[half] * 4,
        ),
        helper.make_node("Squeeze", [part, "first axis"], [band]),
        helper.make_node("Identity", [f"{name} before"], [go_on]),
    ]  # fmt: skip
    body = helper.make_graph(
        nodes,
        f"{name} body",
        [
            helper.make_tensor_value_info(one, TensorProto.INT64, []),
            helper.make_tensor_value_info(f"{name} before", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(go_on, TensorProto.BOOL, []),
            helper.make_tensor_value_info(band, TensorProto.FLOAT, [None, None, None]),
        ],
        initializer=[helper.make_tensor(f"{name} second axis", TensorProto.INT64, [1], [1])],
    )
    return helper.make_node("Loop", ["bands of planes", "always"], [found], body=body)


def _card(config, step):
    return {
        "kind": config.kind, "name": config.name, "version": "1", "licence": config.licence,
        "description": config.description, "training_digest": config.digest,
        "training_steps": str(step), "channels": list(COUNTS_CHANNELS), "frame": list(COUNTS_FRAME),
        "tile": config.inference["tile"], "overlap": config.inference["overlap"],
        "multiple": CountsNetwork.multiple, "kernel": KERNEL_SIDE,
        "network": asdict(config.network),
    }  # fmt: skip


def export_counts_error(network, path, *, seed=0):
    """Largest difference between ONNX and PyTorch, over the square root of the expected counts, on three bands.

    Parameters
    ----------
    network : CountsNetwork
    path : path-like
        The ONNX file.
    seed : int
        Of the map that both are given.

    Returns
    -------
    float
    """
    import onnxruntime

    rng = np.random.default_rng(seed)
    side, bands = 4 * network.multiple, 3
    expected = np.ones((bands, side, side)) * 10.0 ** np.arange(-1, bands - 1)[:, None, None]
    expected[:, ::17, ::13] += 10 ** rng.uniform(0, 3, expected[:, ::17, ::13].shape)
    planes = np.stack([rng.poisson(expected), expected.mean() + 0 * expected, 0 * expected + 1], 1)
    kernel = rng.uniform(0, 1, (bands, 1, KERNEL_SIDE, KERNEL_SIDE))
    kernel /= kernel.sum((2, 3), keepdims=True)
    inputs = {"planes": planes, "kernel": kernel, "frame": rng.uniform(0, 1, (bands, 6))}
    inputs = {name: values.astype(np.float32) for name, values in inputs.items()}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, inputs)[0]
    with torch.no_grad():
        wanted = network.eval()(*map(torch.from_numpy, inputs.values())).numpy()
    scale = np.sqrt(1 + np.abs(wanted))
    scale[:, COUNTS_CHANNELS.index("variance")] **= 2  # its unit is that of squared counts
    return float((np.abs(found - wanted) / scale).max())
