"""What is asked of the images of a file, gathered from the keywords of `process_file`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bgrem.counts.counts_model import is_counts_model
from bgrem.inference.card import ModelCard
from bgrem.options import MAPS, CatalogueOptions, Options
from bgrem.processing.mosaics import BAYER
from bgrem.processing.products import SAVED_PLANES
from bgrem.storage.names import home_path

__all__ = ["FileOptions", "map_beside", "models_of"]

AUTOMATIC_MINPIX = Options(minpix="auto")
USUAL_CATALOGUE = CatalogueOptions()
OPTICAL = "optical"  # the included model of frames of cameras


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What is asked of the images of a file, as `process_file` describes it; the rest is in `image`."""

    hdu: int | str | None = None
    mask: str | os.PathLike | np.ndarray | None = None
    mask_bits: int | None = None
    defects: str | os.PathLike | np.ndarray | None = None
    weight: str | os.PathLike | np.ndarray | None = None
    weight_type: str = "inverse"
    saturate: float | str | None = "header"
    companions: bool = True
    bayer: str = "auto"
    save: Sequence[str] = ()
    nonnegative: bool = False
    keep_level: bool = False
    report: bool = False
    plot: bool = False
    catalog: bool | str | os.PathLike = False
    detect: str | os.PathLike | None = None
    counts: str | os.PathLike = "auto"
    exposure: str | os.PathLike | np.ndarray | None = None
    template: str | os.PathLike | np.ndarray | None = None
    psf: float | str | os.PathLike | np.ndarray | None = None
    image: Options = AUTOMATIC_MINPIX
    catalogue: CatalogueOptions = USUAL_CATALOGUE

    def __post_init__(self) -> None:
        if unknown := [key for key in self.save if key not in SAVED_PLANES]:
            raise ValueError(f"cannot save {unknown[0]!r}; there are {', '.join(SAVED_PLANES)}")
        if self.detect is not None and not self.catalog:
            raise ValueError("an image to detect on is for a catalogue, which is not asked for")
        if self.bayer not in BAYER:
            raise ValueError(f"bayer must be one of {', '.join(BAYER)}, not {self.bayer!r}")

    @classmethod
    def gathered(cls, **options: Any) -> "FileOptions":
        """The options of `process_file`; those of an image go to ``image``, those of a catalogue to ``catalogue``."""
        names = {field.name for field in fields(Options)} - {"maps", "calibrated"}
        listed = {field.name for field in fields(CatalogueOptions)}
        known = names | listed | {field.name for field in fields(cls)} - {"image", "catalogue"}
        if unknown := options.keys() - known:
            raise TypeError(f"process_file() has no option {min(unknown)!r}")
        image = {name: options.pop(name) for name in names & options.keys()}
        catalogue = {name: options.pop(name) for name in listed & options.keys()}
        asked = cls(**options, catalogue=CatalogueOptions(**catalogue))
        drawn = ("significance",) if asked.report or asked.catalog else ()
        maps = tuple(key for key in MAPS if key in (*asked.save, *drawn))
        return replace(asked, image=replace(cls.image, maps=maps, **image))

    @property
    def every(self) -> bool:
        """Whether every 2-D image of the file is asked for."""
        return str(self.hdu).strip().lower() == "all"

    def catalogue_of(
        self, image: Path, output: Path, card: ModelCard, *, overwrite: bool, memory: float | None
    ):
        """The catalogue of an image that is asked for, or None."""
        if not self.catalog:
            return None
        try:
            from bgrem.catalogue.catalogue_files import catalogue_path
            from bgrem.catalogue.image_catalogue import ImageCatalogue
        except ImportError as error:
            raise ValueError(str(error)) from None
        path = catalogue_path(output) if self.catalog is True else home_path(self.catalog)
        maps = (self.detect, self.mask, self.weight, self.defects)
        others = [image, output, *(home_path(m) for m in maps if isinstance(m, str | os.PathLike))]
        return ImageCatalogue(
            path, self.catalogue, card, overwrite=overwrite, others=others, memory=memory
        )


def models_of(model) -> tuple[Any, Any]:
    """The model of frames of cameras, and what is asked of counts maps, from a model that a user gives.

    "auto" is the included model for each; a model of counts maps is for all images, any other for none of counts.
    """
    if model == "auto":
        return OPTICAL, "auto"
    return (OPTICAL, model) if is_counts_model(model) else (model, "no")


def map_beside(source: str | os.PathLike | np.ndarray | None, index: int, every: bool):
    """The map of one image among all: of a file, the HDU of the same index."""
    if every and isinstance(source, str | os.PathLike) and home_path(source).is_file():
        return f"{os.fspath(source)}[{index}]"
    return source
