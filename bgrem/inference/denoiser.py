"""A model on one image: its reverse diffusion on tiles, for the maps that are wanted.

The noise of this diffusion is the residual background of the frame. With b everything in an
image except its sources, x_r = sources + r b is the image at the noise rate r, and the observed
image is x_1. The network estimates b.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from threading import Thread

import numpy as np

from bgrem.arrays.rows import Rows
from bgrem.arrays.tiling import map_tiles, row_strips, tile_grid
from bgrem.detection.frame import FRAME_NAMES, Frame
from bgrem.inference.memory import calls_within
from bgrem.inference.model import Model, ModelError
from bgrem.options import Options, Run

__all__ = ["MAP_OF_CHANNEL", "Denoiser", "frame_vector", "noise_rates", "reverse_diffusion"]

# Which channel of a network becomes which map; the others belong to every separation.
MAP_OF_CHANNEL = {"log_variance": "uncertainty", "significance": "significance"}
ALWAYS_WANTED = ("residual", "artefact")
NOTABLE_DISTANCE = 0.15  # chosen by hand: a user is warned farther from the range of the training
CACHED_STRIP = 16  # rows that fit in the processor's cache in double precision


class Denoiser:
    """The reverse diffusion of a model on the tiles of an image.

    It makes the network ready in a thread of its own, while the sky is measured.

    Parameters
    ----------
    model : `~bgrem.inference.model.Model`
    shape : tuple of int
        Shape (ny, nx) of the image.
    options : `~bgrem.options.Options`
    run : `~bgrem.options.Run`

    Attributes
    ----------
    channels : tuple of str
        Names of the channels that it gives; the first is "residual".
    calls : int
        Tiles that are in the network at once.
    """

    def __init__(self, model: Model, shape: tuple[int, int], options: Options, run: Run) -> None:
        card = model.card
        self.channels = tuple(
            name
            for name in card.channels
            if name in ALWAYS_WANTED or MAP_OF_CHANNEL.get(name) in options.maps
        )
        self.calls = calls_within(run.store, shape, model, options.maps, options.tile)
        self._model, self._shape, self._steps = model, shape, options.steps
        self._tiling = {
            "tile": options.tile or card.tile, "overlap": card.overlap, "multiple": card.multiple
        }  # fmt: skip
        self._work = {
            "calls": self.calls,
            "channels": tuple(card.channels.index(name) for name in self.channels),
        }
        sides, _ = tile_grid(shape, **self._tiling)
        self._ready = Thread(target=model.prepare, args=(sides,), kwargs=self._work)
        self._ready.start()

    def strips(self, x: Rows, vector: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Apply the diffusion to an image.

        Parameters
        ----------
        x : Rows
            The image in units of its sky rms, float32 of shape (ny, nx).
        vector : `~numpy.ndarray`
            The frame vector, float32 of shape (k,).

        Yields
        ------
        rows : slice
            A few rows, in order.
        channels : `~numpy.ndarray`
            Those of ``channels`` in these rows, float32 of shape (c, rows, nx); the first holds the
            sources, the others what the network gives for the observed image.
        """
        network = partial(self._model, frame=vector, **self._work)  # of (x, rate)
        self._ready.join()
        strips = map_tiles(
            lambda tile: reverse_diffusion(network, tile[None, None], steps=self._steps)[0],
            (x[rows] for rows in row_strips(self._shape)),
            self._shape,
            **self._tiling,
            calls=self.calls,
        )
        start = 0
        for strip in strips:
            for top in range(0, strip.shape[1], CACHED_STRIP):
                thin = strip[:, top : top + CACHED_STRIP]
                yield slice(start + top, start + top + thin.shape[1]), thin
            start += strip.shape[1]


def frame_vector(frame: Frame, card) -> tuple[np.ndarray, list[str]]:
    """The entries of a frame that a model was trained with, limited to its training frames.

    A network extrapolates wildly beyond their range.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    vector : `~numpy.ndarray`
        float32 of shape (k,).
    unlike : list of str
        Names of the entries that were notably outside the range.

    Raises
    ------
    ModelError
        If the model was trained with an entry that this version does not measure.
    """
    known = dict(zip(FRAME_NAMES, frame.entries(), strict=True))
    if missing := [name for name in card.frame if name not in known]:
        raise ModelError(f"the model needs another version of bgrem ({', '.join(missing)} unknown)")
    entries = np.array([known[name] for name in card.frame], dtype=np.float32)
    if not card.lowest:
        return entries, []
    vector = np.clip(entries, np.float32(card.lowest), np.float32(card.highest))
    far = np.abs(entries - vector) > NOTABLE_DISTANCE
    return vector, [name for name, unlike in zip(card.frame, far, strict=True) if unlike]


def noise_rates(steps: int) -> np.ndarray:
    """Noise rates of the cosine schedule, from exactly 1 down to exactly 0.

    Signal and noise rates are the cosine and sine of an angle that falls linearly, as in
    Nichol & Dhariwal (2021, arXiv:2102.09672) and BGRem (Nicolaas et al. 2025,
    arXiv:2510.04718). Their schedules do not reach the ends; here the first rate is that of the
    observed image and the last is that of the image without noise.

    Parameters
    ----------
    steps : int
        Number of diffusion steps, at least 1.

    Returns
    -------
    `~numpy.ndarray`
        float64 of shape (steps + 1,).

    Raises
    ------
    ValueError
        If ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f"the number of steps must be at least 1, not {steps}")
    rates = np.sin(np.linspace(np.pi / 2, 0.0, steps + 1))
    rates[0], rates[-1] = 1.0, 0.0
    return rates


def reverse_diffusion(
    network: Callable[[np.ndarray, float], np.ndarray], x: np.ndarray, *, steps: int
) -> np.ndarray:
    """Remove the noise from images in a number of steps.

    Inversion by direct iteration (Delbracio & Milanfar 2023, arXiv:2303.11435): each
    step estimates b, subtracts all of it, and adds back the part at the next, lower rate.

    Parameters
    ----------
    network : callable
        ``network(x, rate)`` with x float32 of shape (n, 1, h, w) and rate a float gives
        float32 of shape (n, c, h, w), whose first channel is the estimate of b. Each call must
        return a new array: that of the first call is the result, its first channel overwritten.
    x : `~numpy.ndarray`
        The observed images, float32 of shape (n, 1, h, w).
    steps : int
        Number of diffusion steps, at least 1.

    Returns
    -------
    `~numpy.ndarray`
        float32 of shape (n, c, h, w). The first channel holds the sources. The others are those
        of the first step, whose input is the observed image.
    """
    first = None
    for rate, lower in pairwise(noise_rates(steps)):
        channels = network(x, float(rate))
        first = channels if first is None else first
        sources = channels[:, :1]
        sources *= np.float32(-rate)
        sources += x
        if lower:
            x = sources + np.float32(lower / rate) * (x - sources)
    first[:, :1] = sources
    return first
