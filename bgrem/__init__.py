"""Separate an astronomical image into its sources, background and noise.

background   one image: `separate`, `remove_background`, `DiffusionBackground2D` (background2d)
files        FITS files: `process_file`, `process_files`
restore      the way back: `undo`
model        networks with their cards: `load_model`, `available_models`

The names below are loaded when they are first used: an import takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgrem.background import remove_background, separate
    from bgrem.background2d import DiffusionBackground2D
    from bgrem.inference.model import available_models, load_model
    from bgrem.io.restore import undo
    from bgrem.processing.files import process_file, process_files

__version__ = "0.1.0"

_HOME = {
    "DiffusionBackground2D": "background2d",
    "available_models": "inference.model",
    "load_model": "inference.model",
    "process_file": "processing.files",
    "process_files": "processing.files",
    "remove_background": "background",
    "separate": "background",
    "undo": "io.restore",
}

__all__ = [
    "DiffusionBackground2D",
    "available_models",
    "load_model",
    "process_file",
    "process_files",
    "remove_background",
    "separate",
    "undo",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
