"""Kill bgrem at random moments, and see that nothing is half written and that the next run succeeds.

    python benchmarks/robust/kill.py
    python benchmarks/robust/kill.py --count 20 --first 100

Every run is the command on small frames: one image, several, several in two processes (``--workers 2``), or
``bgrem-undo``. At a moment that is drawn it gets SIGKILL, SIGTERM or SIGINT (which a terminal sends to
all processes). Then

- the inputs must be the same bytes;
- every output must be absent, or complete and as that of a run that nothing disturbed;
- temporary files may be left by SIGKILL only, and the next run must remove them;
- no traceback may be printed, except by Python itself before the command has begun;
- the next run, with ``--overwrite``, must write all outputs.

The exit code is 1 if anything else is found.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from astropy.io import fits

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests")]
from command import command_parser

KINDS = ("single", "batch", "workers", "undo")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SEED = 20_261_130
FRAMES = 2
SIDE = 256  # pixels
STARTING = 0.5  # seconds in which Python itself may print a traceback


def main(argv=None):
    """Kill the runs, print what was found."""
    parser = command_parser(__doc__, model=False)
    parser.add_argument("--count", type=int, default=200, help="number of runs")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bgrem-kill-") as folder:
        bench = _Bench(Path(folder))
        numbers = range(options.first, options.first + options.count)
        trials = [bench.trial(number) for number in numbers]
    counts = Counter(what for what, _ in trials)
    for (kind, name, state), count in sorted(counts.items()):
        print(f"{kind:8} {name:8} {state:10} {count:4}")
    faults = [fault for _, found in trials for fault in found]
    print(f"{len(trials)} runs killed, {len(faults)} faults", *faults, sep="\n")
    return 1 if faults else 0


class _Bench:
    """Frames, their outputs when nothing disturbs, and the time that this takes."""

    def __init__(self, folder):
        import onnx
        from toy_models import toy_card, toy_onnx

        self._folder = folder
        self._model = folder / "toy.onnx"
        onnx.save(toy_onnx(toy_card()), self._model)
        self._frames = folder / "frames"
        self._frames.mkdir()
        for number in range(FRAMES):
            rng = np.random.default_rng([SEED, number])
            data = rng.normal(500, 10, (SIDE, SIDE))
            data[rng.integers(0, SIDE, 20), rng.integers(0, SIDE, 20)] += 3000
            fits.writeto(self._frames / f"{number}.fits", data.astype(np.int16), checksum=True)
        self._undisturbed = {}
        self._seconds = {}
        for kind in KINDS:
            place = self._place(kind)
            began = time.monotonic()
            done = subprocess.run(self._command(kind, place), **self._asked(), check=False)
            self._seconds[kind] = time.monotonic() - began
            assert done.returncode == 0, done.stderr
            self._undisturbed[kind] = _outputs(place)

    def _asked(self):
        return {
            "env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
        }  # fmt: skip

    def _place(self, kind):
        """A new folder with the inputs of a run."""
        place = Path(tempfile.mkdtemp(dir=self._folder))
        if kind == "undo":
            (output,) = self._undisturbed["single"]
            shutil.copy(self._kept / output, place / "BGRem_0.fits")
            return place
        for path in sorted(self._frames.iterdir())[: 1 if kind == "single" else FRAMES]:
            shutil.copy(path, place)
        if kind == "single":
            self._kept = place
        return place

    def _command(self, kind, place):
        if kind == "undo":
            return [sys.executable, "-m", "bgrem.cli.undo", place / "BGRem_0.fits", "--overwrite"]
        more = ["--workers", "2"] if kind == "workers" else []
        return [
            sys.executable, "-m", "bgrem", "-f", place, "--model", self._model, "--overwrite",
            "--save", "background,noise", *more,
        ]  # fmt: skip

    def trial(self, number):
        """(kind, signal, state) of one run, and the faults that were found."""
        rng = np.random.default_rng([SEED, number, 1])
        kind, sent = KINDS[number % len(KINDS)], SIGNALS[number // len(KINDS) % len(SIGNALS)]
        kept = getattr(self, "_kept", None)
        place = self._place(kind)
        self._kept = kept
        inputs = {path: path.read_bytes() for path in place.iterdir()}
        moment = rng.uniform(0, 1.05 * self._seconds[kind])
        code, errors = self._killed(kind, place, sent, moment)
        state = "finished" if code == 0 else "killed"
        faults = []
        if any(path.read_bytes() != before for path, before in inputs.items()):
            faults.append("an input changed")
        faults += self._wrong(kind, place, complete=code == 0)
        left = [path.name for path in place.iterdir() if path.name.startswith(".bgrem-")]
        if left and sent != signal.SIGKILL:
            faults.append(f"left {left}")
        if "Traceback" in errors and moment > STARTING:
            faults.append(f"printed {errors!r}")
        done = subprocess.run(self._command(kind, place), **self._asked(), check=False)
        if done.returncode != 0:
            faults.append(f"the next run failed: {done.stderr}")
        faults += self._wrong(kind, place, complete=True)
        if left := [path.name for path in place.iterdir() if path.name.startswith(".bgrem-")]:
            faults.append(f"the next run left {left}")
        shutil.rmtree(place)
        label = f"run {number}, {kind}, {sent.name} at {moment:.2f} s: "
        return (kind, sent.name, state), [label + fault for fault in faults]

    def _killed(self, kind, place, sent, moment):
        """The exit code and the messages of a run that gets a signal."""
        process = subprocess.Popen(
            self._command(kind, place), **self._asked(), start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        with suppress(ProcessLookupError):
            if sent == signal.SIGINT:
                os.killpg(process.pid, sent)
            else:
                process.send_signal(sent)
        _, errors = process.communicate(timeout=60)  # until the last process has closed stderr
        return process.returncode, errors

    def _wrong(self, kind, place, complete):
        """What is wrong with the outputs in a folder."""
        found, expected = _outputs(place), self._undisturbed[kind]
        wrong = [
            f"{name} is not as undisturbed" for name in found if found[name] != expected.get(name)
        ]
        if complete and (missing := expected.keys() - found.keys()):
            wrong.append(f"{sorted(missing)} missing")
        return wrong


def _outputs(place):
    """The data of the HDUs of each output, as bytes."""
    found = {}
    for path in sorted(place.iterdir()):
        if path.name.startswith(("BGRem_", "restored_")) and path.suffix == ".fits":
            try:
                with fits.open(path, checksum=True) as hdus:
                    found[path.name] = [
                        None if hdu.data is None else hdu.data.tobytes() for hdu in hdus
                    ]
            except Exception as error:  # noqa: BLE001 - to be reported
                found[path.name] = str(error)
    return found


if __name__ == "__main__":
    sys.exit(main())
