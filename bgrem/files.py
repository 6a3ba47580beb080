"""Many files: each FITS image in, the same file with its sources out."""

import glob
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from bgrem.background import separate
from bgrem.bayer import BAYER, is_bayer, separate_mosaic
from bgrem.budget import check_limit
from bgrem.companions import companion_hdus, with_companions
from bgrem.fits import (
    FitsError,
    FitsImage,
    Product,
    as_planes,
    image_hdus,
    is_fits_name,
    read_image,
    sibling,
    write_mosaic,
)
from bgrem.flags import flag_pixels
from bgrem.html.pages import Pages
from bgrem.maps import Maps, maps_for
from bgrem.model import Model, load_model
from bgrem.restore import KEPT, TABLE, kept_cards, lost_pixels
from bgrem.scratch import MEMORY, Derived, Memory, Scratch
from bgrem.separation import MAPS, Separation
from bgrem.tiling import row_strips

__all__ = [
    "PLANES",
    "Failure",
    "Result",
    "check_output",
    "expanded_paths",
    "output_path",
    "process_file",
    "process_files",
]

logger = logging.getLogger(__name__)

# What may be saved beside the sources: name -> (attribute of a Separation, EXTNAME).
PLANES = {
    "background": ("background", "BACKGROUND"),
    "noise": ("noise", "NOISE"),
    "rms": ("rms", "RMS"),
    "mask": ("mask", "MASK"),
    "uncertainty": ("uncertainty", "UNCERT"),
    "significance": ("significance", "SIGNIF"),
}


@dataclass(frozen=True)
class Result:
    """One image that has been written.

    Attributes
    ----------
    input, output : Path
    model : str
    level, rms : float
        Median sky level and its rms in data units; the median over the planes of a cube.
    norm : float
        Normalisation factor as given; 0 where the rms map was estimated.
    seconds : float
        From opening the input to the renamed output.
    warnings : tuple of str
        What the reader and the model noticed.
    report, plot : Path or None
        The page and the picture, where they were asked for.
    resumed : bool
        Whether an earlier run has written it.
    """

    input: Path
    output: Path
    model: str
    level: float
    rms: float
    norm: float
    seconds: float
    warnings: tuple[str, ...] = ()
    report: Path | None = None
    plot: Path | None = None
    resumed: bool = False

    def __str__(self) -> str:
        return (
            f"{self.output}  model={self.model}  level={self.level:.6g}  rms={self.rms:.4g}  "
            f"norm={self.norm:g}  seconds={self.seconds:.2f}"
        )


@dataclass(frozen=True)
class Failure:
    """One input that could not be done, and why in one sentence."""

    input: Path
    message: str


def process_files(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    prefix: str = "BGRem_",
    model="optical",
    **options,
) -> Iterator[Result | Failure]:
    """Process images, folders and globs one after the other; a bad one does not stop the others.

    Parameters
    ----------
    paths : path or iterable of path
        A folder stands for the FITS files directly in it, a glob for what it matches; in both, names
        that begin with ``prefix`` are taken for earlier outputs and left out.
    prefix : str
    model : str, path or Model
        Loaded once.
    **options
        As for `process_file`.

    Yields
    ------
    Result or Failure
        One for each image, in order.

    Raises
    ------
    ModelError
        If the model cannot be used.
    """
    model = model if isinstance(model, Model) else load_model(model)
    written: dict[Path, Path] = {}
    for path in expanded_paths(paths, prefix):
        if isinstance(path, Failure):
            yield path
            continue
        try:
            output = output_path(path, prefix=prefix, output_dir=options.get("output_dir"))
            if output in written:
                raise FitsError(f"{path}: its output {output} is already that of {written[output]}")
            yield process_file(path, prefix=prefix, model=model, **options)
            written[output] = path
        except ValueError as error:
            yield Failure(path, str(error))
        except OSError as error:
            yield Failure(path, f"{path}: {error.strerror or error}")
        except MemoryError:
            yield Failure(path, f"{path}: not enough memory")
        except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the user the rest of the night
            yield Failure(
                path, f"{path}: unexpected {type(error).__name__} ({error}); please report it"
            )


