"""Training of a sky network on simulated whole frames, from a committed configuration to its file."""

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch

from bgrem.network.sky_network import SkyNetwork
from bgrem.storage.names import home_path
from bgrem.train.export import export_sky
from bgrem.train.loop import Training, checkpoint_path
from bgrem.train.losses import sky_losses
from bgrem.train.schedule import learning_rate_factor
from bgrem.train.sky_frames import SkyBatches, load_examples, normalised, write_bank

__all__ = ["SkyTraining", "export_trained", "train_sky"]

_logger = logging.getLogger(__name__)

SMALL, LARGE = (768, 768), (1536, 1536)  # px: shapes of the frames
EARLIER_PASS = 0.3  # weight of what the network gives before its last look at a frame
HELD_OUT = 10_000  # what is added to the seed of the frames to validate on


class SkyTraining(Training):
    """A training that can be stopped at any step and resumed exactly.

    Parameters
    ----------
    config : `~bgrem.train.config.SkyConfig`
    device : str
    """

    network_class = SkyNetwork

    def advance(self, batches):
        """One optimiser step.

        Parameters
        ----------
        batches : `~bgrem.train.sky_frames.SkyBatches`

        Returns
        -------
        dict of str to float
            The losses by name.
        """
        config = self.config
        drawn = batches.of_step(self.step)
        batch = {name: torch.from_numpy(values).to(self.device) for name, values in drawn.items()}
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(self.step, config)
        *before, last = self.network.passes(batch["x"])
        parts = sky_losses(last, batch)
        total = self._total(parts)
        for outputs in before:
            total = total + EARLIER_PASS * self._total(sky_losses(outputs, batch))
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
            self._update_average()
        self.step += 1
        return {name: float(value.detach()) for name, value in parts.items()}

    def _total(self, parts):
        weights = self.config.weights
        return parts["level"] + sum(weights[name] * parts[name] for name in weights)

    def validate(self, examples):
        """Errors of the averaged weights, in sky rms: quartile, median, mean and 90 % of the frames.

        Parameters
        ----------
        examples : dict of ndarray
            As of `bgrem.train.sky_frames.load_examples`.

        Returns
        -------
        dict of str to float
        """
        errors, rms = [], []
        for outputs, batch in self._applied(examples):
            parts = sky_losses(outputs, batch)
            errors.append(float(torch.exp(parts["level"])))
            rms.append(float(parts["rms"]))
        low, median, high = np.quantile(errors, [0.25, 0.5, 0.9])
        return {
            "quartile": float(low), "median": float(median), "mean": float(np.mean(errors)),
            "high": float(high), "rms": float(np.median(rms)),
        }  # fmt: skip

    @torch.no_grad()
    def _applied(self, examples):
        """Output of the averaged weights and truth, frame by frame."""
        network = self.average.eval()
        for n in range(len(examples["planes"])):
            one = normalised({name: values[n] for name, values in examples.items()})
            batch = {name: torch.from_numpy(v)[None].to(self.device) for name, v in one.items()}
            yield network(batch["x"]), batch


def train_sky(
    config, directory, *, device="cpu", workers=1, stop_after=None, stop=None, extend=False,
    report=200, save=1000, validation=2000, scenes=200, progress=None,
):  # fmt: skip
    """Draw the frames, train, with checkpoints and a log, and export the network.

    The frames are kept in the folder ``frames`` of the directory. The parameters are those of
    `bgrem.train.loop.train`.

    Returns
    -------
    SkyTraining
    """
    began = time.monotonic()
    directory = home_path(directory)
    training = SkyTraining(config, device=device)
    checkpoint = checkpoint_path(directory)
    if checkpoint.exists():
        training.load(checkpoint, extend=extend)
        _logger.info("resumed at step %d of %d", training.step, config.steps)
    batches, held_out = _drawn_frames(config, directory, max(workers, 1), scenes)
    with open(directory / "log.jsonl", "a") as file:
        sums, number = {}, 0
        while training.step < config.steps:
            for name, value in training.advance(batches).items():
                sums[name] = sums.get(name, 0.0) + value
            number += 1
            if progress:
                progress(training.step)
            if training.step % report == 0:
                _write(file, training.step, {k: v / number for k, v in sums.items()})
                sums, number = {}, 0
            if validation and (training.step % validation == 0 or training.step == config.steps):
                _write(file, training.step, training.validate(held_out))
            if training.step % save == 0:
                training.save(checkpoint)
            if stop and stop():
                training.save(checkpoint)
                return training
            if stop_after is not None and time.monotonic() - began > stop_after:
                break
    training.save(checkpoint)
    export_trained(training, directory, scenes)
    return training


def export_trained(training, directory, scenes=200):
    """Write the network of a checkpoint; see `bgrem.train.export.export_sky`.

    Parameters
    ----------
    training : SkyTraining
    directory : path-like
        That of the training.
    scenes : int
        Held-out frames from which the factors of the error are determined, and half as many large ones; drawn
        where they are missing.

    Returns
    -------
    Path
    """
    held_out = _held_out(training.config, scenes), _large_held_out(training.config, scenes)
    small, large = (_examples(directory, "held_out", bank, 1) for bank in held_out)
    return export_sky(training, directory, small, large)


def _drawn_frames(config, directory, workers, scenes):
    """Batches of the frames to learn from, and frames to validate on; drawn where they are missing."""
    _logger.info("drawing %d frames", config.frames + config.large_frames)
    small, large, held_out = (
        _examples(directory, name, bank, workers)
        for name, bank in (
            ("frames", (config.seed, config.frames, SMALL)),
            ("frames", (config.seed, config.large_frames, LARGE)),
            ("held_out", _held_out(config, scenes)),
        )
    )
    return SkyBatches(small, large, config), held_out


def _held_out(config, scenes):
    return config.seed + HELD_OUT, scenes, SMALL


def _large_held_out(config, scenes):
    return config.seed + HELD_OUT, max(scenes // 2, 1), LARGE


def _examples(directory, name, bank, workers):
    write_bank(Path(directory) / name, *bank, workers)
    return load_examples(Path(directory) / name, *bank)


def _write(file, step, values):
    """A line of numbers by name, and the same in words."""
    rounded = {name: round(value, 5) for name, value in values.items()}
    file.write(json.dumps({"step": step} | rounded) + "\n")
    file.flush()
    words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    _logger.info("step %d: %s", step, words)
