"""The report card's one command: what it runs, writes, shows again and leaves out."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """\
import sys
from pathlib import Path
print("measured", *sys.argv[1:])
if "--json" in sys.argv:
    Path(sys.argv[sys.argv.index("--json") + 1]).with_suffix(".png").write_bytes(b"plot")
sys.exit("broken" in sys.argv)
"""


@pytest.fixture
def results(monkeypatch, tmp_path, toy_model_path):
    """The command, with sections that take no time, and its folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("results")
    script = tmp_path / "measure.py"
    script.write_text(SCRIPT)
    sections = {
        "flux": module.Section((str(script), "--quiet"), ("--frames", "1")),
        "broken": module.Section((str(script), "broken"), written=""),
        "images": module.Section((str(script),), written="", folder=module.IMAGES),
        "level": module.Section((str(script),), written="", other=True),
        "versions": module.Section((str(script),), written="", before=True),
        "counts": module.Section((str(script),), written="", folder=module.COUNTS, counts=True),
    }
    monkeypatch.setattr(module, "SECTIONS", sections)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.delenv("IMAGES", raising=False)
    monkeypatch.delenv("PAIRS", raising=False)
    monkeypatch.delenv("OTHER", raising=False)
    monkeypatch.delenv("BEFORE", raising=False)
    monkeypatch.delenv("COUNTS", raising=False)

    def run(*arguments):
        return module.main([*arguments, "--model", toy_model_path])

    run.module = module
    return run


def test_a_section_is_measured_only_once(results, tmp_path, capsys):
    assert results("flux") == 0
    text = (tmp_path / "docs/results/flux.txt").read_text()
    assert text.startswith("$ python measure.py --quiet") and "# model toy" in text
    assert text in capsys.readouterr().out
    assert (tmp_path / "docs/results/flux.png").read_bytes() == b"plot"
    # Another text by the same command and model is shown as it is, unless it is forced.
    (tmp_path / "docs/results/flux.txt").write_text(text + "by hand\n")
    assert results("flux") == 0
    assert "by hand" in capsys.readouterr().out
    assert results("flux", "--force") == 0
    assert "by hand" not in capsys.readouterr().out


def test_another_model_is_measured_anew(results, tmp_path):
    path = tmp_path / "docs/results/flux.txt"
    assert results("flux") == 0
    path.write_text(path.read_text().replace("# model toy", "# model other"))
    assert results("flux") == 0
    assert "# model toy" in path.read_text()


def test_quick_is_small_and_elsewhere(results, tmp_path):
    assert results("--quick", "flux") == 0
    assert "--frames 1" in (tmp_path / "results/quick/flux.txt").read_text()
    assert not (tmp_path / "docs").exists()


def test_a_failed_section_leaves_no_text(results, tmp_path, capsys):
    assert results("broken", "flux") == 1
    assert "failed: broken" in capsys.readouterr().err
    assert [path.name for path in sorted((tmp_path / "docs/results").iterdir())] == [
        "flux.png", "flux.txt"
    ]  # fmt: skip


def test_folders_are_given_and_not_shown(results, tmp_path, capsys):
    assert results("images") == 0
    assert "images: left out" in capsys.readouterr().err
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("a.fits", "b.fits.gz", "notes.txt"):
        (folder / name).touch()
    assert results("images", "--images", str(folder)) == 0
    lines = (tmp_path / "docs/results/images.txt").read_text().splitlines()
    assert lines[0].endswith("IMAGES/*") and str(tmp_path) not in "".join(lines)
    assert "IMAGES/a.fits IMAGES/b.fits.gz" in lines[-1]


def test_another_checkout_is_given_and_not_shown(results, tmp_path):
    assert results("level") == 0
    text = tmp_path / "docs/results/level.txt"
    assert "--other" not in text.read_text()
    assert results("level", "--other", str(tmp_path / "old")) == 0
    assert text.read_text().splitlines()[0].endswith("--other OTHER")


def test_an_older_model_is_needed_and_not_shown(results, tmp_path, capsys):
    assert results("versions") == 0
    text = tmp_path / "docs/results/versions.txt"
    assert not text.exists() and "left out, no --before" in capsys.readouterr().err
    assert results("versions", "--before", str(tmp_path / "old.onnx")) == 0
    assert text.read_text().splitlines()[0].endswith("--before BEFORE")


