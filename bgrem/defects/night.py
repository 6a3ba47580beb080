"""The frames of a batch by detector, and the map of defects of each."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astropy.io import fits

from bgrem import __version__
from bgrem.defects.camera import CameraOptions, detectors_in, find_defects
from bgrem.defects.measure import FEWEST_FRAMES
from bgrem.inference.model import Model
from bgrem.io.readout import Detector
from bgrem.processing.outcome import Failure
from bgrem.processing.paths import expanded_paths, output_path
from bgrem.storage.names import home_path, named_hdu

__all__ = ["Share", "shares_of"]

DIGEST = "BGR_DIGE"


@dataclass(frozen=True)
class Share:
    """Frames of one detector.

    Attributes
    ----------
    paths : list of path
    map : Path or None
        Of the defects of the detector; None if there is none.
    notes : list of str
        What an observer must know of the map, one sentence each.
    failures : list of Failure
        Of files that are not processed.
    """

    paths: list[Path] = field(default_factory=list)
    map: Path | None = None
    notes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def shares_of(
    files: Iterable[str | os.PathLike],
    prefix: str = "BGRem_",
    output_dir: str | os.PathLike | None = None,
    *,
    model: Model,
    options: CameraOptions,
    progress: Callable[[Sequence], Iterable] = iter,
) -> Iterator[Share]:
    """Group the frames of a batch by detector, and measure the map of each with five or more.

    The maps are beside the outputs: ``prefix`` + defects.fits, with numbers if there are several. A map of
    the same frames, by size and time of change, is not measured again. Frames that cannot be used are left
    out. The parameters are those of `bgrem.process_batch` and of `find_defects`.

    Yields
    ------
    Share
        Paths that cannot be used come first.
    """
    paths, failures = _distinct(files, prefix, output_dir)
    groups, unread = _by_detector(paths, options.hdu)
    yield Share(unread, None, [], failures)
    many = sum(len(group) >= FEWEST_FRAMES for group in groups) > 1
    number = 0
    for group in groups:
        if len(group) < FEWEST_FRAMES:
            note = f"no map of defects for {_names(group)}: {len(group)} of its detector, {FEWEST_FRAMES} frames are needed"
            yield Share(group, None, [note])
            continue
        number += 1
        folder = named_hdu(group[0])[0].parent if output_dir is None else home_path(output_dir)
        output = folder / f"{prefix}defects{f'-{number}' if many else ''}.fits"
        digest = _digest(group, options, model)
        try:
            notes = []
            if not _is_of(output, digest):
                written = find_defects(
                    group, output, model=model, options=options, overwrite=_is_of(output),
                    facts={DIGEST: (digest, "of the frames and options")}, progress=progress,
                )  # fmt: skip
                notes = [str(written), *(f"{output}: {line}" for line in written.warnings)]
            yield Share(group, output, notes)
        except ValueError as error:
            yield Share(group, None, [f"no map of defects for {_names(group)}: {error}"])


def _names(group: Sequence[Path]) -> str:
    return str(group[0]) if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"


def _distinct(files, prefix: str, output_dir) -> tuple[list[Path], list[Failure]]:
    """The files of a batch without those whose output is already that of another."""
    paths: dict[Path, Path] = {}
    failures = []
    for path in expanded_paths(files, prefix):
        if isinstance(path, Failure):
            failures.append(path)
            continue
        output = output_path(path, prefix=prefix, output_dir=output_dir)
        first = paths.setdefault(output, path)
        if first != path:
            failures.append(
                Failure(path, f"{path}: its output {output} is already that of {first}")
            )
    return list(paths.values()), failures


def _by_detector(paths: Sequence[Path], hdu) -> tuple[list[list[Path]], list[Path]]:
    """Groups of files of the same detectors, and the files that cannot be read."""
    known: list[tuple[list[Detector], list[Path]]] = []
    unread = []
    for path in paths:
        try:
            own = detectors_in(path, hdu)
        except (ValueError, OSError):
            unread.append(path)  # it is reported when it is processed
            continue
        for detectors, group in known:
            if len(own) == len(detectors) and not any(map(Detector.difference, own, detectors)):
                group.append(path)
                break
        else:
            known.append((own, [path]))
    return [group for _, group in known], unread


def _digest(paths: Sequence[Path], options: CameraOptions, model: Model) -> str:
    """A hash of all that a map depends on."""
    states = []
    for path in paths:
        found = os.stat(named_hdu(path)[0])
        states.append([str(path.absolute()), found.st_size, found.st_mtime_ns])
    whole = [sorted(states), str(options.hdu), options.companions, __version__, model.sha256]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]


def _is_of(output: Path, digest: str | None = None) -> bool:
    """Whether a file is a map that a batch wrote, of the frames and options with this digest if one is given."""
    try:
        with fits.open(output) as hdus:
            found = next((hdu.header[DIGEST] for hdu in hdus if DIGEST in hdu.header), None)
    except (OSError, ValueError):
        return False
    return found is not None and digest in (None, found)
