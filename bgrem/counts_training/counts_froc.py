"""Detections on counts maps against their truth: curves per square degree, or per area of the PSF.

A method is a function of a `~bgrem.counts_scenes.poisson_scene.CountsSky`. It gives a score map (ny, nx), whose local
maxima are its detections, or a table of detections (x, y, score) where it has no map. The curves are those of
`bgrem.evaluate.froc`; here a block of the bootstrap is a map, and areas have the unit in which false detections are
counted. The maps of a group have one level; the levels of a kind are compared one by one, and added.
"""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.detection.peaks import DETECTION, local_maxima
from bgrem.evaluate.bootstrap import block_weights, interval
from bgrem.evaluate.froc import BOOTSTRAP_BLOCK, froc
from bgrem.evaluate.truth import TOLERATED_SNR, truth_of_catalogue
from bgrem.masks.areas import around, inner

__all__ = [
    "AREAS", "POINT", "CountsGroup", "Method", "Scored", "counts_groups", "curve_of_maps",
    "detections_of_score", "field_fwhm", "froc_rows", "near_extended", "point_sources", "psf_area",
    "read_counts_groups", "score_groups", "truth_of_counts",
]  # fmt: skip

#: A function of a CountsSky that gives a score map (ny, nx) or a table of detections.
Method = Callable
#: `kind` of a point source in the truth.
POINT = 0
#: Number of PSF areas in the unit of area of fields whose pixels have no size in degrees.
AREAS = 1e4
RESAMPLES = 500  # of the bootstrap
#: False detections per unit of area: per square degree, and per 1e4 PSF areas.
RATES_DEGREES, RATES_AREAS = (0.01, 0.1), (1.0, 10.0)


def psf_area(fwhm):
    """Noise-equivalent area of a Gaussian of a FWHM in pixels, in square pixels: 4 pi sigma^2 (King 1983, PASP 95, 163)."""
    return 4.0 * np.pi * (fwhm / FWHM_PER_SIGMA) ** 2


def field_fwhm(sky):
    """FWHM in pixels of a Gaussian of the noise-equivalent area of the PSF, in the sharpest band."""
    return float(np.min(sky.fwhm))


def point_sources(sky):
    """Rows of the truth table that `truth_of_counts` lists, in its order."""
    return sky.truth[(sky.truth["kind"] == POINT) & (sky.truth["snr"] >= TOLERATED_SNR)]


def near_extended(sky):
    """Pixels within the radius and one FWHM of the extended sources of a field, (ny, nx) bool."""
    near = np.zeros(sky.counts.shape[1:], dtype=bool)
    for source in sky.truth[sky.truth["kind"] != POINT]:
        place = np.atleast_1d(source["x"]), np.atleast_1d(source["y"])
        near |= around(*place, near.shape, source["radius"] + field_fwhm(sky))
    return near


def truth_of_counts(sky):
    """What must be found in a simulated counts map.

    Point sources of an expected S/N of at least 2 count (`bgrem.evaluate.truth.COUNTED_SNR`). Detections on
    fainter ones down to 0.7 and on extended sources are not scored. An edge of one FWHM and what has no exposure are
    left out.

    Parameters
    ----------
    sky : CountsSky

    Returns
    -------
    bgrem.evaluate.truth.Truth
        Its `radius` is the larger of 1.5 pixels and half the FWHM.
    """
    fwhm, points = field_fwhm(sky), point_sources(sky)
    usable = inner(sky.counts.shape[1:], int(np.ceil(fwhm))) & (sky.exposure > 0).any(axis=0)
    truth = truth_of_catalogue(points["x"], points["y"], points["snr"], usable=usable, fwhm=fwhm)
    return replace(truth, blank=truth.blank & ~near_extended(sky))


def detections_of_score(score, usable=None):
    """Detections of a method's answer.

    Parameters
    ----------
    score : (ny, nx) array, or structured array with x, y, score
        nan where the method says nothing.
    usable : (ny, nx) bool, optional
        Where detections may lie.

    Returns
    -------
    structured array
        `bgrem.detection.peaks.DETECTION`, best score first.
    """
    if np.asarray(score).dtype == DETECTION:
        return score
    return local_maxima(score.astype(np.float64), threshold=-np.inf, usable=usable)


