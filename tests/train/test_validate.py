"""Validation by detection on scenes that no training sees."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("galsim")
pytest.importorskip("astroscrappy")

from bgrem.network.unet import AttentionUNet, NetworkConfig
from bgrem.train.parents import draw_parent
from bgrem.train.validate import draw_validation, validate

SIZE, BOX = 160, 64


@pytest.fixture(scope="module")
def frames():
    return draw_validation(6, count=3, size=SIZE, box=BOX)


class Oracle(torch.nn.Module):
    """Knows the answer of the frames in turn: the true sources and their labelled centres."""

    def __init__(self, frames, *, keeps=1.0):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.frames, self.keeps = iter(frames), keeps

    def channels(self, x, rate, frame):
        parent = next(self.frames).parent
        sources = torch.from_numpy(parent.sources)[None, None] * self.keeps
        centre = torch.from_numpy(10.0 * (parent.centre == 1)).float()[None, None] - 8
        # A summit within each label: its brightest pixel.
        centre = centre + 0.01 * sources.clamp(0, 100)
        none = torch.zeros_like(x)
        return x - sources, none, none, centre


def test_scenes_are_the_same_each_time(frames):
    again = draw_validation(6, count=3, size=SIZE, box=BOX)
    for one, two in zip(frames, again, strict=True):
        np.testing.assert_array_equal(one.parent.x, two.parent.x)
        np.testing.assert_array_equal(one.reference, two.reference)


def test_no_scene_is_a_parent(frames):
    """Their random streams must differ, even though one seed begins like the other."""
    parents = [draw_parent(5, number, size=SIZE, box=BOX) for number in range(4)]
    for frame in frames:
        assert not any(np.array_equal(frame.parent.x, parent.x) for parent in parents)


def test_each_has_sources_to_find(frames):
    for frame in frames:
        assert frame.truth.counted.sum() >= 5
        assert frame.parent.x.shape == frame.truth.usable.shape == (SIZE, SIZE)


def test_who_knows_the_truth_finds_it(frames):
    result = validate(Oracle(frames), frames)
    assert result["found"] >= result["reference"] > 0
    assert result["ratio"] >= 1
    assert result["shrinkage"] == pytest.approx(1)


def test_shrinkage_is_the_kept_faint_flux(frames):
    assert validate(Oracle(frames, keeps=0.4), frames)["shrinkage"] == pytest.approx(0.4, rel=1e-5)


def test_an_untrained_network_finds_mostly_noise(frames):
    torch.manual_seed(0)
    config = NetworkConfig(
        widths=(4, 4, 4, 4, 4), encoder=(0, 1, 1, 1, 1), decoder=(1, 1, 1, 1), embedding=8
    )
    network = AttentionUNet(config).train()
    result = validate(network, frames)
    assert abs(result["shrinkage"]) < 0.5 and network.training
