"""Methods side by side on the same frames: a table, a plot and the numbers behind them."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bgrem.detection import detect
from bgrem.detection.psf import gaussian_psf
from bgrem.evaluate import baselines
from bgrem.evaluate.froc import FALSE, RATES, Froc, compare, depth_gain, froc, match
from bgrem.evaluate.pair import read_pair, truth_of_pair
from bgrem.evaluate.truth import Truth, known_defects, truth_of_sky

#: The methods that ratios refer to: SExtractor as it comes, the best that any threshold makes of
#: it (the origin of depth gains), and the optimum of linear methods.
SEXTRACTOR, SCANNED, MATCHED_FILTER = "sextractor default", "sextractor scanned", "matched filter"
BGREM = "bgrem"
LOWEST = -30.0  # significance that is looked at
#: A run with this many times the false detections of the highest rate is deep enough for every
#: interval, too; lower thresholds cost most of the time.
DEEP_ENOUGH = 3.0
REFERENCES = (SEXTRACTOR, SCANNED, MATCHED_FILTER)


HEADING = (
    f"{'method':18s} {'false/Mpix':>10s} {'true':>6s} {'68 %':^13s} {'chance':>6s}"
    f"   {'/ sextractor default':19s}  {'/ sextractor scanned':19s}  {'/ matched filter':19s}"
    "   depth gain, mag"
)


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


def methods(*, model=None, steps=1, program=True, others=False, enough=None):
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
        SEXTRACTOR: lambda frame: detect.detect_sextractor_default(frame.data, mask=frame.mask),
        SCANNED: lambda frame: detect.detect_sextractor(
            frame.data, mask=frame.mask, enough=until(frame)
        ),
        "sextractor cleaned": lambda frame: detect.detect_sextractor(
            frame.data, mask=_without_cosmic_rays(frame), enough=until(frame)
        ),
        "sextractor tuned": lambda frame: detect.detect_sextractor_tuned(
            frame.data, frame.psf, mask=_without_cosmic_rays(frame), enough=until(frame)
        ),
        MATCHED_FILTER: lambda frame: detect.detect_matched_filter(
            frame.data, frame.psf, mask=frame.mask, gain=frame.gain
        ),
    }
    if program:
        chosen["source-extractor"] = lambda frame: detect.detect_source_extractor(
            frame.data, mask=frame.mask
        )
    if others:
        chosen |= {
            "sep": lambda frame: detect.detect_sextractor(
                frame.data, mask=_without_cosmic_rays(frame), local=True, enough=until(frame)
            ),
            "photutils": lambda frame: baselines.detect_photutils(
                frame.data, frame.psf, mask=_without_cosmic_rays(frame), enough=until(frame)
            ),
            "wavelets": lambda frame: baselines.detect_wavelets(
                frame.data, mask=_without_cosmic_rays(frame), enough=until(frame)
            ),
            "noisechisel": lambda frame: baselines.detect_noisechisel(
                frame.data, mask=_without_cosmic_rays(frame), enough=until(frame)
            ),
        }
    if model is not None:
        chosen[BGREM] = lambda frame: detect_with_bgrem(frame, model=model, steps=steps)
    return chosen


@lru_cache(maxsize=1)  # several methods ask for it, one after the other
def _without_cosmic_rays(frame):
    """The frame's mask with the cosmic rays that astroscrappy finds added."""
    sky = detect.subtract_sky(frame.data, mask=frame.mask, passes=2)
    return frame.mask | detect.find_cosmic_rays(sky, frame.psf, mask=frame.mask, gain=frame.gain)


def deep_enough(frame, found):
    """Whether a list holds so many false detections that lower thresholds tell nothing.

    Parameters
    ----------
    frame : BenchmarkFrame
    found : structured array
        x, y, score.

    Returns
    -------
    bool
    """
    return has_false(frame, found, limit=DEEP_ENOUGH * max(RATES))


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
        return detect.detect_peaks(parts.significance, threshold=LOWEST, mask=mask)
    return detect.detect_on_sources(parts.sources, parts.rms, mask=mask)


