"""Training examples: simulated scenes, processed by the same code as a user's frame.

A *parent* is a scene of 768 pixels, normalised by the sky of the shipped sky network, its bad pixels filled, and
described by the shipped frame statistics, as `bgrem.background.separate` does it. The errors of this sky are then
part of the background that the network learns to estimate. The light that the local level holds is not asked of it: it
is given to the sources afterwards (`bgrem.sky.wide`).
"""

import multiprocessing
import signal
from collections import deque
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from bgrem.detection.frame import FRAME_NAMES, STAR_REACH, Frame, measure_frame
from bgrem.detection.widths import equivalent_fwhm
from bgrem.inference.model import INCLUDED, SKY_SUFFIX
from bgrem.inference.sky_model import SkyModel
from bgrem.masks.filling import fill_bad_pixels
from bgrem.options import Options
from bgrem.simulate import draw, random_scene
from bgrem.simulate.known_bad import known_bad_pixels
from bgrem.simulate.scene import DEFECT_BIT, EXTENDED, FULL_WELL_BIT, GAP_BIT
from bgrem.sky.estimate import center_and_scale
from bgrem.sky.standard import StandardImage, measure_sky

__all__ = ["Parent", "ParentWindow", "draw_parent", "make_parent", "simulated_sky"]

TRUE_SNR, UNSCORED_SNR = 2.0, 0.7  # a centre counts; is neither true nor false
VECTOR_BLUR = 0.3  # deviation of the noise added to the frame vector; its entries are of order 1
CORRELATION_BLUR = 0.05
CORRELATION_PLACES = slice(
    FRAME_NAMES.index("correlation_x"), FRAME_NAMES.index("correlation_y") + 1
)
FEWEST_GOOD = 0.2  # parents with less good area teach nothing
MOST_EXTREME = 1e6  # sky rms: neither does a pixel beyond it


@dataclass(frozen=True)
class Parent:
    """One scene as the network sees it.

    Attributes
    ----------
    x : ndarray, (ny, nx) float32
        ``(data - local level) / noise`` with the measured sky; filled where masked.
    sources : ndarray, (ny, nx) float32
        True sources less the wide light in the local level, over the noise.
    artefact : ndarray, (ny, nx) bool
        Defects, particles, trails, gaps that are not masked.
    centre : ndarray, (ny, nx) int8
        1 near the centre of a source that counts, 0 elsewhere, -1 not scored.
    weight : ndarray, (ny, nx) bool
        Where the losses count: not under the mask.
    frame : Frame
        As measured.
    fwhm : float
        The true seeing in pixels, measured on the noiseless point-spread function.
    """

    x: np.ndarray
    sources: np.ndarray
    artefact: np.ndarray
    centre: np.ndarray
    weight: np.ndarray
    frame: Frame
    fwhm: float


def simulated_sky(rng, size):
    """A scene of the training sky.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : int
        Its side in pixels.

    Returns
    -------
    bgrem.simulate.Sky
    """
    return draw(random_scene(rng, shape=(size, size)), rng)


def draw_parent(seed, index, *, size=768, box=96, draw_sky=simulated_sky):
    """The parent of a given number: the same for the same seed, on any machine.

    Parameters
    ----------
    seed, index : int
    size : int
        Side of the scene in pixels.
    box : int
        Side in pixels of the cells of the local level.
    draw_sky : callable
        As `simulated_sky`; its skies are square and may be smaller.

    Returns
    -------
    Parent
    """
    rng = np.random.default_rng([seed, index])
    while True:
        parent = make_parent(draw_sky(rng, size), rng, box=box)
        if parent is not None:
            return parent


