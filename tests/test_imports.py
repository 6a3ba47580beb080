"""The house stands: imports go downwards only, and the heavy ones come late."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bgrem"

# Each room and its floor; a room imports only from floors below its own.
FLOORS = {
    "tiling": -1, "scratch": -1, "filters": -2, "diffusion": 0, "peaks": 0, "truth": 0, "mode": -2, "calibration": 0,
    "light": 0, "tables": 0, "pictures": 0, "borders": 0, "formats": 0, "photometry": 1, "target": 5,
    "inject": 6, "restore": 2, "flags": 1, "saturation": 2, "weights": 2, "maps": 2, "companions": 3, "bayer": 3,
    "sky": 1, "splines": -1, "mesh": 0, "blocks": 0, "objects": 0.5, "level": 1.5, "clipped": 0, "frame": -1,
    "checksum": -1, "hdus": 0.2, "tile_compression": 0.4, "fits": 1, "rewriting": 1.5,
    "openvino_graph": 0, "engines": 1, "model": 2, "psf": 1, "simulate": 1,
    "separation": 2, "significance": 0.7, "containers": 2, "absorption": 2, "detect": 2, "matched": 0, "network": 0.5,
    "parents": 2, "realism": 2,
    "background": 3, "background2d": 4, "html": 3,
    "own_sky": 6, "budget": 2.5, "temporary": -2, "journal": 0, "log": 5, "workers": 6, "cluster": 6, "batch": 7,
    "outcome": 0, "provenance": 0, "paths": 2, "products": 4, "files": 5, "pair": 4, "evaluate": 4, "training_config": 3, "losses": 3,
    "baselines": 3, "pooled": 6, "report": 5, "validate": 5, "calibrate": 5,
    "export": 7,
    "train": 8,
    "cli": 9,
}  # fmt: skip
WING = {
    "simulate", "matched", "network", "significance", "parents", "validate", "calibrate", "training_config", "losses", "export",
    "own_sky", "train",
}  # fmt: skip
HEAVY = {
    "torch",
    "galsim",
    "dask",
    "distributed",
    "matplotlib",
    "onnxruntime",
    "astroscrappy",
    "onnx",
    "openvino",
}
ALLOWED_IN_THE_WING = {"torch", "galsim"}


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree):
    """Modules that a file imports, as dotted names, relative ones resolved for the package's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield f"bgrem.{node.module}" if node.module else "bgrem"
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    return sorted(
        path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem[0] != "_"
    )


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    room = room_of(path)
    assert room in FLOORS, f"say in FLOORS on which floor {room} stands"
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        below = parts[1] if parts[0] == "bgrem" and len(parts) > 1 else room
        if (
            below == room
            or not (PACKAGE / below).exists()
            and not (PACKAGE / f"{below}.py").exists()
        ):
            continue
        assert FLOORS[below] < FLOORS[room], f"{room} imports {below}, which is not below it"


@pytest.mark.parametrize("room", ["tiling", "diffusion", "filters"])
def test_the_ground_floor_needs_numpy_only(room):
    tops = {
        name.split(".")[0] for name in imported(ast.parse((PACKAGE / f"{room}.py").read_text()))
    }
    assert tops <= {"numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_imports_come_late(path):
    module = ast.parse(path.read_text())
    module.body = [node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
    tops = {name.split(".")[0] for name in imported(module)}
    allowed = ALLOWED_IN_THE_WING if room_of(path) in WING else set()
    assert not tops & HEAVY - allowed


@pytest.mark.parametrize(
    "statement",
    [
        "import bgrem",
        "from bgrem import remove_background, DiffusionBackground2D, process_file, load_model",
        "import bgrem.files, bgrem.cli.bgrem",
    ],
)
def test_importing_is_light(statement):
    code = f"import sys; {statement}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_public_names():
    import bgrem

    assert set(bgrem.__all__) >= {
        "DiffusionBackground2D", "available_models", "load_model", "process_file", "process_files",
        "remove_background",
    }  # fmt: skip
    for name in bgrem.__all__:
        assert getattr(bgrem, name) is not None


def test_public_names_are_sorted_and_typed():
    import bgrem

    assert bgrem.__all__ == sorted(bgrem.__all__) == sorted(bgrem._HOME)
    assert (PACKAGE / "py.typed").exists()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["bgrem"]
    stated = (PACKAGE / "__init__.py").read_text()
    assert all(f"import {name}" in stated or f", {name}" in stated for name in bgrem.__all__)


def test_the_types_of_every_public_function_are_checked():
    import bgrem

    checked = (ROOT / "tests" / "check_types.py").read_text()
    functions = {name for name in bgrem.__all__ if name[0].islower()}
    assert not [name for name in functions if f"{name}(" not in checked]


def test_every_option_has_its_row_in_the_readme():
    from bgrem.cli.bgrem import make_parser

    readme = (ROOT / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("|")]
    for action in make_parser()._actions:
        for option in action.option_strings:
            if option.startswith("--"):
                assert any(f"`{option}`" in row for row in rows), option