@dataclass(frozen=True)
class Report:
    """Scored curves of several methods on the same frames.

    Attributes
    ----------
    title : str
    curves : dict
        Name -> `bgrem.evaluate.froc.Froc`.
    absent : dict
        Name -> why the method was not run.
    blank : float
        Part of the usable area in which detections can be false.
    """

    title: str
    curves: dict
    absent: dict
    blank: float

    def rows(self, *, resamples=500, seed=0):
        """A dict per method and rate: counts, ratios to the references, depth gains."""
        rows = []
        for name, curve in self.curves.items():
            against = {
                reference: compare(
                    curve, self.curves[reference], rng=np.random.default_rng(seed),
                    resamples=resamples,
                )
                for reference in REFERENCES if reference in self.curves
            }  # fmt: skip
            own = compare(curve, curve, rng=np.random.default_rng(seed), resamples=resamples)
            for i, entry in enumerate(own):
                row = {"method": name, **asdict(entry)}
                del row["ratio"], row["ratio_interval"]
                for reference, entries in against.items():
                    row[f"ratio to {reference}"] = entries[i].ratio
                    row[f"ratio to {reference}, interval"] = entries[i].ratio_interval
                row["limiting S/N"] = curve.limiting_snr(entry.rate)
                gain = depth_gain(
                    curve, self.curves.get(SCANNED, curve), rate=entry.rate,
                    rng=np.random.default_rng(seed), resamples=min(resamples, 200),
                )  # fmt: skip
                row["depth gain (mag)"], row["depth gain, interval"] = gain
                rows.append(row)
        self._add_headline(rows, resamples=min(resamples, 200), seed=seed)
        return rows

    def _add_headline(self, rows, *, resamples, seed):
        """To bgrem's row of the lowest rate: its depth gains on every reference."""
        ours = [row for row in rows if row["method"] == BGREM][:1]
        for row in ours:
            for reference in (name for name in REFERENCES if name in self.curves):
                row[f"depth gain on {reference}"] = depth_gain(
                    self.curves[BGREM], self.curves[reference], rate=row["rate"],
                    rng=np.random.default_rng(seed), resamples=resamples,
                )  # fmt: skip

    def table(self, rows=None):
        """The report as text."""
        rows = self.rows() if rows is None else rows
        first = next(iter(self.curves.values()))
        lines = [
            f"{self.title}: {first.count} sources, {first.area:.3f} Mpix, {self.blank:.0%} blank",
            HEADING,
        ]
        for row in rows:
            low, high = row["true_interval"]
            text = f"{row['method']:18s} {row['rate']:10.0f} {row['true']:6.0f}"
            text += f" {low:6.0f}-{high:<6.0f} {row['chance']:6.1f}"
            for reference in REFERENCES:
                if f"ratio to {reference}" in row:
                    low, high = row[f"ratio to {reference}, interval"]
                    text += f"   {row[f'ratio to {reference}']:.3f} ({low:.3f}-{high:.3f})"
            low, high = row["depth gain, interval"]
            text += f"   {row['depth gain (mag)']:+.3f} ({low:+.3f} {high:+.3f})"
            lines.append(text + ("" if row["complete"] else "  list ends before this rate"))
        lines += [f"{name:18s} {reason}" for name, reason in self.absent.items()]
        lines += headline(rows)
        if not rows:
            lines.append("the area is too small for ten false detections at any rate")
        return "\n".join(lines)

    def write(self, folder, name, *, rows=None, plot=True):
        """Write ``name.json``, ``name.csv`` and, with matplotlib, ``name.png``.

        Returns
        -------
        list of pathlib.Path
        """
        rows = self.rows() if rows is None else rows
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        first = next(iter(self.curves.values()))
        summary = {
            "title": self.title, "sources": first.count, "area_mpix": first.area,
            "blank": self.blank, "chance": first.chance, "absent": self.absent, "rows": rows,
        }  # fmt: skip
        written = [folder / f"{name}.json", folder / f"{name}.csv"]
        written[0].write_text(json.dumps(_plain(summary), indent=1) + "\n")
        points = ["method,score,false_per_mpix,true"]
        for method, curve in self.curves.items():
            points += [f"{method},{score:.6g},{false:.6g},{true:d}" for score, false, true in
                       zip(*_steps(curve), strict=True)]  # fmt: skip
        written[1].write_text("\n".join(points) + "\n")
        if plot and find_spec("matplotlib"):
            written.append(folder / f"{name}.png")
            self.plot(written[-1])
        return written

    def plot(self, path):
        """FROC of all methods, and their completeness at the lowest rate that is allowed."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        first = next(iter(self.curves.values()))
        rate = next((rate for rate in RATES if first.allowed(rate)), RATES[-1])
        snr = np.geomspace(2.0, 60.0, 80)
        for name, curve in self.curves.items():
            _, false, true = _steps(curve)
            left.plot(false, true, label=name)
            right.plot(snr, curve.completeness(rate, snr), label=name)
        left.set(xscale="log", xlabel="false detections per Mpix", ylabel="true detections")
        left.set(xlim=(max(1.0, 1.0 / first.area), 1000.0))
        left.legend(fontsize=7)
        right.axhline(0.5, color="0.7", lw=0.8)
        right.set(xscale="log", xlabel="S/N of the source", ylim=(0, 1.02))
        right.set(ylabel=f"completeness at {rate:.0f} false per Mpix")
        right.minorticks_off()
        right.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
        figure.suptitle(self.title)
        figure.savefig(path, dpi=75)


def headline(rows):
    """Lines that say what bgrem gains at the lowest rate: depth first, then true detections.

    Parameters
    ----------
    rows : list of dict
        As `Report.rows` gives.

    Returns
    -------
    list of str
    """
    lines = []
    for row in rows:
        for reference in (name for name in REFERENCES if f"depth gain on {name}" in row):
            if not lines:
                lines.append(
                    f"bgrem at {row['rate']:.0f} false per Mpix: depth gain at 50 % completeness, "
                    "ratio of true detections"
                )
            gain, (low, high) = row[f"depth gain on {reference}"]
            text = f"on {reference:18s} {gain:+.3f} mag ({low:+.3f} {high:+.3f})"
            low, high = row[f"ratio to {reference}, interval"]
            ratio = row[f"ratio to {reference}"]
            lines.append(f"{text}   {ratio:.3f} ({low:.3f}-{high:.3f})")
    return lines


def _steps(curve: Froc, deepest=2000.0):
    """Score, false per Mpix and true detections where the curve's false count rises."""
    false = np.cumsum(curve.source < 0)
    true = np.cumsum(curve.source >= 0)
    ends = np.flatnonzero(curve.source < 0)
    ends = ends[: np.searchsorted(false[ends], deepest * curve.area)]
    return curve.score[ends], false[ends] / curve.area, true[ends]


