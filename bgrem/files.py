"""Many files: each FITS image in, the same file with its sources out."""

import glob
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bgrem.background import separate
from bgrem.budget import check_limit
from bgrem.fits import (
    FitsError,
    FitsImage,
    as_planes,
    fitted_mask,
    is_fits_name,
    read_image,
    read_mask,
    write_products,
)
from bgrem.model import Model, load_model
from bgrem.scratch import MEMORY, Scratch
from bgrem.separation import MAPS, MASKED, NOT_FINITE, Separation
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
    save: Sequence[str] = (),
    nonnegative: bool = False,
    keep_level: bool = False,
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
        Index or EXTNAME of the image. Default: 0 or, where it holds no image, the first that does.
    prefix : str
        The output's name is ``prefix`` + the input's name.
    output_dir : path, optional
        Folder of the output, made where missing. Default: that of the input.
    overwrite : bool
        Replace an existing output. The input is never overwritten.
    mask : str, path or array_like, optional
        FILE, FILE[HDU] or an HDU of the same file; or an array. Bad where not 0. Of the image's
        shape, or of one plane's for all planes of a cube.
    save : sequence of str
        Keys of `PLANES`, to be appended as extensions.
    nonnegative : bool
        Clip negative sources to 0; what is clipped goes to the noise, the parts still add up.
    keep_level : bool
        Add the median sky level (card BGR_LEVL) to the image that is written.
    model, steps, norm, fwhm, box
        As for `bgrem.background.separate`.
    minpix : float, "auto" or None
        Pixels below it are raised to it. "auto": 0 for raw frames, None for sky-subtracted ones.
    memory : float, optional
        Bytes of memory that the process may take. What does not fit is kept in files in the folder
        of the output, which vanish at the end. The result is the same.
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
        If ``save`` names what there is not, or the model cannot be used.
    """
    started = time.perf_counter()
    if unknown := [key for key in save if key not in PLANES]:
        raise ValueError(f"cannot save {unknown[0]!r}; there are {', '.join(PLANES)}")
    model = model if isinstance(model, Model) else load_model(model)
    path = Path(path)
    output = output_path(path, prefix=prefix, output_dir=output_dir)
    check_output(output, path, overwrite)
    store = Scratch(_existing(output.parent), memory) if memory else MEMORY
    image = read_image(path, hdu, store=store)
    maps = tuple(key for key in save if key in MAPS)
    if memory:
        check_limit(store, as_planes(image.data).shape[1:], model.card, maps, image.label)
    bad = _mask_for(image, mask)
    with progress(path.name) if progress else nullcontext() as report:
        products, facts = _separate_planes(
            image, bad, save, nonnegative, report,
            model=model, steps=steps, norm=norm, minpix=minpix, fwhm=fwhm, box=box,
            maps=maps, store=store,
        )  # fmt: skip
    sources = products.pop("SOURCES")
    if keep_level:
        for plane, fact in zip(as_planes(sources), facts, strict=True):
            for rows in row_strips(plane.shape):
                plane[rows] = plane[rows] + fact.get("level", 0)
    write_products(
        output,
        image,
        sources,
        planes=products,
        cards=_cards(facts, nonnegative=nonnegative, keep_level=keep_level),
        history=_history(facts),
        overwrite=overwrite,
    )
    done = [fact for fact in facts if "model" in fact]
    return Result(
        input=path,
        output=output,
        model=done[0]["model"],
        level=statistics.median(fact["level"] for fact in done),
        rms=statistics.median(fact["rms"] for fact in done),
        norm=done[0]["norm"],
        seconds=time.perf_counter() - started,
        warnings=image.notes + _warnings(facts),
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


def _mask_for(image: FitsImage, mask: str | os.PathLike | np.ndarray | None) -> np.ndarray | None:
    if mask is None:
        return None
    if isinstance(mask, str | os.PathLike):
        return read_mask(os.fspath(mask), image)
    return fitted_mask(np.asarray(mask) != 0, image)


def _separate_planes(
    image: FitsImage,
    mask: np.ndarray | None,
    save: Sequence[str],
    nonnegative: bool,
    report: Callable[[float], None] | None,
    **options,
) -> tuple[dict[str, np.ndarray], list[dict]]:
    """The products by EXTNAME, each of the image's stored shape, and each plane's provenance.

    A plane of a cube that cannot be separated (a constant one) is left alone, with a warning; its
    provenance holds nothing else.
    """
    planes = as_planes(image.data)
    masks = _mask_planes(mask, len(planes))
    store = options["store"]
    products: dict[str, np.ndarray] = {}
    facts: list[dict] = []
    for i, (plane, bad) in enumerate(zip(planes, masks, strict=True)):
        share = report and (lambda done, i=i: report((i + done) / len(planes)))
        try:
            parts = separate(plane, mask=bad, progress=share, **options)
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
    left = [i for i, fact in enumerate(facts) if "model" not in fact]
    if len(left) == len(planes):
        raise FitsError(f"{image.label}: {facts[0]['warnings'][0].removeprefix('left alone, ')}")
    for i in left:
        for name, product in products.items():
            _put(as_planes(product)[i], _LeftAlone(name, planes[i], masks[i]))
    return products, facts


def _mask_planes(mask, count: int) -> Sequence:
    """The mask of each plane of an image."""
    if mask is None:
        return [None] * count
    planes = as_planes(mask)
    return planes if len(planes) == count else [planes[0]] * count


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


@dataclass(frozen=True)
class _LeftAlone:
    """A part of a plane in which nothing can be told from noise: all of it is noise."""

    name: str
    data: np.ndarray
    bad: np.ndarray | None

    def __getitem__(self, rows: slice) -> np.ndarray | float:
        unknown = {"RMS": np.nan, "UNCERT": np.nan, "SIGNIF": np.nan}
        data = self.data[rows]
        if self.name == "MASK":
            masked = 0 if self.bad is None else MASKED * self.bad[rows].astype(np.uint8)
            return masked | NOT_FINITE * ~np.isfinite(data)
        if self.name == "NOISE":
            return data
        return unknown.get(self.name, np.where(np.isfinite(data), 0, np.nan))


# --- what the header tells

# Provenance of a plane: its keys, the cards that hold them, and what these mean.
FACTS = {
    "version": ("BGR_VERS", "version of bgrem"),
    "model": ("BGR_MODL", "name of the model"),
    "sha256": ("BGR_HASH", "SHA-256 of the model file, first 16 digits"),
    "steps": ("BGR_STEP", "diffusion steps"),
    "norm": ("BGR_NORM", "normalisation factor, 0 = rms map"),
    "level": ("BGR_LEVL", "median sky level"),
    "rms": ("BGR_RMS", "median rms of the sky"),
    "minpix": ("BGR_MINP", "pixels below it were raised to it"),
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
