"""Detections on counts maps against their truth: curves per square degree, or per area of the PSF.

A method is a function of a `~bgrem.counts_training.poisson_scene.CountsSky`. It gives a score map (ny, nx), whose local
maxima are its detections, or a table of detections (x, y, score) where it has no map. The curves are those of
`bgrem.evaluate.froc`; here a block of the bootstrap is a map, and areas have the unit in which false detections are
counted. Maps of one group have one exposure; their levels are compared one by one, and added.
"""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from bgrem.detection.peaks import DETECTION, local_maxima
from bgrem.evaluate.bootstrap import block_weights, interval
from bgrem.evaluate.froc import BOOTSTRAP_BLOCK, froc
from bgrem.evaluate.truth import truth_of_catalogue
from bgrem.masks.areas import around, inner

__all__ = [
    "POINT", "CountsGroup", "Method", "Scored", "curve_of_maps", "detections_of_score",
    "field_fwhm", "froc_rows", "psf_area", "read_counts_groups", "score_groups", "truth_of_counts",
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
    """Area of a disc whose diameter is the FWHM: pi / 4 FWHM^2, in square pixels.

    Parameters
    ----------
    fwhm : float
        Of the PSF in pixels.

    Returns
    -------
    float
        At least 1: a map has no more independent places than pixels.
    """
    return max(1.0, 0.25 * np.pi * float(fwhm) ** 2)


def field_fwhm(sky):
    """FWHM of the sharpest band of a field in pixels."""
    return float(np.min(sky.fwhm))


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
    fwhm, table = field_fwhm(sky), sky.truth
    usable = inner(sky.counts.shape[1:], int(np.ceil(fwhm))) & (sky.exposure > 0).any(axis=0)
    points = table[table["kind"] == POINT]
    truth = truth_of_catalogue(points["x"], points["y"], points["snr"], usable=usable, fwhm=fwhm)
    blank = truth.blank.copy()
    for source in table[table["kind"] != POINT]:
        place = np.atleast_1d(source["x"]), np.atleast_1d(source["y"])
        blank &= ~around(*place, usable.shape, source["radius"] + fwhm)
    return replace(truth, blank=blank)


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
    score = np.asarray(score)
    if score.dtype == DETECTION:
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
    """

    kind: str
    level: float
    scene: dict
    vary: dict
    number: int
    pixel: float | None
    stream: tuple

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
        """The maps, one at a time; a map does not depend on how many there are.

        Parameters
        ----------
        number : int, optional
            Of maps; by default all of them.

        Yields
        ------
        CountsSky
        """
        from bgrem.counts_training.poisson_scene import CountsScene, draw_counts

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
    """The groups of a TOML file: ``seed``, ``level_field``, and a table ``[kind.NAME]`` for each kind.

    A kind has ``levels`` (counts a pixel), ``number`` (of maps of a level), ``pixel`` (degrees, or absent) and the
    tables ``scene`` and ``vary``.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of CountsGroup

    Raises
    ------
    ValueError
        If it is not TOML, or has no kind.
    """
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error})") from None
    if not settings.get("kind") or "seed" not in settings or "level_field" not in settings:
        raise ValueError(f"{path}: needs seed, level_field and a table [kind.NAME]")
    return [
        CountsGroup(
            name, float(level), {**kind.get("scene", {}), settings["level_field"]: float(level)},
            kind.get("vary", {}), int(kind["number"]), kind.get("pixel"),
            (settings["seed"], number, step),
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
        Time for each megapixel, by method; nan where the detections were remembered.
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
        Detections are kept there, by the method's name and the map, and are not measured again. Those of methods
        whose name begins with "bgrem" are never kept: they depend on the model.
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
        found, spent, pixels = {name: [] for name in methods}, dict.fromkeys(methods, 0.0), 0
        truths, areas = [], []
        for sky in group.skies(number):
            truths.append(truth_of_counts(sky))
            areas.append(group.pixel_area(sky))
            pixels += sky.counts[0].size
            for name, method in methods.items():
                table, seconds = _detections(name, method, sky, truths[-1].usable, folder)
                found[name].append(table)
                spent[name] += seconds
        curves = {name: curve_of_maps(tables, truths, areas) for name, tables in found.items()}
        times = {name: 1e6 * seconds / pixels for name, seconds in spent.items()}
        scored.append(Scored(group, curves, times))
    return scored


def _detections(name, method, sky, usable, folder):
    """The detections of a method on a map, and its time in seconds; nan where they were kept."""
    path = None
    if folder is not None and not name.startswith("bgrem"):
        digest = hashlib.sha256(name.encode())
        for plane in (sky.counts, sky.background, sky.exposure, sky.psf):
            digest.update(np.ascontiguousarray(plane).tobytes())
        path = Path(folder) / f"{digest.hexdigest()[:24]}.npy"
        if path.exists():
            return np.load(path), np.nan
    began = perf_counter()
    score = method(sky)
    seconds = perf_counter() - began
    table = detections_of_score(score, usable)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, table)
    return table, seconds


def froc_rows(scored, of, others, *, resamples=RESAMPLES):
    """True detections at each rate of false ones, level by level and added, and ratios of a method to others.

    The bootstrap draws maps; the methods of a ratio get the same ones. 68 % intervals.

    Parameters
    ----------
    scored : list of Scored
        The sums are over the levels of a kind.
    of : str
        The method whose numbers are divided by those of the others.
    others : sequence of str
    resamples : int

    Returns
    -------
    list of dict
        Rows of one kind, level and rate, with the number of sources, of each method's true detections, and
        ``of / other`` with its interval as text. A star marks a rate at which fewer than ten false detections are
        allowed.
    """
    rows = []
    kinds = dict.fromkeys(one.group.kind for one in scored)
    for kind in kinds:
        levels = [one for one in scored if one.group.kind == kind]
        parts = [(f"{one.group.level:g}", [one]) for one in levels]
        parts += [("all", levels)] if len(levels) > 1 else []
        for rate in levels[0].group.rates:
            rows += [
                {"kind": kind, "counts/px": name, "false/" + levels[0].group.unit: rate}
                | _froc_row(part, rate, of, others, resamples)
                for name, part in parts
            ]
    return rows


def _froc_row(levels, rate, of, others, resamples):
    names = list(levels[0].curves)
    totals = {name: _true_positives(levels, name, rate, resamples) for name in names}
    first = [one.curves[names[0]] for one in levels]
    allowed = all(curve.allowed(rate) for curve in first)
    row = {"sources": f"{sum(curve.count for curve in first)}{'' if allowed else '*'}"}
    row |= {name: round(total) for name, (total, _) in totals.items()}
    ours, our_samples = totals[of] if of in totals else (np.nan, np.full(resamples, np.nan))
    for other in others:
        if other in totals and of in totals:
            theirs, their_samples = totals[other]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.divide(ours, theirs)
                low, high = interval(our_samples / their_samples)
            row[f"{of} / {other}"] = f"{ratio:.3f} ({low:.3f}-{high:.3f})"
    return row


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
