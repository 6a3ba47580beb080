"""Many files: each FITS image in, the same file with its sources out."""

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bgrem.arrays.rows import MAPPED, MEMORY, Memory, Scratch
from bgrem.background import ModelLike, separate
from bgrem.counts.joint_bands import joint_bands
from bgrem.inference.engine import is_out_of_memory
from bgrem.inference.memory import check_limit
from bgrem.inference.model import Model, optical_model
from bgrem.io.companions import with_companions
from bgrem.io.filter_arrays import BAYER_CELL, mosaic_cell
from bgrem.io.maps import GivenMaps, maps_for, with_defects
from bgrem.io.reading import FitsError, FitsImage, as_planes, read_image, sibling
from bgrem.io.scales import check_linear
from bgrem.io.writing import Product, write_mosaic
from bgrem.options import Run
from bgrem.processing.file_options import FileOptions, map_beside, models_of
from bgrem.processing.mosaics import separate_mosaic
from bgrem.processing.outcome import Failure, Result
from bgrem.processing.paths import (
    check_output,
    existing_folder,
    expanded_paths,
    first_picture,
    output_path,
    pictures_of,
)
from bgrem.processing.products import product_of, separate_planes
from bgrem.processing.provenance import warnings_of
from bgrem.report.pages import Pages
from bgrem.separation import Provenance, Separation
from bgrem.storage.names import home_path, named_hdu, visible_text
from bgrem.storage.opening import header_faults

__all__ = ["process_file", "process_files"]

_logger = logging.getLogger(__name__)


