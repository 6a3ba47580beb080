"""One image of a file: its planes separated, and what is written of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from bgrem.arrays.rows import Derived, Memory, Rows
from bgrem.arrays.tiling import row_strips
from bgrem.io.maps import GivenMaps
from bgrem.io.reading import FitsError, FitsImage, as_planes
from bgrem.io.restore import UNDO_PLANES, lost_pixels
from bgrem.io.scales import ASINH_NOTE, AsinhScale, asinh_scale
from bgrem.io.writing import Product
from bgrem.masks.flags import DEFECT, flag_pixels
from bgrem.options import Run
from bgrem.processing.provenance import LeftAlone, PlaneFacts, provenance_cards, provenance_history
from bgrem.separation import Provenance, Separation

__all__ = ["SAVED_PLANES", "product_of", "separate_planes"]

# What may be saved beside the sources: name -> (attribute of a Separation, EXTNAME).
SAVED_PLANES = {
    "background": ("background", "BACKGROUND"),
    "noise": ("noise", "NOISE"),
    "rms": ("rms", "RMS"),
    "bkgerr": ("background_error", "BKGERR"),
    "mask": ("mask", "MASK"),
    "uncertainty": ("uncertainty", "UNCERT"),
    "significance": ("significance", "SIGNIF"),
}


def product_of(
    image: FitsImage,
    products: dict[str, np.ndarray],
    planes: Sequence[PlaneFacts],
    *,
    nonnegative: bool,
    keep_level: bool,
) -> Product:
    """What is written of an image, and what undoes it if its planes are saved.

    ``products`` and ``planes`` are those of `separate_planes`; the options are those of `process_file`.
    """
    sources, saved = products.pop("SOURCES"), products
    levels = [
        plane.level if keep_level and isinstance(plane, Provenance) else 0.0 for plane in planes
    ]
    if keep_level:
        sources = _with_level(sources, levels, image.store)
    history = provenance_history(planes)
    if scale := asinh_scale(image.header):
        sources = _scaled_again(sources, scale, saved.get("NOISE"), image.store)
        history.append(f"bgrem: {ASINH_NOTE}")
    cards = provenance_cards(planes, nonnegative=nonnegative, keep_level=keep_level)
    lost = None
    if all(name in saved for name in UNDO_PLANES):
        lost = lost_pixels(image, sources, saved, levels)
    return Product(image, sources, saved, cards, history, lost)


def _with_level(sources: np.ndarray, levels: Sequence[float], store: Memory) -> np.ndarray:
    """The sources with a level added to each plane; a page shows them without."""
    raised = store.empty(sources.shape, sources.dtype)
    planes = zip(as_planes(raised), as_planes(sources), levels, strict=True)
    for target, plane, level in planes:
        for rows in row_strips(plane.shape):
            target[rows] = plane[rows] + level
    return raised


def _scaled_again(
    sources: np.ndarray, scale: AsinhScale, noise: np.ndarray | None, store: Memory
) -> np.ndarray:
    """The sources on the scale of the input; what rounding takes from them goes to the noise."""
    scaled = store.empty(sources.shape, sources.dtype)
    for target, plane, rest in zip(
        as_planes(scaled),
        as_planes(sources),
        as_planes(scaled if noise is None else noise),
        strict=True,
    ):
        for rows in row_strips(plane.shape):
            target[rows] = scale.stored(plane[rows])
            if noise is not None:
                lost = np.asarray(plane[rows], np.float64) - scale.linear(target[rows])
                rest[rows] = rest[rows] + lost
    return scaled


def separate_planes(
    image: FitsImage,
    maps: GivenMaps,
    separate: Callable[..., Separation],
    *,
    save: Sequence[str],
    nonnegative: bool,
    run: Run,
    watch: Callable[[int, Separation], Separation],
) -> tuple[dict[str, np.ndarray], list[PlaneFacts]]:
    """The products by EXTNAME, each of the stored shape of the image, and the facts of each plane.

    A plane of a cube that cannot be separated (a constant one) is left alone, with a warning. ``separate``
    is `bgrem.separate` with its model and options, ``save`` are keys of `SAVED_PLANES`. With
    ``nonnegative`` the negative part of the sources goes to the noise. ``watch`` is called with the number
    and the parts of each plane and returns them, its uncertainty and thresholds corrected by the frame. Raises FitsError if no plane can be separated, or the model gives no plane to save.
    """
    planes = as_planes(image.data)
    products: dict[str, np.ndarray] = {}
    facts: list[PlaneFacts] = []
    for i, plane in enumerate(planes):
        share = replace(run, progress=run.share(i, len(planes)))
        try:
            parts = separate(plane, **maps.of_plane(i), run=share)
        except ValueError as error:
            facts.append(LeftAlone(str(error)))
            continue
        parts = watch(i, parts)
        _flag_defects(parts.mask, maps.defects_of_plane(i))
        for name, part in _wanted(parts, save, nonnegative, image.label):
            if len(planes) == 1:
                products[name] = part.reshape(image.data.shape)
                continue
            if name not in products:
                products[name] = run.empty(image.data.shape, part.dtype)
            _put(as_planes(products[name])[i], part)
        facts.append(parts.provenance)
    if not products:
        raise FitsError(f"{image.label}: {facts[0].reason}")
    for i, fact in enumerate(facts):
        if isinstance(fact, LeftAlone):
            for name, product in products.items():
                part = _left_alone(name, planes[i], maps.of_plane(i)["mask"], run)
                if name == "MASK":
                    _flag_defects(part, maps.defects_of_plane(i))
                _put(as_planes(product)[i], part)
    return products, facts


def _put(plane, part) -> None:
    for rows in row_strips(plane.shape):
        plane[rows] = part[rows]


def _flag_defects(mask: Rows, defects: Rows | None) -> None:
    """Set the bit of the camera's defects in a mask of flags."""
    if defects is not None:
        for rows in row_strips(mask.shape):
            mask[rows] = mask[rows] | defects[rows] * np.uint8(DEFECT)


def _wanted(
    parts: Separation, save: Sequence[str], nonnegative: bool, label: str
) -> Iterator[tuple[str, np.ndarray]]:
    """The parts that are to be written, by EXTNAME."""
    if nonnegative:
        _clip(parts.sources, parts.noise if "noise" in save else None)
    yield "SOURCES", parts.sources
    for key in save:
        attribute, name = SAVED_PLANES[key]
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


def _left_alone(name: str, data: Rows, mask: Rows | None, run: Run) -> Rows:
    """A part of a plane that could not be separated: all of it is noise."""
    if name == "MASK":
        return flag_pixels(data, mask=mask, run=run)
    if name == "NOISE":
        return data
    if name in ("RMS", "BKGERR", "UNCERT", "SIGNIF"):
        return Derived(data, lambda _: np.nan)
    return Derived(data, lambda part: np.where(np.isfinite(part), 0, np.nan))
