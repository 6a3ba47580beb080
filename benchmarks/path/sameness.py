"""Whether this checkout gives what another one gives: every pixel and card, in every mode.

    python benchmarks/path/sameness.py OTHER [--data ../shared/data] [--modes plain workers ...]

Both checkouts run the same commands on the same images. The outputs are compared HDU by HDU: pixels
bit for bit, cards one by one. Cards of the version, the date, the model's hash and the checksums are left out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

HERE = Path(__file__).resolve().parents[2]
LEFT_OUT = {"BGR_VERS", "BGR_DATE", "BGR_HASH", "CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM"}
EVERY_PLANE = ["--save", "background,noise,rms,mask,uncertainty,significance"]
SMALL = 3_000_000  # bytes of a file that goes through every mode
# Options of each mode; "plain" takes all images, the others the small ones.
MODES = {
    "plain": EVERY_PLANE,
    "workers": [*EVERY_PLANE, "--workers", "2"],
    "memory": [*EVERY_PLANE, "--memory", "500MB"],
    "all": [*EVERY_PLANE, "-h", "all"],
    "bayer": [*EVERY_PLANE, "--bayer", "yes"],
    "alone": [*EVERY_PLANE, "--no-companions", "--bayer", "no", "--saturate", "none"],
    "steps": [*EVERY_PLANE, "-s", "2", "--fwhm", "3", "--box", "64", "-m", "none"],
    "clipped": ["--save", "background,noise", "--nonnegative", "--keep-level", "-m", "1"],
    "norm": ["--save", "rms,uncertainty", "-n", "0.1", "--saturate", "20000"],
    "report": ["--report", "--plot"],
}


def main():
    """Run both checkouts and print what differs; exit code 1 where something does."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument(
        "--keep", type=Path, help="folder of the outputs; those of OTHER are used again"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        weighted(folder)
        faults = 0
        for mode in options.modes:
            paths = images(options.data, folder, small=mode != "plain")
            outputs = [
                run(checkout, mode, paths, folder / name / mode, again=name == "this")
                for name, checkout in (("other", options.other.resolve()), ("this", HERE))
            ]
            lines = differences(*outputs)
            faults += len(lines)
            count = len(list(outputs[1].glob("*")))
            print(
                f"{mode:8s} {count:3d} files, {len(lines)} differences",
                *lines,
                sep="\n  ",
                flush=True,
            )
    return 1 if faults else 0


def images(data, folder, *, small):
    """The sample, the images of the data, and those that `weighted` draws."""
    found = [*(HERE / "examples").glob("*sample.fits*"), *sorted(folder.glob("drawn/*.fits"))]
    for name in ("optical", "pairs", "robust"):
        found += [path for path in sorted((data / name).glob("*.f*")) if path.is_file()]
    return [path for path in found if not small or path.stat().st_size < SMALL]


def weighted(folder):
    """Draw a cube with an empty plane and a float64 image with NaN, a mask and a weight."""
    rng = np.random.default_rng(1)
    (folder / "drawn").mkdir(parents=True, exist_ok=True)
    cube = rng.normal(100, 5, (3, 150, 170)).astype(np.float32)
    cube[1] = 7
    fits.writeto(folder / "drawn" / "cube.fits", cube, overwrite=True)
    image = rng.normal(1e-9, 1e-12, (210, 190))
    image[20:24, 50:60] = np.nan
    weight = np.ones(image.shape, np.float32)
    weight[:, 90:] = 0.25
    weight[100:110, :30] = 0
    mask = np.zeros(image.shape, np.uint8)
    mask[150:156, 40:44] = 5
    hdus = [
        fits.PrimaryHDU(image),
        fits.ImageHDU(weight, name="WHT"),
        fits.ImageHDU(mask, name="DQ"),
    ]
    fits.HDUList(hdus).writeto(folder / "drawn" / "weighted.fits", overwrite=True)


def run(checkout, mode, paths, output, *, again):
    """Outputs of one mode by one checkout, with what it prints; made again where asked for."""
    if output.exists() and not again:
        return output
    subprocess.run(["rm", "-rf", str(output)], check=True)
    output.mkdir(parents=True)
    bgrem = [sys.executable, "-m", "bgrem", "--output-dir", str(output), *MODES[mode]]
    call = {"cwd": checkout, "env": os.environ | {"PYTHONPATH": str(checkout)}, "text": True}
    done = subprocess.run(
        [*bgrem, "-f", *map(str, paths)], capture_output=True, check=False, **call
    )
    if mode == "plain":
        drawn = next(path for path in paths if path.name == "weighted.fits")
        more = ["-f", str(drawn), "--weight", "WHT", "--mask", "DQ", "--mask-bits", "4", "-p", "W_"]
        subprocess.run([*bgrem, *more], capture_output=True, check=True, **call)
        undo = [sys.executable, "-c", "from bgrem.cli.undo import main; raise SystemExit(main())"]
        written = [str(path) for path in sorted(output.glob("BGRem_*"))]
        subprocess.run([*undo, *written], capture_output=True, check=False, **call)
    lines = [line.split("  ")[0] for line in done.stdout.splitlines()]
    (output / "printed.txt").write_text("\n".join(sorted(lines)).replace(str(output), ""))
    (output / "complaints.txt").write_text(done.stderr)
    return output


def differences(old, new):
    """What differs between two folders of outputs, one sentence each."""
    names = [{path.name for path in folder.iterdir()} for folder in (old, new)]
    lines = [f"{name} is in one folder only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if name.endswith((".txt", ".jsonl", ".html")):
            continue
        if name.endswith(".png"):
            same = (old / name).read_bytes() == (new / name).read_bytes()
            lines += [] if same else [f"{name}: another picture"]
            continue
        lines += [f"{name}: {line}" for line in differences_of_files(old / name, new / name)]
    printed = [(folder / "printed.txt").read_text() for folder in (old, new)]
    return lines + (["other lines on stdout"] if printed[0] != printed[1] else [])


def differences_of_files(old, new):
    """What differs between two FITS files."""
    lines = []
    with fits.open(old, memmap=False) as one, fits.open(new, memmap=False) as other:
        if len(one) != len(other):
            return [f"{len(one)} against {len(other)} HDUs"]
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            lines += [f"HDU {i}: {line}" for line in differences_of_cards(a.header, b.header)]
            if (a.data is None) != (b.data is None):
                lines.append(f"HDU {i}: data in one only")
            elif a.data is not None and (
                a.data.dtype != b.data.dtype or a.data.tobytes() != b.data.tobytes()
            ):
                lines.append(f"HDU {i} {a.name}: other pixels")
    return lines


def differences_of_cards(one, other):
    """The cards that are in one header only."""
    cards = [
        [str(card) for card in header.cards if card.keyword not in LEFT_OUT]
        for header in (one, other)
    ]
    if cards[0] == cards[1]:
        return []
    apart = [card.strip() for card in cards[1] if card not in cards[0]]
    gone = [card.strip() for card in cards[0] if card not in cards[1]]
    return [f"card {text}" for text in (*gone, *apart)] or ["cards in another order"]


if __name__ == "__main__":
    raise SystemExit(main())
