"""Where a training starts, and how its learning rate changes."""

import numpy as np
import torch

__all__ = ["learning_rate_factor", "load_weights", "plateau_end"]


def load_weights(network, *paths):
    """Read ``.safetensors`` files into a network, in place: the mean of them.

    Parameters
    ----------
    network : torch.nn.Module
    *paths : path-like
        Parameters that one lacks, those of later parts of the network, are the network's own there.
        Those of levels that the network lacks are left out.

    Raises
    ------
    ValueError
        If one holds parameters that the network has not, or of other shapes.
    """
    from safetensors.torch import load_file

    own = network.state_dict()
    mean = {name: torch.zeros_like(values) for name, values in own.items()}
    for path in paths:
        weights = load_file(path)
        unknown = {name for name in weights.keys() - own.keys() if not _of_other_level(name, own)}
        if unknown:
            raise ValueError(f"{path} holds weights of another network: {min(unknown)}")
        for name in own:
            values = weights.get(name, own[name])
            if values.shape != own[name].shape:
                raise ValueError(f"the weights of {path} are those of a network of another size")
            mean[name] += values / len(paths)
    network.load_state_dict(mean)


def _of_other_level(name, own):
    """Whether a parameter, as ``down.3.weight``, belongs to a list of levels that the network has, too."""
    layers, _, rest = name.partition(".")
    return rest.split(".")[0].isdigit() and any(other.startswith(f"{layers}.") for other in own)


def plateau_end(entries):
    """The step from which the learning rate of a configuration falls."""
    return entries["steps"] - entries["decay"]


def learning_rate_factor(step, config):
    """Linear warm-up, plateau, half a cosine down to a hundredth.

    Parameters
    ----------
    step : int
        From 0.
    config : TrainingConfig

    Returns
    -------
    float
        Of the configured learning rate, above 0 and at most 1.
    """
    start = config.steps - config.decay
    if step < start:
        return min(1.0, (step + 1) / config.warmup)
    progress = (step - start) / max(config.decay, 1)
    # A checkpoint must hold no numbers of numpy: PyTorch would not read it back.
    return float(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(progress, 1.0))))
