"""The network: shapes, and what its output depends on."""

from contextlib import nullcontext
from copy import deepcopy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bgrem.detection.frame import FRAME_NAMES
from bgrem.network.unet import CHANNELS, AttentionUNet, NetworkConfig

FRAME = len(FRAME_NAMES)
SMALL = NetworkConfig(
    widths=(8, 8, 8, 12, 16), encoder=(0, 1, 1, 2, 1), decoder=(1, 1, 1, 1), embedding=16
)


@pytest.fixture(scope="module")
def network():
    """A small network whose every weight has an effect, as after a training."""
    torch.manual_seed(0)
    network = AttentionUNet(SMALL).eval()
    with torch.no_grad():
        network.head.weight.mul_(20)
    return network


def sky(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def run(network, x, *, rate=1.0, frame=None):
    frame = torch.zeros(1, FRAME) if frame is None else frame
    with torch.no_grad():
        return network(x, torch.tensor([rate]), frame)


@pytest.mark.parametrize("height, width", [(32, 32), (64, 32), (96, 160)])
def test_sides_may_be_any_multiple_of_32(network, height, width):
    channels = run(network, sky(2, 1, height, width))
    assert channels.shape == (2, len(CHANNELS), height, width)
    assert torch.isfinite(channels).all()


def test_multiple_is_the_stride_of_the_deepest_level(network):
    assert network.multiple == 32
    assert AttentionUNet(NetworkConfig(widths=(4, 4), encoder=(0, 1), decoder=(1,))).multiple == 4


def test_images_of_a_batch_are_independent(network):
    x = sky(3, 1, 64, 64)
    together = run(network, x)
    alone = torch.cat([run(network, one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_each_image_has_its_rate_and_frame(network):
    """In training each tile has its own; in use all tiles share one."""
    x, frames = sky(3, 1, 64, 64), sky(3, FRAME, seed=1)
    rates = torch.tensor([1.0, 0.5, 0.2])
    with torch.no_grad():
        together = network(x, rates, frames)
        alone = [network(x[i : i + 1], rates[i : i + 1], frames[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-4)


def test_shifted_image_gives_shifted_output(network):
    """By the stride, and away from the border, which is continued by zeros."""
    x = sky(1, 1, 480, 480)
    whole = run(network, x)
    part = run(network, x[:, :, 32:, 32:])
    reach = slice(176, 288)
    torch.testing.assert_close(
        whole[:, :, 32:, 32:][:, :, reach, reach], part[:, :, reach, reach], rtol=1e-4, atol=1e-4
    )


def test_rate_and_frame_vector_matter(network):
    x = sky(1, 1, 64, 64)
    base = run(network, x)
    assert not torch.allclose(base, run(network, x, rate=0.3), atol=1e-3)
    for entry in range(FRAME):
        frame = torch.zeros(1, FRAME)
        frame[0, entry] = 1.0
        assert not torch.allclose(base, run(network, x, frame=frame), atol=1e-5), FRAME_NAMES[entry]


def test_output_stays_finite_on_extreme_pixels(network):
    x = sky(1, 1, 64, 64)
    x[0, 0, 10, 10], x[0, 0, 40, 40] = 1e10, -1e10
    assert torch.isfinite(run(network, x)).all()


def test_all_tensors_are_on_the_network_device(network, monkeypatch):
    """A tensor on the CPU, with the network elsewhere, is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    elsewhere = deepcopy(network).to("meta")
    x, rate, frame = torch.zeros(1, 1, 64, 64), torch.ones(1), torch.zeros(1, FRAME)
    with torch.no_grad():
        channels = elsewhere(x.to("meta"), rate.to("meta"), frame.to("meta"))
    assert channels.shape == (1, len(CHANNELS), 64, 64) and channels.device.type == "meta"


def test_untrained_network_takes_all_for_noise():
    """Before training few pixels are defects or centres of sources."""
    torch.manual_seed(0)
    channels = run(AttentionUNet(SMALL).eval(), sky(1, 1, 64, 64))
    _, _, artefact, centre = channels[0]
    assert artefact.max() < -2 and centre.max() < -3


def test_trust_weighs_the_filter_in_a_centre(network):
    frame = torch.zeros(1, FRAME)
    x = sky(1, 1, 64, 64)
    with torch.no_grad():
        before = network(x, torch.ones(1), frame)
        network.trust.bias.fill_(2.0)
        after = network(x, torch.ones(1), frame)
        network.trust.bias.zero_()
        filtered = network._planes(x, frame)[:, 2:]
    assert torch.equal(before[:, :3], after[:, :3])
    assert torch.allclose((after - before)[:, 3:], 2.0 * filtered, atol=1e-4)
