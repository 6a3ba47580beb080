"""Break FITS files in many ways, and see that bgrem writes a right output or refuses them in one sentence.

    python benchmarks/robust/mutate.py
    python benchmarks/robust/mutate.py --count 100 --first 5000 --folder /tmp/broken

Every seed is a small sound file, one to three changes, and options of the command. A file is

- written, if astropy opens the output, has the expected number of HDUs, reads all that it reads of the
  input, and the checksums of what bgrem wrote are right;
- refused, if there is one sentence of at most 300 characters, and no file is left;
- a FAULT otherwise: a crash, a raw warning on stderr, more than 20 s or 2 GB.

The files of faults are kept in the folder. Seeds that are finished are in ``seeds.jsonl`` there, and not
run again. The exit code is 1 if there is a fault.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

WALL = 20.0  # seconds for a file
MOST_MEMORY = 2e9  # bytes
HERE = Path(__file__).resolve().parent


def main(argv=None):
    """Run the seeds that are not finished; print the counts."""
    options = make_parser().parse_args(argv)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="bgrem-broken-"))
    folder.mkdir(parents=True, exist_ok=True)
    if options.work:
        from trial import work

        return work(folder, options.real)
    journal = folder / "seeds.jsonl"
    done = (
        {each["seed"]: each for each in map(json.loads, journal.open())} if journal.exists() else {}
    )
    seeds = range(options.first, options.first + options.count)
    with journal.open("a") as file:
        for outcome in run([s for s in seeds if s not in done], folder, options):
            done[outcome["seed"]] = outcome
            file.write(json.dumps(outcome) + "\n")
            file.flush()
            if outcome["class"] == "FAULT":
                print(f"seed {outcome['seed']}: {outcome['why']}", file=sys.stderr, flush=True)
    return report([done[seed] for seed in seeds], folder)


def make_parser():
    """The options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--count", type=int, default=10_000, help="number of seeds")
    add("--first", type=int, default=0, help="the first seed")
    add("--jobs", type=int, default=1, help="processes at once")
    add("--real", type=float, default=0.1, help="part of the files that the real model separates")
    add("--folder", help="for the journal and the files of faults (default: a temporary one)")
    add("--work", action="store_true", help=argparse.SUPPRESS)
    return parser


def run(seeds, folder, options):
    """The outcome of each seed, from processes that are replaced when they die."""
    waiting = list(reversed(seeds))
    crew = []
    while waiting or crew:
        while waiting and len(crew) < options.jobs:
            crew.append(_Process(folder, options, waiting.pop()))
        for process in list(crew):
            outcome = process.take(0.05 if len(crew) > 1 else WALL + 5)
            if outcome is None:
                continue
            yield outcome
            crew.remove(process)
            if process.alive and waiting:
                process.give(waiting.pop())
                crew.append(process)
            else:
                process.end()


class _Process:
    """A process that takes one seed after another."""

    def __init__(self, folder, options, seed):
        command = [
            sys.executable, __file__, "--work", "--folder", str(folder), "--real", str(options.real)
        ]  # fmt: skip
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.alive = self._process.stdout.readline() == "ready\n"
        assert self.alive, self._last_words()
        self.give(seed)

    def give(self, seed):
        """Begin a seed."""
        import time

        self._seed, self._began, self._clock = seed, time.monotonic(), time.monotonic
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()

    def take(self, patience):
        """The outcome of the seed, None if it is not known yet."""
        left = self._began + WALL - self._clock()
        ready, _, _ = select.select([self._process.stdout], [], [], max(0, min(patience, left)))
        if not ready and left > 0:
            return None
        line = self._process.stdout.readline() if ready else ""
        if line:
            outcome = json.loads(line)
            self.alive = outcome.get("memory", 0) < MOST_MEMORY / 2
            return outcome
        self.alive = False
        self._process.kill()
        code = self._process.wait()
        why = f"crash of native code (signal {-code})" if ready else f"took more than {WALL:.0f} s"
        return {"seed": self._seed, "class": "FAULT", "why": f"{why} {self._last_words()}".strip()}

    def _last_words(self):
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode("utf-8", "replace")

    def end(self):
        """Close the process."""
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()


def report(outcomes, folder):
    """Print the counts of the classes and of the reasons; the exit code."""
    classes = Counter(outcome["class"] for outcome in outcomes)
    print(f"{len(outcomes)} broken files: " + ", ".join(f"{n} {name}" for name, n in sorted(classes.items())))  # fmt: skip
    faults = [outcome for outcome in outcomes if outcome["class"] == "FAULT"]
    for outcome in faults:
        print(f"  seed {outcome['seed']}: {outcome['why'][:300]}")
    if faults:
        print(f"their files are in {folder}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.path.append(str(HERE))
    sys.exit(main())
