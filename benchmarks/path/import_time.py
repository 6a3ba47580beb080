"""How long `import bgrem` takes, beyond the start of Python: the median of several runs."""

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = ("import bgrem", "import bgrem.cli.bgrem", "from bgrem import remove_background")


def seconds(statement: str) -> float:
    """Wall-clock time of a new interpreter that runs one statement."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print a line for each statement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    empty = statistics.median(seconds("pass") for _ in range(runs))
    for statement in STATEMENTS:
        taken = statistics.median(seconds(statement) for _ in range(runs)) - empty
        print(f"{statement:40s} {taken:.3f} s")


if __name__ == "__main__":
    main()
