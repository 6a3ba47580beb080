"""Charts as SVG; their colours come from the style sheet of the page."""

from dataclasses import dataclass

import numpy as np

__all__ = ["completeness_chart", "counts_chart", "flux_chart", "noise_chart", "purity_chart"]

CHART_WIDTH, CHART_HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 46
WIDEST = 8.0  # sky rms; the histogram covers -WIDEST to WIDEST
NOISE_BINS = 96
MOST_POINTS = 4000  # of a scatter plot: more overlap and make the page large
MEDIAN_SOURCES = 8  # fewest sources of a point of the running median


@dataclass(frozen=True)
class Axis:
    """From values to positions on the chart; logarithmic if `log`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, values) -> np.ndarray:
        low, high, values = (np.log10(v) if self.log else v for v in (self.low, self.high, values))
        return self.start + (self.stop - self.start) * (values - low) / (high - low)


class RootAxis(Axis):
    """From values, 0 and above, to positions, with equal steps for equal steps of the square root."""

    def __call__(self, values) -> np.ndarray:
        part = np.sqrt(np.asarray(values, float) / self.high)
        return self.start + (self.stop - self.start) * part


def counts_chart(edges, observed, expected) -> str:
    """Numbers of pixels by their counts, and the numbers that are expected, as SVG.

    Parameters
    ----------
    edges : (m + 1,) array of int
        Counts; a bar reaches from one edge to below the next.
    observed, expected : (m,) array
        Pixels.
    """
    highest = 10.0 ** np.ceil(np.log10(max(observed.max(initial=1), 10)))
    x = RootAxis(0.0, float(edges[-1]), LEFT, CHART_WIDTH - RIGHT)
    y = Axis(0.3, highest, CHART_HEIGHT - BOTTOM, TOP, log=True)
    at = np.repeat(x(edges), 2)
    bars, line = (
        _path(at, np.concatenate([[y(0.3)], np.repeat(y(np.maximum(n, 0.3)), 2), [y(0.3)]]))
        for n in (observed, expected)
    )
    across = [n for n in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000) if n < edges[-1]]
    body = (
        _frame(
            x,
            y,
            "counts in a pixel",
            "pixels",
            across,
            10.0 ** np.arange(round(np.log10(highest)) + 1),
        )
        + f'<path class="area" d="{bars}Z"/><path class="line model" d="{line}"/>'
    )
    return _svg(body, "Pixels by their counts, with the number expected by Poisson's distribution")


def noise_chart(pull: np.ndarray) -> str:
    """Histogram of noise / rms of pixels, all finite, with a unit Gaussian for comparison, as SVG."""
    edges = np.linspace(-WIDEST, WIDEST, NOISE_BINS + 1)
    density = np.histogram(np.clip(pull, -WIDEST, WIDEST), edges)[0] / (
        max(pull.size, 1) * (edges[1] - edges[0])
    )
    lowest = 1e-6
    x = Axis(-WIDEST, WIDEST, LEFT, CHART_WIDTH - RIGHT)
    y = Axis(lowest, 1.0, CHART_HEIGHT - BOTTOM, TOP, log=True)
    across = np.linspace(-WIDEST, WIDEST, 161)
    bell = np.exp(-0.5 * across**2) / np.sqrt(2 * np.pi)
    seen = bell > lowest
    stairs = _path(
        np.repeat(x(edges), 2),
        np.concatenate([[y(lowest)], np.repeat(y(np.maximum(density, lowest)), 2), [y(lowest)]]),
    )
    body = (
        _frame(
            x,
            y,
            "noise / rms",
            "fraction of the pixels per unit",
            range(-8, 9, 2),
            10.0 ** np.arange(-6, 1),
        )
        + f'<path class="area" d="{stairs}Z"/>'
        + f'<path class="line model" d="{_path(x(across[seen]), y(bell[seen]))}"/>'
    )
    return _svg(body, "Histogram of the noise in units of the rms map, with a unit Gaussian")


def flux_chart(snr: np.ndarray, ratio: np.ndarray) -> str:
    """Flux on the sources over flux on data - background against S/N, with the running median, as SVG.

    Sources whose ratio is not finite, or whose S/N is at most 1, are left out.
    """
    good = np.isfinite(ratio) & (snr > 1)
    snr, ratio = snr[good], ratio[good]
    highest = 10.0 ** np.ceil(np.log10(max(snr.max(initial=100.0), 100.0)))
    x = Axis(1.0, highest, LEFT, CHART_WIDTH - RIGHT, log=True)
    y = Axis(0.0, 2.0, CHART_HEIGHT - BOTTOM, TOP)
    drawn = np.random.default_rng(0).permutation(snr.size)[:MOST_POINTS]
    points = "".join(
        f"M{px:.1f} {py:.1f}h0"
        for px, py in zip(x(snr[drawn]), y(np.clip(ratio[drawn], 0, 2)), strict=True)
    )
    centres, medians = _running_median(snr, ratio, np.geomspace(1, highest, 16))
    body = (
        _frame(
            x, y, "S/N in the aperture", "flux on sources / data − background",
            10.0 ** np.arange(int(np.log10(highest)) + 1), (0, 0.5, 1, 1.5, 2),
        )
        + f'<path class="line rule" d="{_path(x(np.array([1.0, highest])), y(np.ones(2)))}"/>'
        + f'<path class="dots" d="{points}"/>'
        + f'<path class="line model" d="{_path(x(centres), y(np.clip(medians, 0, 2)))}"/>'
    )  # fmt: skip
    return _svg(body, "Aperture flux on the sources over that on data - background, against S/N")


def completeness_chart(snr, completeness, error, fitted) -> str:
    """Part of planted point sources that the catalogue holds against S/N, with error bars and a curve, as SVG."""
    x = Axis(0.7, 300.0, LEFT, CHART_WIDTH - RIGHT, log=True)
    y = Axis(0.0, 1.0, CHART_HEIGHT - BOTTOM, TOP)
    bars = "".join(
        f"M{x(s):.1f} {y(max(c - e, 0)):.1f}V{y(min(c + e, 1)):.1f}"
        for s, c, e in zip(snr, completeness, error, strict=True)
    )
    points = "".join(f"M{x(s):.1f} {y(c):.1f}h0" for s, c in zip(snr, completeness, strict=True))
    body = (
        _frame(x, y, "S/N of a matched filter", "part in the catalogue", (1, 3, 10, 30, 100, 300), np.linspace(0, 1, 6))
        + f'<path class="line model" d="{_path(x(np.asarray(snr)), y(np.asarray(fitted)))}"/>'
        + f'<path class="line rule" d="{bars}"/><path class="dots" d="{points}"/>'
    )  # fmt: skip
    return _svg(body, "Completeness of the catalogue for point sources, against S/N")


def purity_chart(signif, p_real) -> str:
    """Probability of the sources of a catalogue to be real against SIGNIF, as SVG."""
    order = np.argsort(signif)
    signif, p_real = np.asarray(signif)[order], np.asarray(p_real)[order]
    low = np.floor(signif.min(initial=0.0))
    high = max(np.ceil(np.quantile(signif, 0.9) if len(signif) else 0.0), low + 5)
    x = Axis(low, high, LEFT, CHART_WIDTH - RIGHT)
    y = Axis(0.0, 1.0, CHART_HEIGHT - BOTTOM, TOP)
    shown = signif <= high
    ticks = np.arange(low, high + 1, max(1, round((high - low) / 8)))
    body = (
        _frame(x, y, "SIGNIF", "probability to be real", ticks, np.linspace(0, 1, 6))
        + f'<path class="line model" d="{_path(x(signif[shown]), y(p_real[shown]))}"/>'
    )
    return _svg(body, "Probability that a source is real, against SIGNIF")


def _running_median(at, values, edges) -> tuple[np.ndarray, np.ndarray]:
    place = np.digitize(at, edges)
    kept = [k for k in range(1, len(edges)) if np.count_nonzero(place == k) >= MEDIAN_SOURCES]
    centres = [np.median(at[place == k]) for k in kept]
    return np.array(centres), np.array([np.median(values[place == k]) for k in kept])


def _path(x, y) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) if len(x) else ""


def _frame(x: Axis, y: Axis, across: str, up: str, ticks_x, ticks_y) -> str:
    """Grid, numbers and names of the axes."""
    lines = "".join(f"M{x(v):.1f} {y.stop}V{y.start}" for v in ticks_x)
    lines += "".join(f"M{x.start} {y(v):.1f}H{x.stop}" for v in ticks_y)
    numbers = "".join(
        f'<text x="{x(v):.1f}" y="{y.start + 17}" text-anchor="middle">{_number(v, x.log)}</text>'
        for v in ticks_x
    )
    numbers += "".join(
        f'<text x="{x.start - 7}" y="{y(v) + 4:.1f}" text-anchor="end">{_number(v, y.log)}</text>'
        for v in ticks_y
    )
    middle = (x.start + x.stop) / 2, (y.start + y.stop) / 2
    names = (
        f'<text class="name" x="{middle[0]}" y="{CHART_HEIGHT - 8}" text-anchor="middle">{across}</text>'
        f'<text class="name" transform="translate(14 {middle[1]}) rotate(-90)" '
        f'text-anchor="middle">{up}</text>'
    )
    return f'<path class="grid" d="{lines}"/>{numbers}{names}'


def _number(value: float, log: bool) -> str:
    if log and not 0.01 <= value <= 1000:
        return f'10<tspan dy="-5" font-size="9">{round(np.log10(value))}</tspan>'
    return f"{value:g}".replace("-", "−")


def _svg(body: str, description: str) -> str:
    return f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img" aria-label="{description}">{body}</svg>'
