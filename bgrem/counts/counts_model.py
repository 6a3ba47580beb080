"""The model of counts maps: found by its name or file, and loaded."""

import hashlib
import os

from bgrem.inference.counts_session import CountsModel, holds_counts_model
from bgrem.inference.engine import ModelError
from bgrem.inference.model import available_models, model_file

__all__ = [
    "COUNTS_MODEL",
    "CountsModel",
    "counts_digest",
    "has_counts_model",
    "is_counts_model",
    "load_counts_model",
]

COUNTS_MODEL = "counts"


def load_counts_model(
    model: "str | os.PathLike | CountsModel" = COUNTS_MODEL, *, threads: int | None = None
) -> CountsModel:
    """Load a model of counts maps by its name or from its ONNX file.

    Raises
    ------
    ModelError
        If there is none, or the file is not a model of counts maps.
    """
    if isinstance(model, CountsModel):
        return model
    if not isinstance(model, str | os.PathLike):
        raise ModelError(f"{model!r} is not a model of counts maps")
    return CountsModel(model_file(model), threads=threads)


def has_counts_model() -> bool:
    """Whether the package holds a model of counts maps."""
    return COUNTS_MODEL in available_models()


def is_counts_model(model: object) -> bool:
    """Whether a model, its name or its file is that of a model of counts maps.

    Parameters
    ----------
    model : str, path or a model
        The name "counts" is that of a model of counts maps, whether it is there or not.
    """
    if isinstance(model, CountsModel):
        return True
    if not isinstance(model, str | os.PathLike):
        return False
    if os.fspath(model) == COUNTS_MODEL:
        return True
    try:
        return holds_counts_model(model_file(model))
    except ModelError:
        return False


def counts_digest(counts: str | os.PathLike) -> str | None:
    """SHA-256 of the file of the model that maps of counts are separated with, None where there is none.

    Parameters
    ----------
    counts : str or path
        As `bgrem.processing.file_options.models_of` gives it: "auto", "no", a name or a file.
    """
    try:
        path = model_file(COUNTS_MODEL if counts == "auto" else counts)
    except ModelError:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()
