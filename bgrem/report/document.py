"""The page of an image and the index of a batch, each a single file that works without a network."""

import base64
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from bgrem import __version__
from bgrem.arrays.rows import Computed, Derived, Rows
from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.arrays.tiling import row_strips
from bgrem.counts.counts_path import CountsBackground
from bgrem.masks.flags import MASKED, NOT_FINITE
from bgrem.report.census import Census, take_census
from bgrem.report.charts import completeness_chart, flux_chart, noise_chart, purity_chart
from bgrem.report.counts_page import counts_context
from bgrem.report.pictures import AsinhCodes, averaged, block_factor, png, stretched
from bgrem.separation import Separation
from bgrem.storage.names import visible_text

__all__ = ["image_page", "index_page", "templates"]

PICTURE_SIDE = 2048  # pixels; larger images are averaged down
MAP_SIDE = 96
THUMBNAIL_SIDE = 240
MOST_MARKS = 20_000  # of each kind; more would hide the image
HISTOGRAM_PIXELS = 1_000_000  # of the noise histogram
SUMMARY = re.compile(r'<script id="summary" type="application/json">(.*?)</script>', re.DOTALL)
# Columns of the catalogue that the page shows.
SHOWN_COLUMNS = (
    "NUMBER", "x", "y", "ALPHA_J2000", "DELTA_J2000", "FLUX_AUTO", "FLUXERR_AUTO", "FLUX_PSF", "FLUXERR_PSF",
    "MAG_AUTO", "MAGERR_AUTO", "SNR", "SIGNIF", "P_REAL", "FLUX_RADIUS", "FWHM_IMAGE", "CLASS_STAR", "FLAGS",
)  # fmt: skip
# Cards that identify the image; those in the header are shown.
TITLES = ("OBJECT", "TELESCOP", "INSTRUME", "FILTER", "EXPTIME", "DATE-OBS")


def templates():
    """The environment of the templates.

    Returns
    -------
    `jinja2.Environment`

    Raises
    ------
    ValueError
        If jinja2 is not installed; the message says how to install it.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise ValueError(
            "a report needs jinja2, which is not installed (pip install 'bgrem[report]')"
        ) from None
    environment = Environment(
        loader=PackageLoader("bgrem.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["card"] = _card_text
    return environment


def image_page(
    parts: Separation,
    *,
    name: str,
    output: str = "",
    header=None,
    cards: Sequence[tuple[str, object, str]] = (),
    warnings: Sequence[str] = (),
    catalogue=None,
) -> str:
    """The page of one image.

    Parameters
    ----------
    parts : `~bgrem.separation.Separation`
    name, output : str
        Of the image, and of the file that was written.
    header : mapping, optional
        The image's header; its object, telescope, filter and exposure are shown.
    cards : sequence of (keyword, value, comment)
        The provenance of the parts.
    warnings : sequence of str
    catalogue : `~astropy.table.QTable`, optional
        The sources of the image, as of `bgrem.Separation.catalog`.

    Returns
    -------
    str
        HTML.
    """
    header = header or {}
    common = {
        "name": name,
        "output": output,
        "titles": _titles(header),
        "warnings": list(warnings),
        "cards": cards,
        "facts": parts.provenance,
        "version": __version__,
    }
    if isinstance(parts.sky, CountsBackground):
        context = common | counts_context(parts, header)
        context["summary"] = {
            "name": name,
            "thumbnail": context["thumbnail"],
            "line": context["line"],
        }
        return templates().get_template("counts.html").render(context)
    census = take_census(parts)
    pull = _pull(parts)
    thumbnail, view = _pictures(parts)
    numbers = _numbers(parts, census)
    context = common | {
        "numbers": numbers,
        "unit": str(header.get("BUNIT", "")).strip() or "data units",
        "census": census,
        "partial": census.window != (slice(0, parts.data.shape[0]), slice(0, parts.data.shape[1])),
        "noise_chart": noise_chart(pull),
        "tails": _tails(pull),
        "flux_chart": flux_chart(census.snr, census.on_sources / census.on_data),
        "maps": _maps(parts),
        "view": view | {"marks": _marks(census)},
        "catalogue": None if catalogue is None else _listed(catalogue),
        "selection_charts": [] if catalogue is None else _selection_charts(catalogue),
        "summary": {"name": name, "thumbnail": thumbnail, "line": _line(parts, numbers, warnings)},
    }
    return templates().get_template("image.html").render(context)


def index_page(pages: Sequence[Path], folder: Path) -> str:
    """The index of the pages of several images, as HTML, with links relative to ``folder``.

    Each page holds its own thumbnail and its line of the index.
    """
    images = [
        json.loads(SUMMARY.search(page.read_text(encoding="utf-8"))[1])
        | {"link": quote(os.fsencode(Path(os.path.relpath(page, folder)).as_posix()))}
        for page in pages
    ]
    return templates().get_template("index.html").render(images=images, version=__version__)


# --- numbers


def _visible(value: object) -> object:
    """A value of a page, control characters of a text escaped; HTML stays as it is."""
    return (
        visible_text(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
    )


def _card_text(value: object) -> str:
    """A card's value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _numbers(parts: Separation, census: Census) -> dict[str, int]:
    after = len(census.both) + len(census.gained)
    return {
        "after": after,
        "before": len(census.lost) + len(census.artefacts) + after - len(census.gained),
        "gained": len(census.gained),
        "lost": len(census.lost),
        "artefacts": len(census.artefacts),
    }


