"""Sources + background + noise against the data, as they are read back from the files.

    python benchmarks/path/identity.py --images FILE.fits ...

The largest |s + b + n - d| / (|s| + |b| + |n| + |d|) over the pixels of each file; at most 1e-6.
"""

import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from checks import model_of, options, report, simulated

from bgrem.io.reading import read_image
from bgrem.processing.files import process_file

BAR = 1e-6


def main():
    parser = options(__doc__)
    parser.add_argument("--images", nargs="*", default=[], help="FITS files beside the simulated")
    chosen = parser.parse_args()
    model = model_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row_of(path, model, folder) for path in simulated_files(folder)]
        rows += [row_of(path, model, folder) for path in chosen.images]
    report("identity", rows, chosen, model=model, bar=BAR)


def simulated_files(folder):
    """The same frame in each of the types that files have."""
    data = simulated((512, 640), seed=0).data
    for kind in ("f4", "f8", "i2", "u2", "i4"):
        path = Path(folder) / f"simulated_{kind}.fits"
        values = np.rint(data) if kind[0] in "iu" else data
        if kind == "i2":  # a level near the end of the range
            values = np.clip(values + 20000, -32768, 32767)
        fits.writeto(path, np.maximum(values, 0).astype(kind))
        yield path
    path = Path(folder) / "simulated_tiny.fits"
    fits.writeto(path, data.astype("f8") * 1e-19)
    yield path
    path = Path(folder) / "simulated_level.fits"
    fits.writeto(path, data.astype("f4") + np.float32(1e6))
    yield path


def row_of(path, model, folder):
    """One file through the whole of reading, separating, writing; the sum of what was written."""
    row = {"file": Path(path).name, "type": "", "error": np.nan, "within": False, "note": ""}
    try:
        done = process_file(
            path, model=model, output_dir=Path(folder) / "out", overwrite=True,
            minpix=None, save=("background", "noise"),
        )  # fmt: skip
        data = read_image(path).data
        row["type"] = str(data.dtype)
        sources = read_image(done.output).data
        background, noise = (read_image(done.output, name).data for name in ("BACKGROUND", "NOISE"))
    except ValueError as error:
        return row | {"within": True, "note": f"refused: {str(error)[-60:]}"}
    error = largest_error(data, sources, background, noise)
    return row | {"error": error, "within": bool(error <= BAR)}


def largest_error(data, *parts):
    """Of the sum in float64, relative to the magnitudes; pixels that are not finite are left out."""
    data, *parts = (np.asarray(part, np.float64) for part in (data, *parts))
    wrong = np.abs(sum(parts) - data)
    size = sum(np.abs(part) for part in (data, *parts))
    good = np.isfinite(data)
    return float(np.max(wrong[good] / np.maximum(size[good], np.finfo(np.float64).tiny)))


if __name__ == "__main__":
    main()
