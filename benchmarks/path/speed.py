"""One large frame through the whole command, in a process of its own.

    python benchmarks/path/speed.py

Wall time from start to end, Mpix/s, processor time and peak memory for 1 and for 4 steps, and where
the time of one step goes. At least 3 Mpix/s on two cores and at most 1.5 GB; 4 steps at most 4.3
times one. The processor time tells when something else was running.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
from astropy.io import fits
from common import cores, model_of, options, report, simulated

from bgrem import background, files, model

SPEED, MEMORY, RATIO = 3.0, 1.5, 4.3
# Functions of the path as the modules that call them know them.
STAGES = (
    ("read", files, "read_image"),
    ("bad pixels", background, "flag_pixels"),
    ("centre and scale", background, "center_and_scale"),
    ("sky mesh", background, "estimate_mesh"),
    ("frame", background, "measure_frame"),
    ("network", model.Model, "__call__"),
    ("write", files, "write_mosaic"),
)


def main():
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=4096, help="of the frame in pixels")
    parser.add_argument("--steps", type=int, nargs="+", default=(1, 4))
    parser.add_argument("--repeat", type=int, default=2, help="runs of one step; the best counts")
    chosen = parser.parse_args()
    network = model_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.fits"
        fits.writeto(path, large_frame(chosen.side))
        rows = []
        for steps in chosen.steps:
            runs = [run(path, chosen, steps) for _ in range(chosen.repeat if steps == 1 else 1)]
            rows.append(row_of(steps, *min(runs), rows, chosen.side**2 / 1e6))
        stages = stages_of(path, network)
    report("speed", rows, chosen, model=network, stages=stages, bar=[SPEED, MEMORY, RATIO])
    for name, seconds in stages.items():
        print(f"{name:18} {seconds:6.2f} s")
    print(f"{cores()} cores")


def large_frame(side):
    """A scene of 1024 pixels and its reflections: quick to draw, and as hard to clean."""
    part = simulated((1024, 1024), seed=2).data
    whole = np.block([[part, part[:, ::-1]], [part[::-1], part[::-1, ::-1]]])
    count = -(-side // 2048)
    return np.tile(whole, (count, count))[:side, :side].astype(np.float32)


def run(path, chosen, steps):
    """Wall and processor seconds and peak GB (1e9 bytes) of the command."""
    command = [
        sys.executable, "-m", "bgrem", "-f", path, "-s", steps, "--model", chosen.model,
        "--output-dir", path.parent / "out", "--overwrite", "--quiet",
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
        "steps": steps, "seconds": seconds, "Mpix/s": speed, "processor s": processor,
        "peak GB": memory, "over 1 step": ratio, "within": good,
    }  # fmt: skip


def stages_of(path, network):
    """Seconds of one step by stage, in this process; the rest is what is between them."""
    spent = {name: 0.0 for name, _, _ in STAGES}
    with ExitStack() as patched:
        for name, owner, attribute in STAGES:
            timed = _timed(getattr(owner, attribute), name, spent)
            patched.enter_context(mock.patch.object(owner, attribute, timed))
        began = time.perf_counter()
        files.process_file(path, model=network, output_dir=path.parent / "out", overwrite=True)
        total = time.perf_counter() - began
    return {**spent, "tiles and the rest": total - sum(spent.values()), "total": total}


def _timed(function, name, spent):
    def wrapper(*arguments, **keywords):
        began = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            spent[name] += time.perf_counter() - began

    return wrapper


if __name__ == "__main__":
    main()