def _titles(header) -> list[str]:
    """The cards of the header that identify the image, as text."""
    said = {key: str(header.get(key, "")).strip() for key in TITLES}
    if isinstance(header.get("EXPTIME"), int | float):
        said["EXPTIME"] = f"{header['EXPTIME']:g} s"
    return [text for text in said.values() if text]


def _line(parts: Separation, numbers: dict[str, int], warnings: Sequence[str]) -> str:
    """One line of numbers for the index."""
    ny, nx = parts.data.shape
    facts = parts.provenance
    seeing = f", FWHM {facts.fwhm:.1f} px ({facts.fwhm_from})" if facts.fwhm_from else ""
    warned = f", {len(warnings)} warning{'s'[: len(warnings) > 1]}" if warnings else ""
    return (
        f"{nx} × {ny} px, sky {facts['level']:.6g} ± {facts['rms']:.3g}{seeing}; "
        f"{numbers['after']} detections, {numbers['gained']} gained, {numbers['lost']} lost{warned}"
    )


def _pull(parts: Separation) -> np.ndarray:
    """The noise over the rms at good pixels; of large images a sample."""
    every = max(1, int(np.sqrt(parts.data.size / HISTOGRAM_PIXELS)))
    found = []
    for rows in row_strips(parts.data.shape):
        background = parts.sky.background[rows]
        noise = np.subtract(parts.data[rows], background, dtype=np.float64) - parts.sources[rows]
        pull = (noise / parts.sky.rms[rows])[::every, ::every]
        good = (parts.mask[rows][::every, ::every] & (NOT_FINITE | MASKED)) == 0
        found.append(pull[good & np.isfinite(pull)])
    return np.concatenate(found)


def _tails(pull: np.ndarray) -> dict[str, float]:
    low, middle, high = np.percentile(pull, (15.87, 50, 84.13)) if pull.size else (0, 0, 0)
    beyond = {f"beyond_{k}": float(np.mean(np.abs(pull) > k)) for k in (3, 5)}
    return {"median": float(middle), "width": float(high - low) / 2, **beyond}


# --- pictures


def _pictures(parts: Separation) -> tuple[str, dict]:
    """The thumbnail, and the data of the viewer, in units of the sky rms."""
    shape, sky = parts.data.shape, parts.sky
    factor = block_factor(shape, PICTURE_SIDE)

    level, rms = sky.median_level, np.float64(sky.median_rms)

    def without_sky(rows):
        return np.subtract(parts.data[rows], sky.background[rows], dtype=np.float64) / rms

    flat = averaged(Computed(shape, np.float64, without_sky), factor)
    sources = averaged(Derived(parts.sources, lambda rows: rows / rms), factor)
    relative = Derived(sky.background, lambda rows: (rows - level) / sky.median_rms)
    gradient = averaged(relative, factor)
    noise = max(_scatter(flat), 1e-3)
    both = np.concatenate([flat[np.isfinite(flat)], sources[np.isfinite(sources)], [-1.0, 10.0]])
    codes = AsinhCodes.over(both.min(), both.max(), noise)
    view = {
        "shape": shape,
        "factor": factor,
        "flat": _data_uri(png(codes.encode(flat))),
        "sources": _data_uri(png(codes.encode(sources))),
        "codes": [None, *(float(f"{value:.4g}") for value in codes.table()[1:])],
        "gradient": _grid(relative),
        "level": level,
        "rms": sky.median_rms,
        "noise": noise,
        "white": float(np.clip(np.percentile(both, 99.8), 15 * noise, 300.0)),
        "zscale": {"flat": _zscale(flat), "data": _zscale(flat + gradient)},
    }
    return _thumbnail(flat + gradient, sources, noise), view


