"""What `import bgrem` takes beyond the start of Python, wall-clock and processor: medians of runs."""

import argparse
import resource
import statistics
import subprocess
import sys
import time

STATEMENTS = ("import bgrem", "import bgrem.cli.bgrem", "from bgrem import remove_background")


def seconds(statement: str) -> tuple[float, float]:
    """Wall-clock and processor time of a new interpreter that runs one statement."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(statement: str, runs: int) -> list[float]:
    """Median of each time over several runs."""
    return [
        statistics.median(times)
        for times in zip(*(seconds(statement) for _ in range(runs)), strict=True)
    ]


def main() -> None:
    """Print a line for each statement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    empty = medians("pass", runs)
    for statement in STATEMENTS:
        wall, processor = (
            taken - start for taken, start in zip(medians(statement, runs), empty, strict=True)
        )
        print(f"{statement:40s} {wall:.3f} s, processor {processor:.3f} s", flush=True)


if __name__ == "__main__":
    main()