def test_counts_have_a_folder_and_a_model_of_their_own(results, tmp_path, capsys, monkeypatch):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.fits").touch()
    assert results("counts") == 0
    assert "counts: left out, nothing in --counts" in capsys.readouterr().err
    monkeypatch.setattr(results.module, "has_counts_model", lambda: False)
    assert results("counts", "--counts", str(tmp_path / "maps")) == 0
    assert "counts: left out, no model of counts maps" in capsys.readouterr().err
    monkeypatch.setattr(results.module, "has_counts_model", lambda: True)
    monkeypatch.setattr(results.module, "counts_stamp", lambda: "# model counts 0123")
    assert results("counts", "--counts", str(tmp_path / "maps")) == 0
    lines = (tmp_path / "docs/results/counts.txt").read_text().splitlines()
    assert lines[0] == "$ python measure.py --maps COUNTS" and lines[1] == "# model counts 0123"


def test_images_may_be_missing(results, tmp_path, monkeypatch):
    module = results.module
    section = module.Section(("-c", "print(1)"), (), "", module.IMAGES, "--images")
    monkeypatch.setitem(module.SECTIONS, "identity", section)
    assert results("identity") == 0
    path = tmp_path / "docs/results/identity.txt"
    assert "--images" not in path.read_text()
    (tmp_path / "a.fits").touch()
    assert results("identity", "--images", str(tmp_path)) == 0
    assert path.read_text().splitlines()[0].endswith("--images IMAGES/*")


def test_pairs_are_found_and_their_plots_taken(results, tmp_path):
    module = results.module
    for name in ("x_single.fits.gz", "x_deep.fits.gz", "y_deep.fits"):
        (tmp_path / name).touch()
    assert module.pairs_of(tmp_path) == [
        (tmp_path / "x_single.fits.gz", tmp_path / "x_deep.fits.gz")
    ]
    (tmp_path / "x_single.png").write_bytes(b"plot")
    section = module.Section((), written="folder", folder=module.PAIRS)
    module.take_plots("pairs", section, tmp_path, tmp_path, {module.PAIRS: tmp_path})
    assert (tmp_path / "pairs_x_single.png").exists()


def test_unknown_sections_are_refused(results, capsys):
    with pytest.raises(SystemExit):
        results("fulx")
    assert "no section 'fulx'" in capsys.readouterr().err


def test_every_section_is_documented(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sections = importlib.import_module("results").SECTIONS
    lines = [
        line for page in (ROOT / "docs").glob("*.rst") for line in page.read_text().splitlines()
    ]
    shown = [line.split()[-1] for line in lines if line.startswith(".. measured::")]
    assert sorted(shown) == sorted(sections)
    for section in sections.values():
        assert section.command[0] == "-m" or (ROOT / section.command[0]).is_file()


def test_the_page_is_built_with_and_without_results(tmp_path):
    pytest.importorskip("sphinx")
    from sphinx.application import Sphinx

    source = tmp_path / "docs"
    (source / "results").mkdir(parents=True)
    (source / "index.rst").write_text("Page\n====\n\n.. measured:: flux\n\n.. measured:: gone\n")
    (source / "results/flux.txt").write_text("$ command\n1.0\n")
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
        "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
    )
    (source / "results/flux.png").write_bytes(png)
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'docs')!r})\nextensions = ['measured']\n"
    )
    app = Sphinx(
        source, source, tmp_path / "out", tmp_path / "trees", "html", warningiserror=True,
        status=None,
    )  # fmt: skip
    app.build()
    html = (tmp_path / "out/index.html").read_text()
    assert "1.0" in html and "flux.png" in html
    assert "Not measured yet: python benchmarks/results.py gone" in html


def test_pooled_pairs_reach_the_command(monkeypatch, capsys, tmp_path):
    from bgrem.cli import evaluate

    rows = [{"method": "bgrem", "true": 3.0}]
    monkeypatch.setattr("bgrem.evaluate.comparison.pooled_rows", lambda results: rows)
    options = evaluate.make_parser().parse_args(["--output-dir", str(tmp_path)])
    evaluate._pool(["one", "two"], options)
    assert "2 pairs pooled" in capsys.readouterr().out
    assert json.loads((tmp_path / "pairs.json").read_text())["rows"] == rows