def _scatter(picture: np.ndarray) -> float:
    """Noise of a picture from its MAD; averaging makes it smaller than that of the sky."""
    values = picture[np.isfinite(picture)]
    return SIGMA_PER_MAD * float(np.median(np.abs(values - np.median(values))))


def _zscale(picture: np.ndarray) -> list[float]:
    from astropy.visualization import ZScaleInterval

    return [float(limit) for limit in ZScaleInterval().get_limits(picture[np.isfinite(picture)])]


def _thumbnail(data: np.ndarray, sources: np.ndarray, noise: float) -> str:
    """The data on the left, the sources on the right."""
    factor = block_factor(data.shape, THUMBNAIL_SIDE)
    before, after = averaged(data, factor), averaged(sources, factor)
    middle = before.shape[1] // 2
    halves = np.hstack([before[:, :middle], after[:, middle:]])
    return _data_uri(png(stretched(halves, black=-2 * noise / factor, white=30 * noise / factor)))


def _maps(parts: Separation) -> list[dict]:
    """The smooth maps, in data units."""
    sky, place = parts.sky, parts.provenance.extended
    maps = [
        _map("background", "Background", sky.background),
        _map("error", "Error of the background (1 sigma)", sky.error),
        _map("rms", "Noise of the sky (rms)", sky.rms),
    ]
    if sky.wide_light is not None:
        maps.append(_map("wide", f"Wide light, in the {place}", sky.wide_light))
    return maps


def _map(name: str, title: str, part: Rows) -> dict:
    grid = _grid(part)
    return {"id": name, "title": title, "grid": grid, "low": grid["low"], "high": grid["high"]}


def _grid(part: Rows) -> dict:
    """A smooth map on a coarse grid, as 16-bit integers over its range."""
    values = averaged(part, factor := block_factor(part.shape, MAP_SIDE)).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    codes = np.rint((values - low) / (high - low or 1.0) * 65535).astype("<u2")
    return {
        "factor": factor,
        "shape": values.shape,
        "low": low,
        "high": high,
        "codes": base64.b64encode(codes.tobytes()).decode(),
    }


def _marks(census: Census) -> dict[str, list[float]]:
    """Positions of the marks in the viewer: x, y, x, y, …"""
    return {
        kind: getattr(census, kind)[:MOST_MARKS].round(1).ravel().tolist()
        for kind in ("both", "gained", "lost", "artefacts")
    }


def _listed(table) -> dict:
    """The surest sources of a catalogue and their main columns, as text."""
    names = [name for name in SHOWN_COLUMNS if name in table.colnames]
    order = np.sort(np.argsort(-np.asarray(table["SIGNIF"]))[:MOST_MARKS])
    columns = [np.asarray(table[name])[order] for name in names]
    return {
        "names": names,
        "units": [str(table[name].unit or "") for name in names],
        "meanings": [table[name].info.description or "" for name in names],
        "rows": [[_number_text(value) for value in row] for row in zip(*columns, strict=True)],
        "count": len(table),
    }


def _selection_charts(table) -> list[dict]:
    """Charts of the completeness and the purity of a catalogue, where they were measured on the frame."""
    charts = []
    if (selection := table.meta.get("SELECTION")) is not None:
        points = selection[np.asarray(selection["KIND"]) == "points"]
        names = ("SNR", "COMPLETENESS", "COMPLETENESS_ERR", "COMPLETENESS_FIT")
        svg = completeness_chart(*(np.asarray(points[name], float) for name in names))
        text = "Of point sources planted into the image, the part that the catalogue holds."
        charts.append({"title": "Completeness", "svg": svg, "text": text})
    if "P_REAL" in table.colnames:
        svg = purity_chart(np.asarray(table["SIGNIF"]), np.asarray(table["P_REAL"]))
        text = "P_REAL of the sources, from detections in the noise of the image with its sign changed."
        charts.append({"title": "Purity", "svg": svg, "text": text})
    return charts


def _number_text(value) -> str:
    """A number of a catalogue in at most ten digits, which are enough for places on the sky."""
    return f"{value:d}" if isinstance(value, np.integer) else f"{value:.10g}"


def _data_uri(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
