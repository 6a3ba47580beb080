"""The significance of sources, from the chances of pixels and the matched filter."""

from dataclasses import fields, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.detection.frame import FRAME_NAMES, TYPICAL_FWHM
from bgrem.network.significance import MODEL_CHANNELS, WithSignificance, gathered_chance, log_odds
from bgrem.network.significance_constants import SignificanceConstants

SIDE = 96
SIGMA = TYPICAL_FWHM / FWHM_PER_SIGMA
C = SignificanceConstants()


class Scripted(torch.nn.Module):
    """A network that gives fixed sources, artefacts and centres."""

    def __init__(self, sources, hit=None, centre=-30.0):
        super().__init__()
        none = torch.zeros_like(sources)
        self.sources, self.hit = sources, none - 5 if hit is None else hit
        self.centre = none + centre

    def channels(self, x, rate, frame):
        residual = (x - self.sources) / rate[:, None, None, None]
        return residual, torch.zeros_like(x), self.hit, self.centre


def star(snr, at=(48, 48)):
    rows, columns = np.indices((SIDE, SIDE))
    r2 = (rows - at[0]) ** 2 + (columns - at[1]) ** 2
    profile = np.exp(-0.5 * r2 / SIGMA**2)
    return torch.from_numpy((snr * profile / np.sqrt((profile**2).sum())).astype(np.float32))[
        None, None
    ]


def significance(x, network, constants=C):
    frame = torch.zeros(1, len(FRAME_NAMES))
    with torch.no_grad():
        channels, plane = WithSignificance(network, constants)(x, torch.ones(1), frame)
    assert channels.shape == (1, len(MODEL_CHANNELS) - 1, SIDE, SIDE) and plane.shape == x.shape
    return plane[0, 0]


def place_of_highest(plane):
    return np.unravel_index(plane.argmax().item(), plane.shape)


@pytest.mark.parametrize("logit", [-12.0, -5.0, 0.0, 5.0, 40.0])
def test_a_single_pixel_has_the_odds_of_its_logit(logit):
    """Where one pixel alone may be a centre, of a source whose image is a pixel wide."""
    centre = torch.full((1, 1, SIDE, SIDE), -60.0)
    centre[0, 0, 48, 48] = logit
    sharp = torch.tensor([0.01])
    single = -np.log(1 - np.exp(-0.5 * (C.centre_radius / C.gathering_sigma) ** 2))
    found = log_odds(centre, sharp, C)[0, 0, 48, 48].item()
    assert found == pytest.approx(logit + single, abs=1e-4)


def test_sure_sources_are_ranked_by_their_logits():
    planes = [torch.full((1, 1, SIDE, SIDE), -60.0) for _ in range(4)]
    for plane, logit in zip(planes, (8.0, 12.0, 25.0, 60.0), strict=True):
        plane[0, 0, 47:50, 47:50] = logit
    peaks = [log_odds(plane, torch.tensor([3.0]), C).max().item() for plane in planes]
    assert np.all(np.diff(peaks) > 3)


def test_a_sure_source_leaves_its_neighbour():
    centre = torch.full((1, 1, SIDE, SIDE), -60.0)
    centre[0, 0, 48, 48] = 60.0
    centre[0, 0, 48, 54] = 3.0
    odds = log_odds(centre, torch.tensor([3.0]), C)[0, 0, 48]
    assert odds[54] > odds[53] and odds[54] > odds[55]
    assert odds[54].item() > 2.0


def test_a_certain_centre_is_one_source():
    fwhm = 8.0  # so wide that its pixels are a disc
    rows, columns = np.indices((101, 101)) - 50
    chance = np.where(np.hypot(rows, columns) <= C.centre_radius * fwhm, 1.0, 0.0).astype(
        np.float32
    )
    gathered = gathered_chance(torch.from_numpy(chance)[None, None], torch.tensor([fwhm]), C)
    assert gathered.max().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", [field.name for field in fields(C)])
def test_every_constant_changes_the_significance(name):
    """With likely and unlikely centres."""
    x = torch.zeros(1, 1, SIDE, SIDE)
    script = Scripted(x, centre=torch.linspace(-40, 9, SIDE)[:, None].expand(1, 1, SIDE, SIDE))
    changed = replace(C, **{name: 1.1 * getattr(C, name)})
    assert not torch.equal(significance(x, script, changed), significance(x, script, C))


def test_constants_survive_json():
    changed = replace(C, gathering_sigma=0.5, least_chance=1e-9)
    assert SignificanceConstants.from_json(changed.to_json()) == changed
    assert SignificanceConstants.from_json('{"centre_radius": 0.3}') == replace(
        C, centre_radius=0.3
    )
    assert SignificanceConstants.from_json('{"of_another_version": 1}') == SignificanceConstants()
    with pytest.raises(ValueError):
        SignificanceConstants.from_json('{"centre_radius": "much"}')


def test_small_chances_add_up():
    def highest(chance):
        planes = torch.from_numpy(chance)[None, None]
        return gathered_chance(planes, torch.tensor([4.0]), C).max().item()

    alone = np.full((60, 60), 1e-9, np.float32)
    alone[30, 30] = 1e-3
    many = alone.copy()
    many[29:32, 29:32] = 1e-3
    assert 6 * highest(alone) < highest(many) < 9 * highest(alone)
    assert highest(2 * alone) < highest(many)


def test_all_tensors_are_on_one_device():
    x = torch.zeros(1, 1, SIDE, SIDE, device="meta")
    scripted = Scripted(torch.zeros(1, 1, SIDE, SIDE)).to("meta")
    scripted.sources, scripted.hit, scripted.centre = (
        p.to("meta") for p in (scripted.sources, scripted.hit, scripted.centre)
    )
    frame = torch.zeros(1, len(FRAME_NAMES), device="meta")
    planes = WithSignificance(scripted)(x, torch.ones(1, device="meta"), frame)
    assert all(part.device.type == "meta" for part in planes)
