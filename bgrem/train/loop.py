"""Training of a network on simulated skies, from a committed configuration to a model file."""

import json
import logging
import pickle
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from bgrem.network.unet import AttentionUNet
from bgrem.storage.names import home_path
from bgrem.train.config import EXTENDABLE, LABELS
from bgrem.train.export import export
from bgrem.train.losses import losses
from bgrem.train.own_sky import skies_of
from bgrem.train.parents import ParentWindow
from bgrem.train.schedule import learning_rate_factor, load_weights, plateau_end
from bgrem.train.validate import draw_validation, validate

__all__ = ["Training", "checkpoint_path", "train"]

_logger = logging.getLogger(__name__)

# A gradient of more than WILD times the clipped norm comes from one tile that is like no other: no
# step is made (docs/experiments.rst, 10).
WILD = 100.0


class Training:
    """A training that can be stopped at any step and resumed exactly.

    Parameters
    ----------
    config : TrainingConfig
    device : str
        "cpu" or "cuda".
    """

    network_class = AttentionUNet

    def __init__(self, config, *, device="cpu"):
        torch.manual_seed(config.seed)
        self.config = config
        self.device = torch.device(device)
        self.network = self.network_class(config.network)
        if config.start:
            load_weights(self.network, *map(str.strip, config.start.split(",")))
        self.network = self.network.to(self.device, memory_format=torch.channels_last)
        self.average = self.network_class(config.network).to(self.device)
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.999),
        )
        self.step = 0

    def advance(self, window):
        """One optimiser step on tiles of the window.

        Parameters
        ----------
        window : ParentWindow
            Is moved to where this step's begins.

        Returns
        -------
        dict of str to float
            The losses by name, and ``gradient``: its norm, where not finite or wild nothing was changed.
        """
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
        if norm < WILD * config.clip:
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
        """The window of parents that this step sees.

        Parameters
        ----------
        workers : int
            Processes that draw.

        Returns
        -------
        ParentWindow
        """
        config = self.config
        return ParentWindow(
            config.seed,
            size=config.parent,
            box=config.box,
            length=config.window,
            start=self.first_parent,
            workers=workers,
            draw_sky=skies_of(config),
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
        """Write a checkpoint; the old one is replaced only when the new one is complete.

        Parameters
        ----------
        path : path-like
        """
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
            how it is used (`bgrem.train.config.LABELS`) may differ.
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
            if changed and step > min(plateau_end(then), plateau_end(asdict(self.config))):
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
        now, usual = (
            json.loads(json.dumps(asdict(one))) for one in (self.config, type(self.config)())
        )
        # An older checkpoint lacks the options that there were not yet.
        return {n for n in now.keys() - LABELS if then.get(n, usual[n]) != now[n]}


def _rates(rng, config):
    """Noise rates of a batch, (n,) float32: most are the observed image's, exactly 1."""
    random = np.sin(0.5 * np.pi * rng.uniform(0, 1, config.batch))
    rate = np.where(rng.random(config.batch) < config.whole, 1.0, random)
    return torch.from_numpy(np.maximum(rate, config.lowest_rate).astype(np.float32))


def checkpoint_path(directory):
    """The file in which a training in a folder is kept.

    Parameters
    ----------
    directory : path-like

    Returns
    -------
    Path
    """
    return Path(directory) / "checkpoint.pt"


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
    `bgrem.train.validate.validate` every `validation` steps and at the end, the first before any where the
    training starts from weights.

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
    directory = home_path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_path(directory)
    training = Training(config, device=device)
    if checkpoint.exists():
        training.load(checkpoint, extend=extend)
        _logger.info("resumed at step %d of %d", training.step, config.steps)
    halted = False
    if training.step < config.steps:
        held_out = _held_out(config, scenes) if validation else []
        with training.window(workers) as window, open(directory / "log.jsonl", "a") as file:
            _logger.info("drawing the first %d scenes", config.window)
            window.advance(training.first_parent)
            log = _Log(file, training, report)
            if validation and config.start and training.step == 0:
                log.write(validate(training.average, held_out))
            while training.step < config.steps and not halted:
                log.add(training.advance(window))
                if progress:
                    progress(training.step)
                if validation and (
                    training.step % validation == 0 or training.step == config.steps
                ):
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


def _held_out(config, count):
    """Frames to validate on; with a user's frames, skies made of these alone."""
    skies = skies_of(config, share=1.0)
    return draw_validation(config.seed, count=count, box=config.box, draw_sky=skies)


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
        _logger.info("step %d of %d: %s", line["step"], self._training.config.steps, words)