def make_parent(sky, rng, *, box=96):
    """Turn a drawn scene into a parent; None where nothing can be learnt from it.

    Parameters
    ----------
    sky : bgrem.simulate.Sky
    rng : numpy.random.Generator
    box : int

    Returns
    -------
    Parent or None
    """
    masked = known_bad_pixels(sky, rng)
    saturated = ((sky.mask & FULL_WELL_BIT) > 0).mean()
    if max(masked.mean(), saturated) > 1 - FEWEST_GOOD or np.ptp(sky.data[~masked]) == 0:
        return None
    center, scale = center_and_scale(sky.data, masked)
    pixels = np.where(masked, 0, (sky.data - center) / scale).astype(np.float32)
    image, bad = StandardImage(pixels, center, scale, None), masked if masked.any() else None
    measured = measure_sky(image, bad, None, Options(), box=box, network=_sky_network())
    local = measured.local
    if bad is not None:
        fill_bad_pixels(pixels, bad, local.background, local.unit)
    level, unit = local.background[:], local.unit[:]
    x = (pixels - level) / unit
    sources = (sky.sources / np.float32(scale) - (level - measured.background[:])) / unit
    sources[masked] = 0.0
    fwhm = true_width(sky.psf)
    parent = Parent(
        x=x,
        sources=sources.astype(np.float32),
        artefact=(sky.mask & (DEFECT_BIT | GAP_BIT) > 0) & ~masked,
        centre=_centres(sky, fwhm),
        weight=~masked,
        frame=measure_frame(x, masked, step=local.quantisation),
        fwhm=fwhm,
    )
    extreme = max(np.abs(parent.x).max(), np.abs(parent.sources).max())
    return parent if extreme < MOST_EXTREME else None


@cache
def _sky_network():
    """The shipped sky network, once a process."""
    return SkyModel(INCLUDED / f"optical{SKY_SUFFIX}", threads=1)


def true_width(psf):
    """The seeing as `measure_frame` would see it without noise.

    Parameters
    ----------
    psf : bgrem.simulate.optics.PointSpread

    Returns
    -------
    float
        FWHM in pixels.
    """
    stamps = psf.stamps.reshape(-1, *psf.image.shape)
    stamps = np.pad(stamps, ((0, 0), (STAR_REACH, STAR_REACH), (STAR_REACH, STAR_REACH)))
    middle = stamps.shape[-1] // 2
    cut = slice(middle - STAR_REACH, middle + STAR_REACH + 1)
    return equivalent_fwhm(stamps[:, cut, cut])


def _centres(sky, fwhm):
    """Labels of the centres, (ny, nx) int8.

    A detection counts when it lies within max(1.5, 0.5 FWHM) of a source: the same radius is
    not scored around sources too faint to count. Knots of a large galaxy are not scored.
    """
    labels = np.zeros(sky.data.shape, np.int8)
    truth = sky.truth
    scored_within = max(1.5, 0.5 * fwhm)
    faint = truth[(truth["snr"] >= UNSCORED_SNR) & (truth["snr"] < TRUE_SNR)]
    large = truth[truth["kind"] == EXTENDED]
    real = truth[truth["snr"] >= TRUE_SNR]
    for source in large:
        _paint(labels, source["x"][None], source["y"][None], 1.5 * source["half_light_radius"], -1)
    _paint(labels, faint["x"], faint["y"], scored_within, -1)
    _paint(labels, real["x"], real["y"], max(0.8, 0.25 * fwhm), 1)
    labels[sky.mask & (GAP_BIT | DEFECT_BIT) > 0] = -1
    # A detection on a hit pixel of empty sky is false all the same.
    far = (sky.mask & DEFECT_BIT > 0) & (sky.sources < 0.5 * sky.rms)
    labels[far] = 0
    labels[sky.mask & FULL_WELL_BIT > 0] = -1
    return labels


def _paint(labels, x, y, radius, value):
    """Write a value into discs around positions, in place; the nearest pixel always counts."""
    reach = int(np.ceil(radius))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    for oy, ox in zip(dy.ravel(), dx.ravel(), strict=True):
        px, py = column + ox, row + oy
        near = np.hypot(px - x, py - y) <= radius
        near |= (ox == 0) & (oy == 0)
        near &= (px >= 0) & (py >= 0) & (px < labels.shape[1]) & (py < labels.shape[0])
        labels[py[near], px[near]] = value


