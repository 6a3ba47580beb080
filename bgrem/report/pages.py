"""The files that lie beside an output: its page, its picture, and the index of a batch."""

import os
from collections.abc import Sequence
from pathlib import Path

from bgrem.arrays.rows import Derived
from bgrem.counts.counts_path import CountsBackground
from bgrem.io.reading import FitsError
from bgrem.report.counts_page import counts_picture
from bgrem.report.pictures import averaged, before_after, block_factor
from bgrem.separation import Separation
from bgrem.storage.temporary import remove_orphans, temporary_path

# `bgrem.report.document` is imported where it is used: its import takes as long as the sky of an
# image, and most images get no page.

__all__ = ["Pages", "check_templates", "index_path", "write_index", "write_whole"]

PLOT_SIDE = 1024  # pixels of each half of the picture


class Pages:
    """The page and the picture of one image, if the user asks for them.

    Parameters
    ----------
    output : path
        The file of the sources.
    report, plot : bool
    overwrite : bool
        Replace them where they exist.

    Attributes
    ----------
    report, plot : Path or None
        Where they go.

    Raises
    ------
    ValueError
        Before the work, if they could not be written after it.
    """

    def __init__(self, output: Path, *, report: bool, plot: bool, overwrite: bool) -> None:
        self.output = output
        self.report = output.with_name(output.name + ".html") if report else None
        self.plot = output.with_name(output.name + ".png") if plot else None
        self._parts: Separation | None = None
        self._planes = 0
        if report:
            check_templates()
        for path in filter(None, (self.report, self.plot)):
            if path.exists() and not overwrite:
                raise FitsError(f"{path}: exists already (--overwrite replaces it)")

    def watch(self, parts: Separation) -> None:
        """Keep the first plane of an image, if there is a page or a picture to write."""
        self._planes += 1
        if self._parts is None and (self.report or self.plot):
            self._parts = parts

    def write(self, name: str, **facts) -> None:
        """Write the page and the picture of the image of this name.

        The facts are ``header``, ``cards``, ``warnings`` and ``catalogue`` of `bgrem.report.image_page`.
        """
        if self._planes > 1:
            name += f" (the first of {self._planes} planes)"
        if self.report:
            from bgrem.report.document import image_page

            page = image_page(self._parts, name=name, output=self.output.name, **facts)
            write_whole(self.report, page.encode("utf-8", "replace"))
        if self.plot:
            counts = isinstance(self._parts.sky, CountsBackground)
            write_whole(self.plot, (counts_picture if counts else _picture)(self._parts))


def _picture(parts: Separation) -> bytes:
    """Before and after, in units of the sky rms."""
    level, rms = parts.sky.median_level, parts.sky.median_rms
    factor = block_factor(parts.data.shape, PLOT_SIDE)
    before = Derived(parts.data, lambda rows: (rows - level) / rms)
    after = Derived(parts.sources, lambda rows: rows / rms)
    return before_after(averaged(before, factor), averaged(after, factor))


def check_templates() -> None:
    """Make sure that pages can be written.

    Raises
    ------
    ValueError
        If jinja2 is not installed.
    """
    from bgrem.report.document import templates

    templates()


def index_path(pages: Sequence[Path], prefix: str) -> Path:
    """The path of the index: beside the pages, or in the folder above all of them.

    Parameters
    ----------
    prefix : str
        Of the outputs.
    """
    folder = os.path.commonpath([page.absolute().parent for page in pages])
    return Path(folder, f"{prefix}index.html")


def write_index(pages: Sequence[Path], prefix: str) -> Path:
    """Write the index of a batch; that of an earlier batch in the same place is replaced.

    Parameters
    ----------
    pages : sequence of path
        As `Pages` wrote them.
    prefix : str
        Of the outputs.
    """
    from bgrem.report.document import index_page

    path = index_path(pages, prefix)
    absolute = [page.absolute() for page in pages]
    write_whole(path, index_page(absolute, path.parent).encode("utf-8", "replace"))
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears complete under its name or not at all."""
    temporary = temporary_path(path)
    remove_orphans(path.parent)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
