"""Frames that a sky network learns from: block statistics of simulated frames with their true sky."""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bgrem.simulate.wide_light import draw_whole_frame
from bgrem.sky.blocks import BLOCK, BlockStatistics, block_statistics
from bgrem.sky.estimate import center_and_scale, quantisation_step
from bgrem.sky.network_input import network_input

__all__ = [
    "KINDS", "SkyBatches", "block_means", "draw_example", "load_examples", "normalised", "write_bank",
]  # fmt: skip

KINDS = ("whole", "cut", "gathered", "large")  # of batches
SIGMA_CELL = 2 * BLOCK  # px: side of a cell, of which the noise is measured
STAR_LIGHT = 0.3  # sky rms: pixels with more light of stars do not count for the noise of a cell
LEAST_PIXELS = 32  # of a cell, to count for the noise
FRAMES_OF_A_FILE = 50
LEAST_KNOWN = 0.1  # part of the blocks that a cut frame must show


def draw_example(seed, shape=(768, 768)):
    """Block statistics and truth of a random frame.

    Parameters
    ----------
    seed : sequence of int
        Of the frame's random numbers.
    shape : tuple of int
        (ny, nx) in pixels, multiples of 16.

    Returns
    -------
    dict of ndarray, float32
        "planes" (6, by, bx), as `bgrem.sky.blocks.PLANES`; "background" and "wide" (by, bx), means over
        the blocks; "rms" and "weight" (by / 2, bx / 2), the noise of cells of 2 x 2 blocks, and the
        number of pixels that it was measured on. All in units of the sky's rms.
    """
    frame = _usable_frame(np.random.default_rng(seed), shape)
    center, scale = center_and_scale(frame.data, frame.bad)
    x = ((frame.data - center) / scale).astype(np.float32)
    step = quantisation_step(x, frame.bad)
    planes = block_statistics(x, frame.bad, step=step, gathering=1).planes
    planes[:-1] = planes[:-1] * np.float32(scale)
    planes[:-2] += np.where(planes[-1] > 0, np.float32(center), 0)
    rms, weight = _noise_of_cells(frame)
    return {
        "planes": planes,
        "background": block_means(frame.background, BLOCK),
        "wide": block_means(frame.wide, BLOCK),
        "rms": rms,
        "weight": weight,
    }


def _usable_frame(rng, shape):
    """A frame whose good pixels have more than one value; in a small one a gap may be all that is seen."""
    while True:
        frame = draw_whole_frame(rng, shape)
        good = frame.data[~frame.bad]
        if good.size and good.min() < good.max():
            return frame


def block_means(image, side):
    """Means over whole blocks of `side` x `side` pixels, float32."""
    ny, nx = (n // side for n in image.shape)
    blocks = image[: ny * side, : nx * side].reshape(ny, side, nx, side)
    return blocks.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)


def _noise_of_cells(frame):
    """Standard deviation of the noise in cells, without defects and stars, and how many pixels show it."""
    noise = frame.data - frame.background - frame.light
    usual = ~frame.bad & ~frame.artefact & (frame.light - frame.wide < STAR_LIGHT)
    number = block_means(usual, SIGMA_CELL) * SIGMA_CELL**2
    square = (
        block_means(np.where(usual, noise, 0).astype(np.float64) ** 2, SIGMA_CELL) * SIGMA_CELL**2
    )
    rms = np.sqrt(square / np.maximum(number, 1))
    return rms.astype(np.float32), np.where(number >= LEAST_PIXELS, number, 0).astype(np.float32)