def _plain(value):
    """The value with what JSON does not know (NumPy numbers, nan) as what it knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def evaluate_frames(frames, chosen, *, title, progress=None):
    """Run methods on frames and score them.

    Parameters
    ----------
    frames : iterable of BenchmarkFrame
        Looked at one by one: only their truth is kept.
    chosen : dict
        As `methods` gives.
    title : str
    progress : callable, optional
        Called with a sentence before each run.

    Returns
    -------
    Report
    """
    truths, found, absent = [], {name: [] for name in chosen}, {}
    for frame in frames:
        truths.append(frame.truth)
        for name in [name for name in chosen if name not in absent]:
            if progress:
                progress(f"{frame.name}: {name}")
            try:
                found[name].append(chosen[name](frame))
            except ModuleNotFoundError as missing:
                absent[name] = f"{missing.name} is not installed"
            except FileNotFoundError as missing:
                absent[name] = str(missing)
            except subprocess.CalledProcessError as failed:
                # The other methods can be compared all the same.
                said = (failed.stderr or b"").decode(errors="replace").strip().splitlines()
                absent[name] = f"failed on {frame.name}: {said[-1] if said else failed}"
    curves = {name: froc(found[name], truths) for name in chosen if name not in absent}
    blank = sum(np.count_nonzero(truth.blank) for truth in truths)
    usable = sum(np.count_nonzero(truth.usable) for truth in truths)
    return Report(title, curves, absent, blank / usable)