def process_files(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    prefix: str = "BGRem_",
    model="auto",
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
    model, counts = models_of(model)
    options = {"counts": counts} | options
    model = optical_model(model)
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
            if is_out_of_memory(error):
                yield Failure(path, f"{path}: not enough memory")
                continue
            yield Failure(
                path, f"{path}: unexpected {type(error).__name__} ({error}); please report it"
            )


@np.errstate(all="ignore")
def process_file(
    path: str | os.PathLike,
    *,
    prefix: str = "BGRem_",
    output_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    model: ModelLike = "auto",
    memory: float | None = None,
    progress: Callable[[str], AbstractContextManager] | None = None,
    **options: Any,
) -> Result:
    """Separate the image of a FITS file and write the file again with its sources.

    Parameters
    ----------
    path : path
        ``.fits``, ``.fit``, ``.fts`` or ``.fz``, also inside gzip or bzip2. Cubes go plane by plane.
        FILE[HDU] names the HDU, too.
    hdu : int or str, optional
        Index or EXTNAME of the image, or "all" for every 2-D picture of the file: maps (flags,
        weights, noise, models) are copied. Default: 0 or, where it holds no picture, the first that does.
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
    defects : str, path or array_like, optional
        Map of the camera's defects, as ``mask``: one more mask, whose pixels have a bit of their own.
    weight : str, path or array_like, optional
        Weight map, as ``mask``; see `bgrem.separate`.
    weight_type : str
        "inverse" (inverse variance), "variance" or "rms".
    saturate : float, "header" or None
        Level in data units from which on pixels are saturated; "header" for the card SATURATE,
        where there is one.
    companions : bool
        Take the mask and the weight that conventions put beside the image, where none are given:
        DQ and WHT of HST and JWST, mask and variance of HSC and LSST, DECam's ood and oow files.
    bayer : str
        Whether the image is a mosaic of a colour filter array, each colour of which has its own sky:
        "yes" (a Bayer mosaic, unless the image says otherwise), "no", or "auto" for what its pixels
        or the card BAYERPAT say.
    save : sequence of str
        Those of "background", "noise", "rms", "bkgerr", "mask", "uncertainty" and "significance"
        that are appended as extensions.
    nonnegative : bool
        Clip negative sources to 0; what is clipped goes to the noise, the parts still add up.
    keep_level : bool
        Add the median sky level (card BGR_LEVL) to the image that is written.
    report : bool
        Write also a page about it that a browser shows, the output's name with ``.html`` added; of a
        cube, about its first plane.
    plot : bool
        Write also a picture of it before (left) and after, the output's name with ``.png`` added.
    catalog : bool or path
        Write also a catalogue of the sources: the output's name with ``.cat.fits``, or a path that ends in
        ``.fits``, ``.ecsv`` or ``.vot``.
    detect : path, optional
        Another image on the same pixels, on which the sources of the catalogue are detected.
    false_rate, gain, zeropoint
        As for `bgrem.options.CatalogueOptions`.
    model, steps, norm, fwhm, sky, extended, box, tile, exposure, template, psf
        As for `bgrem.separate`; the maps also as a file, FILE[HDU] or an HDU of the same file.
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
    model, counts = models_of(model)
    asked = FileOptions.gathered(**{"counts": counts} | options)
    if memory and (asked.report or asked.plot):
        raise ValueError("a page or a picture takes more memory: give no --memory with them")
    model = optical_model(model)
    given = home_path(path)
    path, named = named_hdu(given)
    asked = asked if named is None else replace(asked, hdu=named)
    output = output_path(path, prefix=prefix, output_dir=output_dir)
    check_output(output, path, overwrite)
    pages = Pages(output, report=asked.report, plot=asked.plot, overwrite=overwrite)
    catalogue = asked.catalogue_of(path, output, model.card, overwrite=overwrite, memory=memory)
    store: Memory = MEMORY if asked.report or asked.plot else MAPPED  # a page draws the whole image
    if memory:
        store = Scratch(existing_folder(output.parent), memory)
    image = read_image(path, None if asked.every else asked.hdu, store=store)
    image = first_picture(image) if asked.hdu is None else image
    work = _Work(image, asked, model, pages.watch, catalogue)
    with progress(path.name) if progress else nullcontext() as report:
        write_mosaic(
            output, image, work.hdus, work.products(Run(store=store, progress=report)),
            overwrite=overwrite,
        )  # fmt: skip
    shown = work.shown | {"catalogue": catalogue.first if catalogue else None}
    pages.write(path.name, **shown, warnings=tuple(work.warnings))
    if catalogue:
        catalogue.write()
    seconds = time.perf_counter() - started
    _logger.info("%s: %s, %.2f s", visible_text(path), visible_text(output), seconds)
    return Result(
        input=given,
        output=output,
        **work.summary(),
        seconds=seconds,
        warnings=tuple(work.warnings),
        report=pages.report,
        plot=pages.plot,
        catalog=catalogue.path if catalogue else None,
    )


class _Work:
    """The images of one file: one, or all of them one after the other."""

    def __init__(
        self,
        image: FitsImage,
        asked: FileOptions,
        model: Model,
        watch: Callable[[Separation], None],
        catalogue,
    ) -> None:
        self._image, self._asked, self._model, self._watch = image, asked, model, watch
        self._catalogue = catalogue
        self.hdus, self.warnings = (
            pictures_of(image) if asked.every else ([image.hdu], [*image.notes])
        )
        self.shown: dict = {}  # header and cards of the first that was done
        self._done: list[Provenance] = []  # of the planes that were done

    def products(self, run: Run) -> Callable[[int], Product | None]:
        """Gives what is written of an HDU; it is asked once for each, in order."""
        if not self._asked.every:
            # Before the output is begun: most of what can go wrong goes wrong here.
            product = self._product(self._image, run)
            return lambda _: product
        turns = iter(range(count := len(self.hdus)))

        def product_in_turn(index: int) -> Product | None:
            turn = next(turns)
            image = self._image if index == self._image.hdu else sibling(self._image, index)
            product = self._product_or_none(image, replace(run, progress=run.share(turn, count)))
            if turn == count - 1 and not self._done:
                reason = next(line for line in self.warnings if line.startswith("left alone"))
                raise FitsError(f"{self._image.path}: no image could be done ({reason})")
            return product

        return product_in_turn

    def _product_or_none(self, image: FitsImage, run: Run) -> Product | None:
        """The product of one image among all; one that cannot be done is left as it is."""
        try:
            return self._product(image, run)
        except FitsError as error:
            reason = str(error).removeprefix(f"{image.path}: ")
            self.warnings.append(f"left alone, {reason}")
            return None

    def _product(self, image: FitsImage, run: Run) -> Product:
        with header_faults(image.label):
            return self._separated(image, run)

    def _separated(self, image: FitsImage, run: Run) -> Product:
        asked = self._asked
        check_linear(image.header, image.label)
        maps = self._maps(image)
        separated = joint_bands(image, maps, asked)
        if separated is None:
            _check_memory(image, run.store, self._model, asked.image.maps)
            separated = self._separate(image)
        products, planes = separate_planes(
            image, maps, separated, save=asked.save, nonnegative=asked.nonnegative,
            run=run, watch=self._watcher(image, run),
        )  # fmt: skip
        self._done.extend(plane for plane in planes if isinstance(plane, Provenance))
        noticed = maps.notes + warnings_of(planes)
        self.warnings.extend(f"HDU {image.hdu}: {n}" if asked.every else n for n in noticed)
        product = product_of(
            image, products, planes, nonnegative=asked.nonnegative, keep_level=asked.keep_level
        )
        self.shown = self.shown or {"header": image.header, "cards": product.cards}
        return product

    def _separate(self, image: FitsImage) -> Callable[..., Separation]:
        """The function that separates a plane of an image, or of a mosaic of colours."""
        asked = self._asked
        cell = None if asked.bayer == "no" else mosaic_cell(image.data, image.header)
        if asked.bayer == "yes" and cell is None:
            cell = BAYER_CELL
        separated = partial(separate, model=self._model)
        if cell:
            separated = partial(separate_mosaic, separated, cell, network=self._model.sky)
        return partial(separated, options=asked.image)

    def _watcher(self, image: FitsImage, run: Run) -> Callable[[int, Separation], Separation]:
        """What is called with the parts of each plane, for the catalogue and the page."""
        catalogue, count = self._catalogue, len(as_planes(image.data))
        if not catalogue:
            return lambda _, parts: self._watch(parts) or parts
        detected = self._detected(image, run) if self._asked.detect else None
        again = partial(separate, model=self._model, options=self._asked.image)
        hdu = image.units[image.hdu].label if self._asked.every else ""

        def watch(number: int, parts: Separation) -> Separation:
            name = f"{hdu} {number + 1}" if count > 1 else hdu
            try:
                parts = catalogue.add(
                    image, parts, plane=name.strip(), detected=detected, separate=again
                )
            except FitsError:
                raise
            except ValueError as error:
                raise FitsError(f"{image.label}: {error}") from None
            self._watch(parts)
            return parts

        return watch

    def _detected(self, image: FitsImage, run: Run) -> Separation:
        """The parts of the image on which the sources are detected."""
        path, named = named_hdu(home_path(self._asked.detect))
        other = read_image(path, named, store=run.store)
        plane = as_planes(other.data)[0]
        if plane.shape != as_planes(image.data).shape[1:]:
            sides = [" x ".join(map(str, s[::-1])) for s in (plane.shape, image.data.shape[-2:])]
            raise FitsError(f"{other.label}: has {sides[0]} pixels, the image {sides[1]}")
        return self._separate(other)(plane, **self._maps(other).of_plane(0), run=run)

    def _maps(self, image: FitsImage) -> GivenMaps:
        """Mask, weight and saturation of one image."""
        asked = self._asked
        given = maps_for(
            image,
            mask=map_beside(asked.mask, image.hdu, asked.every),
            mask_bits=asked.mask_bits,
            weight=map_beside(asked.weight, image.hdu, asked.every),
            weight_type=asked.weight_type,
            saturate=asked.saturate,
        )
        given = with_companions(image, given) if asked.companions else given
        if asked.defects is None:
            return given
        return with_defects(image, given, map_beside(asked.defects, image.hdu, asked.every))

    def summary(self) -> dict:
        """What a `Result` reports of all the planes that were done."""
        first = self._done[0]
        medians = {
            key: statistics.median(plane[key] for plane in self._done) for key in ("level", "rms")
        }
        same = {key: first[key] for key in ("model", "norm", "fwhm", "fwhm_from")}
        return same | medians


def _check_memory(image: FitsImage, store: Memory, model: Model, maps: tuple[str, ...]) -> None:
    """Refuse an image that cannot be done within the limit of the store, if it has one."""
    if isinstance(store, Scratch):
        shape = as_planes(image.data).shape[1:]
        check_limit(store, shape, model.card, maps, image.label, model.engine.libraries)
