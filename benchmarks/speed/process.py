"""A command in a process of its own: its seconds and its peak of memory, by the operating system.

Linux counts what a process held when it started another one as memory of the other. A benchmark that
holds frames itself must therefore not start what it measures: a small interpreter, which this file is
run by, does.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

__all__ = ["CommandError", "Usage", "measure"]


class CommandError(RuntimeError):
    """A command failed; the message is the last line that it wrote to stderr, or its exit code."""


@dataclass(frozen=True, order=True)
class Usage:
    """What a command took.

    Attributes
    ----------
    seconds : float
        From its start to its end.
    processor : float
        Seconds of all its threads and of the processes that it started.
    peak : float
        Bytes of the largest of its processes, memory-mapped files included.
    """

    seconds: float
    processor: float
    peak: float


def measure(command, *, cores=None, folder=None, environment=None):
    """Run a command to its end.

    Parameters
    ----------
    command : sequence
        Program and arguments, as strings or paths.
    cores : int, optional
        Number of cores that the command may use, the first of this process. Default: all.
    folder : path, optional
        In which it runs.
    environment : dict, optional
        Variables that are added to those of this process.

    Returns
    -------
    Usage

    Raises
    ------
    CommandError
        If it cannot be started, or its exit code is not 0.
    """
    launcher = [sys.executable, "-I", "-S", __file__, str(cores or 0)]
    done = subprocess.run(
        [*launcher, *map(str, command)],
        check=False,
        cwd=folder,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise CommandError(said[-1] if said else f"exit code {done.returncode}")
    return Usage(**json.loads(done.stdout))


def main(cores, *command):
    """Run the command with what it says hidden, and print what it took; its exit code."""
    if int(cores) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    began = time.perf_counter()
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode < 0:
        print(f"killed by signal {-process.returncode}", file=sys.stderr)
    # Linux counts in units of 1024 bytes, macOS in bytes.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    processor = usage.ru_utime + usage.ru_stime
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak}))
    return abs(process.returncode)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
