"""All tables of a separation on simulated maps, of kinds that have other methods."""

from types import SimpleNamespace

import numpy as np

from bgrem.counts_training import counts_evaluation
from bgrem.counts_training.counts_evaluation import evaluate_counts
from bgrem.counts_training.counts_froc import counts_groups
from bgrem.evaluate.tables import text_table


def flat(counts, *, exposure=None, template=None, psf=None):
    """The mean as background, and the rest above it as sources."""
    background = np.full(counts.shape, counts.mean(), np.float32)
    return SimpleNamespace(
        sources=np.maximum(counts - background, 0), background=background,
        variance=np.ones(counts.shape), significance=counts.sum(axis=0).astype(float),
    )  # fmt: skip


def test_tables_of_kinds_with_other_methods_can_be_printed(monkeypatch):
    monkeypatch.setattr(
        counts_evaluation, "baseline_methods", lambda: {"SEP": lambda sky: sky.counts[0] * 1.0}
    )
    kind = {"levels": [1.0], "number": 2, "pixel": 0.1, "scene": {"shape": [64, 64]}}
    groups = counts_groups({"seed": 4, "kind": {"a": kind | {"methods": ["bgrem"]}, "b": kind}})
    tables = evaluate_counts(flat, groups, threshold_for=lambda rate, exposure: 3.0, blank_number=1)
    texts = {title: text_table(rows) for title, rows in tables.items()}
    (found,) = [rows for title, rows in tables.items() if title.startswith("true detections")]
    assert [row["SEP"] is None for row in found] == [row["kind"] == "a" for row in found]
    assert any("SEP" in text and "-" in text for text in texts.values())
    assert tables["sum of sources and background over counts"]
    assert all(tables.values())
