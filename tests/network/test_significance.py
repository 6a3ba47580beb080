"""The significance of sources, from the chances of pixels and the matched filter."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bgrem.detection.frame import FRAME_NAMES, TYPICAL_FWHM
from bgrem.network.significance import (
    CENTRE,
    CORRELATED,
    CORRELATED_FROM,
    DOUBTED,
    HIGHEST_NOISE,
    PLANES,
    SNR_WEIGHT,
    WithSignificance,
    certainty,
    gathered_chance,
    together,
)

SIDE = 96
SIGMA = TYPICAL_FWHM / 2.3548


class Told(torch.nn.Module):
    """A network that takes for sources, artefacts and centres what it was told."""

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


def significance(x, network):
    frame = torch.zeros(1, len(FRAME_NAMES))
    with torch.no_grad():
        channels, plane = WithSignificance(network)(x, torch.ones(1), frame)
    assert channels.shape == (1, len(PLANES) - 1, SIDE, SIDE) and plane.shape == x.shape
    return plane[0, 0]


def place_of_highest(plane):
    return np.unravel_index(plane.argmax().item(), plane.shape)


@pytest.mark.parametrize("snr", [5.0, 30.0, 1e4])
def test_a_star_stands_out_at_its_centre_by_its_snr(snr):
    x = star(snr)
    sure = torch.full_like(x, 0.0)
    sure[0, 0, 45:52, 45:52] = 30.0
    flat = significance(torch.zeros_like(x), Told(torch.zeros_like(x), centre=sure))
    plane = significance(x, Told(torch.zeros_like(x), centre=sure))
    assert place_of_highest(plane) == (48, 48)
    expected = SNR_WEIGHT * certainty(torch.tensor(snr)).item()
    assert (plane - flat)[48, 48].item() == pytest.approx(expected, rel=0.03)


def test_brighter_is_more_significant():
    likely = partial(Told, star(0), centre=0.0)
    peaks = [significance(star(snr), likely()).max() for snr in (3, 7.9, 8.1, 20, 1e3, 1e5)]
    assert np.all(np.diff(peaks) > 0)


def test_what_is_an_artefact_does_not_count():
    x = torch.zeros(1, 1, SIDE, SIDE)
    x[0, 0, 48, 48] = 1e4
    x[0, 0, 48, 49] = 10.0  # what leaks into its neighbour
    hit = torch.full_like(x, -5.0)
    hit[0, 0, 48, 48] = 5.0
    none = torch.zeros_like(x)
    unhit = significance(x, Told(none, centre=0.0)).max()
    assert unhit > significance(none, Told(none, centre=0.0)).max() + 10
    assert torch.allclose(
        significance(x, Told(none, hit)), significance(none, Told(none)), atol=0.05
    )


def test_a_star_under_an_artefact_is_as_bright_as_the_network_says():
    x = star(50.0)
    x[0, 0, 48, 48] = 1e4
    hit = torch.full_like(x, -5.0)
    hit[0, 0, 48, 48] = 5.0
    plane = significance(x, Told(star(50.0), hit))
    whole = significance(star(50.0), Told(star(50.0)))
    assert plane[48, 48].item() == pytest.approx(whole[48, 48].item(), abs=0.05)


@pytest.mark.parametrize(
    ("snr", "chances", "weight"),
    [(3.0, (1e-5, 1e-2), 1.0), (20.0, (1e-5, 1e-2), 3.0), (20.0, (DOUBTED, 1.0), 1.0)],
)
def test_what_the_network_says_counts_and_a_low_chance_more_above_the_noise(snr, chances, weight):
    unlikely, likely = (torch.tensor(np.log(chance)) for chance in chances)
    snr, white = torch.tensor(snr), torch.zeros(1, 2)
    gain = together(likely, snr, white) - together(unlikely, snr, white)
    assert gain.item() == pytest.approx(weight * (likely - unlikely).item())


@pytest.mark.parametrize(
    ("along_x", "along_y", "more"),
    [(0.0, 0.1, 0.0), (0.1, CORRELATED_FROM + 0.3, 0.3), (-0.3, -0.3, 0.0)],
)
def test_the_filter_counts_for_more_in_correlated_noise(along_x, along_y, more):
    correlation, chance = torch.tensor([[along_x, along_y]]), torch.zeros(1, 1, 2, 2)
    at_noise, above = (
        together(chance, torch.full_like(chance, snr), correlation)
        for snr in (HIGHEST_NOISE, HIGHEST_NOISE + 2)
    )
    assert at_noise.flatten().tolist() == pytest.approx([SNR_WEIGHT * HIGHEST_NOISE] * 4)
    gain = 2 * (SNR_WEIGHT + CORRELATED * more)
    assert (above - at_noise).flatten().tolist() == pytest.approx([gain] * 4, rel=1e-5)


@pytest.mark.parametrize("logit", [-5.0, -1.0])
def test_chances_and_filter_come_together_in_the_plane(logit):
    x = star(6.0)
    plane = significance(x, Told(x, centre=logit))
    chance = gathered_chance(torch.sigmoid(torch.full_like(x, logit)), torch.tensor([TYPICAL_FWHM]))
    expected = together(torch.log(chance[0, 0, 48, 48]), torch.tensor(6.0), torch.zeros(1, 2))
    assert plane[48, 48].item() == pytest.approx(expected.item(), abs=0.2)


def test_a_certain_centre_is_one_source():
    fwhm = 8.0  # so wide that its pixels are a disc
    rows, columns = np.indices((101, 101)) - 50
    chance = np.where(np.hypot(rows, columns) <= CENTRE * fwhm, 1.0, 0.0).astype(np.float32)
    gathered = gathered_chance(torch.from_numpy(chance)[None, None], torch.tensor([fwhm]))
    assert gathered.max().item() == pytest.approx(1, abs=0.15)


def test_small_chances_add_up():
    def highest(chance):
        return (
            gathered_chance(torch.from_numpy(chance)[None, None], torch.tensor([4.0])).max().item()
        )

    alone = np.full((60, 60), 1e-9, np.float32)
    alone[30, 30] = 1e-3
    many = alone.copy()
    many[29:32, 29:32] = 1e-3
    assert 6 * highest(alone) < highest(many) < 9 * highest(alone)
    assert highest(2 * alone) < highest(many)


def test_nothing_is_left_on_another_device():
    x = torch.zeros(1, 1, SIDE, SIDE, device="meta")
    told = Told(torch.zeros(1, 1, SIDE, SIDE)).to("meta")
    told.sources, told.hit, told.centre = (
        p.to("meta") for p in (told.sources, told.hit, told.centre)
    )
    frame = torch.zeros(1, len(FRAME_NAMES), device="meta")
    planes = WithSignificance(told)(x, torch.ones(1, device="meta"), frame)
    assert all(part.device.type == "meta" for part in planes)