def process_file(
    path: str | os.PathLike,
    *,
    hdu: int | str | None = None,
    prefix: str = "BGRem_",
    output_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    mask: str | os.PathLike | np.ndarray | None = None,
    mask_bits: int | None = None,
    weight: str | os.PathLike | np.ndarray | None = None,
    weight_type: str = "inverse",
    saturate: float | str | None = "header",
    companions: bool = True,
    bayer: str = "auto",
    save: Sequence[str] = (),
    nonnegative: bool = False,
    keep_level: bool = False,
    report: bool = False,
    plot: bool = False,
    model="optical",
    steps: int = 1,
    norm: float | None = None,
    minpix: float | str | None = "auto",
    fwhm: float | None = None,
    box: int | None = None,
    memory: float | None = None,
    progress: Callable[[str], AbstractContextManager] | None = None,
) -> Result:
    """Separate the image of a FITS file and write the file again with its sources.

    Parameters
    ----------
    path : path
        ``.fits``, ``.fit``, ``.fts`` or ``.fz``, also inside gzip or bzip2. Cubes go plane by plane.
    hdu : int or str, optional
        Index or EXTNAME of the image, or "all" for every 2-D image of the file. Default: 0 or,
        where it holds no image, the first that does.
    prefix : str
        The output's name is ``prefix`` + the input's name.
    output_dir : path, optional
        Folder of the output, made where missing. Default: that of the input.
    overwrite : bool
        Replace an existing output. The input is never overwritten.
    mask : str, path or array_like, optional
        FILE, FILE[HDU] or an HDU of the same file; or an array. Bad where not 0. Of the image's
        shape, or of one plane's for all planes of a cube.
    mask_bits : int, optional
        The bits of the mask that are bad. Default: all.
    weight : str, path or array_like, optional
        Weight map, as ``mask``; see `bgrem.background.separate`.
    weight_type : str
        "inverse" (inverse variance), "variance" or "rms".
    saturate : float, "header" or None
        Level in data units from which on pixels are saturated; "header" for the card SATURATE,
        where there is one.
    companions : bool
        Take the mask and the weight that conventions put beside the image, where none are given:
        DQ and WHT of HST and JWST, mask and variance of HSC and LSST, DECam's ood and oow files.
    bayer : str
        Whether the image is a Bayer mosaic, done as four planes: "yes", "no", or "auto" for what
        the card BAYERPAT or its pixels say.
    save : sequence of str
        Keys of `PLANES`, to be appended as extensions.
    nonnegative : bool
        Clip negative sources to 0; what is clipped goes to the noise, the parts still add up.
    keep_level : bool
        Add the median sky level (card BGR_LEVL) to the image that is written.
    report : bool
        Write also a page about it that a browser shows, the output's name with ``.html`` added; of a
        cube, about its first plane.
    plot : bool
        Write also a picture of it before (left) and after, the output's name with ``.png`` added.
    model, steps, norm, fwhm, box
        As for `bgrem.background.separate`.
    minpix : float, "auto" or None
        Pixels below it are raised to it. "auto": 0 for raw frames, None for sky-subtracted ones.
    memory : float, optional
        Bytes of memory that the process may take. What does not fit is kept in files in the folder
        of the output, which vanish at the end. The result is the same. Not with ``report``, ``plot``.
    progress : callable, optional
        Called with the file's name; gives a context manager that gives a callable, which is called
        with the finished fraction (0 to 1).

    Returns
    -------
    Result

    Raises
    ------
    FitsError
        One sentence with the file and the HDU; nothing has been written then.
    ValueError
        If ``save`` names what there is not, the model cannot be used, or ``memory`` does not suffice.
    """
    started = time.perf_counter()
    if unknown := [key for key in save if key not in PLANES]:
        raise ValueError(f"cannot save {unknown[0]!r}; there are {', '.join(PLANES)}")
    if bayer not in BAYER:
        raise ValueError(f"bayer must be one of {', '.join(BAYER)}, not {bayer!r}")
    model = model if isinstance(model, Model) else load_model(model)
    path = Path(path)
    output = output_path(path, prefix=prefix, output_dir=output_dir)
    check_output(output, path, overwrite)
    if memory and (report or plot):
        raise ValueError("a page or a picture takes more memory: give no --memory with them")
    store = Scratch(_existing(output.parent), memory) if memory else MEMORY
    pages = Pages(output, report=report, plot=plot, overwrite=overwrite)
    every = str(hdu).strip().lower() == "all"
    image = read_image(path, None if every else hdu, store=store)
    hdus = _frames(image, companions) if every else [image.hdu]
    maps = tuple(key for key in MAPS if key in (*save, *pages.maps))
    done: list[dict] = []
    shown: list[tuple] = []  # headers and provenance of what was done
    warnings = [] if every else list(image.notes)

    def product_of(index: int, tell: Callable[[float], None] | None) -> Product | None:
        this = image if index == image.hdu else sibling(image, index)
        if memory:
            shape = as_planes(this.data).shape[1:]
            check_limit(store, shape, model.card, maps, this.label, model.engine.libraries)
        try:
            given = maps_for(
                this,
                mask=_beside(mask, index, every),
                mask_bits=mask_bits,
                weight=_beside(weight, index, every),
                weight_type=weight_type,
                saturate=saturate,
            )
            given = with_companions(this, given) if companions else given
            mosaic = bayer == "yes" or (bayer == "auto" and is_bayer(this.data, this.header))
            products, facts = _separate_planes(
                this, given, save, nonnegative, tell, mosaic=mosaic,
                model=model, steps=steps, norm=norm, minpix=minpix, fwhm=fwhm, box=box,
                maps=maps, store=store, watch=pages.watch,
            )  # fmt: skip
        except FitsError as error:
            if not every:
                raise
            warnings.append(f"left alone, {str(error).removeprefix(f'{path}: ')}")
            return None
        done.extend(fact for fact in facts if "model" in fact)
        told = given.notes + _warnings(facts)
        warnings.extend(f"HDU {index}: {line}" if every else line for line in told)
        product = _product(this, products, facts, nonnegative=nonnegative, keep_level=keep_level)
        shown.append((this.header, product.cards))
        return product

    with progress(path.name) if progress else nullcontext() as tell:
        if every:
            shares = iter(range(len(hdus)))

            def product_in_turn(index: int) -> Product | None:
                turn = next(shares)
                product = product_of(index, tell and (lambda part: tell((turn + part) / len(hdus))))
                if turn == len(hdus) - 1 and not done:
                    raise FitsError(f"{path}: no image could be done ({warnings[0]})")
                return product

            write_mosaic(output, image, hdus, product_in_turn, overwrite=overwrite)
        else:
            product = product_of(image.hdu, tell)
            write_mosaic(output, image, hdus, lambda _: product, overwrite=overwrite)
    header, cards = shown[0]
    pages.write(path.name, header=header, cards=cards, warnings=tuple(warnings))
    seconds = time.perf_counter() - started
    logger.info("%s: %s, %.2f s", path, output, seconds)
    return Result(
        input=path,
        output=output,
        model=done[0]["model"],
        level=statistics.median(fact["level"] for fact in done),
        rms=statistics.median(fact["rms"] for fact in done),
        norm=done[0]["norm"],
        seconds=seconds,
        warnings=tuple(warnings),
        report=pages.report,
        plot=pages.plot,
    )


