"""The catalogue, and SExtractor, SEP and photutils on bgrem's products, against SExtractor alone.

    python benchmarks/quality/recipes.py --json results/recipes.json

On the frozen MeerLICHT scenes of meerlicht.toml. Each recipe of docs/recipes.rst detects on the
significance above one threshold, so it has one number of false detections; SExtractor alone is given
as many: the best that any of its thresholds finds with them.
"""

import subprocess
import tempfile
import tomllib
from pathlib import Path
from time import perf_counter

import numpy as np
import sep
from astropy.io import fits
from report_card import finish, make_parser, model_of, show_progress

from bgrem.background import separate
from bgrem.detection.peaks import detection_table
from bgrem.detection.sextractor import detect_sextractor, detect_sextractor_default
from bgrem.evaluate.baselines import source_extractor_program
from bgrem.evaluate.froc import froc
from bgrem.evaluate.methods import benchmark_frames

SCENES = Path(__file__).with_name("meerlicht.toml")
#: What is added to the significance, a logit, so that thresholds and "fluxes" are above 0.
OFFSET = 20.0
#: False detections per Mpix for which the card's threshold is taken.
RATE = 10.0


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--frames", type=int, default=8, help="how many scenes (default: 8)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    threshold = model.card.calibration.threshold_for(RATE)
    recipes = {"SEP": by_sep, "photutils": by_photutils}
    if source_extractor_program():
        recipes = {"SExtractor": by_source_extractor} | recipes
    found = {name: [] for name in ["catalogue", *recipes, "alone", "alone, default"]}
    truths = []
    for frame in benchmark_frames(options.frames, tomllib.loads(SCENES.read_text())):
        show_progress(options, frame.name)
        parts = separate(frame.data, mask=frame.mask, model=model)
        significance = np.where(frame.mask, -OFFSET, np.nan_to_num(parts.significance, nan=-OFFSET))
        table = parts.catalog(threshold=threshold)
        found["catalogue"].append(
            detection_table(table["x"].value, table["y"].value, table["SIGNIF"])
        )
        for name, recipe in recipes.items():
            x, y = recipe(significance, frame.data, threshold)
            score = significance[np.rint(y).astype(int), np.rint(x).astype(int)]
            found[name].append(detection_table(x, y, score))
        found["alone"].append(detect_sextractor(frame.data, mask=frame.mask))
        found["alone, default"].append(detect_sextractor_default(frame.data, mask=frame.mask))
        truths.append(frame.truth)
    curves = {name: froc(lists, truths) for name, lists in found.items()}
    rows = [row_of(name, curves) for name in ["catalogue", *recipes]]
    finish(options, {"recipes": rows}, model=model, began=began, threshold=threshold)


def row_of(name, curves):
    """One line of the table: what the recipe found, and SExtractor alone with as many false."""
    curve = curves[name]
    true = int(np.count_nonzero(curve.source >= 0))
    rate = np.count_nonzero(curve.source < 0) / curve.area
    alone, default = (curves[key].true_positives(rate) for key in ("alone", "alone, default"))
    return {
        "recipe on bgrem's products": name,
        "false per Mpix": rate,
        "true": true,
        "SExtractor alone": alone,
        "ratio": true / max(alone, 1),
        "SExtractor's default": default,
        "ratio to it": true / max(default, 1),
    }


def by_source_extractor(significance, data, threshold):
    """The program in dual-image mode: detected on the significance, measured on the original."""
    with tempfile.TemporaryDirectory() as folder:
        fits.writeto(Path(folder, "significance.fits"), significance.astype(np.float32))
        fits.writeto(Path(folder, "original.fits"), np.asarray(data, np.float32))
        Path(folder, "columns").write_text("XPEAK_IMAGE\nYPEAK_IMAGE\n")
        settings = {
            "PARAMETERS_NAME": "columns", "THRESH_TYPE": "ABSOLUTE",
            "DETECT_THRESH": f"{threshold + OFFSET:.4f}", "BACK_TYPE": "MANUAL,AUTO",
            "BACK_VALUE": f"{-OFFSET:g},0", "FILTER": "N", "DETECT_MINAREA": "1",
            "DEBLEND_MINCONT": "0", "CLEAN": "N", "CATALOG_NAME": "catalogue",
            "CATALOG_TYPE": "ASCII", "VERBOSE_TYPE": "QUIET", "STARNNW_NAME": "none",
            "MEMORY_PIXSTACK": "3000000", "MEMORY_OBJSTACK": "30000",
        }  # fmt: skip
        command = [source_extractor_program(), "significance.fits,original.fits", "-c", "/dev/null"]
        for name, value in settings.items():
            command += [f"-{name}", value]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        places = np.loadtxt(Path(folder, "catalogue"), ndmin=2)
    # The program counts pixels from one.
    return places[:, 0] - 1, places[:, 1] - 1


def by_sep(significance, data, threshold):
    """The same objects by SEP."""
    image = np.ascontiguousarray(significance + OFFSET, dtype=np.float32)
    objects = sep.extract(
        image, threshold + OFFSET, minarea=1, filter_kernel=None, deblend_cont=0, clean=False
    )
    return objects["xpeak"].astype(np.float64), objects["ypeak"].astype(np.float64)


def by_photutils(significance, data, threshold):
    """Local maxima by photutils."""
    from photutils.detection import find_peaks

    peaks = find_peaks(significance, threshold, box_size=3)
    return np.array(peaks["x_peak"], np.float64), np.array(peaks["y_peak"], np.float64)


if __name__ == "__main__":
    main()
