"""Tiled against one tile, on a frame with bright stars across the borders of tiles.

    python benchmarks/path/seams.py           the tile and overlap of the model's card
    python benchmarks/path/seams.py --scan    what to choose from

Differences of the sources in units of the local noise: 99.9 % of the pixels within 0.02, all within
0.1. "cost" is the area of the tiles over that of the image, for a frame of 4096 x 4096 pixels;
"Mpixel" the size of a tile. The one tile has the same overlap: that is how far an image is
continued beyond its borders.
"""

import time
from functools import partial

import numpy as np
from checks import local_noise, model_of, options, report, simulated

from bgrem.arrays.tiling import _Axis, map_tiles
from bgrem.detection.frame import measure_frame
from bgrem.inference.denoiser import reverse_diffusion
from bgrem.simulate.optics import PHASES
from bgrem.sky.estimate import center_and_scale, estimate_mesh

SHAPE = (1100, 1500)
MOST, ALL = 0.02, 0.1
TILES = (384, 512, 768, 1024)
OVERLAPS = (64, 96, 128, 160, 192, 256)
WHOLE = 4096  # more than the frame: one tile
COST_SIDE = 4096


def main():
    parser = options(__doc__)
    parser.add_argument("--scan", action="store_true", help="many tiles and overlaps")
    parser.add_argument("--tiles", type=int, nargs="+", default=TILES, help="of the scan")
    parser.add_argument("--overlaps", type=int, nargs="+", default=OVERLAPS, help="of the scan")
    parser.add_argument("--steps", type=int, default=1)
    chosen = parser.parse_args()
    model = model_of(chosen)
    pairs = [(model.card.tile, model.card.overlap)]
    if chosen.scan:
        pairs = [(t, o) for o in chosen.overlaps for t in chosen.tiles if t >= 2 * o]
    x, vector = normalised(frame_with_stars_on_borders(pairs, model.card.multiple))
    rows, wholes = [], {}
    for tile, overlap in pairs:
        if overlap not in wholes:
            wholes[overlap] = separated(model, x, vector, WHOLE, overlap, chosen.steps)[0]
        found, seconds = separated(model, x, vector, tile, overlap, chosen.steps)
        rows.append(row_of(tile, overlap, found, wholes[overlap], seconds, model.card.multiple))
    report("seams_scan" if chosen.scan else "seams", rows, chosen, model=model, bar=[MOST, ALL])


def frame_with_stars_on_borders(pairs, multiple):
    """A MeerLICHT frame with stars of S/N 100 to 1e4 where the borders of tiles cross the frame."""
    sky = simulated(SHAPE, seed=1)
    rng = np.random.default_rng(1)
    data = sky.data.copy()
    sharpness = np.sqrt((sky.psf.image.astype(np.float64) ** 2).sum())
    places = [place for pair in pairs for place in _crossings(*pair, multiple)]
    x, y = np.rint((np.array(places) + rng.uniform(-3, 3, (len(places), 2))).T * PHASES).astype(int)
    flux = 10 ** rng.uniform(2, 4, len(places)) * np.median(sky.rms) / sharpness
    sky.psf.place(data, x, y, flux, faint=0.0)
    return data


def _crossings(tile, overlap, multiple):
    """Where the first borders of tiles cross."""
    down, across = (_Axis.cover(length, tile, overlap, multiple) for length in SHAPE)
    return [(x, y) for y in _borders(down) for x in _borders(across)]


def _borders(axis):
    """A quarter and the middle of what two tiles share: the end and the middle of the blending."""
    starts = [axis.origin(number) for number in range(1, axis.count)][:3] or [axis.length // 2]
    return [start + axis.overlap * part for start in starts for part in (0.25, 0.5)]


def normalised(data):
    """The frame and its frame vector as the network gets them; as in `bgrem.background.separate`."""
    center, scale = center_and_scale(data, None)
    x = ((data.astype(np.float64) - center) / scale).astype(np.float32)
    mesh = estimate_mesh(x, None, box=256)
    x = (x - mesh.background[:]) / mesh.rms[:]
    return x, measure_frame(x, None, step=mesh.quantisation).vector()


def separated(model, x, vector, tile, overlap, steps):
    """Sources and significance, (2, ny, nx), and the processor time they took."""
    network = partial(model, frame=vector, channels=(0, model.card.channels.index("significance")))
    began = time.process_time()
    strips = map_tiles(
        lambda part: reverse_diffusion(network, part[None, None], steps=steps)[0],
        [x], x.shape, tile=tile, overlap=overlap, multiple=model.card.multiple,
    )  # fmt: skip
    return np.concatenate(list(strips), axis=1), time.process_time() - began


def row_of(tile, overlap, found, expected, seconds, multiple):
    error = np.abs(found[0] - expected[0]) / local_noise(expected[0], np.float32(1))
    most, worst = float(np.percentile(error, 99.9)), float(error.max())
    axis = _Axis.cover(COST_SIDE, tile, overlap, multiple)
    return {
        "tile": tile,
        "overlap": overlap,
        "99 %": float(np.percentile(error, 99)),
        "99.9 %": most,
        "largest": worst,
        "within": most <= MOST and worst <= ALL,
        "significance": float(np.percentile(np.abs(found[1] - expected[1]), 99.9)),
        "cost": (axis.count * axis.size / COST_SIDE) ** 2,
        "Mpixel": axis.size**2 / 1e6,
        "processor s": seconds,
    }


if __name__ == "__main__":
    main()
