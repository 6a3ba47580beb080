"""Models: their cards, the engines that run them, and the diffusion."""

from bgrem.arrays.lazy import lazy_names

_HOME = {
    "CountsModel": "counts_session",
    "Engine": "engine",
    "ModelCard": "card",
    "ModelError": "engine",
}

__getattr__, __dir__ = lazy_names(__name__, _HOME)
