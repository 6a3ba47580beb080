"""Batches of counts maps to learn from, drawn while the network learns."""

from collections import deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from bgrem.counts.counts_input import ASSUMED_FWHM, counts_input, gaussian_image
from bgrem.counts_scenes.poisson_scene import draw_counts, random_counts_scene

__all__ = ["CountsBatches", "draw_batch"]

GIVEN_PSF, GIVEN_EXPOSURE, GIVEN_TEMPLATE = 0.6, 0.7, 0.5  # shares of the fields
# A source of less than the first is no label, of less than the second nothing.
SCORED_SNR, SEEN_SNR = 2.0, 0.7
CENTRE_RADIUS, LEAST_RADIUS = 0.35, 1.0  # FWHM, px: of the label of a source
AHEAD = 6  # batches that are drawn before they are needed
VALIDATION = 1 << 40  # the steps from here on are those of batches to validate on


def draw_batch(config, step):
    """The maps of a step, with their truth.

    Parameters
    ----------
    config : CountsConfig
    step : int
        A batch depends on the seed and the step only.

    Returns
    -------
    dict
        ``bands`` (int), and float32 arrays of n fields with that many bands: ``planes`` (n bands, 3, y, x),
        ``kernel``, ``frame`` as `bgrem.network.counts_network.CountsNetwork` takes them; ``sources`` and
        ``background``, expected counts, ``label`` and ``label_weight``, (n bands, 1, y, x).
    """
    rng = np.random.default_rng([config.seed, step])
    bands = int(rng.integers(2, config.most_bands + 1)) if rng.random() < config.joint else 1
    shape = tuple(int(side) for side in rng.choice(config.sides, 2))
    fields = max(1, round(config.pixels / (shape[0] * shape[1] * bands)))
    drawn = [_draw_field(config, rng, shape, bands) for _ in range(fields)]
    batch = {name: np.concatenate([one[name] for one in drawn]) for name in drawn[0]}
    return batch | {"bands": bands}


def _draw_field(config, rng, shape, bands):
    sky = draw_counts(random_counts_scene(rng, shape=shape, bands=bands), rng)
    rate, counts = 1.0, sky.counts
    if rng.random() > config.whole:
        rate = max(float(np.sin(0.5 * np.pi * rng.random())), config.lowest_rate)
        # A map of 1 / rate times the exposure, of which the observed one would be a thinned copy.
        expected = (sky.sources.astype(np.float64) + sky.background) / rate
        counts = rng.poisson(expected)
    given = rng.random(3) < (GIVEN_PSF, GIVEN_EXPOSURE, GIVEN_TEMPLATE)
    seen = (sky.exposure > 0).astype(np.float32)
    shape_known = np.where(given[1], sky.exposure, 1) * np.where(given[2], sky.template, 1)
    psf = sky.psf if given[0] else np.stack([gaussian_image(ASSUMED_FWHM)] * bands)
    inputs = counts_input(counts, seen, shape_known, psf, given=given, rate=rate)
    label, weight = _labels(sky)
    return {
        "planes": inputs.planes,
        "kernel": inputs.kernel,
        "frame": inputs.frame,
        "sources": (sky.sources / np.float32(rate) * seen)[:, None],
        "background": (sky.background / np.float32(rate) * seen)[:, None],
        "label": np.broadcast_to(label, (bands, 1, *shape)).copy(),
        "label_weight": weight * seen[:, None],
    }


def _labels(sky):
    """Where sources are centred, and how much a pixel counts; (1, 1, y, x)."""
    ny, nx = sky.counts.shape[1:]
    label, weight = np.zeros((ny, nx), np.float32), np.ones((ny, nx), np.float32)
    radius = max(LEAST_RADIUS, CENTRE_RADIUS * float(np.min(sky.fwhm)))
    truth = sky.truth[np.argsort(sky.truth["snr"])]
    for source in truth[truth["snr"] >= SEEN_SNR]:
        scored = source["snr"] >= SCORED_SNR and source["kind"] == 0
        reach = radius if source["kind"] == 0 else max(radius, 0.5 * float(source["radius"]))
        y0, x0 = max(int(source["y"] - reach), 0), max(int(source["x"] - reach), 0)
        y1, x1 = int(source["y"] + reach) + 2, int(source["x"] + reach) + 2
        part = np.s_[y0 : max(y1, 0), x0 : max(x1, 0)]
        y, x = np.ogrid[
            part[0].start : min(part[0].stop, ny), part[1].start : min(part[1].stop, nx)
        ]
        inside = (y - source["y"]) ** 2 + (x - source["x"]) ** 2 <= reach**2
        label[part][inside] = float(scored)
        weight[part][inside] = float(scored)
    return label[None, None], weight[None, None]


class CountsBatches:
    """Batches of steps in order, drawn by processes ahead of their need.

    Parameters
    ----------
    config : CountsConfig
    start : int
        The first step.
    workers : int
        Processes; 0 draws in this one.
    """

    def __init__(self, config, start, workers):
        self._config, self._next = config, start
        self._pool = (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers else None
        )
        self._waiting = deque()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def of_step(self, step):
        """The batch of a step, which follows that of the last call."""
        if self._pool is None:
            return draw_batch(self._config, step)
        if not self._waiting:
            self._next = step
        while len(self._waiting) < AHEAD:
            self._waiting.append(
                (self._next, self._pool.submit(draw_batch, self._config, self._next))
            )
            self._next += 1
        first, drawn = self._waiting.popleft()
        assert first == step, "batches come in order"
        return drawn.result()
