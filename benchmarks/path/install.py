"""What `pip install .` puts into a fresh environment, and whether the command works there.

    python benchmarks/path/install.py

Makes an environment with venv, installs the package without extras, adds up site-packages (pip and
its bytecode included), looks for what only training needs, and cleans the sample frame. At most
300 MB (1e6 bytes).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "meerlicht_sample.fits.fz"
SIZE = 300.0
ABSENT = ("torch", "galsim", "scipy", "matplotlib")
SHOWN = 8
LOOK = """
import importlib.util, json, site, sys
found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
print(json.dumps([site.getsitepackages()[0], found]))
"""


def main():
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "env" / "bin" / "python"
        run(sys.executable, "-m", "venv", Path(folder) / "env")
        run(python, "-m", "pip", "install", "--quiet", ROOT)
        place, found = json.loads(run(python, "-c", LOOK, *ABSENT))
        sizes = sizes_of(Path(place))
        print(run(python, "-m", "bgrem", "-f", SAMPLE, "--output-dir", folder), end="")
    for name, size in sizes.most_common(SHOWN):
        print(f"{name:44} {size / 1e6:6.1f} MB")
    total = sum(sizes.values()) / 1e6
    print(f"{'all':44} {total:6.1f} MB, bar {SIZE:.0f}: {'yes' if total <= SIZE else 'NO'}")
    print(f"of {', '.join(ABSENT)} installed: {', '.join(found) or 'none'}")
    return int(total > SIZE or bool(found))


def run(*command):
    """Output of a command that must succeed, in a folder where the checkout is not seen."""
    words = [str(word) for word in command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words,
        cwd=tempfile.gettempdir(),
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def sizes_of(place):
    """Bytes of the files of each package."""
    sizes = Counter()
    for path in place.rglob("*"):
        if path.is_file():
            sizes[path.relative_to(place).parts[0]] += path.stat().st_size
    return sizes


if __name__ == "__main__":
    sys.exit(main())
