"""Training of a network on simulated skies, from a committed configuration to a model file."""

import hashlib
import json
import logging
import pickle
import time
import tomllib
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from bgrem.frame import FRAME_NAMES
from bgrem.model import NORMALISATION, SCHEDULE, ModelCard
from bgrem.network import CHANNELS, KNEE, AttentionUNet, NetworkConfig, export_onnx
from bgrem.parents import ParentWindow
from bgrem.validate import draw_validation, validate

__all__ = ["Training", "TrainingConfig", "export", "load_config", "train"]

logger = logging.getLogger(__name__)

POOLS = (1, 2, 4, 8, 16)
# Errors of the sources above this many expected deviations count linearly, not squared: a missed
# cosmic ray of a thousand sigma must not outweigh a million faint pixels, yet keep its gradient.
ROBUST = 6.0
# The logarithm of 1 + error / TEMPER is taken of every tile: a crowded or nebulous tile, whose
# error is a hundred times that of a sparse one, would otherwise set the gradient of its batch.
TEMPER = 0.05
LARGEST_EXPORT_ERROR = 1e-4  # of the local noise
LABELS = {"name", "description", "licence", "inference"}  # say how a model is used, not what it is
EXTENDABLE = {"steps", "decay"}  # have no effect before the learning rate falls


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides what a training gives.

    Attributes
    ----------
    name, description, licence : str
        For the model's card.
    seed : int
        Of the parents, the tiles and the initial weights.
    steps : int
        Optimiser steps.
    warmup, decay : int
        Steps in which the learning rate rises, and the last ones in which it falls as half a
        cosine: until these begin, `steps` can be raised without starting anew.
    batch, tile : int
        Tiles per step and their side in pixels.
    learning_rate, weight_decay : float
        Of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101).
    clip : float
        Largest norm of the gradient.
    ema : float
        Decay per step of the averaged weights, which are those that are used.
    whole : float
        Share of tiles at noise rate 1, the observed image; the others have a random rate.
    lowest_rate : float
        Smallest noise rate.
    parent, box : int
        Side of a parent and of its sky mesh's boxes in pixels.
    window : int
        Parents that a step draws its tiles from.
    reuse : float
        How often a parent's area is seen before it leaves the window.
    weights : dict
        Weights of the losses: ``variance``, ``artefact``, ``centre`` beside the sources' 1.
    network : NetworkConfig
    inference : dict
        ``tile``, ``overlap`` and ``box`` of the sky mesh, in pixels, that the model's card asks
        for.
    start : str
        A ``.safetensors`` file to begin from; empty for random weights.
    """

    name: str = "optical"
    description: str = ""
    licence: str = "BSD-3-Clause"
    seed: int = 1
    steps: int = 20000
    warmup: int = 400
    decay: int = 6000
    batch: int = 16
    tile: int = 192
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.9995
    whole: float = 0.75
    lowest_rate: float = 0.08
    parent: int = 768
    box: int = 256
    window: int = 256
    reuse: float = 4.0
    weights: dict = field(
        default_factory=lambda: {"variance": 0.05, "artefact": 2.0, "centre": 8.0}
    )
    network: NetworkConfig = field(default_factory=NetworkConfig)
    inference: dict = field(default_factory=lambda: {"tile": 1024, "overlap": 96, "box": 128})
    start: str = ""

    @property
    def digest(self):
        """SHA-256 of the configuration: what a model's card says it was trained with."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def load_config(path):
    """Read a training configuration from a TOML file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    TrainingConfig

    Raises
    ------
    ValueError
        If the file is no TOML, or an option does not exist or is out of range.
    """
    try:
        entries = tomllib.loads(Path(path).read_text())
        return _config(entries)
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _config(entries):
    """The configuration that a table of entries describes, checked."""
    default = TrainingConfig()
    entries = dict(entries)
    if "network" in entries:
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in entries["network"].items()}
        _check_names("network", sizes, asdict(default.network))
        entries["network"] = NetworkConfig(**sizes)
    _check_names("", entries, asdict(default))
    for name in ("weights", "inference"):
        own = getattr(default, name)
        _check_names(name, entries.get(name, {}), own)
        entries[name] = {**own, **entries.get(name, {})}
    config = TrainingConfig(**entries)
    _check_range(config)
    return config


