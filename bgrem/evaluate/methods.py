"""The frames of a comparison, and the methods that run on them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from bgrem.detection.detect import detect_on_sources, detect_peaks
from bgrem.detection.point_sources import detect_matched_filter, find_cosmic_rays
from bgrem.detection.psf import gaussian_psf
from bgrem.detection.sextractor import detect_sextractor, detect_sextractor_default, subtract_sky
from bgrem.evaluate.baselines import (
    detect_noisechisel,
    detect_photutils,
    detect_sextractor_tuned,
    detect_source_extractor,
    detect_wavelets,
)
from bgrem.evaluate.froc import FALSE, FALSE_RATES, match
from bgrem.evaluate.pair import read_pair, truth_of_pair
from bgrem.evaluate.truth import Truth, known_defects, truth_of_sky

__all__ = [
    "BGREM", "DEEP_ENOUGH", "MATCHED_FILTER", "SCANNED", "SEXTRACTOR", "BenchmarkFrame",
    "benchmark_frames", "comparison_methods", "deep_enough", "detect_with_bgrem", "detections_of",
    "has_false", "pair_frame", "simulated_frame",
]  # fmt: skip

#: The methods that ratios refer to: SExtractor as it comes, the best that any threshold makes of
#: it (the origin of depth gains), and the optimum of linear methods.
SEXTRACTOR, SCANNED, MATCHED_FILTER = "sextractor default", "sextractor scanned", "matched filter"
BGREM = "bgrem"
LOWEST_SIGNIFICANCE = -30.0  # significance that is looked at
#: A run with this many times the false detections of the highest rate is deep enough for every
#: interval, too; lower thresholds cost most of the time.
DEEP_ENOUGH = 3.0


@dataclass(frozen=True, eq=False)
class BenchmarkFrame:
    """A frame to be judged: what every method is given, and its truth.

    Attributes
    ----------
    name : str
    data : (ny, nx) float32
    mask : (ny, nx) bool
        Known bad pixels.
    psf : (n, n) float64
        True (simulated) or measured on the frame.
    gain : float or None
        Electrons per data unit, where known.
    truth : Truth
    """

    name: str
    data: np.ndarray
    mask: np.ndarray
    psf: np.ndarray
    gain: float | None
    truth: Truth


def simulated_frame(scene, rng, *, name="simulated"):
    """Draw a frame with its truth; an edge of two FWHM is not scored."""
    from bgrem.simulate import draw

    sky = draw(scene, rng)
    truth = truth_of_sky(sky, border=int(np.ceil(2.0 * scene.fwhm)))
    psf = np.asarray(sky.psf.image, dtype=np.float64)
    return BenchmarkFrame(name, sky.data, known_defects(sky), psf / psf.sum(), scene.gain, truth)


def benchmark_frames(count, settings):
    """Frames of a benchmark, one at a time.

    Parameters
    ----------
    count : int
        Number of frames.
    settings : dict
        ``seed``: an integer; ``scene``: values of `bgrem.simulate.Scene`; ``vary``: for each name a
        pair (low, high) between which a value even in its logarithm is drawn for every frame.

    Yields
    ------
    BenchmarkFrame
    """
    from bgrem.simulate.scene_files import make_scene

    source = settings.get("title", "the benchmark")
    for i in range(count):
        # A stream for each frame: frame 7 is the same in a benchmark of 8 frames and of 100.
        rng = np.random.default_rng([settings.get("seed", 0), i])
        varied = {
            name: float(np.exp(rng.uniform(*np.log(limits))))
            for name, limits in sorted(settings.get("vary", {}).items())
        }
        scene = make_scene({**settings.get("scene", {}), **varied}, source)
        yield simulated_frame(scene, rng, name=f"simulated {i}")


def pair_frame(single, deep, *, fwhm=None):
    """The frame of a single exposure that a deep stack confirms.

    Parameters
    ----------
    single, deep : str or path
        FITS files as `bgrem.evaluate.pair.read_pair` takes them.
    fwhm : float, optional
        FWHM in pixels of a Gaussian PSF; by default the PSF is measured on the exposure.

    Returns
    -------
    BenchmarkFrame
    """
    pair = read_pair(single, deep)
    seen = truth_of_pair(pair, psf=None if fwhm is None else gaussian_psf(fwhm))
    return BenchmarkFrame(Path(single).name, pair.single, pair.mask, seen.psf, None, seen.truth)


def comparison_methods(*, model=None, steps=1, program=True, others=False, enough=None):
    """The methods to compare: name -> function of a `BenchmarkFrame` that gives its detections.

    Parameters
    ----------
    model : str, path or Model, optional
        bgrem's model; without it bgrem is left out.
    steps : int
        Diffusion steps.
    program : bool
        Whether to run the source-extractor program, too.
    others : bool
        Whether to run SEP, photutils, NoiseChisel and wavelets, too (`bgrem.evaluate.baselines`).
    enough : callable, optional
        Of a frame and the detections of one of SExtractor's thresholds: whether lower ones need not
        be tried.

    Returns
    -------
    dict
    """

    def until(frame):
        return None if enough is None else partial(enough, frame)

    chosen: dict[str, Callable] = {
        SEXTRACTOR: lambda frame: detect_sextractor_default(frame.data, mask=frame.mask),
        SCANNED: lambda frame: detect_sextractor(frame.data, mask=frame.mask, enough=until(frame)),
        "sextractor cleaned": lambda frame: detect_sextractor(
            frame.data, mask=_without_cosmic_rays(frame), enough=until(frame)
        ),
        "sextractor tuned": lambda frame: detect_sextractor_tuned(
            frame.data, frame.psf, mask=_without_cosmic_rays(frame), enough=until(frame)
        ),
        MATCHED_FILTER: lambda frame: detect_matched_filter(
            frame.data, frame.psf, mask=frame.mask, gain=frame.gain
        ),
    }
    if program:
        chosen["source-extractor"] = lambda frame: detect_source_extractor(
            frame.data, mask=frame.mask
        )
    if others:
        chosen |= {
            "sep": lambda frame: detect_sextractor(
                frame.data, mask=_without_cosmic_rays(frame), local=True, enough=until(frame)
            ),
            "photutils": lambda frame: detect_photutils(
                frame.data, frame.psf, mask=_without_cosmic_rays(frame), enough=until(frame)
            ),
            "wavelets": lambda frame: detect_wavelets(
                frame.data, mask=_without_cosmic_rays(frame), enough=until(frame)
            ),
            "noisechisel": lambda frame: detect_noisechisel(
                frame.data, mask=_without_cosmic_rays(frame), enough=until(frame)
            ),
        }
    if model is not None:
        chosen[BGREM] = lambda frame: detect_with_bgrem(frame, model=model, steps=steps)
    return chosen


@lru_cache(maxsize=1)  # several methods ask for it, one after the other
def _without_cosmic_rays(frame):
    """The frame's mask with the cosmic rays that astroscrappy finds added."""
    sky = subtract_sky(frame.data, mask=frame.mask, passes=2)
    return frame.mask | find_cosmic_rays(sky, frame.psf, mask=frame.mask, gain=frame.gain)