def write_bank(folder, seed, count, shape, workers=1, progress=lambda done: None):
    """Draw frames, write them into files of 50, and leave files alone that are there.

    Parameters
    ----------
    folder : path
        Of the files ``SEED_NY_NUMBER.npz``.
    seed, count : int
        Frame number n, from 0, has the seed (seed, n).
    shape : tuple of int
    workers : int
        Processes.
    progress : callable
        Called with the part that is done.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, seed, first, shape) for first in range(0, count, FRAMES_OF_A_FILE)]
    with ProcessPoolExecutor(workers) as pool:
        for k, _ in enumerate(pool.map(_write_file, jobs), 1):
            progress(k / len(jobs))


def _file_of(folder, seed, first, shape):
    return folder / f"{seed}_{shape[0]}_{first // FRAMES_OF_A_FILE:04d}.npz"


def _write_file(job):
    folder, seed, first, shape = job
    path = _file_of(folder, seed, first, shape)
    if path.exists():
        return
    numbers = range(first, first + FRAMES_OF_A_FILE)
    examples = [draw_example((seed, shape[0], n), shape) for n in numbers]
    arrays = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    temporary = path.with_suffix(".writing.npz")
    np.savez(temporary, **arrays)
    os.replace(temporary, path)


def load_examples(folder, seed, count, shape):
    """Frames that `write_bank` wrote: a dictionary of arrays whose first axis is the frame.

    Parameters
    ----------
    folder, seed, count, shape
        As of `write_bank`.

    Returns
    -------
    dict of ndarray
    """
    firsts = range(0, count, FRAMES_OF_A_FILE)
    loaded = [np.load(_file_of(Path(folder), seed, first, shape)) for first in firsts]
    return {name: np.concatenate([one[name] for one in loaded])[:count] for name in loaded[0].files}


class SkyBatches:
    """Batches of frames, turned, cut and gathered at random.

    Parameters
    ----------
    examples, large : dict of ndarray
        As of `bgrem.train.sky_frames.load_examples`.
    config : `~bgrem.train.config.SkyConfig`
    """

    def __init__(self, examples, large, config):
        self._examples, self._large, self._config = examples, large, config
        self._pool, self._next = ThreadPoolExecutor(1, "batch"), {}

    def of_step(self, step):
        """The batch of a step of the training; the one after it is drawn meanwhile."""
        batch = self._next.get(step) or self._pool.submit(self._draw_for, step)
        self._next = {step + 1: self._pool.submit(self._draw_for, step + 1)}
        return batch.result()

    def _draw_for(self, step):
        return self.draw(np.random.default_rng([self._config.seed, 1, step]))

    def draw(self, rng):
        """Input and truth of one step.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        dict of ndarray, float32
            "x" (n, 8, by, bx), input of the network, and in its cells (n, by / 2, bx / 2): "background",
            "wide" and "rms" in its units, "weight", the pixels that the noise was measured on, and "known",
            1 where a cell has a good pixel.
        """
        config = self._config
        count = config.batch
        kind = rng.choice(len(KINDS), p=[getattr(config, name) for name in KINDS])
        if KINDS[kind] == "large":
            return _batch(_drawn(self._large, max(count // 4, 1), rng), rng)
        if KINDS[kind] == "gathered":
            few_cells = rng.random() < 0.5
            drawn = (self._examples, 2 * count) if few_cells else (self._large, max(count // 2, 1))
            return _batch([_gathered(e) for e in _drawn(*drawn, rng)], rng)
        examples = _drawn(self._examples, count, rng)
        if KINDS[kind] == "cut":
            blocks = np.array(examples[0]["wide"].shape)
            sizes = np.exp(rng.uniform(np.log(4), np.log(blocks // 2))).astype(int) * 2
            examples = _cut(examples, sizes, rng)
        return _batch(examples, rng)


def _drawn(examples, count, rng):
    numbers = rng.integers(0, len(examples["planes"]), count)
    return [{name: values[n] for name, values in examples.items()} for n in numbers]


def _cut(examples, sizes, rng):
    """A part of each frame, of `sizes` blocks."""
    cut = []
    for example in examples:
        shape = example["wide"].shape
        first = [2 * rng.integers(0, (n - m) // 2 + 1) for n, m in zip(shape, sizes, strict=True)]
        blocks = tuple(slice(a, a + m) for a, m in zip(first, sizes, strict=True))
        cells = tuple(slice(a // 2, (a + m) // 2) for a, m in zip(first, sizes, strict=True))
        part = {
            name: values[(..., *(cells if name in ("rms", "weight") else blocks))]
            for name, values in example.items()
        }
        if (part["planes"][-1] > 0).mean() > LEAST_KNOWN:
            cut.append(part)
    return cut or examples


def _gathered(example):
    """A frame in blocks of twice the size."""
    blocks = BlockStatistics(example["planes"], 1, (0, 0), example["wide"].shape).gathered(2)
    weight = _halved(example["weight"]) * 4
    square = _halved(example["weight"] * example["rms"] ** 2) * 4
    return {
        "planes": blocks.planes,
        "background": _halved(example["background"]),
        "wide": _halved(example["wide"]),
        "rms": np.sqrt(square / np.maximum(weight, 1)),
        "weight": weight,
    }


def _halved(image):
    ny, nx = image.shape
    return image.reshape(ny // 2, 2, nx // 2, 2).mean(axis=(1, 3), dtype=np.float32)


def _batch(examples, rng):
    """Tensors of some examples of one shape, the same turn for all."""
    flips, turned = [axis for axis in (-1, -2) if rng.random() < 0.5], rng.random() < 0.5
    made = [normalised(_turned(example, flips, turned)) for example in examples]
    return {name: np.stack([one[name] for one in made]) for name in made[0]}


def _turned(example, flips, turned):
    out = {}
    for name, values in example.items():
        values = np.flip(values, flips) if flips else values
        out[name] = np.ascontiguousarray(np.swapaxes(values, -1, -2) if turned else values)
    return out


def normalised(example):
    """Input and truth of one example as those of `SkyBatches.draw`, without the first axis."""
    given = network_input(example["planes"])
    known = example["planes"][-1] > 0
    truth = {
        "background": (_halved(example["background"]) - given.level) / given.unit,
        "wide": _halved(example["wide"]) / given.unit,
        "rms": np.where(example["weight"] > 0, example["rms"], 1) / given.unit,
        "weight": example["weight"],
        "known": (_halved(known.astype(np.float32)) > 0).astype(np.float32),
    }
    out = {"x": given.planes}
    for name, values in truth.items():
        padded = np.zeros([n // 2 for n in given.planes.shape[1:]], np.float32)
        row, column = (a // 2 for a in given.first)
        padded[row : row + values.shape[0], column : column + values.shape[1]] = values
        out[name] = padded
    return out