def curve_of_maps(detections, truths, pixel_areas):
    """The curve of a method on maps, a block of the bootstrap for each map.

    Parameters
    ----------
    detections : list of structured array
        One table for each map.
    truths : list of bgrem.evaluate.truth.Truth
    pixel_areas : sequence of float
        Area of a pixel of each map, in the unit in which false detections are counted.

    Returns
    -------
    bgrem.evaluate.froc.Froc
        Its areas have that unit.
    """
    curve = froc(detections, truths)
    blocks = [
        -(-truth.usable.shape[0] // BOOTSTRAP_BLOCK) * -(-truth.usable.shape[1] // BOOTSTRAP_BLOCK)
        for truth in truths
    ]
    map_of = np.repeat(np.arange(len(truths)), blocks)
    area = [
        np.count_nonzero(truth.usable) * size
        for truth, size in zip(truths, pixel_areas, strict=True)
    ]
    return replace(
        curve, block=map_of[curve.block], source_block=map_of[curve.source_block],
        block_area=np.array(area, dtype=np.float64),
    )  # fmt: skip


# ---- frozen maps -----------------------------------------------------------------------


@dataclass(frozen=True)
class CountsGroup:
    """Maps of one kind and level.

    Attributes
    ----------
    kind, level : str, float
        Name of the kind, and expected background in counts a pixel.
    scene : dict
        Fields of `CountsScene`.
    vary : dict
        Name -> (low, high): fields drawn evenly in the logarithm for each map.
    number : int
        Of maps.
    pixel : float or None
        Side of a pixel in degrees; without it areas are counted in 1e4 PSF areas.
    stream : tuple of int
        Start of the random numbers.
    methods : tuple of str or None
        Beginnings of the names of the methods that are compared; None: all.
    """

    kind: str
    level: float
    scene: dict
    vary: dict
    number: int
    pixel: float | None
    stream: tuple
    methods: tuple | None = None

    def compares(self, name):
        """Whether a method of this name is compared on these maps."""
        return self.methods is None or name.startswith(self.methods)

    @property
    def rates(self):
        """False detections per unit of area at which methods are compared."""
        return RATES_AREAS if self.pixel is None else RATES_DEGREES

    @property
    def unit(self):
        """The unit of area."""
        return "1e4 PSF areas" if self.pixel is None else "deg2"

    def pixel_area(self, sky):
        """Area of a pixel of one of its maps in the unit."""
        if self.pixel is None:
            return 1.0 / (AREAS * psf_area(field_fwhm(sky)))
        return self.pixel**2

    def skies(self, number=None):
        """Yield the maps, or a number of them; a map does not depend on how many there are."""
        from bgrem.counts_scenes.poisson_scene import CountsScene, draw_counts

        for i in range(self.number if number is None else min(number, self.number)):
            rng = np.random.default_rng([*self.stream, i])
            varied = {
                name: float(np.exp(rng.uniform(*np.log(limits))))
                for name, limits in sorted(self.vary.items())
            }
            scene = {**self.scene, **varied}
            scene["shape"] = tuple(scene["shape"])
            yield draw_counts(CountsScene(**scene), rng)


def read_counts_groups(path):
    """The groups of a TOML file, as `counts_groups` understands it.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    ValueError
        If it is not TOML, or has no kind or seed.
    """
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error})") from None
    if settings.get("kind") and "seed" in settings:
        return counts_groups(settings)
    raise ValueError(f"{path}: needs a seed and a table [kind.NAME]")


def counts_groups(settings):
    """Groups by their settings: ``seed``, and of each ``kind`` a table by its name.

    A kind has ``levels`` (counts a pixel), ``number`` (of maps of a level), ``pixel`` (degrees, or absent),
    ``methods`` (or absent) and the tables ``scene`` and ``vary``.

    Parameters
    ----------
    settings : dict

    Returns
    -------
    list of CountsGroup
    """
    return [
        CountsGroup(
            name, float(level), {**kind.get("scene", {}), "level": float(level)},
            kind.get("vary", {}), int(kind["number"]), kind.get("pixel"),
            (settings["seed"], number, step),
            tuple(kind["methods"]) if "methods" in kind else None,
        )
        for number, (name, kind) in enumerate(settings["kind"].items())
        for step, level in enumerate(kind["levels"])
    ]  # fmt: skip


