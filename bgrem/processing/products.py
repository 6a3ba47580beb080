"""One image of a file: its planes separated, and what is written of them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from bgrem.arrays.rows import Derived, Memory
from bgrem.arrays.tiling import row_strips
from bgrem.background import separate
from bgrem.io.maps import Maps
from bgrem.io.reading import FitsError, FitsImage, as_planes
from bgrem.io.restore import KEPT, TABLE, kept_cards, lost_pixels
from bgrem.io.writing import Product
from bgrem.masks.flags import flag_pixels
from bgrem.processing.bayer import separate_mosaic
from bgrem.processing.provenance import provenance_cards, provenance_history
from bgrem.separation import Separation

__all__ = ["PLANES", "product_of", "separate_planes"]

# What may be saved beside the sources: name -> (attribute of a Separation, EXTNAME).
PLANES = {
    "background": ("background", "BACKGROUND"),
    "noise": ("noise", "NOISE"),
    "rms": ("rms", "RMS"),
    "mask": ("mask", "MASK"),
    "uncertainty": ("uncertainty", "UNCERT"),
    "significance": ("significance", "SIGNIF"),
}


def product_of(
    image: FitsImage,
    products: dict[str, np.ndarray],
    facts: Sequence[dict],
    *,
    nonnegative: bool,
    keep_level: bool,
) -> Product:
    """What is written of an image, and what undoes it where its planes are saved.

    Parameters
    ----------
    image : FitsImage
    products, facts
        From `separate_planes`.
    nonnegative, keep_level : bool
        As for `bgrem.processing.files.process_file`.

    Returns
    -------
    Product
    """
    sources, planes = products.pop("SOURCES"), products
    levels = [fact.get("level", 0.0) if keep_level else 0.0 for fact in facts]
    if keep_level:
        sources = _raised(sources, levels, image.store)
    cards = provenance_cards(facts, nonnegative=nonnegative, keep_level=keep_level)
    history = provenance_history(facts)
    kept = []
    if all(name in planes for name in KEPT):
        kept = kept_cards(image, history)
        lost = lost_pixels(image, sources, planes, levels)
        planes = planes if lost is None else {**planes, TABLE: lost}
    return Product(image, sources, planes, cards, history, kept)


def _raised(sources: np.ndarray, levels: Sequence[float], store: Memory) -> np.ndarray:
    """The sources with a level added to each plane; a page shows them without."""
    raised = store.empty(sources.shape, sources.dtype)
    planes = zip(as_planes(raised), as_planes(sources), levels, strict=True)
    for target, plane, level in planes:
        for rows in row_strips(plane.shape):
            target[rows] = plane[rows] + level
    return raised


def separate_planes(
    image: FitsImage,
    given: Maps,
    save: Sequence[str],
    nonnegative: bool,
    tell: Callable[[float], None] | None,
    watch: Callable[[Separation], None],
    *,
    mosaic: bool,
    **options,
) -> tuple[dict[str, np.ndarray], list[dict]]:
    """The products by EXTNAME, each of the image's stored shape, and each plane's provenance.

    A plane of a cube that cannot be separated (a constant one) is left alone, with a warning; its
    provenance holds nothing else.

    Parameters
    ----------
    image : FitsImage
    given : `~bgrem.io.maps.Maps`
        Mask, weight and saturation.
    save : sequence of str
        Keys of `PLANES`.
    nonnegative : bool
        Move what is negative in the sources to the noise.
    tell : callable or None
        Called with the finished fraction.
    watch : callable
        Is shown each plane's parts.
    mosaic : bool
        Whether the planes are Bayer mosaics.
    **options
        As for `bgrem.background.separate`.

    Returns
    -------
    products : dict of str to `~numpy.ndarray`
    facts : list of dict

    Raises
    ------
    FitsError
        If no plane can be separated, or the model does not give what is to be saved.
    """
    planes = as_planes(image.data)
    separated = partial(separate_mosaic, separate) if mosaic else separate
    store = options["store"]
    products: dict[str, np.ndarray] = {}
    facts: list[dict] = []
    for i, plane in enumerate(planes):
        share = tell and (lambda done, i=i: tell((i + done) / len(planes)))
        try:
            parts = separated(plane, **given.of_plane(i), progress=share, **options)
        except ValueError as error:
            facts.append({"warnings": [f"left alone, {error}"]})
            continue
        for name, part in _wanted(parts, save, nonnegative, image.label):
            if len(planes) == 1:
                products[name] = part.reshape(image.data.shape)
                continue
            if name not in products:
                products[name] = store.empty(image.data.shape, part.dtype)
            _put(as_planes(products[name])[i], part)
        facts.append(parts.provenance)
        watch(parts)
    left = [i for i, fact in enumerate(facts) if "model" not in fact]
    if len(left) == len(planes):
        raise FitsError(f"{image.label}: {facts[0]['warnings'][0].removeprefix('left alone, ')}")
    for i in left:
        for name, product in products.items():
            part = _left_alone(name, planes[i], given.of_plane(i)["mask"], store)
            _put(as_planes(product)[i], part)
    return products, facts


def _put(plane, part) -> None:
    for rows in row_strips(plane.shape):
        plane[rows] = part[rows]


def _wanted(
    parts: Separation, save: Sequence[str], nonnegative: bool, label: str
) -> Iterator[tuple[str, np.ndarray]]:
    """The parts that are to be written, by EXTNAME."""
    if nonnegative:
        _clip(parts.sources, parts.noise if "noise" in save else None)
    yield "SOURCES", parts.sources
    for key in save:
        attribute, name = PLANES[key]
        part = getattr(parts, attribute)
        if part is None:
            raise FitsError(f"{label}: the model gives no {key}")
        yield name, part


def _clip(sources, noise) -> None:
    """Move what is negative in the sources to the noise."""
    for rows in row_strips(sources.shape):
        negative = np.minimum(sources[rows], 0)
        sources[rows] = sources[rows] - negative
        if noise is not None:
            noise[rows] = noise[rows] + negative


def _left_alone(name: str, data: np.ndarray, bad: np.ndarray | None, store: Memory):
    """A part of a plane in which nothing can be told from noise: all of it is noise."""
    if name == "MASK":
        return flag_pixels(data, mask=bad, store=store)
    if name == "NOISE":
        return data
    if name in ("RMS", "UNCERT", "SIGNIF"):
        return Derived(data, lambda _: np.nan)
    return Derived(data, lambda part: np.where(np.isfinite(part), 0, np.nan))
