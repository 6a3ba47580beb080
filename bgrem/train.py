"""Training of a network on simulated skies, from a committed configuration to a model file."""

import hashlib
import json
import logging
import time
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from bgrem.network import CHANNELS, AttentionUNet, NetworkConfig, export_onnx
from bgrem.parents import ParentWindow

__all__ = ["Training", "TrainingConfig", "load_config", "train"]

logger = logging.getLogger(__name__)

POOLS = (1, 2, 4, 8, 16)
# Errors of the sources above this many expected deviations count linearly, not squared: a missed
# cosmic ray of a thousand sigma must not outweigh a million faint pixels, yet keep its gradient.
ROBUST = 6.0


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
        ``tile`` and ``overlap`` in pixels that the model's card asks for.
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
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    clip: float = 2.0
    ema: float = 0.9995
    whole: float = 0.75
    lowest_rate: float = 0.08
    parent: int = 768
    box: int = 256
    window: int = 256
    reuse: float = 4.0
    weights: dict = field(
        default_factory=lambda: {"variance": 0.05, "artefact": 0.5, "centre": 2.0}
    )
    network: NetworkConfig = field(default_factory=NetworkConfig)
    inference: dict = field(default_factory=lambda: {"tile": 512, "overlap": 128})
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
        If the file names an option that does not exist.
    """
    text = tomllib.loads(Path(path).read_text())
    if "network" in text:
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in text["network"].items()}
        text["network"] = NetworkConfig(**sizes)
    unknown = set(text) - {item.name for item in fields(TrainingConfig)}
    if unknown:
        raise ValueError(f"{path}: unknown option {', '.join(sorted(unknown))}")
    return TrainingConfig(**text)


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
            betas=(0.9, 0.99),
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
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path, *, strict=True):
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If the checkpoint belongs to another configuration and `strict` is true.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        if strict and state["digest"] != self.config.digest:
            raise ValueError(f"{path}: belongs to another training configuration")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def load_weights(network, path):
    """Read a ``.safetensors`` file into a network, in place."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path))


def learning_rate_factor(step, config):
    """Linear warm-up, plateau, half a cosine down to a hundredth."""
    start = config.steps - config.decay
    if step < start:
        return min(1.0, (step + 1) / config.warmup)
    progress = (step - start) / max(config.decay, 1)
    return 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(progress, 1.0)))


def _rates(rng, config):
    """Noise rates of a batch, (n,) float32: most are the observed image's, exactly 1."""
    random = np.sin(0.5 * np.pi * rng.uniform(0, 1, config.batch))
    rate = np.where(rng.random(config.batch) < config.whole, 1.0, random)
    return torch.from_numpy(np.maximum(rate, config.lowest_rate).astype(np.float32))


def losses(channels, x, rate, batch):
    """The losses of a batch by name, each a scalar.

    ``sources``: squared error of the sources over their expected noise, of pixels and of their
    means over 2 to 16 pixels, so that neither an aperture's flux nor a faint disc is off;
    ``variance``: Gaussian log-likelihood of that error (Nix & Weigend 1994) with the error
    held fixed; ``artefact``, ``centre``: cross entropies.
    """
    residual, log_variance, artefact, centre = channels.split(1, dim=1)
    weight = batch["weight"]
    sources = x - rate[:, None, None, None] * residual
    expected = torch.sqrt(1 + functional.relu(batch["sources"]) / 30.0)
    error = weight * (sources - batch["sources"]) / expected
    parts = {"sources": _pooled(error)}
    squared = (weight * (sources - batch["sources"]).detach()) ** 2
    # Heavy-tailed errors of missed artefacts would make all uncertainties too large.
    squared = torch.minimum(squared, 100.0 * expected**2)
    log_variance = log_variance.clamp(-12, 16)
    observed = weight * (rate == 1)[:, None, None, None]
    likelihood = 0.5 * (log_variance + squared * torch.exp(-log_variance))
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
    """Robust squared error of block means of 1 to 16 pixels, each over its own white noise.

    The mean of p x p pixels has 1/p of a pixel's noise; an error that is smooth gains as
    much weight, tempered by the square root so that the coarsest does not rule.
    """
    total = 0.0
    for pool in POOLS:
        pooled = functional.avg_pool2d(error, pool) if pool > 1 else error
        scaled = pooled * pool**0.5
        total = total + (ROBUST**2 * (torch.sqrt(1 + (scaled / ROBUST) ** 2) - 1)).mean()
    return total


