"""One large frame through the whole command, in a process of its own.

    python benchmarks/path/speed.py

Wall time from start to end, Mpix/s, processor time and peak memory for 1 and for 4 steps. At least
3 Mpix/s on two cores and at most 1.5 GB; 4 steps at most 4.3 times one. With `--catalog` the same with a catalogue,
without and with its calibration on the frame, in at most 1.25 times the time of one step. The processor time shows
when something else was running. `benchmarks/speed` measures where the time goes.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from checks import cores, model_of, options, report, simulated

SPEED, MEMORY, RATIO, CATALOGUE = 3.0, 1.5, 4.3, 1.25


def main():
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=4096, help="of the frame in pixels")
    parser.add_argument("--steps", type=int, nargs="+", default=(1, 4))
    parser.add_argument("--repeat", type=int, default=2, help="runs of one step; the best counts")
    parser.add_argument("--catalog", action="store_true", help="with a catalogue, too")
    chosen = parser.parse_args()
    network = model_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.fits"
        fits.writeto(path, large_frame(chosen.side))
        rows = []
        for steps in chosen.steps:
            runs = [run(path, chosen, steps) for _ in range(chosen.repeat if steps == 1 else 1)]
            rows.append(row_of(steps, *min(runs), rows, chosen.side**2 / 1e6))
        for words in (("--catalog", "--no-calibrate"), ("--catalog",)) if chosen.catalog else ():
            row = row_of(1, *run(path, chosen, 1, *words), rows, chosen.side**2 / 1e6)
            row["within"] = row["over 1 step"] <= CATALOGUE and row["peak GB"] <= MEMORY
            rows.append({**row, "catalogue": "listed" if len(words) > 1 else "calibrated"})
        report("speed", rows, chosen, model=network, bar=[SPEED, MEMORY, RATIO])
    print(f"{cores()} cores")


def large_frame(side):
    """A scene of 1024 pixels and its reflections: quick to draw, and as hard to clean."""
    part = simulated((1024, 1024), seed=2).data
    whole = np.block([[part, part[:, ::-1]], [part[::-1], part[::-1, ::-1]]])
    count = -(-side // 2048)
    return np.tile(whole, (count, count))[:side, :side].astype(np.float32)


def run(path, chosen, steps, *words):
    """Wall and processor seconds and peak GB (1e9 bytes) of the command."""
    command = [
        sys.executable, "-m", "bgrem", "-f", path, "-s", steps, "--model", chosen.model,
        "--output-dir", path.parent / "out", "--overwrite", "--quiet", *words,
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the command failed with exit code {process.returncode}")
    # Linux counts in units of 1024 bytes, macOS in bytes.
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return seconds, usage.ru_utime + usage.ru_stime, memory


def row_of(steps, seconds, processor, memory, rows, area):
    ratio = seconds / rows[0]["seconds"] if rows else 1.0
    speed = area / seconds
    good = memory <= MEMORY and (speed >= SPEED if steps == 1 else ratio <= 1.075 * steps)
    return {
        "steps": steps, "catalogue": "none", "seconds": seconds, "Mpix/s": speed, "processor s": processor,
        "peak GB": memory, "over 1 step": ratio, "within": good,
    }  # fmt: skip


if __name__ == "__main__":
    main()
