"""Training of a counts model, from a committed configuration to its file."""

import json
import logging
import time

import numpy as np
import torch

from bgrem.counts_training.counts_batches import VALIDATION, CountsBatches, draw_batch
from bgrem.counts_training.counts_export import export_counts
from bgrem.counts_training.counts_losses import counts_losses
from bgrem.network.counts_network import CountsNetwork
from bgrem.storage.names import home_path
from bgrem.train.loop import Training, checkpoint_path
from bgrem.train.schedule import learning_rate_factor

__all__ = ["CountsTraining", "train_counts"]

_logger = logging.getLogger(__name__)

VALIDATION_BATCHES = 12


class CountsTraining(Training):
    """A training that can be stopped at any step and resumed exactly.

    Parameters
    ----------
    config : `~bgrem.counts_training.counts_config.CountsConfig`
    device : str
    """

    network_class = CountsNetwork

    def advance(self, batches):
        """One optimiser step on the batch of this step; returns the losses by name."""
        config = self.config
        batch = self._tensors(batches.of_step(self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(self.step, config)
        parts = self._losses(self.network.train(), batch)
        self.optimiser.zero_grad(set_to_none=True)
        self._total(parts).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
            self._update_average()
        self.step += 1
        return {name: float(value.detach()) for name, value in parts.items()} | {
            "gradient": float(norm)
        }

    @torch.no_grad()
    def validate(self, held_out):
        """Mean losses of the averaged weights on batches that are not trained on."""
        network = self.average.eval()
        found = [self._losses(network, self._tensors(batch)) for batch in held_out]
        return {
            f"held_out_{name}": float(np.mean([float(parts[name]) for parts in found]))
            for name in found[0]
        }

    def _tensors(self, batch):
        return {
            name: value if name == "bands" else torch.from_numpy(value).to(self.device)
            for name, value in batch.items()
        }

    @staticmethod
    def _losses(network, batch):
        channels = network.channels(
            batch["planes"], batch["kernel"], batch["frame"], bands=batch["bands"]
        )
        return counts_losses(channels, batch)

    def _total(self, parts):
        weights = self.config.weights
        return parts["sources"] + parts["background"] + sum(weights[k] * parts[k] for k in weights)


def train_counts(
    config, directory, *, device="cpu", workers=1, stop_after=None, stop=None, extend=False,
    report=200, save=1000, validation=2000, scenes=None, progress=None,
):  # fmt: skip
    """Train, with checkpoints and a log, and export the model.

    The parameters are those of `bgrem.train.loop.train`; ``scenes`` is the number of batches to validate on.

    Returns
    -------
    CountsTraining
    """
    began = time.monotonic()
    directory = home_path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    training = CountsTraining(config, device=device)
    checkpoint = checkpoint_path(directory)
    if checkpoint.exists():
        training.load(checkpoint, extend=extend)
        _logger.info("resumed at step %d of %d", training.step, config.steps)
    count = scenes or VALIDATION_BATCHES
    held_out = [draw_batch(config, VALIDATION + n) for n in range(count if validation else 0)]
    sums, number = {}, 0
    with (
        CountsBatches(config, training.step, workers) as batches,
        open(directory / "log.jsonl", "a") as log,
    ):
        while training.step < config.steps:
            for name, value in training.advance(batches).items():
                sums[name] = sums.get(name, 0.0) + value
            number += 1
            if progress:
                progress(training.step)
            if training.step % report == 0:
                means = {name: value / number for name, value in sums.items()}
                _write(log, training.step, means | {"seconds": time.monotonic() - began})
                sums, number = {}, 0
            if validation and (training.step % validation == 0 or training.step == config.steps):
                _write(log, training.step, training.validate(held_out))
            if training.step % save == 0:
                training.save(checkpoint)
            if stop and stop():
                training.save(checkpoint)
                return training
            if stop_after is not None and time.monotonic() - began > stop_after:
                break
    training.save(checkpoint)
    export_counts(training, directory)
    return training


def _write(log, step, values):
    """A line of numbers by name, and the same in words."""
    rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
    log.write(json.dumps({"step": step} | rounded) + "\n")
    log.flush()
    _logger.info("step %d: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in rounded.items()))
