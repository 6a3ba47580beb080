"""The sky network: its averages, its fitted surface, and what it does not see."""

import numpy as np
import pytest
from skies import white_noise

torch = pytest.importorskip("torch")

from bgrem.network.sky_network import SkyNetwork, SkyNetworkConfig
from bgrem.sky.blocks import block_statistics
from bgrem.sky.network_input import SKY_OUTPUTS, network_input

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = SkyNetworkConfig(widths=(8, 8, 8, 8, 8), scales=(0.7, 3.0))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SkyNetwork(SMALL).eval()


@pytest.fixture
def uniform(network):
    """A network that weighs all cells alike and shifts none."""
    for head in (network.head.weight, network.head.bias):
        torch.nn.init.zeros_(head)
    return network


def input_of(image, bad=None):
    return torch.from_numpy(network_input(block_statistics(image, bad).planes).planes)[None]


def with_statistics(x, values):
    """An input whose blocks have these values, and a spread of 1."""
    x = x.clone()
    x[:, :4] = values * x[:, 5:6]
    x[:, 4] = 1
    return x


def test_it_gives_the_cells_of_the_blocks(network):
    x = input_of(white_noise((400, 300)))
    with torch.no_grad():
        sky = network(torch.cat([x, x]))
    assert sky.shape == (2, len(SKY_OUTPUTS), x.shape[2] // 2, x.shape[3] // 2)
    assert sky.dtype == torch.float32 and torch.isfinite(sky).all()
    assert (sky[:, 1] > 0).all()
    torch.testing.assert_close(sky[0], sky[1])


def test_a_quadratic_sky_comes_back(uniform):
    x = input_of(white_noise((512, 512)))
    across, down = x[:, 6:7], x[:, 7:8]
    sky = 3 * across - 2 * down + across * down + 2 * across**2 - 1.5 * down**2
    with torch.no_grad():
        found = uniform(with_statistics(x, sky))[:, 0]
    expected = torch.nn.functional.avg_pool2d(sky, 2)[:, 0]
    # The ridge of the fit takes at most half a percent off a term.
    assert (found - expected).abs().max() < 0.01


def test_a_bump_is_averaged_not_lost(uniform):
    x = input_of(white_noise((512, 512)))
    bump = torch.exp(-(x[:, 6:7] ** 2 + x[:, 7:8] ** 2) / 0.1)
    with torch.no_grad():
        found = uniform(with_statistics(x, bump))[0, 0]
    assert 0.2 < found[16, 16] < 1 and found.abs().max() < 1


def test_the_noise_is_the_spread_of_cells(uniform):
    x = with_statistics(input_of(white_noise((256, 256))), 0.0)
    x[:, 4] = 2.5
    with torch.no_grad():
        np.testing.assert_allclose(uniform(x)[0, 1], 2.5, rtol=1e-3)


def test_unknown_blocks_do_not_enter_averages(uniform):
    bad = np.zeros((512, 512), bool)
    bad[:200, 100:300] = True
    x = input_of(white_noise((512, 512)), bad)
    wild = x.clone()
    wild[:, :4] += 1e3 * (x[:, 5:6] == 0)
    with torch.no_grad():
        torch.testing.assert_close(uniform(wild)[:, :2], uniform(x)[:, :2])


@pytest.mark.parametrize("value", [np.nan, 1e20, -1e20])
def test_unknown_blocks_may_hold_anything(network, value):
    bad = np.zeros((256, 384), bool)
    bad[:100, 100:300] = True
    planes = block_statistics(white_noise(bad.shape), bad).planes
    spoiled = planes.copy()
    spoiled[:5, planes[5] == 0] = value
    with torch.no_grad():
        one, other = (
            network(torch.from_numpy(network_input(p).planes)[None]) for p in (planes, spoiled)
        )
    assert torch.equal(one, other)


@pytest.mark.parametrize("good", [1.0, 0.3, 0.01])
def test_gradients_are_finite(network, good):
    network.train()
    rng = np.random.default_rng(1)
    image = white_noise((320, 320))
    image.flat[rng.integers(0, image.size, 200)] += 1e6
    bad = np.kron(rng.random((40, 40)) >= good, np.ones((8, 8), bool))
    bad[:16, :16] = False
    sky = network(input_of(image, bad))
    assert torch.isfinite(sky).all()
    sky.square().mean().backward()
    for name, values in network.named_parameters():
        assert values.grad is not None and torch.isfinite(values.grad).all(), name


def test_extreme_statistics_give_numbers(network):
    x = input_of(white_noise((256, 256)))
    x[:, :4, 3:20] = 1e8
    x[:, 4, 5:9] = 1e12
    x[:, 4, 20:22] = 0
    with torch.no_grad():
        assert torch.isfinite(network(x)).all()
