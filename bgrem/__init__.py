"""Separate an astronomical image into its sources, background and noise.

One image: `separate`, `separate_counts`, `remove_background`, `DiffusionBackground2D`. FITS files: `process_file`,
`process_files`, `process_batch`, and `undo`, the way back. Models: `load_model`, `available_models`.
What is measured on the parts: `make_catalog`, `detect_peaks`, `aperture_fluxes`,
`sum_uncertainties`.

The folders of the package, from the ground up: arrays, masks, sky, detection, io, network, simulate,
inference, catalogue, counts, interfaces, report, processing, evaluate, train, counts_training, cli. `bgrem.background` is the path of one image.

The names below are loaded when they are first used: an import takes no time.
"""

from typing import TYPE_CHECKING

from bgrem.arrays.lazy import lazy_names

if TYPE_CHECKING:
    from bgrem.background import separate
    from bgrem.counts.counts_path import separate_counts
    from bgrem.detection.detect import detect_peaks
    from bgrem.detection.photometry import aperture_fluxes, sum_uncertainties
    from bgrem.inference.model import Model, available_models, load_model
    from bgrem.interfaces.background2d import DiffusionBackground2D
    from bgrem.interfaces.catalog import make_catalog
    from bgrem.interfaces.removal import remove_background
    from bgrem.io.restore import undo
    from bgrem.options import Options, Run
    from bgrem.processing.batch import process_batch
    from bgrem.processing.cluster import map_blocks
    from bgrem.processing.files import process_file, process_files
    from bgrem.processing.outcome import Failure, Result
    from bgrem.separation import Provenance, Separation

__version__ = "0.1.0"

_HOME = {
    "DiffusionBackground2D": "interfaces.background2d",
    "Failure": "processing.outcome",
    "Model": "inference.model",
    "Options": "options",
    "Provenance": "separation",
    "Result": "processing.outcome",
    "Run": "options",
    "Separation": "separation",
    "aperture_fluxes": "detection.photometry",
    "available_models": "inference.model",
    "detect_peaks": "detection.detect",
    "load_model": "inference.model",
    "make_catalog": "interfaces.catalog",
    "map_blocks": "processing.cluster",
    "process_batch": "processing.batch",
    "process_file": "processing.files",
    "process_files": "processing.files",
    "remove_background": "interfaces.removal",
    "separate": "background",
    "separate_counts": "counts.counts_path",
    "sum_uncertainties": "detection.photometry",
    "undo": "io.restore",
}

__all__ = [
    "DiffusionBackground2D",
    "Failure",
    "Model",
    "Options",
    "Provenance",
    "Result",
    "Run",
    "Separation",
    "aperture_fluxes",
    "available_models",
    "detect_peaks",
    "load_model",
    "make_catalog",
    "map_blocks",
    "process_batch",
    "process_file",
    "process_files",
    "remove_background",
    "separate",
    "separate_counts",
    "sum_uncertainties",
    "undo",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