def _check_names(table, entries, known):
    """Refuse options that do not exist, and those of another type than their default."""
    prefix = f"{table}." if table else ""
    for name, value in entries.items():
        if name not in known:
            raise ValueError(f"unknown option {prefix}{name}")
        wanted = type(known[name])
        good = isinstance(value, int | float if wanted is float else wanted)
        if not isinstance(value, NetworkConfig) and (not good or isinstance(value, bool)):
            raise ValueError(f"option {prefix}{name} must be of type {wanted.__name__}")


def _check_range(config):
    """Refuse in one sentence a configuration that cannot be trained."""
    network = config.network
    levels = len(network.widths)
    multiple = 2**levels
    if not levels or (len(network.encoder), len(network.decoder)) != (levels, levels - 1):
        raise ValueError(
            "network.encoder needs as many entries as widths, network.decoder one less"
        )
    for name in ("steps", "warmup", "batch", "tile", "window", "reuse", "learning_rate"):
        if not getattr(config, name) > 0:
            raise ValueError(f"option {name} must be above 0")
    if not 0 <= config.decay <= config.steps:
        raise ValueError("option decay must be between 0 and steps")
    if config.tile % multiple or config.tile > config.parent:
        raise ValueError(f"option tile must be a multiple of {multiple} and at most the parent")


class Training:
    """A training that can be stopped at any step and resumed exactly.

    Parameters
    ----------
    config : TrainingConfig
    device : str
        "cpu" or "cuda".
    """

    def __init__(self, config, *, device="cpu"):
        torch.manual_seed(config.seed)
        self.config = config
        self.device = torch.device(device)
        self.network = AttentionUNet(config.network)
        if config.start:
            load_weights(self.network, config.start)
        self.network = self.network.to(self.device, memory_format=torch.channels_last)
        self.average = AttentionUNet(config.network).to(self.device)
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.999),
        )
        self.step = 0

    def advance(self, window):
        """One optimiser step on tiles of the window; returns the losses by name."""
        config = self.config
        rng = np.random.default_rng([config.seed, 1, self.step])
        window.advance(self.first_parent)
        batch = window.sample(rng, count=config.batch, tile=config.tile)
        rate = _rates(rng, config)
        tensors = {k: torch.from_numpy(v).to(self.device) for k, v in batch.items()}
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(self.step, config)
        with torch.autocast(self.device.type, torch.bfloat16):
            x = tensors["sources"] + rate.to(self.device)[:, None, None, None] * (
                tensors["x"] - tensors["sources"]
            )
            channels = self.network(x, rate.to(self.device), tensors["frame"])
        parts = losses(channels.float(), x, rate.to(self.device), tensors)
        total = parts["sources"] + sum(config.weights[k] * parts[k] for k in config.weights)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
            self._update_average()
        self.step += 1
        return {name: float(value.detach()) for name, value in parts.items()} | {
            "gradient": float(norm)
        }

    @property
    def first_parent(self):
        """First parent of this step's window."""
        config = self.config
        tiles = (config.parent / config.tile) ** 2 * config.reuse
        return int(self.step * config.batch / tiles)

    def window(self, workers):
        """The window of parents that this step sees."""
        config = self.config
        return ParentWindow(
            config.seed,
            size=config.parent,
            box=config.box,
            length=config.window,
            start=self.first_parent,
            workers=workers,
        )

    def _update_average(self):
        # The average of the first steps would remember the random start for long.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                slow.lerp_(fast, 1 - decay)

    def save(self, path):
        """Write a checkpoint; the old one is replaced only when the new one is complete."""
        path = Path(path)
        temporary = path.with_suffix(".part")
        state = {
            "digest": self.config.digest,
            "config": json.dumps(asdict(self.config)),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path, *, strict=True, extend=False):
        """Go on from a checkpoint.

        Parameters
        ----------
        path : path-like
        strict : bool
            Whether the checkpoint must belong to this configuration. What a model is called and
            how it is used (`LABELS`) may differ.
        extend : bool
            Whether `steps` and `decay` may differ too, while neither learning rate has fallen:
            the training is then the one that had these values from its first step.

        Raises
        ------
        ValueError
            If the file is no checkpoint, or not of this training.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            step, digest = state["step"], state["digest"]
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a checkpoint of a training") from error
        if strict and digest != self.config.digest:
            then = json.loads(state.get("config", "{}"))
            changed = self._changed(then)
            if changed - (EXTENDABLE if extend else set()):
                raise ValueError(
                    f"{path} belongs to a training of another configuration "
                    f"({', '.join(sorted(changed))} differ)"
                )
            if changed and step > min(_plateau_end(then), _plateau_end(asdict(self.config))):
                raise ValueError(
                    f"{path}: at step {step} the learning rate is falling, or would be, "
                    "and the number of steps can no longer be changed"
                )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = step

    def _changed(self, then):
        """Names of the options, but for labels, that another configuration had otherwise."""
        now = json.loads(json.dumps(asdict(self.config)))
        return {name for name in now.keys() - LABELS if then.get(name) != now[name]}


def load_weights(network, path):
    """Read a ``.safetensors`` file into a network, in place."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path))


