"""The defects of a camera from its frames: which are found, which stars are taken for them, what they are worth.

    python benchmarks/quality/camera_defects.py --json results/camera_defects.json

Frames of one field and one detector: each frame has other noise, other cosmic rays, another sky (by up to 30 %) and
another place of the stars (a normal deviate of `--dither` pixels along each axis, whole pixels). The detector has,
per Mpix, 50 warm pixels of 3 to 10 sky rms, 20 hot ones of 10 to 1000, 20 that see half of the light, and pixels
that differ by 0.5 % in sensitivity; also a hot column, a hot part of a column and a dark one. `bgrem-defects`
measures its map from all frames.

*Found*: the part of the warm pixels by their value, of the hot ones, and of the pixels of the columns. `false` are
pixels of the map per Mpix that have no defect; `touching`, those of them beside one. *Stars*: of the stars of S/N 2
or more in any of the frames, how many of a thousand have a pixel in the map within one pixel that has no defect.
*Detections*: true ones at 10 false per Mpix on bgrem's significance, of the frames alone and with the map
(`--defects`), and their ratio with an interval of 68 %; and these numbers for the matched filter that is given the PSF and
takes away what astroscrappy finds. Saturated stars, columns and the border are left out of both.
"""

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
from astropy.io import fits
from frames import CAMERA
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.background import separate
from bgrem.defects.camera import find_defects
from bgrem.evaluate.bootstrap import compare
from bgrem.evaluate.froc import froc
from bgrem.evaluate.methods import detect_matched_filter, detections_of
from bgrem.evaluate.truth import truth_of_catalogue
from bgrem.masks.areas import grown, inner
from bgrem.simulate.drawing import draw_sources, observe, psf_of
from bgrem.simulate.scene import STAR, Scene

SEEING = (1.6, 2.2, 3.0, 4.5)  # FWHM, px
PER_MPIX = {"warm": 50, "hot": 20, "dark": 20}
HEIGHTS = {"warm": (3.0, 10.0), "hot": (10.0, 1000.0)}
BINS = (3.0, 5.0, 7.0, 10.0)  # sky rms
SENSITIVITY = 0.005
RATE = 10.0  # false detections per Mpix
STAR_SNR = 2.0


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=8, help="of each seeing (default: 8)")
    parser.add_argument("--side", type=int, default=768, help="of a frame in pixels (default: 768)")
    parser.add_argument("--dither", type=float, default=8.0, help="in pixels (default: 8)")
    parser.add_argument(
        "--rays", type=float, default=30.0, help="cosmic rays per Mpix (default: 30)"
    )
    parser.add_argument(
        "--seeing",
        type=float,
        nargs="+",
        default=SEEING,
        help="FWHM in pixels (default: 1.6 to 4.5)",
    )
    parser.add_argument(
        "--detected",
        type=int,
        default=4,
        help="frames of each seeing on which sources are detected (default: 4; 0 leaves them out)",
    )
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    found, detected = [], []
    for k, fwhm in enumerate(options.seeing):
        show_progress(options, f"FWHM {fwhm:g}")
        night = Night(fwhm, options, stream(options.seed, k))
        bad = measured_map(night, model)
        found.append({"FWHM": fwhm, **night.tally(bad)})
        if options.detected:
            detected += night.detections(bad, model, options.detected)
    tables = {"defects by pixel": found, f"detections at {RATE:g} false per Mpix": detected}
    finish(options, tables, model=model, began=began)