def deep_enough(frame, found):
    """Whether a list holds enough false detections, so that lower thresholds add nothing.

    Parameters
    ----------
    frame : BenchmarkFrame
    found : structured array
        x, y, score.

    Returns
    -------
    bool
    """
    return has_false(frame, found, limit=DEEP_ENOUGH * max(FALSE_RATES))


def has_false(frame, found, *, limit):
    """Whether a list holds more than `limit` false detections per Mpix of a frame.

    Parameters
    ----------
    frame : BenchmarkFrame
    found : structured array
        x, y, score.
    limit : float

    Returns
    -------
    bool
    """
    outcome, _ = match(found, frame.truth)
    return bool(np.count_nonzero(outcome == FALSE) > limit * frame.truth.area)


def detect_with_bgrem(frame, *, model, steps=1):
    """Detect by bgrem's recipe, see `detections_of`."""
    from bgrem.background import separate

    parts = separate(frame.data, mask=frame.mask, model=model, steps=steps)
    return detections_of(parts, frame.mask)


def detections_of(parts, mask=None):
    """What bgrem detects: maxima of the significance, or of the smoothed sources without one.

    Parameters
    ----------
    parts : bgrem.separation.Separation
    mask : (ny, nx) bool, optional
        True where nothing is to be detected.

    Returns
    -------
    structured array
        `bgrem.detection.peaks.DETECTION`.
    """
    if parts.significance is not None:
        return detect_peaks(parts.significance, threshold=LOWEST_SIGNIFICANCE, mask=mask)
    return detect_on_sources(parts.sources, parts.rms, mask=mask)