def output_path(
    path: str | os.PathLike, *, prefix: str = "BGRem_", output_dir: str | os.PathLike | None = None
) -> Path:
    """Where the output of an input goes.

    Parameters
    ----------
    path : path
        The input.
    prefix : str
    output_dir : path, optional
        Default: the input's folder.

    Returns
    -------
    Path
        ``prefix`` + the input's name, in that folder.
    """
    path = Path(path)
    return (path.parent if output_dir is None else Path(output_dir)) / (prefix + path.name)


def check_output(output: Path, path: Path, overwrite: bool) -> None:
    """Refuse before the work what would be refused after it.

    Parameters
    ----------
    output, path : Path
        Of the output and of the input.
    overwrite : bool
        Whether an existing output may be replaced.

    Raises
    ------
    FitsError
        If the output cannot be written.
    """
    if not path.exists():
        raise FitsError(f"{path}: no such file")
    if output.absolute() == path.absolute() or (output.exists() and output.samefile(path)):
        raise FitsError(
            f"{path}: the output would overwrite the input (give a prefix or another folder)"
        )
    if output.is_dir():
        raise FitsError(f"{output}: is a folder, the output cannot be written")
    if output.exists() and not overwrite:
        raise FitsError(f"{output}: exists already (--overwrite replaces it)")
    folder = _existing(output.parent)
    if not folder.is_dir():
        raise FitsError(f"{output}: cannot be written, {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FitsError(f"{output}: cannot be written, the folder {folder} is not writable")


def _existing(folder: Path) -> Path:
    """A folder, or where it is yet to be made the one that it will be in."""
    while not folder.exists():
        folder = folder.parent
    return folder


# --- which files


def expanded_paths(paths: Iterable[str | os.PathLike], prefix: str) -> Iterator[Path | Failure]:
    """The files that the paths stand for, each once.

    Parameters
    ----------
    paths : path or iterable of path
        Files, folders and globs.
    prefix : str
        Of the names that are left out in folders and globs.

    Yields
    ------
    Path or Failure
        A failure for what stands for no file.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    seen = set()
    for given in paths:
        try:
            found = _files_of(Path(given), prefix)
        except FitsError as error:
            yield Failure(Path(given), str(error))
            continue
        except OSError as error:
            yield Failure(Path(given), f"{given}: {error.strerror or error}")
            continue
        for path in found:
            if path.absolute() not in seen:
                seen.add(path.absolute())
                yield path


def _files_of(given: Path, prefix: str) -> list[Path]:
    if given.is_dir():
        found = [path for path in sorted(given.iterdir()) if is_fits_name(path) and path.is_file()]
    elif given.exists() or not glob.has_magic(str(given)):
        return [given]
    else:
        found = sorted(
            Path(path) for path in glob.glob(str(given), recursive=True) if Path(path).is_file()
        )
    images = [
        path
        for path in found
        if not (path.name.startswith(".") or (prefix and path.name.startswith(prefix)))
    ]
    if images:
        return images
    kind = "folder holds no FITS file" if given.is_dir() else "pattern matches no file"
    beside = f" but {len(found)} outputs of bgrem" if found else ""
    raise FitsError(f"{given}: the {kind}{beside}")


# --- one image


def _frames(image: FitsImage, companions: bool) -> list[int]:
    """The HDUs of the file that hold one 2-D image each, less the maps that go with them."""
    maps = companion_hdus(image) if companions else set()
    found = [
        index
        for index, header in image_hdus(image).items()
        if sum(n > 1 for n in _lengths(header)) == 2 and index not in maps
    ]
    if not found:
        raise FitsError(f"{image.path}: no HDU holds a 2-D image")
    return found


def _lengths(header: Mapping) -> list[int]:
    axes = "ZNAXIS" if header.get("ZIMAGE") is True else "NAXIS"
    return [header[f"{axes}{i + 1}"] for i in range(header[axes])]


def _beside(source: str | os.PathLike | np.ndarray | None, index: int, every: bool):
    """The map of one image among all: of a file, the HDU of the same index."""
    if every and isinstance(source, str | os.PathLike) and Path(source).is_file():
        return f"{os.fspath(source)}[{index}]"
    return source


def _product(
    image: FitsImage,
    products: dict[str, np.ndarray],
    facts: Sequence[dict],
    *,
    nonnegative: bool,
    keep_level: bool,
) -> Product:
    """What is written of an image, and what undoes it where its planes are saved."""
    sources, planes = products.pop("SOURCES"), products
    levels = [fact.get("level", 0.0) if keep_level else 0.0 for fact in facts]
    if keep_level:
        sources = _raised(sources, levels, image.store)
    cards = _cards(facts, nonnegative=nonnegative, keep_level=keep_level)
    history = _history(facts)
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


def _separate_planes(
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
    provenance holds nothing else. ``watch`` is shown each of the others.
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


# --- what the header tells

# Provenance of a plane: its keys, the cards that hold them, and what these mean.
FACTS = {
    "version": ("BGR_VERS", "version of bgrem"),
    "model": ("BGR_MODL", "name of the model"),
    "sha256": ("BGR_HASH", "SHA-256 of the model file, first 16 digits"),
    "engine": ("BGR_ENGN", "what ran the model"),
    "steps": ("BGR_STEP", "diffusion steps"),
    "norm": ("BGR_NORM", "normalisation factor, 0 = rms map"),
    "level": ("BGR_LEVL", "median sky level"),
    "rms": ("BGR_RMS", "median rms of the sky"),
    "minpix": ("BGR_MINP", "pixels below it were raised to it"),
    "saturate": ("BGR_SATU", "saturation level"),
    "weight": ("BGR_WGHT", "type of the weight map"),
    "fwhm": ("BGR_FWHM", "[pix] FWHM of the point-spread function"),
    "signif_1": ("BGR_SIG1", "SIGNIF of 1 false detection per Mpix"),
    "signif_10": ("BGR_SG10", "SIGNIF of 10 false detections per Mpix"),
}
NUMBERED_PLANES = 999  # "BGR_L999" fills the eight letters of a keyword


def _cards(
    facts: Sequence[dict], *, nonnegative: bool, keep_level: bool
) -> list[tuple[str, object, str]]:
    """Provenance as cards; the level and rms of each plane of a cube have numbered ones."""
    first = next(fact for fact in facts if "model" in fact)
    cards = [
        (keyword, _card_value(first[key]), comment)
        for key, (keyword, comment) in FACTS.items()
        if _card_value(first.get(key)) is not None
    ]
    for n, fact in enumerate(facts[:NUMBERED_PLANES] if len(facts) > 1 else (), start=1):
        if "model" in fact:
            cards.append((f"BGR_L{n}", fact["level"], f"median sky level of plane {n}"))
            cards.append((f"BGR_R{n}", fact["rms"], f"median rms of the sky of plane {n}"))
    cards.append(("BGR_NNEG", nonnegative, "negative sources were clipped to 0"))
    cards.append(("BGR_KEEP", keep_level, "the median sky level was added back"))
    now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    cards.append(("BGR_DATE", now, "UTC of the processing"))
    cards.append(("BGR_WARN", len(_warnings(facts)), "warnings, see HISTORY"))
    return cards


def _card_value(value: object) -> object:
    """A value as a card can hold it, None where it cannot."""
    if isinstance(value, str):
        return _ascii(value[:16] if len(value) == 64 else value)
    if value is None or not np.isfinite(value):
        return None
    return value


def _history(facts: Sequence[dict]) -> list[str]:
    first = next(fact for fact in facts if "model" in fact)
    lines = [
        f"bgrem {first['version']} kept the sources of this image and took away its",
        "background and noise (data = sources + background + noise).",
    ]
    return lines + [f"bgrem warning: {_ascii(warning)}" for warning in _warnings(facts)]


def _ascii(text: str) -> str:
    """A text as FITS headers can hold it."""
    return text.encode("ascii", "replace").decode()


def _warnings(facts: Sequence[dict]) -> tuple[str, ...]:
    """What the path noticed, with the plane where there are several."""
    named = [f"plane {n}: " if len(facts) > 1 else "" for n in range(1, len(facts) + 1)]
    return tuple(
        name + warning
        for name, fact in zip(named, facts, strict=True)
        for warning in fact.get("warnings", ())
    )
