"""Which pixels are cosmic rays and hot pixels: bgrem's mask against astroscrappy.

    python benchmarks/quality/artefacts.py --json results/artefacts.json

On simulated MeerLICHT frames of three seeings, with nothing but cosmic rays or nothing but hot and
warm pixels wrong. True are the pixels in which the artefact exceeds twice the local noise. Recall:
the part of them that is found, in all and by their height in units of the sky's rms. Precision: the
part of the found pixels that are true; `with neighbours`: that are true or touch a true one (the
faint rim of a cosmic ray). The last column counts found pixels that are not true within one FWHM of
stars of S/N 20 or more, per megapixel of the frame. `astroscrappy` is given the width of the PSF and the
noise map, as for the matched filter; `astroscrappy default` is run as it comes, with the true gain,
read noise and sky. Saturated pixels and gaps are left out.
"""

from itertools import pairwise
from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream
from scipy import ndimage

from bgrem.background import separate
from bgrem.detection.point_sources import find_cosmic_rays
from bgrem.detection.sextractor import subtract_sky
from bgrem.masks.areas import around
from bgrem.masks.flags import ARTEFACT
from bgrem.simulate import Scene, draw, scene
from bgrem.simulate.scene import FULL_WELL_BIT, GAP_BIT, STAR

SEEING = (1.6, 3.0, 4.5)  # FWHM, px
CLEAN = dict.fromkeys(
    ("hot_pixels", "warm_pixels", "dead_pixels", "bad_columns", "cosmic_rays", "satellite_trails",
     "tail_fraction", "large_galaxies", "discs"), 0.0
)  # fmt: skip
KINDS = {
    "cosmic rays": CLEAN | {"cosmic_rays": 100.0},
    "hot pixels": CLEAN | {"hot_pixels": 200.0, "warm_pixels": 400.0},
}
HEIGHTS = (2.0, 5.0, 10.0, 30.0, np.inf)  # sky rms
BRIGHT_STAR = 20.0  # S/N


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=2, help="of each kind and seeing")
    parser.add_argument("--side", type=int, default=1024, help="of a frame in pixels")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = []
    for k, (kind, fields) in enumerate(KINDS.items()):
        for j, fwhm in enumerate(SEEING):
            show_progress(options, f"{kind}, FWHM {fwhm:g}")
            shape = (options.side, options.side)
            skies = [
                draw(Scene(shape=shape, fwhm=fwhm, **fields), stream(options.seed, k, j, i))
                for i in range(options.frames)
            ]
            for name, find in METHODS.items():
                tallies = [tally(sky, find(sky, model)) for sky in skies]
                total = {key: sum(one[key] for one in tallies) for key in tallies[0]}
                rows.append({"artefacts": kind, "FWHM": fwhm, "method": name, **shares(total)})
    finish(options, {"artefacts, by pixel": rows}, model=model, began=began)


# ---- the methods: of a simulated sky and a model, (ny, nx) bool ---------------------------


def by_bgrem(sky, model):
    """The bit of bgrem's mask."""
    return (separate(sky.data, model=model, maps=()).mask & ARTEFACT) > 0


def by_astroscrappy(sky, _):
    """L.A.Cosmic as the matched filter has it."""
    psf = np.asarray(sky.psf.image, np.float64)
    subtracted = subtract_sky(sky.data, passes=2)
    return find_cosmic_rays(subtracted, psf / psf.sum(), gain=sky.scene.gain)


def by_astroscrappy_default(sky, _):
    """L.A.Cosmic as it comes."""
    import astroscrappy

    rays, _ = astroscrappy.detect_cosmics(
        sky.data, gain=sky.scene.gain, readnoise=sky.scene.read_noise, satlevel=np.inf
    )
    return rays


METHODS = {
    "bgrem": by_bgrem,
    "astroscrappy": by_astroscrappy,
    "astroscrappy default": by_astroscrappy_default,
}


# ---- counting ----------------------------------------------------------------------------


def tally(sky, found):
    """Numbers of pixels of one frame."""
    scored = sky.mask & (GAP_BIT | FULL_WELL_BIT) == 0
    true = (sky.mask & scene.DEFECT_BIT != 0) & scored
    found = found & scored
    height = np.abs(sky.noise) / sky.rms
    counts = {"pixels": found.size, "found": found.sum(), "true": true.sum()}
    counts["both"] = (found & true).sum()
    touched = ndimage.binary_dilation(true, np.ones((3, 3), bool))
    counts["touching"] = (found & touched).sum()
    for low, high in pairwise(HEIGHTS):
        chosen = true & (height >= low) & (height < high)
        counts[f"true {low:g}-{high:g}"] = chosen.sum()
        counts[f"both {low:g}-{high:g}"] = (chosen & found).sum()
    stars = sky.truth[(sky.truth["kind"] == STAR) & (sky.truth["snr"] >= BRIGHT_STAR)]
    near = around(stars["x"], stars["y"], found.shape, sky.scene.fwhm)
    counts["on stars"] = (found & ~true & near).sum()
    return {name: int(count) for name, count in counts.items()}


def shares(total):
    """Recall and precision of summed tallies."""
    row = {"true pixels": total["true"], "recall": _share(total["both"], total["true"])}
    for low, high in pairwise(HEIGHTS):
        name = f"{low:g}-{high:g}"
        row[f"recall {name}"] = _share(total[f"both {name}"], total[f"true {name}"])
    row["precision"] = _share(total["both"], total["found"])
    row["with neighbours"] = _share(total["touching"], total["found"])
    return row | {"on stars / Mpix": total["on stars"] / total["pixels"] * 1e6}


def _share(part, whole):
    return part / whole if whole else np.nan


if __name__ == "__main__":
    main()
