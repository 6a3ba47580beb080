"""Another checkout of bgrem, an older one for instance, that separates images in a process of its own.

The process is this file, run with the other checkout on its path; images and their parts go through files.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

__all__ = ["OtherCheckout"]


class OtherCheckout:
    """Separates images with another checkout and its own model "optical".

    Parameters
    ----------
    checkout : path
        A folder with the package.
    threads : int, optional
        Of the network. Default: one per core.

    Attributes
    ----------
    name : str
        "bgrem" with its commit, or the name of its folder.
    """

    def __init__(self, checkout, *, threads=None):
        checkout = Path(checkout).resolve()
        if not (checkout / "bgrem" / "background.py").is_file():
            raise SystemExit(f"{checkout} is no checkout of bgrem")
        self.name = f"bgrem {commit_of(checkout)}"
        self._folder = tempfile.TemporaryDirectory()
        command = [sys.executable, __file__, self._folder.name, str(threads or 0)]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        used = Path(self._process.stdout.readline().strip())
        if not used.is_relative_to(checkout):
            raise SystemExit(f"{used} is used, not {checkout}")

    def __call__(self, data):
        """Background and sources of an image."""
        np.save(Path(self._folder.name, "data.npy"), data)
        self._process.stdin.write("separate\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if answer != "done":
            raise ValueError(answer or f"{self.name} has stopped")
        return tuple(np.load(Path(self._folder.name, f"{name}.npy")) for name in PARTS)


PARTS = ("background", "sources")


def commit_of(checkout):
    """The commit of a checkout, or the name of its folder."""
    done = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip() or checkout.name


def main(folder, threads):
    """Separate the image in the folder once for each line on the standard input."""
    import bgrem
    from bgrem.background import separate
    from bgrem.inference.model import load_model

    print(bgrem.__file__, flush=True)
    model = load_model("optical", threads=int(threads) or None)
    for _ in sys.stdin:
        try:
            parts = separate(np.load(Path(folder, "data.npy")), model=model, maps=())
        except ValueError as error:
            print(error, flush=True)
            continue
        for name in PARTS:
            np.save(Path(folder, f"{name}.npy"), getattr(parts, name))
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