def _plateau_end(entries):
    """The step from which on the learning rate of a configuration falls."""
    return entries["steps"] - entries["decay"]


def learning_rate_factor(step, config):
    """Linear warm-up, plateau, half a cosine down to a hundredth."""
    start = config.steps - config.decay
    if step < start:
        return min(1.0, (step + 1) / config.warmup)
    progress = (step - start) / max(config.decay, 1)
    # A checkpoint must hold no numbers of numpy: PyTorch would not read it back.
    return float(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(progress, 1.0))))


def _rates(rng, config):
    """Noise rates of a batch, (n,) float32: most are the observed image's, exactly 1."""
    random = np.sin(0.5 * np.pi * rng.uniform(0, 1, config.batch))
    rate = np.where(rng.random(config.batch) < config.whole, 1.0, random)
    return torch.from_numpy(np.maximum(rate, config.lowest_rate).astype(np.float32))


def losses(channels, x, rate, batch):
    """The losses of a batch by name, each a scalar.

    ``sources``: squared error of the sources over their expected noise, of pixels and of their
    means over 2 to 16 pixels, so that neither an aperture's flux nor a faint disc is off; of
    each tile its logarithm;
    ``variance``: Gaussian log-likelihood of that error, held fixed, times its deviation
    (beta-NLL, beta 0.5; Seitzer et al. 2022, arXiv:2203.09168); ``artefact``, ``centre``: cross entropies.
    """
    residual, log_variance, artefact, centre = channels.split(1, dim=1)
    weight = batch["weight"]
    sources = x - rate[:, None, None, None] * residual
    expected = torch.sqrt(1 + functional.relu(batch["sources"]) / KNEE)
    error = weight * (sources - batch["sources"]) / expected
    parts = {"sources": torch.log1p(_pooled(error) / TEMPER).mean()}
    squared = (weight * (sources - batch["sources"]).detach()) ** 2
    # Heavy-tailed errors of missed artefacts would make all uncertainties too large.
    squared = torch.minimum(squared, 100.0 * expected**2)
    log_variance = log_variance.clamp(-12, 16)
    observed = weight * (rate == 1)[:, None, None, None]
    likelihood = 0.5 * (log_variance + squared * torch.exp(-log_variance))
    likelihood = likelihood * torch.exp(0.5 * log_variance.detach())
    parts["variance"] = _mean(likelihood, observed)
    parts["artefact"] = _mean(
        functional.binary_cross_entropy_with_logits(artefact, batch["artefact"], reduction="none"),
        observed,
    )
    label = batch["centre"].float()
    scored = observed * (label >= 0)
    parts["centre"] = _mean(
        functional.binary_cross_entropy_with_logits(centre, label.clamp(min=0), reduction="none"),
        scored,
    )
    return parts


def _pooled(error):
    """Robust squared error of block means of 1 to 16 pixels, of each tile, (n,).

    The mean of p x p pixels has 1/p of a pixel's noise; an error that is smooth gains as
    much weight, tempered by the square root so that the coarsest does not rule.
    """
    total = 0.0
    for pool in POOLS:
        pooled = functional.avg_pool2d(error, pool) if pool > 1 else error
        scaled = pooled * pool**0.5
        robust = ROBUST**2 * (torch.sqrt(1 + (scaled / ROBUST) ** 2) - 1)
        total = total + robust.mean(dim=(1, 2, 3))
    return total


def _mean(values, weight):
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def checkpoint_path(directory):
    """The file in which a training in a folder is kept."""
    return Path(directory) / "checkpoint.pt"


def model_path(config, directory):
    """The model that a training writes into a folder."""
    return Path(directory) / f"{config.name}.onnx"