class ParentWindow:
    """A sliding window over the endless list of parents, drawn by worker processes.

    Which parents a training step sees depends on the step's number alone, so that a training
    that is interrupted and resumed is the training that was never interrupted.

    Parameters
    ----------
    seed : int
    size, box : int
        See `draw_parent`.
    length : int
        Parents in the window.
    start : int
        First parent of the first window.
    workers : int
        Processes that draw, which end with the ``with`` block; 0 draws in this one.
    draw_sky : callable
        See `draw_parent`; it is sent to the processes.
    """

    def __init__(self, seed, *, size, box, length, start=0, workers=1, draw_sky=simulated_sky):
        self._parents = deque(maxlen=length)
        self._next = start
        self._task = (seed, size, box, draw_sky)
        self._pool = None
        if workers:
            # Threads of one process would wait for each other: the drawing is Python.
            self._pool = multiprocessing.get_context("spawn").Pool(workers, _ignore_interrupts)
            self._ahead = deque()
        self.length = length

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def advance(self, first):
        """Make the window begin at a parent.

        Parameters
        ----------
        first : int
            Its number, not below that of the window before.
        """
        while self._next < first + self.length:
            self._parents.append(self._draw())
            self._next += 1

    def _draw(self):
        if self._pool is None:
            return _draw_task((*self._task, self._next))
        while len(self._ahead) < 4:
            number = self._next + len(self._ahead)
            self._ahead.append(self._pool.apply_async(_draw_task, ((*self._task, number),)))
        return self._ahead.popleft().get()

    def sample(self, rng, *, count, tile):
        """Tiles from random parents, places and orientations.

        Parameters
        ----------
        rng : numpy.random.Generator
        count, tile : int
            Number of tiles and their side in pixels.

        Returns
        -------
        dict of ndarray
            x, sources (n, 1, t, t) float32; artefact, weight (n, 1, t, t) float32;
            centre (n, 1, t, t) int8; frame (n, k) float32.
        """
        names = ("x", "sources", "artefact", "centre", "weight")
        columns = {name: [] for name in names}
        frames = []
        for number in rng.integers(0, len(self._parents), count):
            parent = self._parents[number]
            size = parent.x.shape[0]
            y, x = rng.integers(0, size - tile + 1, 2)
            turn = rng.integers(8)
            for name in names:
                plane = getattr(parent, name)[y : y + tile, x : x + tile]
                columns[name].append(oriented(plane, turn))
            frames.append(training_vector(parent, rng, transposed=bool(turn & 4)))
        batch = {name: np.stack(planes)[:, None] for name, planes in columns.items()}
        for name in ("artefact", "weight"):
            batch[name] = batch[name].astype(np.float32)
        batch["frame"] = np.stack(frames)
        return batch


def _ignore_interrupts():
    """Ctrl-C goes to all processes of a terminal; it is the training that ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_task(task):
    seed, size, box, draw_sky, index = task
    return draw_parent(seed, index, size=size, box=box, draw_sky=draw_sky)


def oriented(plane, turn):
    """One of the eight orientations of a square plane.

    Parameters
    ----------
    plane : (n, n) array
    turn : int
        0 (as it is) to 7; from 4 on it is transposed.

    Returns
    -------
    (n, n) array
        A view.
    """
    plane = plane.T if turn & 4 else plane
    return plane[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def training_vector(parent, rng, *, transposed=False):
    """The frame vector of one training tile, (k,) float32.

    As measured in half of the cases; with the true seeing to 5 per cent, as a user who knows it
    would give it, in a third; without any seeing in the rest. The correlation of the noise, which
    scales what the network sees, is blurred a little; the other entries are blurred more, and a
    quarter of them set to the typical 0: real frames combine them as no simulated one does, and the
    network must not take a rare combination for a sign.
    """
    frame = parent.frame
    if transposed:
        frame = replace(frame, correlation_x=frame.correlation_y, correlation_y=frame.correlation_x)
    kind = rng.random()
    if kind < 0.33:
        frame = replace(frame, fwhm=parent.fwhm * float(np.exp(0.05 * rng.standard_normal())))
    elif kind < 0.45:
        frame = replace(frame, fwhm=float("nan"))
    vector = frame.vector()
    vector[CORRELATION_PLACES] += CORRELATION_BLUR * rng.standard_normal(2, dtype=np.float32)
    others = slice(CORRELATION_PLACES.stop, None)
    vector[others] += VECTOR_BLUR * rng.standard_normal(vector[others].size, dtype=np.float32)
    vector[others][rng.random(vector[others].size) < 0.25] = 0.0
    return vector