def _mean(values, weight):
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def train(config, directory, *, device="cpu", workers=1, stop_after=None, report=200, save=1000):
    """Train, with checkpoints and a log, and export the model.

    Parameters
    ----------
    config : TrainingConfig
    directory : path-like
        Where checkpoint, log and models go; an unfinished training there is resumed.
    device : str
    workers : int
        Processes that draw scenes.
    stop_after : float, optional
        Seconds after which to save a checkpoint and return.
    report, save : int
        Steps between lines of the log, and between checkpoints.

    Returns
    -------
    Training
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / "checkpoint.pt"
    training = Training(config, device=device)
    if checkpoint.exists():
        training.load(checkpoint)
        logger.info("resumed at step %d of %d", training.step, config.steps)
    window = training.window(workers)
    began, first = time.monotonic(), training.step
    sums, count = {}, 0
    with open(directory / "log.jsonl", "a") as log:
        while training.step < config.steps:
            for name, value in training.advance(window).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            elapsed = time.monotonic() - began
            if training.step % report == 0:
                line = {name: round(value / count, 5) for name, value in sums.items()}
                speed = (training.step - first) / elapsed
                line |= {
                    "step": training.step,
                    "tiles_per_second": round(speed * config.batch, 1),
                    "minutes_left": round((config.steps - training.step) / speed / 60, 1),
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
                logger.info("%s", line)
                sums, count = {}, 0
            if training.step % save == 0:
                training.save(checkpoint)
            if stop_after and elapsed > stop_after:
                break
    training.save(checkpoint)
    export(training, directory)
    return training


def export(training, directory):
    """Write the averaged weights as ``NAME.onnx`` and ``NAME.safetensors``.

    Raises
    ------
    ValueError
        If the exported network does not give what the trained one gives.
    """
    from safetensors.torch import save_file

    config = training.config
    network = AttentionUNet(config.network)
    network.load_state_dict(training.average.state_dict())
    path = Path(directory) / f"{config.name}.onnx"
    weights = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
    save_file(weights, path.with_suffix(".safetensors"))
    export_onnx(network, path, card(config, training.step))
    error = export_error(network, path)
    if not error < 1e-4:
        raise ValueError(f"{path}: differs from the trained network by {error:.2e}")
    return path


def card(config, step):
    """What a model's file says of itself."""
    return {
        "name": config.name,
        "version": "1",
        "description": config.description,
        "licence": config.licence,
        "schedule": "cosine",
        "normalisation": "centre-mad-mesh",
        "tile": config.inference["tile"],
        "overlap": config.inference["overlap"],
        "multiple": 2 ** len(config.network.widths),
        "box": config.box,
        "training_digest": config.digest,
        "training_steps": step,
    }


def export_error(network, path, *, seed=0):
    """Largest difference between ONNX and PyTorch in units of the local noise sqrt(1 + x/30)."""
    import onnxruntime

    rng = np.random.default_rng(seed)
    side = 4 * network.multiple
    x = rng.standard_normal((1, 1, side, side)).astype(np.float32)
    x[0, 0, ::17, ::13] += (10 ** rng.uniform(0, 4, x[0, 0, ::17, ::13].shape)).astype(np.float32)
    frame = network.embed[0].in_features - 8
    inputs = {"x": x, "rate": np.ones(1, np.float32), "frame": np.zeros((1, frame), np.float32)}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, inputs)
    with torch.no_grad():
        expected = network.eval().cpu()(*(torch.from_numpy(v) for v in inputs.values())).numpy()
    scale = np.sqrt(1 + np.maximum(x, 0) / 30.0)
    return float(np.abs((found - expected)[:, : len(CHANNELS)] / scale).max())