class Night:
    """Frames of one detector and one field, with their truth; ``like`` is another night of the detector."""

    def __init__(self, fwhm, options, rng, like=None):
        self.rng = rng
        margin = int(4 * options.dither) + 8
        self.shape = (options.side, options.side)
        wide = (options.side + 2 * margin,) * 2
        scene = Scene(
            shape=wide, fwhm=fwhm, stars=1500.0, galaxies=500.0, cosmic_rays=options.rays, **CAMERA
        )
        self.psf = psf_of(scene)
        sources, catalogue = draw_sources(scene, self.psf, rng)
        self.scene = replace(scene, shape=self.shape)
        if like is None:
            self.draw_detector()
        else:
            self.added, self.sensitivity, self.places = like.added, like.sensitivity, like.places
            self.lines, self.true = like.lines, like.true
        self.frames, self.truths, self.stars = [], [], []
        for _ in range(options.frames):
            y, x = (
                margin + np.rint(rng.normal(0, options.dither, 2)).clip(-4 * options.dither, None)
            ).astype(int)
            y, x = min(y, 2 * margin), min(x, 2 * margin)
            light = sources[y : y + options.side, x : x + options.side]
            self.add_frame(light, catalogue, (y, x))

    def draw_detector(self):
        """The detector's defects: added light in sky rms, and sensitivity."""
        rng, shape = self.rng, self.shape
        self.added = np.zeros(shape, np.float32)
        self.sensitivity = (1 + SENSITIVITY * rng.standard_normal(shape)).astype(np.float32)
        self.places = {}
        for kind, density in PER_MPIX.items():
            count = int(density * shape[0] * shape[1] / 1e6)
            y, x = rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)
            self.places[kind] = y, x
            if kind in HEIGHTS:
                self.added[y, x] = np.exp(rng.uniform(*np.log(HEIGHTS[kind]), count))
            else:
                self.sensitivity[y, x] = 0.5
        self.lines = np.zeros(shape, bool)
        full, part, dark = (int(share * shape[1]) for share in (0.2, 0.5, 0.8))
        start = int(0.35 * shape[0])
        self.added[:, full] += 1.5
        self.added[start:, part] += 3.0
        self.sensitivity[:start, dark] *= 0.9
        self.lines[:, full] = self.lines[start:, part] = self.lines[:start, dark] = True
        single = np.zeros(shape, bool)
        for places in self.places.values():
            single[places] = True
        self.true = single | self.lines

    def add_frame(self, light, catalogue, corner):
        rng, scene = self.rng, self.scene
        scene = replace(scene, sky=scene.sky * rng.uniform(0.7, 1.3))
        sky = np.full(self.shape, scene.sky, np.float32)
        dark = np.float32(self.scene.sky_rms) * self.added
        seen = observe(scene, light * self.sensitivity + dark, sky * self.sensitivity, rng)
        usable = inner(self.shape, int(np.ceil(2 * scene.fwhm)))
        usable &= ~grown(seen.saturated, 2 * scene.fwhm) & ~grown(self.lines, 2)
        x, y = catalogue["x"] - corner[1], catalogue["y"] - corner[0]
        snr = catalogue["snr"] * self.scene.sky_rms / scene.sky_rms
        self.frames.append(seen.data)
        self.truths.append(truth_of_catalogue(x, y, snr, usable=usable, fwhm=scene.fwhm))
        shown = (catalogue["kind"] == STAR) & (snr >= STAR_SNR)
        self.stars.append((x[shown], y[shown]))

    def tally(self, bad):
        """Shares of the defects and of the stars in a map."""
        row, (y, x) = {}, self.places["warm"]
        height = self.added[y, x]
        for low, high in pairwise(BINS):
            row[f"warm {low:g}-{high:g}"] = share(bad[y, x][(height >= low) & (height < high)])
        row["warm > 5"] = share(bad[y, x][height >= 5])
        row["hot"] = share(bad[self.places["hot"]])
        row["dark"] = share(bad[self.places["dark"]])
        row["columns"] = share(bad[self.lines])
        false = bad & ~self.true
        row["false / Mpix"] = false.sum() / false.size * 1e6
        row["touching"] = (false & grown(self.true, 1.5)).sum() / false.size * 1e6
        near = grown(false, 1.5)
        hit = total = 0
        for x, y in self.stars:
            column, line = np.rint(x).astype(int), np.rint(y).astype(int)
            within = (column >= 0) & (line >= 0) & (column < bad.shape[1]) & (line < bad.shape[0])
            hit += near[line[within], column[within]].sum()
            total += within.sum()
        return row | {"stars": int(total), "of 1000 flagged": 1e3 * hit / max(total, 1)}

    def detections(self, bad, model, count):
        """Rows: true detections without and with the map, of each method."""
        frames, truths = self.frames[:count], self.truths[:count]
        psf = np.asarray(self.psf.image, np.float64)
        psf /= psf.sum()

        def by_bgrem(data, mask):
            parts = separate(data, mask=mask, model=model, maps=("significance",))
            return detections_of(parts, mask)

        def by_matched_filter(data, mask):
            return detect_matched_filter(data, psf, mask=mask, gain=self.scene.gain)

        rows = []
        for name, detect in (("bgrem", by_bgrem), ("matched filter", by_matched_filter)):
            alone, masked = (
                froc([detect(data, mask) for data in frames], truths) for mask in (None, bad)
            )
            row = {
                "FWHM": self.scene.fwhm,
                "method": name,
                "Mpix": masked.area,
                "sources": masked.count,
            }
            row |= {"alone": alone.true_positives(RATE), "with map": masked.true_positives(RATE)}
            for one in compare(masked, alone, rng=np.random.default_rng(0), rates=(RATE,)):
                row |= {
                    "ratio": one.ratio,
                    "low": one.ratio_interval[0],
                    "high": one.ratio_interval[1],
                }
            rows.append(row)
        return rows


def share(where):
    """Part that is True; NaN of nothing."""
    return float(np.mean(where)) if where.size else np.nan


def measured_map(night, model):
    """The map of the frames, as `bgrem-defects` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"frame{i}.fits" for i in range(len(night.frames))]
        for path, data in zip(paths, night.frames, strict=True):
            fits.writeto(path, data)
        written = find_defects(paths, Path(folder) / "map.fits", model=model)
        print(written.summaries[0], *written.warnings, sep="\n")
        return fits.getdata(written.output).astype(bool)


if __name__ == "__main__":
    main()
