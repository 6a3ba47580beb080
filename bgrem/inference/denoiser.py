"""A model on one image: its diffusion on tiles, for the maps that are wanted."""

from collections.abc import Iterator
from functools import partial
from threading import Thread

import numpy as np

from bgrem.arrays.rows import Rows
from bgrem.arrays.tiling import map_tiles, row_strips, tile_grid
from bgrem.detection.frame import FRAME_NAMES, Frame
from bgrem.inference.diffusion import reverse_diffusion
from bgrem.inference.memory import calls_within
from bgrem.inference.model import Model, ModelError
from bgrem.options import Options, Run

__all__ = ["MAP_OF_CHANNEL", "Denoiser", "frame_vector"]

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
