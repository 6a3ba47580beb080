"""What a training is made from: every choice, read from a committed file and checked."""

import hashlib
import json
import os
import tomllib
from dataclasses import asdict, dataclass, field, is_dataclass

from bgrem.inference.model import INCLUDED
from bgrem.network.sky_network import SkyNetworkConfig
from bgrem.network.unet import NetworkConfig
from bgrem.storage.names import home_path

__all__ = [
    "EXTENDABLE", "LABELS", "SkyConfig", "TrainingConfig", "check_names", "expanded_path",
    "fine_tuning_config", "kind_of_config", "load_config", "with_network",
]  # fmt: skip

LABELS = {"name", "description", "licence", "inference"}  # say how a model is used, not what it is
EXTENDABLE = {"steps", "decay"}  # have no effect before the learning rate falls
MOST_OWN_FRAMES = 16  # of a user: each process that draws keeps them in memory
FINE_TUNING = {
    "seed": 11,
    "steps": 1500,
    "warmup": 100,
    "decay": 1000,
    "learning_rate": 3e-4,
    "ema": 0.998,
    "whole": 0.85,
    "box": 96,
    "window": 64,
    "reuse": 8.0,
    "inference": {"tile": 1232, "overlap": 64, "box": 96, "calibration": 24},
}


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
        Weights of the losses: ``variance``, ``artefact``, ``centre``, ``ranking`` beside the sources' 1.
    network : NetworkConfig
    inference : dict
        ``tile``, ``overlap`` and ``box`` of the sky mesh, in pixels, that the model's card asks
        for; ``calibration``, the number of scenes on which the exported model is calibrated.
    start : str
        A ``.safetensors`` file to begin from; empty for random weights. Of several, with commas
        between them, the mean: the weights of two stages of one training lie in one valley of
        the loss, and their mean is steadier than either (Wortsman et al. 2022,
        arXiv:2203.05482). With 0 steps it is exported as it is.
    frames : tuple of str
        FITS files of a telescope (`bgrem.train.own_sky`); none for simulated skies only.
    own : float
        Share of the skies that are made of them.
    judged : str
        FITS file on which the model must be better than that of the package to be written. If it is one of
        ``frames``, the training does not see the last quarter of its rows. Empty for none.
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
        default_factory=lambda: {"variance": 0.05, "artefact": 2.0, "centre": 8.0, "ranking": 0.5}
    )
    network: NetworkConfig = field(default_factory=NetworkConfig)
    inference: dict = field(
        default_factory=lambda: {"tile": 1024, "overlap": 96, "box": 128, "calibration": 80}
    )
    start: str = ""
    frames: tuple = ()
    own: float = 0.5
    judged: str = ""

    @property
    def digest(self):
        """SHA-256 of the configuration: what a model's card says it was trained with."""
        entries = asdict(self)
        if not self.frames:  # as it was before there were any
            del entries["frames"], entries["own"]
        if not self.judged:
            del entries["judged"]
        return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class SkyConfig:
    """Everything that decides what the training of a sky network gives.

    Attributes
    ----------
    kind : str
        "sky".
    name, description, licence : str
        For the network's card.
    seed : int
    steps, warmup, decay, learning_rate, weight_decay, clip, ema
        As those of `TrainingConfig`.
    batch : int
        Frames of 768 x 768 pixels per step.
    frames, large_frames : int
        Frames of 768 x 768 and of 1536 x 1536 pixels that are drawn.
    whole, cut, gathered, large : float
        Shares of the steps that see whole frames, parts of them, frames in blocks of twice the size, and
        frames of 1536 x 1536 pixels. Their sum is 1.
    weights : dict
        Of the losses beside that of the level: ``deviation``, ``error``, ``wide``, ``rms``.
    network : SkyNetworkConfig
    start : str
        As that of `TrainingConfig`.
    """

    kind: str = "sky"
    name: str = "optical"
    description: str = ""
    licence: str = "BSD-3-Clause"
    seed: int = 1
    steps: int = 16000
    warmup: int = 200
    decay: int = 8000
    batch: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.998
    frames: int = 9000
    large_frames: int = 400
    whole: float = 0.6
    cut: float = 0.15
    gathered: float = 0.15
    large: float = 0.1
    weights: dict = field(
        default_factory=lambda: {"deviation": 1.0, "error": 0.05, "wide": 0.1, "rms": 0.5}
    )
    network: SkyNetworkConfig = field(default_factory=SkyNetworkConfig)
    start: str = ""

    @property
    def digest(self):
        """SHA-256 of the configuration."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def load_config(path):
    """Read a training configuration from a TOML file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    TrainingConfig or SkyConfig
        The latter if its ``kind`` is "sky".

    Raises
    ------
    ValueError
        If the file is no TOML, or an option does not exist or is out of range.
    """
    try:
        entries = tomllib.loads(home_path(path).read_text())
        return _sky_config(entries) if entries.get("kind") == "sky" else _config(entries)
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def kind_of_config(path):
    """The entry ``kind`` of a configuration file: "sky", "counts" or, where it has none, "optical".

    A file that is no TOML is of no kind yet: `load_config` reports what is wrong with it.
    """
    try:
        return tomllib.loads(home_path(path).read_text()).get("kind", "optical")
    except (UnicodeDecodeError, ValueError):
        return "optical"


def fine_tuning_config(frames, *, name="own"):
    """The training of the shipped model on frames of one telescope.

    It is short, at a low learning rate. Half of the skies are the general ones, so that the network does
    not forget what the frames of one telescope do not contain. The last frame is kept apart, to judge the
    model on it.

    Parameters
    ----------
    frames : sequence of path-like
        FITS files; of more than `MOST_OWN_FRAMES`, an evenly spread selection is taken.
    name : str
        Of the model.

    Returns
    -------
    TrainingConfig
    """
    paths = [str(home_path(frame).resolve()) for frame in frames]
    return TrainingConfig(
        name=name,
        description=f"optical, trained further on {len(frames)} frames of one telescope",
        start=str(INCLUDED / "optical.safetensors"),
        frames=tuple(_spread(paths[:-1] or paths)),
        judged=paths[-1],
        **FINE_TUNING,
    )


def _spread(frames):
    """At most `MOST_OWN_FRAMES` of a sequence, evenly spread."""
    step = max(1, -(-len(frames) // MOST_OWN_FRAMES))
    return frames[::step]


def expanded_path(path):
    """A path with ``~`` expanded; what is no text is refused later."""
    return os.path.expanduser(path) if isinstance(path, str) else path


def _config(entries):
    """The configuration that a table of entries describes, checked."""
    default = TrainingConfig()
    entries = with_network(entries, default.network)
    if isinstance(entries.get("frames"), list):
        entries["frames"] = tuple(map(expanded_path, entries["frames"]))
    entries["start"] = expanded_path(entries.get("start", default.start))
    check_names("", entries, asdict(default))
    for name in ("weights", "inference"):
        own = getattr(default, name)
        check_names(name, entries.get(name, {}), own)
        entries[name] = {**own, **entries.get(name, {})}
    config = TrainingConfig(**entries)
    _check_range(config)
    return config


def with_network(entries, default):
    """Entries whose table "network" is a network's configuration, as the default's."""
    entries = dict(entries)
    if "network" in entries:
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in entries["network"].items()}
        check_names("network", sizes, asdict(default))
        entries["network"] = type(default)(**sizes)
    return entries


def _sky_config(entries):
    """The configuration of a sky network that a table of entries describes, checked."""
    default = SkyConfig()
    entries = with_network(entries, default.network)
    check_names("", entries, asdict(default))
    check_names("weights", entries.get("weights", {}), default.weights)
    entries["weights"] = {**default.weights, **entries.get("weights", {})}
    entries["start"] = expanded_path(entries.get("start", default.start))
    config = SkyConfig(**entries)
    for name in ("steps", "warmup", "batch", "learning_rate", "frames", "large_frames"):
        if not getattr(config, name) > 0:
            raise ValueError(f"option {name} must be above 0")
    if not 0 <= config.decay <= config.steps:
        raise ValueError("option decay must be between 0 and steps")
    shares = [config.whole, config.cut, config.gathered, config.large]
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError("whole, cut, gathered and large must be shares whose sum is 1")
    if len(config.network.widths) != 5 or not config.network.scales:
        raise ValueError("network.widths needs five entries and network.scales one or more")
    return config


def check_names(table, entries, known):
    """Refuse options that do not exist, and those of another type than their default."""
    prefix = f"{table}." if table else ""
    for name, value in entries.items():
        if name not in known:
            raise ValueError(f"unknown option {prefix}{name}")
        wanted = type(known[name])
        good = isinstance(value, int | float if wanted is float else wanted)
        if not is_dataclass(value) and (not good or isinstance(value, bool)):
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
    if config.steps < 0 or (config.steps == 0 and not config.start):
        raise ValueError("option steps must be above 0")
    for name in ("warmup", "batch", "tile", "window", "reuse", "learning_rate"):
        if not getattr(config, name) > 0:
            raise ValueError(f"option {name} must be above 0")
    if not 0 <= config.decay <= config.steps:
        raise ValueError("option decay must be between 0 and steps")
    if not all(isinstance(path, str) for path in config.frames):
        raise ValueError("option frames must be a list of file names")
    if not 0 <= config.own <= 1:
        raise ValueError("option own must be between 0 and 1")
    if config.tile % multiple or config.tile > config.parent:
        raise ValueError(f"option tile must be a multiple of {multiple} and at most the parent")
