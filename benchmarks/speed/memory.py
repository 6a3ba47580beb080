"""A frame of N x N pixels through the whole command, within a limit of memory.

    python benchmarks/speed/memory.py
    python benchmarks/speed/memory.py --side 40000 --memory 2GB

The frame is made of one block of noise and stars, repeated, and written a strip at a time. The
operating system reports the peak memory of the command, temporary files included. With
`--compare` the same frame goes through once without the limit, and the outputs must be equal.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem.cli.bgrem import make_parser

BLOCK = 1024  # side in pixels of what is repeated
STARS = 300  # in a block


def main():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--side", type=int, default=8192, help="of the frame in pixels")
    parser.add_argument("--memory", default="1.2GB", help="the limit")
    parser.add_argument("--model", default="optical", help="name, or path of an .onnx file")
    parser.add_argument("--save", default="", help="planes, as for the command")
    parser.add_argument("--folder", help="for the frame and the output (default: a temporary one)")
    parser.add_argument("--compare", action="store_true", help="with a run without a limit")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        path = Path(folder) / "frame.fits"
        write_frame(path, chosen.side)
        limited = run(path, chosen, "limited_", "--memory", chosen.memory)
        told(chosen.side, "limited", *limited)
        if chosen.compare:
            told(chosen.side, "free", *run(path, chosen, "free_"))
            same = equal(*(path.with_name(f"{kind}_frame.fits") for kind in ("limited", "free")))
            print(f"equal: {'yes' if same else 'NO'}")
    limit = make_parser().parse_args(["-f", "x", "--memory", chosen.memory]).memory
    within = limited[1] <= limit
    print(f"within {limit / 1e9:.3g} GB: {'yes' if within else 'NO'}")
    return 0 if within and (not chosen.compare or same) else 1


def write_frame(path, side):
    """A frame of any size, of which a strip is in memory."""
    block = sky_block()
    across = np.tile(block, (1, -(-side // BLOCK)))[:, :side].astype(">f4")
    header = fits.PrimaryHDU().header
    header.update(BITPIX=-32, NAXIS=2)
    header.set("NAXIS1", side, after="NAXIS")
    header.set("NAXIS2", side, after="NAXIS1")
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        for top in range(0, side, BLOCK):
            file.write(across[: side - top].tobytes())
        file.write(b"\0" * (-file.tell() % 2880))


def sky_block():
    """Noise of 20 on a level of 1000, and stars of 2.5 pixels."""
    rng = np.random.default_rng(20_261_122)
    block = rng.normal(1000, 20, (BLOCK, BLOCK))
    offset = np.arange(-12, 13)
    for y, x in rng.uniform(16, BLOCK - 16, (STARS, 2)):
        row, column = round(y), round(x)
        squares = (offset[:, None] + row - y) ** 2 + (offset + column - x) ** 2
        stamp = 20 * 10 ** rng.uniform(0, 3.5) * np.exp(-0.5 * squares / 1.06**2)
        block[row - 12 : row + 13, column - 12 : column + 13] += rng.normal(stamp, stamp**0.5)
    return block


def run(path, chosen, prefix, *arguments):
    """Seconds and peak memory in bytes of the command."""
    command = [
        sys.executable, "-m", "bgrem", "-f", path, "-p", prefix, "--model", chosen.model, "--quiet",
        *arguments, *(("--save", chosen.save) if chosen.save else ()),
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the command failed with exit code {process.returncode}")
    # Linux counts in units of 1024 bytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - began, usage.ru_maxrss * unit


def told(side, kind, seconds, peak):
    speed = side**2 / 1e6 / seconds
    print(
        f"{side} x {side}  {kind:7}  {seconds:7.1f} s  {speed:.2f} Mpix/s  peak {peak / 1e9:.3f} GB"
    )


def equal(one, two):
    """Whether all pixels of two outputs are the same, bit by bit."""
    with fits.open(one, memmap=True) as first, fits.open(two, memmap=True) as second:
        return all(
            np.array_equal(
                a.section[top : top + 64].view("u1"), b.section[top : top + 64].view("u1")
            )
            for a, b in zip(first, second, strict=True)
            for top in range(0, a.shape[0], 64)
        )


if __name__ == "__main__":
    sys.exit(main())
