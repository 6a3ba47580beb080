"""The noise schedule and the reverse diffusion."""

import numpy as np
import pytest

from bgrem.inference.denoiser import noise_rates, reverse_diffusion


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 100])
def test_rates_fall_from_one_to_zero(steps):
    rates = noise_rates(steps)
    assert rates.shape == (steps + 1,)
    assert rates.dtype == np.float64
    assert rates[0] == 1.0
    assert rates[-1] == 0.0
    assert np.all(np.diff(rates) < 0)


def test_rates_are_those_of_the_cosine_schedule():
    np.testing.assert_allclose(noise_rates(3), [1, np.sqrt(3) / 2, 0.5, 0], atol=1e-15)


@pytest.mark.parametrize("steps", [0, -1])
def test_less_than_one_step_is_refused(steps):
    with pytest.raises(ValueError, match="at least 1"):
        noise_rates(steps)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_perfect_network_gives_the_sources_in_any_steps(steps):
    rng = np.random.default_rng(1)
    sources, b = rng.normal(size=(2, 3, 1, 8, 9)).astype(np.float32)
    calls = []

    def network(x, rate):
        calls.append(rate)
        np.testing.assert_allclose(x, sources + rate * b, atol=1e-5)
        return np.concatenate([b, np.full_like(b, rate)], axis=1)

    result = reverse_diffusion(network, sources + b, steps=steps)
    assert calls == list(noise_rates(steps)[:-1])
    assert result.dtype == np.float32
    assert result.shape == (3, 2, 8, 9)
    np.testing.assert_allclose(result[:, :1], sources, atol=1e-5)
    # The further channels are those of the observed image.
    assert np.all(result[:, 1] == 1.0)


def test_steps_refine_a_network_that_sees_half():
    """A network that finds half of r b leaves less of it with every step."""

    def timid(x, rate):
        return 0.5 * x / rate

    observed = np.ones((1, 1, 4, 4), dtype=np.float32)
    left = [float(reverse_diffusion(timid, observed, steps=n).max()) for n in (1, 2, 8)]
    assert left[0] == 0.5
    assert left[0] > left[1] > left[2] > 0
