"""What training on one night of a simulated camera gives on another night of it.

    python benchmarks/quality/camera_training.py --json results/camera_training.json

A camera is a detector of `camera_defects.py`, with its warm, hot and half-blind pixels and columns, and stars of one
FWHM; in the second night they are a tenth wider, the sky is another one, and the field is another one.
`bgrem-train --from-fits` trains on the frames of the first night. True detections on those of the second night, of the
model of the package, of the trained one, and of the matched filter that knows the PSF and works after astroscrappy;
ratios have 68 % intervals of a bootstrap that draws the same blocks for both. Where the command does not write a model,
because it found none that is better on the frame that it keeps apart, `written` is no, and the model of the package
stays in use.
"""

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from astropy.io import fits
from camera_defects import Night
from report_card import add_seed, finish, make_parser, model_of, show_progress, side_by_side, stream

from bgrem.background import separate
from bgrem.evaluate.froc import froc
from bgrem.evaluate.methods import detect_matched_filter, detections_of
from bgrem.inference.model import load_model

SEEING = (1.8, 2.4, 3.2)  # FWHM in pixels, one for each camera
WIDER = 1.1  # seeing of the second night over that of the first
NOT_BETTER = "it is not better"  # what the command says where it writes no model


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=4, help="of each night (default: 4)")
    parser.add_argument("--side", type=int, default=768, help="of a frame in pixels (default: 768)")
    parser.add_argument(
        "--seeing", type=float, nargs="+", default=SEEING, help="FWHM, one for each camera"
    )
    parser.add_argument(
        "--models",
        default="results/camera_training",
        help="folder of the trainings; one that is there is taken (default: %(default)s)",
    )
    parser.add_argument("--minutes", help="of each training at most (default: until it is done)")
    parser.set_defaults(dither=8.0, rays=60.0)
    options = parser.parse_args(argv)
    began = perf_counter()
    model, rows = model_of(options), []
    for k, fwhm in enumerate(options.seeing):
        show_progress(options, f"FWHM {fwhm:g}")
        first = Night(fwhm, options, stream(options.seed, 26, k, 0))
        second = Night(WIDER * fwhm, options, stream(options.seed, 26, k, 1), like=first)
        trained = _trained(first.frames, Path(options.models) / f"{fwhm:g}", options)
        rows += _rows(fwhm, second, model, trained and load_model(trained, threads=options.threads))
    finish(options, {"the night after": rows}, model=model, began=began)


def _trained(frames, folder, options):
    """The model trained on some frames; None where none was written."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "own.onnx"
    if not path.exists():
        paths = [folder / f"night{i}.fits" for i in range(len(frames))]
        for name, data in zip(paths, frames, strict=True):
            fits.writeto(name, data, overwrite=True)
        command = [sys.executable, "-m", "bgrem.cli.train", "--from-fits", *paths]
        command += ["--output-dir", folder]
        command += ["--stop-after", options.minutes] if options.minutes else []
        done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
        if done.returncode and NOT_BETTER not in done.stderr:
            raise RuntimeError(f"the training failed: {done.stderr.strip()}")
        show_progress(options, done.stderr.splitlines()[-1] if done.stderr else "")
    return path if path.exists() else None


def _rows(fwhm, night, before, after):
    """A row for each rate of false detections."""
    psf = np.asarray(night.psf.image, np.float64)
    psf /= psf.sum()
    gain = night.scene.gain
    curves = {
        "before": _curve(night, lambda data: _by(before, data)),
        "after": _curve(night, lambda data: _by(after or before, data)),
        "matched filter": _curve(night, lambda data: detect_matched_filter(data, psf, gain=gain)),
    }
    rows = side_by_side(curves, "after", ("before", "matched filter"))
    return [{"FWHM": fwhm, "written": "yes" if after else "no"} | row for row in rows]


def _by(model, data):
    return detections_of(separate(data, model=model, maps=("significance",)), None)


def _curve(night, detect):
    return froc([detect(data) for data in night.frames], night.truths)


if __name__ == "__main__":
    main()
