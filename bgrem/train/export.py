"""From the averaged weights of a training to the model file that bgrem takes."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from bgrem.detection.frame import FRAME_NAMES, HIGHEST_ENTRIES, LOWEST_ENTRIES
from bgrem.inference.card import NORMALISATION, SCHEDULE, ModelCard
from bgrem.inference.model import SKY_SUFFIX, Model
from bgrem.inference.sky_model import SkyModel
from bgrem.network.significance import MODEL_CHANNELS, WithSignificance
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.network.sky_network import INPUTS as SKY_INPUTS
from bgrem.network.sky_network import SkyNetwork
from bgrem.network.unet import KNEE, AttentionUNet
from bgrem.sky.network_input import SKY_MULTIPLE, SKY_OUTPUTS
from bgrem.train.calibrate import calibrate, sky_error_factors
from bgrem.train.config import SkyConfig
from bgrem.train.own_sky import skies_of
from bgrem.train.validate import check_is_better

__all__ = ["card", "export", "export_error", "export_onnx", "export_sky", "model_path"]

OUTPUTS = ("channels", "significance")
ASKED = "significant"  # input that has a default
LARGEST_EXPORT_ERROR = 1e-4  # of the local noise
# Near a pixel of 1e4 sigma the filtered image of the significance is a small difference of large numbers.
SIGNIFICANCE_ERRORS = 100.0


def model_path(config, directory):
    """The model that a training writes into a folder.

    Parameters
    ----------
    config : TrainingConfig
    directory : path-like

    Returns
    -------
    Path
        ``NAME.onnx``; ``NAME.sky.onnx`` of a sky network.
    """
    suffix = SKY_SUFFIX if isinstance(config, SkyConfig) else ".onnx"
    return Path(directory) / f"{config.name}{suffix}"


def export(training, directory):
    """Write the averaged weights as ``NAME.onnx`` and ``NAME.safetensors``.

    Parameters
    ----------
    training : Training
    directory : path-like

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    ValueError
        If the exported network does not give what the trained one gives, or the model is not better than that of
        the package on the frame to judge it on; there is no file then.
    """
    from safetensors.torch import save

    config = training.config
    network = AttentionUNet(config.network)
    network.load_state_dict(training.average.state_dict())
    path = model_path(config, directory)
    temporary = path.with_suffix(".part.onnx")
    try:
        with warnings.catch_warnings():
            # The graph is traced for one frame vector at a time, and that is how it is used.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message="Constant folding")
            export_onnx(network, temporary, card(config, training.step))
        error = export_error(network, temporary)
        if not error < LARGEST_EXPORT_ERROR:
            raise ValueError(
                f"the exported model differs from the trained network by {error:.1e} of the local "
                f"noise, more than {LARGEST_EXPORT_ERROR:.0e}; it was not written"
            )
        if scenes := config.inference.get("calibration", 0):
            # A model for one's own frames is judged on skies like theirs.
            skies = skies_of(config, share=1.0)
            calibration = calibrate(
                Model(temporary), seed=config.seed, scenes=scenes, draw_sky=skies
            )
            write_metadata(temporary, {"calibration": calibration.to_json()})
        if config.judged:
            check_is_better(Model(temporary), config, seed=config.seed)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    weights = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
    path.with_suffix(".safetensors").write_bytes(save(weights))
    return path


def card(config, step):
    """Metadata of a model's file: the entries of a `bgrem.inference.card.ModelCard` and the steps.

    The constants of the significance and the memory per pixel are the defaults of the card.

    Parameters
    ----------
    config : TrainingConfig
    step : int
        Number of optimiser steps.

    Returns
    -------
    dict of str to str
    """
    entries = ModelCard(
        name=config.name,
        version="2",
        channels=MODEL_CHANNELS,
        frame=FRAME_NAMES,
        schedule=SCHEDULE,
        tile=config.inference["tile"],
        overlap=config.inference["overlap"],
        multiple=2 ** len(config.network.widths),
        box=config.inference["box"],
        normalisation=NORMALISATION,
        training_digest=config.digest,
        licence=config.licence,
        description=config.description,
        lowest=tuple(LOWEST_ENTRIES.tolist()),
        highest=tuple(HIGHEST_ENTRIES.tolist()),
    ).to_metadata()
    return entries | {"training_steps": str(step)}


def export_error(network, path, *, seed=0):
    """Largest difference between ONNX and PyTorch in units of the local noise sqrt(1 + x / KNEE).

    A hundredth of that of the significance counts.

    Parameters
    ----------
    network : AttentionUNet
    path : path-like
        The ONNX file.
    seed : int
        Of the image that both are given: white noise with pixels of 1 to 1e4.

    Returns
    -------
    float
    """
    import onnxruntime

    rng = np.random.default_rng(seed)
    side = 4 * network.multiple
    x = rng.standard_normal((1, 1, side, side)).astype(np.float32)
    x[0, 0, ::17, ::13] += (10 ** rng.uniform(0, 4, x[0, 0, ::17, ::13].shape)).astype(np.float32)
    frame = rng.uniform(LOWEST_ENTRIES, HIGHEST_ENTRIES)[None].astype(np.float32)
    inputs = {"x": x, "rate": np.ones(1, np.float32), "frame": frame}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of an input that has a default
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = np.concatenate(session.run(None, inputs), axis=1)
    with torch.no_grad():
        planes = _with_significance(network, session.get_modelmeta().custom_metadata_map)
        expected = torch.cat(
            planes.eval().cpu()(*map(torch.from_numpy, inputs.values())), dim=1
        ).numpy()
    scale = np.sqrt(1 + np.maximum(x, 0) / KNEE)
    error = np.abs(found - expected) / scale
    error[:, MODEL_CHANNELS.index("significance")] /= SIGNIFICANCE_ERRORS
    return float(error.max())


def export_onnx(network, path, card):
    """Write a network with its card to an ONNX file.

    Parameters
    ----------
    network : AttentionUNet
    path : path-like
    card : dict
        Strings, numbers, lists: how the model is to be used. Stored in ``metadata_props``,
        each value as JSON unless it is a string. The graph has the constants of the significance
        in its entry ``significance``, or the default ones.
    """
    network = network.eval().cpu().float()
    side = 2 * network.multiple
    example = (torch.zeros(1, 1, side, side), torch.ones(1), torch.zeros(1, len(FRAME_NAMES)))
    torch.onnx.export(
        _with_significance(network, card),
        example,
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["x", "rate", "frame"],
        output_names=list(OUTPUTS),
        dynamic_axes={
            "x": {0: "n", 2: "height", 3: "width"},
            **{name: {0: "n", 2: "height", 3: "width"} for name in OUTPUTS},
        },
    )
    _make_optional(path)
    full = {**card, "channels": list(MODEL_CHANNELS), "frame": list(FRAME_NAMES)}
    write_metadata(path, full | {"network": asdict(network.config)})


def _with_significance(network, card):
    """The network with the significance of a card, a mapping of str to str."""
    constants = SignificanceConstants.from_json(card.get("significance", "{}"))
    return WithSignificance(network, constants)


def _make_optional(path):
    """Let an ONNX file work its significance out only where the input ``significant`` is True, its default.

    ONNX Runtime works out all outputs of a graph, wanted or not; a branch that is not taken costs nothing.
    """
    import onnx
    from onnx import helper

    model = onnx.load(str(path))
    graph = model.graph
    channels, significance = graph.output
    always = _ancestors(graph, channels.name)
    branch = [node for node in graph.node if node.output[0] not in always]
    asked = helper.make_tensor(ASKED, onnx.TensorProto.BOOL, [], [True])
    nothing = helper.make_tensor("nothing", onnx.TensorProto.FLOAT, [1, 1, 1, 1], [0.0])
    empty = helper.make_tensor_value_info("nothing", onnx.TensorProto.FLOAT, [1, 1, 1, 1])
    constant = helper.make_node("Constant", [], ["nothing"], value=nothing)
    inner = onnx.ValueInfoProto()
    inner.CopyFrom(significance)
    inner.name = branch[-1].output[0] = "significance of the branch"
    then = helper.make_graph(branch, "significance", [], [inner])
    other = helper.make_graph([constant], "none", [], [empty])
    kept = [node for node in graph.node if node.output[0] in always]
    del graph.node[:]
    graph.node.extend(kept)
    graph.node.append(
        helper.make_node("If", [ASKED], [significance.name], then_branch=then, else_branch=other)
    )
    graph.initializer.append(asked)
    graph.input.append(helper.make_tensor_value_info(ASKED, onnx.TensorProto.BOOL, []))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def export_sky(training, directory, small, large):
    """Write the averaged weights of a sky network as ``NAME.sky.onnx`` and ``NAME.sky.safetensors``.

    Parameters
    ----------
    training : `~bgrem.train.sky_loop.SkyTraining`
    directory : path-like
    small, large : dict of ndarray
        Frames on which the network's error is calibrated, as of `bgrem.train.calibrate.sky_error_factors`.

    Returns
    -------
    Path
        The ONNX file.
    """
    from safetensors.torch import save

    config = training.config
    network = SkyNetwork(config.network)
    network.load_state_dict(training.average.state_dict())
    path = model_path(config, directory)
    temporary = path.with_name(f"{config.name}.part.onnx")
    try:
        _write_sky(network.eval(), config, training.step, temporary)
        factors = sky_error_factors(SkyModel(temporary), small, large)
        write_metadata(temporary, {"error_factors": factors})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    path.with_suffix(".safetensors").write_bytes(save(network.state_dict()))
    return path


def _write_sky(network, config, step, path):
    """Write a sky network with its metadata, without the factors of its error."""
    side = 2 * SKY_MULTIPLE
    sides = {0: "n", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, (torch.zeros(1, SKY_INPUTS, side, side),), str(path), dynamo=False,
            opset_version=17, input_names=["x"], output_names=["sky"],
            dynamic_axes={"x": sides, "sky": sides},
        )  # fmt: skip
    _shorten_names(path)
    write_metadata(
        path,
        {
            "kind": config.kind, "name": config.name, "version": "1", "licence": config.licence,
            "description": config.description, "training_digest": config.digest,
            "training_steps": step, "outputs": list(SKY_OUTPUTS),
            "network": asdict(config.network),
        },
    )  # fmt: skip


def _shorten_names(path):
    """Give the values of an ONNX file short names: those of an unrolled elimination are a tenth of its size."""
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    short = {}

    def renamed(name):
        return name if name in kept or not name else short.setdefault(name, f"{len(short):x}")

    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]
    for value in graph.initializer:
        value.name = renamed(value.name)
    del graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _ancestors(graph, output):
    """Names of all that a value of a graph is made of, itself included."""
    made_of = {name: node.input for node in graph.node for name in node.output}
    found, waiting = set(), [output]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(made_of.get(name, ()))
    return found


def write_metadata(path, entries):
    """Add entries to the metadata of an ONNX file, in place.

    Parameters
    ----------
    path : path-like
    entries : dict
        Each value is stored as JSON unless it is a string.
    """
    import onnx

    model = onnx.load(str(path))
    for key, value in entries.items():
        entry = model.metadata_props.add()
        entry.key = key
        entry.value = value if isinstance(value, str) else json.dumps(value)
    onnx.save(model, str(path))
