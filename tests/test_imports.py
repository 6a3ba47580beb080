"""The house stands: imports go down, folders keep to themselves, and heavy packages come late."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bgrem"

# From the ground up. What stands in a tier imports from the tiers before it, and a folder from itself.
TIERS = (
    {"arrays"},
    {"options"},
    {"masks", "storage"},
    {"sky", "detection", "io"},
    {"network", "simulate"},
    {"inference"},
    {"catalogue"},
    {"separation"},
    {"counts"},
    {"counts_scenes", "background"},
    {"interfaces"},
    {"report"},
    {"processing"},
    {"evaluate", "defects"},
    {"train"},
    {"counts_training"},
    {"cli"},
)
TIER = {name: number for number, names in enumerate(TIERS) for name in names}
# Folders of people who train and measure, and the catalogue, which is imported when it is asked for: there the heavy
# packages may come at once.
WORKSHOP = {
    "catalogue",
    "network",
    "simulate",
    "evaluate",
    "train",
    "counts_scenes",
    "counts_training",
}
MODULE_LINES, FOLDER_MODULES, TOP_ENTRIES = 400, 12, 27
FUNCTION_LINES, PARAMETERS, BOUND = 60, 8, {"self", "cls"}
# Functions that need more, and why.
LONG = {
    "bgrem.background.separate": "the keywords of the public function",
    "bgrem.interfaces.background2d.__init__": "the keywords of photutils' Background2D",
    "bgrem.simulate.optics.draw_psf": "the parameters of a point-spread function",
    "bgrem.train.loop.train": "the settings of a training, as the command has them",
    "bgrem.counts_training.counts_loop.train_counts": "the same settings, for a model of counts",
    "bgrem.train.sky_loop.train_sky": "the same settings, for a sky network",
}
# Names by which packages are imported, where they are not those by which they are installed.
IMPORT_NAMES = {"scikit-image": "skimage"}


def modules():
    """Every module but those that are only a door: __init__ and __main__ at the top."""
    return sorted(
        path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem[0] != "_"
    )


def by_module():
    return pytest.mark.parametrize(
        "path", modules(), ids=lambda path: str(path.relative_to(PACKAGE))
    )


def part_of(path):
    """The folder of a module, or the module at the top."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree):
    """Modules, and names in modules, that a tree imports, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(path):
    return ast.parse(path.read_text())


def heavy_packages():
    """What the extras of pyproject bring and the core does not need, by the names of imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        found = {re.match(r"[\w-]+", line)[0] for line in requirements}
        return {IMPORT_NAMES.get(name, name) for name in found}

    extras = names(chain.from_iterable(project["optional-dependencies"].values()))
    return extras - names(project["dependencies"]) | {"onnxruntime"}


@by_module()
def test_imports_go_down(path):
    part = part_of(path)
    assert part in TIER, f"say in TIERS where {part} stands"
    for name in imported(parsed(path)):
        parts = name.split(".")
        if parts[0] != "bgrem" or len(parts) < 2 or parts[1] == part or parts[1] not in TIER:
            continue
        assert TIER[parts[1]] < TIER[part], f"{dotted(path)} imports {name}, which is not below it"


def test_every_part_has_a_tier():
    parts = {part_of(path) for path in modules()}
    assert parts == set(TIER)


def test_no_cycle_inside_a_folder():
    paths = {dotted(path): path for path in modules() if path.stem != "__init__"}
    needs = {name: set(imported(parsed(path))) & set(paths) for name, path in paths.items()}
    while ready := [name for name in needs if not needs[name] & (set(needs) - {name})]:
        for name in ready:
            del needs[name]
    assert not needs


def test_folders_are_one_level_deep():
    assert all(len(path.relative_to(PACKAGE).parts) <= 2 for path in modules())


def test_the_house_is_small():
    shown = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(shown) <= TOP_ENTRIES
    for folder in filter(Path.is_dir, shown):
        assert len(list(folder.glob("*.py"))) <= FOLDER_MODULES, folder


@by_module()
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= MODULE_LINES


def _length_of(function):
    """Lines of a function without its docstring, and the number of its parameters."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    parameters = [a for a in (*function.args.args, *function.args.kwonlyargs) if a.arg not in BOUND]
    return lines, len(parameters)


@by_module()
def test_functions_are_short(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef) and f"{dotted(path)}.{node.name}" not in LONG:
            lines, parameters = _length_of(node)
            assert lines <= FUNCTION_LINES, node.name
            assert parameters <= PARAMETERS, node.name


def test_no_module_name_twice():
    # A command has a module of its own name in `cli`.
    names = [path.stem for path in modules() if part_of(path) != "cli" and path.stem[0] != "_"]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_no_public_name_twice():
    """A public constant, function or class is defined in one place only."""
    places = defaultdict(set)
    for path in modules():
        if part_of(path) == "cli":
            continue
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [n.id for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)]
            else:
                continue
            for name in names:
                if name[0] != "_":
                    places[name].add(dotted(path))
    twice = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    assert not twice


def test_arrays_need_numpy_only():
    for path in (PACKAGE / "arrays").glob("*.py"):
        tree = parsed(path)
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        tops = {name.split(".")[0] for name in imported(tree)}
        assert tops <= {"numpy", "bgrem", *sys.stdlib_module_names}, path


@by_module()
def test_the_core_imports_nothing_heavy(path):
    if part_of(path) in WORKSHOP:
        return
    tree = parsed(path)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not {name.split(".")[0] for name in imported(tree)} & heavy_packages()


@pytest.mark.parametrize(
    "statement",
    [
        "import bgrem",
        "from bgrem import remove_background, DiffusionBackground2D, process_file, load_model",
        "import bgrem.processing.files, bgrem.cli.bgrem",
    ],
)
def test_importing_is_light(statement):
    code = f"import sys; {statement}; print(sorted({heavy_packages()!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_public_names_are_sorted_and_typed():
    import bgrem

    assert bgrem.__all__ == sorted(bgrem.__all__) == sorted(bgrem._HOME)
    assert (PACKAGE / "py.typed").exists()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["bgrem"]
    stated = (PACKAGE / "__init__.py").read_text()
    assert all(f"import {name}" in stated or f", {name}" in stated for name in bgrem.__all__)
    for name in bgrem.__all__:
        assert getattr(bgrem, name) is not None


def test_public_functions_have_checked_types():
    import bgrem

    checked = (ROOT / "tests" / "check_types.py").read_text()
    functions = {name for name in bgrem.__all__ if name[0].islower()}
    assert not [name for name in functions if f"{name}(" not in checked]
