"""What the training of a counts model is made from, read from a committed file and checked."""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field

from bgrem.network.counts_network import CountsNetworkConfig
from bgrem.storage.names import home_path
from bgrem.train.config import check_names, expanded_path, with_network

__all__ = ["CountsConfig", "load_counts_config"]


@dataclass(frozen=True, kw_only=True)
class CountsConfig:
    """Everything that decides what the training of a counts model gives.

    Attributes
    ----------
    kind : str
        "counts".
    name, description, licence : str
        For the model's card.
    seed : int
        Of the scenes and the initial weights.
    steps, warmup, decay, learning_rate, weight_decay, clip, ema
        As those of `bgrem.train.config.TrainingConfig`.
    pixels : int
        Of the maps of a step; a step has as many maps as give about this number.
    sides : tuple of int
        Of the maps of a step, one of which is drawn for each axis; multiples of 32.
    whole : float
        Share of fields at noise rate 1, the observed map; the others have a random rate.
    lowest_rate : float
        Smallest noise rate.
    joint : float
        Share of the steps whose fields have several energy bands.
    most_bands : int
        Largest number of bands.
    weights : dict
        Weights of the losses: ``first``, ``variance``, ``centre`` beside the 1 of sources and background.
    network : CountsNetworkConfig
    inference : dict
        ``tile`` and ``overlap`` in pixels that the model's card asks for; ``calibration``, the number of maps of each
        level on which the exported model is calibrated.
    start : str
        A ``.safetensors`` file to begin from; empty for random weights.
    """

    kind: str = "counts"
    name: str = "counts"
    description: str = ""
    licence: str = "BSD-3-Clause"
    seed: int = 1
    steps: int = 12000
    warmup: int = 200
    decay: int = 6000
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.998
    pixels: int = 65536
    sides: tuple[int, ...] = (64, 96, 128, 128, 160, 192)
    whole: float = 0.75
    lowest_rate: float = 0.05
    joint: float = 0.2
    most_bands: int = 4
    weights: dict = field(default_factory=lambda: {"first": 0.3, "variance": 0.1, "centre": 15.0})
    network: CountsNetworkConfig = field(default_factory=CountsNetworkConfig)
    inference: dict = field(
        default_factory=lambda: {"tile": 1152, "overlap": 128, "calibration": 100}
    )
    start: str = ""

    @property
    def digest(self):
        """SHA-256 of the configuration."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def load_counts_config(path):
    """Read the configuration of a counts model from a TOML file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    CountsConfig

    Raises
    ------
    ValueError
        If the file is no TOML, or an option does not exist or is out of range.
    """
    try:
        return _checked(tomllib.loads(home_path(path).read_text()))
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _checked(entries):
    """The configuration that a table of entries describes."""
    default = CountsConfig()
    entries = with_network(entries, default.network)
    if isinstance(entries.get("sides"), list):
        entries["sides"] = tuple(entries["sides"])
    check_names("", entries, asdict(default))
    for name in ("weights", "inference"):
        own = getattr(default, name)
        check_names(name, entries.get(name, {}), own)
        entries[name] = {**own, **entries.get(name, {})}
    entries["start"] = expanded_path(entries.get("start", default.start))
    config = CountsConfig(**entries)
    for name in ("steps", "warmup", "pixels", "learning_rate", "most_bands", "lowest_rate"):
        if not getattr(config, name) > 0:
            raise ValueError(f"option {name} must be above 0")
    if not 0 <= config.decay <= config.steps:
        raise ValueError("option decay must be between 0 and steps")
    if not config.sides or any(side < 32 or side % 32 for side in config.sides):
        raise ValueError("option sides must be multiples of 32")
    for name in ("whole", "joint"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"option {name} must be between 0 and 1")
    return config
