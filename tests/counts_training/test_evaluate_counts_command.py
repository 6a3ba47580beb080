"""The option ``--counts`` of `bgrem-evaluate`, with the model of the package, and the frozen maps of the benchmark."""

import json
from pathlib import Path

import pytest

from bgrem.cli.evaluate import main
from bgrem.counts.counts_model import has_counts_model
from bgrem.counts_training.counts_evaluation import usual_groups
from bgrem.counts_training.counts_froc import read_counts_groups

FROZEN = Path(__file__).resolve().parents[2] / "benchmarks" / "quality" / "counts.toml"
SMALL = """
seed = 9
[kind.patch]
levels = [1.0]
number = 1
pixel = 0.1
methods = ["bgrem", "Li & Ma"]
scene = { shape = [64, 64], density = 30.0 }
"""


@pytest.mark.skipif(not has_counts_model(), reason="no model of counts maps")
def test_the_command_prints_and_writes_its_tables(tmp_path, capsys):
    scenes = tmp_path / "small.toml"
    scenes.write_text(SMALL)
    arguments = ["--counts", "1", "--scenes", str(scenes), "--quiet", "--output-dir", str(tmp_path)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    tables = json.loads((tmp_path / "counts.json").read_text())
    assert all(title in printed for title in tables)
    (row,) = tables["sum of sources and background over counts"]
    assert row["sum / counts"] == pytest.approx(1, abs=3 * row["Poisson error"])
    assert "false detections on source-free maps, per 1e4 PSF areas" in tables


def test_the_command_measures_one_thing_at_a_time(capsys):
    with pytest.raises(SystemExit):
        main(["--counts", "1", "--simulate", "1"])
    assert "--counts is not combined" in capsys.readouterr().err


def test_the_frozen_maps_are_enough_to_count_false_detections():
    groups = {(group.kind, group.level): group for group in read_counts_groups(FROZEN)}
    assert len({group.stream for group in groups.values()}) == len(groups)
    patches = [group for group in groups.values() if group.kind == "fermi"]
    assert min(group.number for group in patches) >= 30
    assert {group.level for group in patches} == {0.01, 0.1, 1.0, 10.0, 100.0}
    # Ten degrees a side, the edges left out: at least ten false detections at 0.01 per square degree.
    assert all(group.scene["shape"] == [100, 100] and group.pixel == 0.1 for group in patches)
    assert 0.01 * 64 * min(group.number for group in patches) > 10
    assert {group.kind for group in usual_groups(2)} == {"fermi", "chandra"}
