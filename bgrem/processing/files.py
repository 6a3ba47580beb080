"""Many files: each FITS image in, the same file with its sources out."""

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bgrem.arrays.rows import MAPPED, MEMORY, Memory, Scratch
from bgrem.inference.memory import check_limit
from bgrem.inference.model import Model, load_model
from bgrem.io.companions import companion_hdus, with_companions
from bgrem.io.maps import Maps, maps_for
from bgrem.io.reading import (
    FitsError,
    FitsImage,
    as_planes,
    image_hdus,
    read_image,
    sibling,
)
from bgrem.io.writing import Product, write_mosaic
from bgrem.processing.bayer import BAYER, is_bayer
from bgrem.processing.outcome import Failure, Result
from bgrem.processing.paths import check_output, existing_folder, expanded_paths, output_path
from bgrem.processing.products import PLANES, product_of, separate_planes
from bgrem.processing.provenance import warnings_of
from bgrem.report.pages import Pages
from bgrem.separation import MAPS, Separation

__all__ = ["process_file", "process_files"]

logger = logging.getLogger(__name__)


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
        Keys of `bgrem.processing.products.PLANES`, to be appended as extensions.
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
    if memory and (report or plot):
        raise ValueError("a page or a picture takes more memory: give no --memory with them")
    model = model if isinstance(model, Model) else load_model(model)
    path = Path(path)
    output = output_path(path, prefix=prefix, output_dir=output_dir)
    check_output(output, path, overwrite)
    store: Memory = MEMORY if report or plot else MAPPED  # a page draws the whole image
    if memory:
        store = Scratch(existing_folder(output.parent), memory)
    pages = Pages(output, report=report, plot=plot, overwrite=overwrite)
    every = str(hdu).strip().lower() == "all"
    image = read_image(path, None if every else hdu, store=store)
    asked = _Asked(
        every=every, mask=mask, mask_bits=mask_bits, weight=weight, weight_type=weight_type,
        saturate=saturate, companions=companions, bayer=bayer, save=save,
        nonnegative=nonnegative, keep_level=keep_level, watch=pages.watch,
        options={
            "model": model, "steps": steps, "norm": norm, "minpix": minpix, "fwhm": fwhm,
            "box": box, "store": store,
            "maps": tuple(key for key in MAPS if key in (*save, *pages.maps)),
        },
    )  # fmt: skip
    work = _Work(image, asked)
    with progress(path.name) if progress else nullcontext() as tell:
        write_mosaic(output, image, work.hdus, work.products(tell), overwrite=overwrite)
    pages.write(path.name, **work.shown, warnings=tuple(work.warnings))
    seconds = time.perf_counter() - started
    logger.info("%s: %s, %.2f s", path, output, seconds)
    return Result(
        input=path,
        output=output,
        **work.summary(),
        seconds=seconds,
        warnings=tuple(work.warnings),
        report=pages.report,
        plot=pages.plot,
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of every image of a file; see `process_file` and `separate_planes`."""

    every: bool
    mask: str | os.PathLike | np.ndarray | None
    mask_bits: int | None
    weight: str | os.PathLike | np.ndarray | None
    weight_type: str | None
    saturate: float | None
    companions: bool
    bayer: str
    save: Sequence[str]
    nonnegative: bool
    keep_level: bool
    watch: Callable[[Separation], None]
    options: dict[str, Any]


class _Work:
    """The images of one file: one, or all of them one after the other."""

    def __init__(self, image: FitsImage, asked: _Asked) -> None:
        self._image = image
        self._asked = asked
        self.hdus = _frames(image, asked.companions) if asked.every else [image.hdu]
        self.warnings = [] if asked.every else list(image.notes)
        self.shown: dict = {}  # header and cards of the first that was done
        self._done: list[dict] = []  # provenance of the planes that were done

    def products(self, tell: Callable[[float], None] | None):
        """Gives what is written of an HDU; it is asked once for each, in order."""
        if not self._asked.every:
            # Before the output is begun: most of what can go wrong goes wrong here.
            product = self._product(self._image.hdu, tell)
            return lambda _: product
        shares = iter(range(count := len(self.hdus)))

        def product_in_turn(index: int) -> Product | None:
            turn = next(shares)
            product = self._product(index, tell and (lambda part: tell((turn + part) / count)))
            if turn == count - 1 and not self._done:
                raise FitsError(f"{self._image.path}: no image could be done ({self.warnings[0]})")
            return product

        return product_in_turn

    def _product(self, index: int, tell: Callable[[float], None] | None) -> Product | None:
        asked = self._asked
        image = self._image if index == self._image.hdu else sibling(self._image, index)
        _check_memory(image, **asked.options)
        try:
            given = self._maps(image, index)
            mosaic = asked.bayer == "yes" or (
                asked.bayer == "auto" and is_bayer(image.data, image.header)
            )
            products, facts = separate_planes(
                image, given, asked.save, asked.nonnegative, tell, asked.watch, mosaic=mosaic,
                **asked.options,
            )  # fmt: skip
        except FitsError as error:
            if not asked.every:
                raise
            sentence = str(error).removeprefix(f"{image.path}: ")
            self.warnings.append(f"left alone, {sentence}")
            return None
        self._done.extend(fact for fact in facts if "model" in fact)
        told = given.notes + warnings_of(facts)
        self.warnings.extend(f"HDU {index}: {line}" if asked.every else line for line in told)
        product = product_of(
            image, products, facts, nonnegative=asked.nonnegative, keep_level=asked.keep_level
        )
        self.shown = self.shown or {"header": image.header, "cards": product.cards}
        return product

    def _maps(self, image: FitsImage, index: int) -> Maps:
        """Mask, weight and saturation of one image."""
        asked = self._asked
        given = maps_for(
            image,
            mask=_beside(asked.mask, index, asked.every),
            mask_bits=asked.mask_bits,
            weight=_beside(asked.weight, index, asked.every),
            weight_type=asked.weight_type,
            saturate=asked.saturate,
        )
        return with_companions(image, given) if asked.companions else given

    def summary(self) -> dict:
        """What a `Result` tells of all the planes that were done."""
        first = self._done[0]
        medians = {
            key: statistics.median(fact[key] for fact in self._done) for key in ("level", "rms")
        }
        return {"model": first["model"], "norm": first["norm"], **medians}


def _check_memory(image: FitsImage, *, store: Memory, model: Model, maps, **_) -> None:
    """Refuse an image that cannot be done within the limit of the store, if it has one."""
    if isinstance(store, Scratch):
        shape = as_planes(image.data).shape[1:]
        check_limit(store, shape, model.card, maps, image.label, model.engine.libraries)


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