# ---- methods on frozen maps ------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """A group's curves.

    Attributes
    ----------
    group : CountsGroup
    curves : dict of str to bgrem.evaluate.froc.Froc
        By method.
    seconds : dict of str to float
        Time for each megapixel, by method.
    """

    group: CountsGroup
    curves: dict
    seconds: dict


def score_groups(groups, methods, *, number=None, folder=None, progress=None):
    """Run methods on the maps of groups.

    Parameters
    ----------
    groups : list of CountsGroup
    methods : dict of str to Method
    number : int, optional
        Of maps of each group.
    folder : path-like, optional
        Detections are kept there with their time, by the method's name and the map, and are not measured again.
        Those of methods whose name begins with "bgrem" are never kept: they depend on the model.
    progress : callable, optional
        Called with a line of text for each group.

    Returns
    -------
    list of Scored
    """
    scored = []
    for group in groups:
        if progress:
            progress(f"{group.kind}, {group.level:g} counts a pixel")
        used = {name: method for name, method in methods.items() if group.compares(name)}
        found, spent = {name: [] for name in used}, dict.fromkeys(used, 0.0)
        truths, areas, pixels = [], [], 0
        for sky in group.skies(number):
            truths.append(truth_of_counts(sky))
            areas.append(group.pixel_area(sky))
            pixels += sky.counts[0].size
            for name, method in used.items():
                table, seconds = _detections(name, method, sky, truths[-1].usable, folder)
                found[name].append(table)
                spent[name] += seconds
        curves = {name: curve_of_maps(tables, truths, areas) for name, tables in found.items()}
        times = {name: 1e6 * seconds / pixels for name, seconds in spent.items()}
        scored.append(Scored(group, curves, times))
    return scored


def _detections(name, method, sky, usable, folder):
    """The detections of a method on a map, and its time in seconds."""
    path = None
    if folder is not None and not name.startswith("bgrem"):
        planes = (sky.counts, sky.background, sky.exposure, sky.psf)
        content = [name.encode(), *(np.ascontiguousarray(plane).tobytes() for plane in planes)]
        path = Path(folder) / f"{hashlib.sha256(b''.join(content)).hexdigest()[:24]}.npz"
        if path.exists():
            with np.load(path) as kept:
                return kept["table"], float(kept["seconds"])
    began = perf_counter()
    score = method(sky)
    seconds = perf_counter() - began
    table = detections_of_score(score, usable)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, table=table, seconds=seconds)
    return table, seconds


def froc_rows(scored, pairs, *, resamples=RESAMPLES):
    """True detections at each rate of false ones, level by level and added, and ratios of methods.

    The bootstrap draws maps; both methods of a ratio get the same ones. 68 % intervals.

    Parameters
    ----------
    scored : list of Scored
    pairs : sequence of (str, str)
        The methods whose true detections are divided.
    resamples : int

    Returns
    -------
    counts, ratios : list of dict
        Rows of one kind, level and rate: the true detections of each method, and the ratios with their intervals as
        text. A star marks a rate at which fewer than ten false detections are allowed.
    """
    counts, ratios = [], []
    for kind in dict.fromkeys(one.group.kind for one in scored):
        levels = [one for one in scored if one.group.kind == kind]
        parts = [(f"{one.group.level:g}", [one]) for one in levels]
        parts += [("all", levels)] if len(levels) > 1 else []
        for rate in levels[0].group.rates:
            for name, part in parts:
                row = {"kind": kind, "counts/px": name}
                row |= {"false": f"{rate:g} per {part[0].group.unit}"}
                found, quotients = _froc_row(part, rate, pairs, resamples)
                counts.append(row | found)
                ratios.append(row | quotients)
    return counts, ratios


def _froc_row(levels, rate, pairs, resamples):
    """Numbers of sources and true detections by method, and ratios by pair."""
    names = list(levels[0].curves)
    totals = {name: _true_positives(levels, name, rate, resamples) for name in names}
    first = [one.curves[names[0]] for one in levels]
    allowed = all(curve.allowed(rate) for curve in first)
    counts = {"sources": f"{sum(curve.count for curve in first)}{'' if allowed else '*'}"}
    counts |= {name: round(total) for name, (total, _) in totals.items()}
    ratios = {}
    for pair in pairs:
        (ours, our_samples), (theirs, their_samples) = (
            totals.get(name, (np.nan, np.full(resamples, np.nan))) for name in pair
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.divide(ours, theirs)
            low, high = interval(our_samples / their_samples)
        shown = f"{ratio:.3f} ({low:.3f}-{high:.3f})"
        ratios[" / ".join(pair)] = shown if np.isfinite(ratio) else None
    return counts, ratios


def _true_positives(levels, name, rate, resamples):
    """True detections of the levels at a rate each, and their bootstrap samples."""
    total, samples = 0.0, np.zeros(resamples)
    for i, one in enumerate(levels):
        curve = one.curves[name]
        total += curve.true_positives(rate)
        # The same maps for each method.
        weights = block_weights(curve, resamples, np.random.default_rng(i))
        samples += [curve.true_positives(rate, weight) for weight in weights]
    return total, samples
