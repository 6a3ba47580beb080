"""Detections and flux errors on a user's frame, of sources of known flux that are drawn into it.

Stars and galaxies are drawn into the frame with its own PSF and noise (`bgrem.evaluate.target`), and every
method runs on the frame as it is, on frames with sources, and on the frame turned upside down.

**Equal lists.** A detection that is no injected source may be real: which detections of a real frame
are false is not known. So methods are compared at equal numbers of *all* detections: in each frame
with sources the threshold of a method is the one at which it lists N of them away from the injected
ones. Of N detections
those that are not true are false. If the injected sources stand for the real ones, then of two
methods with lists of one length the one that finds more of the injected sources holds more true and
therefore fewer false ones; lowering its threshold until it has as many false ones as the other can
only add to what it finds. So **the sign of a difference in depth at equal lists is that at equal false
detections, and its size is a lower limit of it.** Cosmic rays, hot pixels, fragments of galaxies and
halos, which make most of the false detections of real frames, count in full. A limit of the rule: real
objects of another kind than the injected ones (nebulae, for example) count against the method that
lists them.

N is how many the matched filter lists in the original at the threshold at which it has 10 peaks of
pure noise per megapixel (or the next of `bgrem.evaluate.froc.FALSE_RATES` that the area allows), which are
counted upside down, and at least as many as it lists at S/N 5: dark nebulae are peaks upside down, and
in a list of nothing but certain sources there is no false one to compare. A method whose list ends
before N (SExtractor's default at its one threshold) is taken as it is. The threshold is found in
each frame anew, because the sources in it may move a method's scores.

**False alarms.** Two numbers, neither of which is the whole truth:

- *upside down*: detections per megapixel on the frame mirrored at its sky level, at the threshold at
  which N are listed in the original, away from all that is seen in the original (its sources are
  holes there, and masked). Noise is symmetric to first order: this counts what noise alone makes. It
  knows nothing of cosmic rays, hot pixels and halos, which have one sign, and at a few photons per
  pixel noise is not symmetric.
- *fragments*: detections per injected source beside it, beyond 1 FWHM (and the half-light radius of
  a galaxy), where neither any method lists anything in the original nor the matched filter sees
  anything at 3.5 sigma: halos and pieces of sources.

All other detections are not scored: they may be real. Nor is an injected source that falls on
something that any method lists in the original, or that the matched filter sees there: whether it or
its neighbour was found is unknown.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from bgrem.evaluate.froc import FALSE_RATES, LEAST_FALSE
from bgrem.evaluate.injection_report import (
    InjectionReport,
    completeness_rows,
    flux_rows,
    method_rows,
)
from bgrem.evaluate.methods import (
    BGREM,
    MATCHED_FILTER,
    BenchmarkFrame,
    comparison_methods,
    detections_of,
)
from bgrem.evaluate.target import GALAXY, SEEN_SIGMA, inject
from bgrem.evaluate.truth import Truth, matching_radius
from bgrem.masks.areas import around, grown, inside

__all__ = [
    "beside", "evaluate_injected", "found_by_models", "known_places", "length_of_lists", "truth_of",
    "upside_down",
]  # fmt: skip

#: Injected sources that are enough, and the number of frames they may be spread over.
ENOUGH_SOURCES, MOST_INJECTED_FRAMES = 600, 8
#: S/N of the matched filter that makes the shortest list.
USUAL_SNR = 5.0


def evaluate_injected(target, *, model=None, steps=1, rng, progress=None):
    """Inject sources into a frame, run every method, and compare them at equal lists.

    Parameters
    ----------
    target : bgrem.evaluate.target.Target
    model : Model, optional
        Without it bgrem is left out.
    steps : int
        Diffusion steps.
    rng : numpy.random.Generator
        Draws the sources.
    progress : callable, optional
        Called with a sentence before each run.

    Returns
    -------
    InjectionReport
    """
    run = partial(_run, model=model, steps=steps, progress=progress)
    original = BenchmarkFrame(target.name, target.data, target.mask, target.psf, target.gain, None)
    upside = upside_down(target)
    blank = target.usable & ~upside.mask
    rate = _least_rate(blank)
    length = length_of_lists(target, original, upside, blank, rate)
    lists, _ = run(original, limit=2 * length)
    lists = {name: _usable(found, target)[:length] for name, found in lists.items()}
    levels = {name: _last_score(found) for name, found in lists.items()}
    alarms = {}
    if rate is not None:
        below, _ = run(upside, limit=length)
        alarms = {name: _rate(_above(found, levels[name]), blank) for name, found in below.items()}
    reference = lists[MATCHED_FILTER]
    injections, found, parts = _with_sources(target, original, run, reference, rng)
    known = known_places(target, lists)
    truths = [truth_of(target, one.sources, known) for one in injections]
    scored = sum(np.count_nonzero(truth.counted) for truth in truths)
    if not scored:
        raise ValueError(f"{target.name}: the frame's own sources leave no room for others")
    rows = method_rows(found, truths, injections, lists=lists, levels=levels, alarms=alarms)
    facts = {
        "FWHM": target.fwhm, "PSF from": target.psf_source, "gain": target.gain, "gain from": target.gain_source,
        "Mpix": np.count_nonzero(target.usable) / 1e6,
        "blank Mpix": np.count_nonzero(blank) / 1e6, "frames": len(injections),
        "injected": sum(one.sources.size for one in injections), "scored": scored, "list": length,
        "noise peaks/Mpix": rate,
    }  # fmt: skip
    completeness = completeness_rows(found, truths, injections)
    flux = flux_rows(target, injections, truths, parts) if model is not None else []
    return InjectionReport(target.name, facts, rows, completeness, flux)


def found_by_models(target, models, *, rng):
    """How many injected sources each of some models finds in a frame, at equal lists.

    Parameters
    ----------
    target : bgrem.evaluate.target.Target
    models : dict of str to Model
        By name.
    rng : numpy.random.Generator
        Draws the sources.

    Returns
    -------
    found : dict of str to int
    scored : int
        Injected sources that could be found.

    Raises
    ------
    ValueError
        If the frame's own sources leave no room for others.
    """
    from bgrem.background import separate

    matched = comparison_methods(program=False)[MATCHED_FILTER]

    def run(frame, *, limit):
        del limit
        lists = {MATCHED_FILTER: matched(frame)}
        for name, model in models.items():
            parts = separate(frame.data, mask=frame.mask, model=model)
            lists[name] = detections_of(parts, frame.mask)
        return lists, None

    original = BenchmarkFrame(target.name, target.data, target.mask, target.psf, target.gain, None)
    upside = upside_down(target)
    blank = target.usable & ~upside.mask
    length = length_of_lists(target, original, upside, blank, _least_rate(blank))
    lists = {
        name: _usable(found, target)[:length] for name, found in run(original, limit=0)[0].items()
    }
    injections, found, _ = _with_sources(target, original, run, lists[MATCHED_FILTER], rng)
    known = known_places(target, lists)
    truths = [truth_of(target, one.sources, known) for one in injections]
    scored = sum(np.count_nonzero(truth.counted) for truth in truths)
    if not scored:
        raise ValueError(f"{target.name}: the frame's own sources leave no room for others")
    return {name: _number_found(found[name], truths) for name in models}, scored


def _number_found(tables, truths):
    """Counted sources with a detection in reach, in all frames."""
    number = 0
    for table, truth in zip(tables, truths, strict=True):
        near = around(table["x"], table["y"], truth.usable.shape, truth.radius)
        number += np.count_nonzero(truth.counted & inside(near, truth.x, truth.y))
    return number


def _with_sources(target, original, run, reference, rng):
    """Inject and run until there are enough sources: injections, detections by method, parts.

    Each list ends where as many detections lie away from the injected sources as the `reference`, the
    matched filter's list of the original, has there.
    """
    injections, found, parts = [], {}, []
    while (
        len(injections) < MOST_INJECTED_FRAMES
        and sum(one.sources.size for one in injections) < ENOUGH_SOURCES
    ):
        injections.append(inject(target, rng))
        sources = injections[-1].sources
        frame = replace(original, data=injections[-1].data,
                        name=f"{target.name} with sources {len(injections)}")  # fmt: skip
        tables, part = run(frame, limit=2 * (reference.size + sources.size))
        away = target.usable & ~beside(target, sources)
        length = np.count_nonzero(inside(away, reference["x"], reference["y"]))
        for name, table in tables.items():
            others = table[inside(away, table["x"], table["y"])]
            kept = _above(table, _last_score(others[:length]) if length else np.inf)
            found.setdefault(name, []).append(kept)
        parts.append(part)
    return injections, found, parts


def beside(target, sources):
    """(ny, nx) bool: within reach of the light of injected sources."""
    near = around(sources["x"], sources["y"], target.data.shape, 3.0 * target.fwhm)
    for source in sources[sources["kind"] == GALAXY]:
        # Three half-light radii hold nearly all of a galaxy.
        reach = 3.0 * (target.fwhm + source["radius"])
        near |= around([source["x"]], [source["y"]], near.shape, reach)
    return near


def _run(frame, *, model, steps, limit, progress):
    """All methods on a frame: name -> detections; and bgrem's parts.

    SExtractor's ladder ends when a run alone has more than `limit` detections.
    """
    methods = comparison_methods(program=False, enough=lambda _, found: found.size > limit)
    methods.pop("sextractor cleaned")
    found = {}
    for name, method in methods.items():
        if progress:
            progress(f"{frame.name}: {name}")
        found[name] = method(frame)
    if model is None:
        return found, None
    from bgrem.background import separate

    if progress:
        progress(f"{frame.name}: {BGREM}")
    parts = separate(frame.data, mask=frame.mask, model=model, steps=steps)
    found[BGREM] = detections_of(parts, frame.mask)
    return found, parts


def upside_down(target):
    """The frame mirrored at its sky level, with the holes that its sources leave in the mask."""
    sources = grown(target.significance >= SEEN_SIGMA, 2.0 * target.fwhm)
    data = target.data - 2 * target.subtracted.residual
    return BenchmarkFrame(
        f"{target.name} upside down", data, target.mask | sources, target.psf, target.gain, None
    )


def _least_rate(blank):
    """The lowest of the rates that the blank area allows, or None."""
    area = np.count_nonzero(blank) / 1e6
    return next((rate for rate in FALSE_RATES if rate * area >= LEAST_FALSE), None)


def length_of_lists(target, original, upside, blank, rate):
    """How many detections each method may list in the original.

    As many as the matched filter lists where it has `rate` peaks of the noise per Mpix, or at its
    usual S/N if these are more or the rate is None.
    """
    matched = comparison_methods(program=False)[MATCHED_FILTER]
    level = USUAL_SNR * target.spread
    if rate is not None:
        noise = matched(upside)
        noise = noise[inside(blank, noise["x"], noise["y"])]
        allowed = int(rate * np.count_nonzero(blank) / 1e6)
        if noise.size > allowed:
            level = min(level, noise["score"][allowed])
    found = _usable(matched(original), target)
    return max(1, np.count_nonzero(found["score"] >= level))


def _usable(found, target):
    return found[inside(target.usable, found["x"], found["y"])]


def _above(found, level):
    return found[found["score"] >= level]


def _last_score(found):
    """The score that ends a list; none is high enough where it is empty."""
    return float(found["score"].min()) if found.size else np.inf


def _rate(found, blank):
    """Detections per megapixel of the blank area."""
    area = np.count_nonzero(blank) / 1e6
    return np.count_nonzero(inside(blank, found["x"], found["y"])) / area


def known_places(target, lists):
    """(ny, nx) bool: near anything that any method lists, or the matched filter sees, in the original."""
    known = target.seen
    reach = matching_radius(target.fwhm)
    for found in lists.values():
        known = known | around(found["x"], found["y"], known.shape, reach)
    return known


def truth_of(target, sources, known):
    """Truth of one frame with injected sources.

    Blank, where a detection is false, is only the surroundings of the injected sources.
    """
    reach = matching_radius(target.fwhm)
    x, y, snr = (sources[name].astype(np.float64) for name in ("x", "y", "snr"))
    free = target.usable & ~known
    counted = inside(free, x, y)
    blank = free & beside(target, sources)
    blank &= ~around(x, y, free.shape, max(target.fwhm, reach))
    for galaxy in sources[sources["kind"] == GALAXY]:
        blank &= ~around([galaxy["x"]], [galaxy["y"]], free.shape, target.fwhm + galaxy["radius"])
    return Truth(x, y, snr, counted, target.usable, blank, reach)