def train(
    config,
    directory,
    *,
    device="cpu",
    workers=1,
    stop_after=None,
    stop=None,
    extend=False,
    report=200,
    save=1000,
    validation=2000,
    scenes=10,
    progress=None,
):
    """Train, with checkpoints and a log, and export the model.

    The log, ``log.jsonl``, has a line of losses every `report` steps and a line of
    `bgrem.validate.validate` every `validation` steps.

    Parameters
    ----------
    config : TrainingConfig
    directory : path-like
        Where checkpoint, log and models go; an unfinished training there is resumed.
    device : str
    workers : int
        Processes that draw scenes.
    stop_after : float, optional
        Seconds after which to save a checkpoint, export and return.
    stop : callable, optional
        Asked after each step; when it says true the checkpoint is saved and no model exported.
    extend : bool
        See `Training.load`.
    report, save, validation : int
        Steps between lines of the log, between checkpoints and between validations (0: none).
    scenes : int
        Held-out scenes to validate on.
    progress : callable, optional
        Called with the number of steps done, after each.

    Returns
    -------
    Training

    Raises
    ------
    ValueError
        If the folder holds another training, or the export differs from the trained network.
    """
    began = time.monotonic()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_path(directory)
    training = Training(config, device=device)
    if checkpoint.exists():
        training.load(checkpoint, extend=extend)
        logger.info("resumed at step %d of %d", training.step, config.steps)
    halted = False
    if training.step < config.steps:
        held_out = draw_validation(config.seed, count=scenes, box=config.box) if validation else []
        window = training.window(workers)
        logger.info("drawing the first %d scenes", config.window)
        window.advance(training.first_parent)
        with open(directory / "log.jsonl", "a") as file:
            log = _Log(file, training, report)
            while training.step < config.steps and not halted:
                log.add(training.advance(window))
                if progress:
                    progress(training.step)
                if validation and training.step % validation == 0:
                    log.write(validate(training.average, held_out))
                if training.step % save == 0:
                    training.save(checkpoint)
                halted = bool(stop and stop())
                if stop_after is not None and time.monotonic() - began > stop_after:
                    break
        training.save(checkpoint)
    if not halted:
        export(training, directory)
    return training


class _Log:
    """Means of the losses every some steps, as lines of JSON and in words."""

    def __init__(self, file, training, report):
        self._file, self._training, self._report = file, training, report
        self._began, self._first = time.monotonic(), training.step
        self._sums, self._count = {}, 0

    def add(self, values):
        """Take the losses of a step; writes when it is time."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        step, config = self._training.step, self._training.config
        if step % self._report == 0:
            speed = (step - self._first) / (time.monotonic() - self._began)
            means = {name: value / self._count for name, value in self._sums.items()}
            rest = {
                "tiles_per_second": speed * config.batch,
                "minutes_left": (config.steps - step) / speed / 60,
            }
            self.write(means | rest)
            self._sums, self._count = {}, 0

    def write(self, values):
        """Write one line of numbers by name."""
        line = {"step": self._training.step} | {k: round(v, 5) for k, v in values.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        words = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in values.items())
        logger.info("step %d of %d: %s", line["step"], self._training.config.steps, words)


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
        If the exported network does not give what the trained one gives; there is no file then.
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
            export_onnx(network, temporary, card(config, training.step))
        error = export_error(network, temporary)
        if not error < LARGEST_EXPORT_ERROR:
            raise ValueError(
                f"the exported model differs from the trained network by {error:.1e} of the local "
                f"noise, more than {LARGEST_EXPORT_ERROR:.0e}; it was not written"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    weights = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
    path.with_suffix(".safetensors").write_bytes(save(weights))
    return path


def card(config, step):
    """What a model's file says of itself: the entries of a `bgrem.model.ModelCard` and the steps."""
    entries = ModelCard(
        name=config.name,
        version="1",
        channels=CHANNELS,
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
    ).to_metadata()
    return entries | {"training_steps": str(step)}


def export_error(network, path, *, seed=0):
    """Largest difference between ONNX and PyTorch in units of the local noise sqrt(1 + x/30)."""
    import onnxruntime

    rng = np.random.default_rng(seed)
    side = 4 * network.multiple
    x = rng.standard_normal((1, 1, side, side)).astype(np.float32)
    x[0, 0, ::17, ::13] += (10 ** rng.uniform(0, 4, x[0, 0, ::17, ::13].shape)).astype(np.float32)
    frame = rng.standard_normal((1, len(FRAME_NAMES))).astype(np.float32)
    inputs = {"x": x, "rate": np.ones(1, np.float32), "frame": frame}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, inputs)
    with torch.no_grad():
        expected = network.eval().cpu()(*(torch.from_numpy(v) for v in inputs.values())).numpy()
    scale = np.sqrt(1 + np.maximum(x, 0) / KNEE)
    return float(np.abs((found - expected)[:, : len(CHANNELS)] / scale).max())
