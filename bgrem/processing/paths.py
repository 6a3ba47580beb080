"""The files that paths, folders and globs stand for, the paths of their outputs, and their pictures."""

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from bgrem.io.companions import map_hdus
from bgrem.io.reading import FitsError, FitsImage, image_hdus, is_fits_name, sibling
from bgrem.processing.outcome import Failure
from bgrem.storage.names import home_path, named_hdu

__all__ = [
    "check_output", "existing_folder", "expanded_paths", "first_picture", "output_path", "pictures_of",
]  # fmt: skip

MOST_LABELS = 8  # of HDUs in one line
PACKED_NAMES = (".Z", ".xz", ".zip", ".zst", ".7z", ".lz4", ".lzma")


def output_path(
    path: str | os.PathLike, *, prefix: str = "BGRem_", output_dir: str | os.PathLike | None = None
) -> Path:
    """The path of an output: ``prefix`` + the name of the input, in ``output_dir`` or beside the input."""
    path, _ = named_hdu(path)
    return (path.parent if output_dir is None else home_path(output_dir)) / (prefix + path.name)


def check_output(output: Path, path: Path, overwrite: bool) -> None:
    """Refuse before the work an output that could not be written after it, with a FitsError."""
    path, _ = named_hdu(path)
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
    folder = existing_folder(output.parent)
    if not folder.is_dir():
        raise FitsError(f"{output}: cannot be written, {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FitsError(f"{output}: cannot be written, the folder {folder} is not writable")


def existing_folder(folder: Path) -> Path:
    """A folder, or its nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def expanded_paths(paths: Iterable[str | os.PathLike], prefix: str) -> Iterator[Path | Failure]:
    """The files that files, folders and globs stand for, without duplicates; FILE[HDU] stays so.

    In folders and globs, names that begin with ``prefix`` are left out. A path that stands for no file
    gives a `Failure`.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    seen = set()
    for given in paths:
        try:
            found = _files_of(home_path(given), prefix)
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
        found = [path for path in sorted(given.iterdir()) if _is_image(path) and path.is_file()]
    elif named_hdu(given)[0].exists() or not glob.has_magic(str(given)):
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


def _is_image(path: Path) -> bool:
    """Whether a name is that of a FITS file, also of a packed one, which is refused with advice."""
    return is_fits_name(path) or (
        path.suffix in PACKED_NAMES and is_fits_name(path.with_suffix(""))
    )


def first_picture(image: FitsImage) -> FitsImage:
    """The image, or the first picture of its file if it is a map."""
    maps = map_hdus(image) if len(image_hdus(image)) > 1 else {}
    pictures = [index for index in image_hdus(image) if index not in maps]
    if image.hdu not in maps or not pictures:
        return image
    picture = sibling(image, pictures[0])
    note = f"{image.units[image.hdu].label} is a map, took {picture.units[picture.hdu].label}"
    return replace(picture, notes=(*picture.notes, note))


def pictures_of(image: FitsImage) -> tuple[list[int], list[str]]:
    """The HDUs of the file that hold one 2-D picture each, and a line on each kind of map among them."""
    flat = [
        index
        for index, header in image_hdus(image).items()
        if sum(n > 1 for n in _lengths(header)) == 2
    ]
    if not flat:
        raise FitsError(f"{image.path}: no HDU holds a 2-D image")
    maps = {index: reason for index, reason in map_hdus(image).items() if index in flat}
    kinds = defaultdict(list)
    for index, reason in maps.items():
        kinds[reason].append(image.units[index].label)
    notes = [
        f"copied unchanged, maps known {reason}: {', '.join(labels[:MOST_LABELS])}"
        + (f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else "")
        for reason, labels in kinds.items()
    ]
    if len(maps) == len(flat):
        raise FitsError(f"{image.path}: holds no picture ({'; '.join(notes)}), -h N separates one")
    return [index for index in flat if index not in maps], notes


def _lengths(header: Mapping) -> list[int]:
    axes = "ZNAXIS" if header.get("ZIMAGE") is True else "NAXIS"
    return [header[f"{axes}{i + 1}"] for i in range(header[axes])]
