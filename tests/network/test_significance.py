"""The significance of sources, from the chances of pixels and the matched filter."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.detection.frame import FRAME_NAMES, TYPICAL_FWHM
from bgrem.network.significance import (
    MODEL_CHANNELS,
    WithSignificance,
    compressed_snr,
    gathered_chance,
    log_odds,
)
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


@pytest.mark.parametrize("snr", [5.0, 30.0, 1e4])
def test_a_star_peaks_by_its_snr(snr):
    x = star(snr)
    sure = torch.full_like(x, 0.0)
    sure[0, 0, 45:52, 45:52] = 30.0
    flat = significance(torch.zeros_like(x), Scripted(torch.zeros_like(x), centre=sure))
    plane = significance(x, Scripted(torch.zeros_like(x), centre=sure))
    assert place_of_highest(plane) == (48, 48)
    expected = C.snr_weight * compressed_snr(torch.tensor(snr), C).item()
    assert (plane - flat)[48, 48].item() == pytest.approx(expected, rel=0.03)


def test_brighter_is_more_significant():
    likely = partial(Scripted, star(0), centre=0.0)
    peaks = [significance(star(snr), likely()).max() for snr in (3, 7.9, 8.1, 20, 1e3, 1e5)]
    assert np.all(np.diff(peaks) > 0)


def test_artefacts_do_not_count():
    x = torch.zeros(1, 1, SIDE, SIDE)
    x[0, 0, 48, 48] = 1e4
    x[0, 0, 48, 49] = 10.0  # charge that leaks into the neighbour
    hit = torch.full_like(x, -5.0)
    hit[0, 0, 48, 48] = 5.0
    none = torch.zeros_like(x)
    unhit = significance(x, Scripted(none, centre=0.0)).max()
    assert unhit > significance(none, Scripted(none, centre=0.0)).max() + 10
    assert torch.allclose(
        significance(x, Scripted(none, hit)), significance(none, Scripted(none)), atol=0.05
    )


def test_star_under_an_artefact_is_the_networks():
    x = star(50.0)
    x[0, 0, 48, 48] = 1e4
    hit = torch.full_like(x, -5.0)
    hit[0, 0, 48, 48] = 5.0
    plane = significance(x, Scripted(star(50.0), hit))
    whole = significance(star(50.0), Scripted(star(50.0)))
    assert plane[48, 48].item() == pytest.approx(whole[48, 48].item(), abs=0.05)


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
    """On pixels from the lowest to a high S/N, with likely and unlikely centres."""
    x = 4 * torch.linspace(-9, 30, SIDE).expand(1, 1, SIDE, SIDE)
    script = Scripted(x, centre=torch.linspace(-40, 9, SIDE)[:, None].expand(1, 1, SIDE, SIDE))
    changed = replace(C, **{name: 1.1 * getattr(C, name)})
    assert not torch.equal(significance(x, script, changed), significance(x, script, C))


def test_constants_survive_json():
    changed = replace(C, snr_weight=0.6, lowest_snr=-3.0)
    assert SignificanceConstants.from_json(changed.to_json()) == changed
    assert SignificanceConstants.from_json('{"snr_weight": 0.6}') == replace(C, snr_weight=0.6)
    assert SignificanceConstants.from_json('{"of_another_version": 1}') == SignificanceConstants()
    with pytest.raises(ValueError):
        SignificanceConstants.from_json('{"snr_weight": "much"}')


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
