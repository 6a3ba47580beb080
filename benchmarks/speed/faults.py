"""A batch on a cluster whose workers die, run out of memory or join late: what becomes of the frames.

    python benchmarks/speed/faults.py
    python benchmarks/speed/faults.py --runs 3 --frames 6

Every run is a Dask cluster of its own on this machine, a scheduler and workers that talk over TCP,
and a batch of frames, all of which differ. At a moment that is drawn, something happens:

- killed: a worker that has frames is killed (SIGKILL);
- memory: one is made to take more memory than it may have, and its nanny kills it;
- late: there is one worker at first, and the others join in mid-run;
- both: the others join, and then the first is killed.

A frame is lost if it did not come out, twice if it was reported more than once, different if what was
written is not, bit by bit, what one process writes; half-written files are those under temporary names.
The exit code is 1 if there is any.
"""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import distributed
import numpy as np
from astropy.io import fits

from bgrem.evaluate.tables import text_table, write_json
from bgrem.inference.model import load_model
from bgrem.processing.batch import process_batch
from bgrem.processing.files import process_files
from bgrem.processing.outcome import Result

sys.path.append(str(Path(__file__).resolve().parents[1]))
from command import command_parser

FAULTS = ("killed", "memory", "late", "both")
WORKERS = 3
LIMIT = 1 << 30  # bytes of memory of a worker
SEED = 20_261_122
FOUND = ("lost", "twice", "different", "half-written")


def main(argv=None):
    """Measure, print and write."""
    options = make_parser().parse_args(argv)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    began = time.perf_counter()
    model = load_model(options.model, threads=1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        frames = write_frames(Path(folder, "night"), options.frames, options.side)
        alone = time_alone(frames, model, Path(folder, "alone"))
        runs = [
            run(number, FAULTS[number % len(FAULTS)], frames, model, alone, Path(folder))
            for number in range(options.runs)
        ]
    rows = [summary(fault, runs) for fault in (*FAULTS, "all")]
    print(f"{options.frames} frames of {options.side} pixels a run, {WORKERS} workers")
    print(text_table([row for row in rows if row["runs"]]))
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s, model {model.card.name} {model.sha256[:12]}")
    if options.json:
        print(write_json(options.json, {"runs": runs, "seconds": seconds}))
    return 1 if any(each[name] for each in runs for name in FOUND) else 0


def make_parser():
    """The options of the command."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=20, help="clusters, the faults taking turns")
    add("--frames", type=int, default=24, help="of a batch")
    add("--side", type=int, default=512, help="of a frame in pixels")
    add("--folder", help="for frames and outputs (default: a temporary one)")
    add("--json", metavar="FILE", help="write the results there, too")
    return parser


def write_frames(folder, count, side):
    """Frames of noise and points, each its own; their paths."""
    folder.mkdir()
    paths = []
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        data = rng.normal(500, 10, (side, side)).astype(np.float32)
        data[rng.integers(0, side, 40), rng.integers(0, side, 40)] += 3000
        paths.append(folder / f"{number:03}.fits")
        fits.writeto(paths[-1], data)
    return paths


def time_alone(frames, model, folder):
    """Seconds that one process takes; its outputs are those that all others must equal."""
    began = time.perf_counter()
    outcomes = list(process_files(frames, model=model, output_dir=folder))
    assert all(isinstance(outcome, Result) for outcome in outcomes), outcomes
    return time.perf_counter() - began


def run(number, fault, frames, model, alone, folder):
    """One batch on one cluster, and what was found."""
    print(f"run {number}: {fault}", file=sys.stderr, flush=True)
    rng = np.random.default_rng([SEED, number, 1])
    output = folder / f"run{number}"
    first = 1 if fault in ("late", "both") else WORKERS
    outcomes = []
    with distributed.LocalCluster(
        n_workers=first, threads_per_worker=1, processes=True, memory_limit=LIMIT,
        dashboard_address=None, protocol="tcp://", silence_logs="CRITICAL",
    ) as cluster:  # fmt: skip
        # After some frames have come out, and a part of a frame's time.
        moment = Moment(int(rng.integers(1, len(frames) // 3)), rng.uniform(0, alone / len(frames)))
        strike = threading.Thread(target=STRIKES[fault], args=(cluster, moment, rng))
        strike.start()
        for outcome in process_batch(
            frames, model=model, scheduler=cluster.scheduler_address, output_dir=output
        ):
            outcomes.append(outcome)
            moment.count(len(outcomes))
        moment.count(len(frames))
        strike.join()
    return {"run": number, "fault": fault, **found(frames, outcomes, output, folder / "alone")}


class Moment:
    """When it happens: some seconds after so many frames."""

    def __init__(self, frames, seconds):
        self._frames, self._seconds = frames, seconds
        self._come = threading.Event()

    def count(self, done):
        """Tell how many frames have come out."""
        if done >= self._frames:
            self._come.set()

    def wait(self):
        """Until it comes."""
        self._come.wait()
        time.sleep(self._seconds)


def kill_busy(cluster, moment, rng):
    """Kill a worker that has frames to do."""
    moment.wait()
    with distributed.Client(cluster, set_as_default=False) as client:
        pids = client.run(os.getpid)
        busy = [address for address, tasks in client.processing().items() if tasks]
        address = str(rng.choice(sorted(set(busy) & set(pids)) or sorted(pids)))
        os.kill(pids[address], signal.SIGKILL)


def fill_memory(cluster, moment, rng):
    """Make a worker take more memory than it may have."""
    moment.wait()
    with distributed.Client(cluster, set_as_default=False) as client:
        address = str(rng.choice(sorted(client.nthreads())))
        client.run(_fill, workers=[address], on_error="ignore")


def _fill():
    _fill.kept = bytearray(os.urandom(1 << 20)) * int(1.1 * LIMIT / (1 << 20))


def join_late(cluster, moment, rng):
    """More workers in mid-run."""
    moment.wait()
    cluster.scale(WORKERS)


def join_and_kill(cluster, moment, rng):
    """More workers in mid-run, and the first one killed."""
    join_late(cluster, moment, rng)
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(WORKERS)
    kill_busy(cluster, moment, rng)


STRIKES = dict(zip(FAULTS, (kill_busy, fill_memory, join_late, join_and_kill), strict=True))


def found(frames, outcomes, output, alone):
    """What is wrong with the frames of a run."""
    done = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    told = Counter(Path(outcome.input).name for outcome in outcomes)
    different = [
        outcome for outcome in done
        if not np.array_equal(*(fits.getdata(place / outcome.output.name)
                                for place in (output, alone)))
    ]  # fmt: skip
    return {
        "frames": len(frames),
        "lost": len(frames) - len({outcome.output for outcome in done}),
        "twice": sum(count - 1 for count in told.values()),
        "different": len(different),
        "half-written": sum(1 for _ in output.glob(".bgrem-*")),
    }


def summary(fault, runs):
    """The runs of a fault, added up."""
    own = [each for each in runs if fault in ("all", each["fault"])]
    return {"fault": fault, "runs": len(own)} | {
        name: sum(each[name] for each in own) for name in ("frames", *FOUND)
    }


if __name__ == "__main__":
    sys.exit(main())
