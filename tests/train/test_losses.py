"""The losses: nothing for the truth, nothing under the mask, a gradient for every error."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bgrem.detection.frame import FRAME_NAMES
from bgrem.train.losses import losses


def example(seed=0, side=32):
    """A batch of two tiles with a star, and the image at rate 1."""
    rng = np.random.default_rng(seed)
    sources = torch.zeros(2, 1, side, side)
    sources[:, :, 10:13, 10:13] = 50.0
    noise = torch.from_numpy(rng.normal(size=sources.shape).astype(np.float32))
    batch = {
        "sources": sources,
        "x": sources + noise,
        "artefact": torch.zeros_like(sources),
        "weight": torch.ones_like(sources),
        "centre": torch.zeros_like(sources, dtype=torch.int8),
        "frame": torch.zeros(2, len(FRAME_NAMES)),
    }
    return batch, torch.ones(2)


def channels_of(residual):
    """Channels with this residual, and nothing said on the rest."""
    rest = torch.zeros(2, 3, *residual.shape[2:])
    return torch.cat([residual, rest], dim=1)


def test_a_perfect_answer_has_no_loss():
    batch, rate = example()
    perfect = losses(channels_of(batch["x"] - batch["sources"]), batch["x"], rate, batch)
    assert perfect["sources"].item() < 1e-6
    nothing = losses(channels_of(batch["x"]), batch["x"], rate, batch)
    assert nothing["sources"].item() > 1


def test_perfect_answers_have_no_loss():
    batch, _ = example()
    rate = torch.tensor([0.5, 0.1])
    residual = batch["x"] - batch["sources"]
    x = batch["sources"] + rate[:, None, None, None] * residual
    parts = losses(channels_of(residual), x, rate, batch)
    assert parts["sources"].item() < 1e-6
    # Only the observed image has an uncertainty, artefacts and centres.
    assert all(parts[name].item() == 0 for name in ("variance", "artefact", "centre", "ranking"))


def test_nothing_counts_under_the_mask():
    batch, rate = example()
    batch["weight"][:, :, :8] = 0
    residual = batch["x"] - batch["sources"]
    spoilt = residual.clone()
    spoilt[:, :, :8] += 100
    batch["centre"][:, :, 20:] = -1
    channels, wrong = channels_of(residual), channels_of(spoilt)
    wrong[:, 3, 20:] = 30.0  # not scored
    for name, value in losses(channels, batch["x"], rate, batch).items():
        assert losses(wrong, batch["x"], rate, batch)[name].item() == pytest.approx(value.item())


def test_a_huge_artefact_has_a_finite_gradient():
    batch, rate = example()
    batch["x"][0, 0, 5, 5] += 1e5
    channels = channels_of(torch.zeros_like(batch["x"])).requires_grad_()
    sum(losses(channels, batch["x"], rate, batch).values()).backward()
    gradient = channels.grad[0, 0, 5, 5].item()
    assert np.isfinite(gradient) and gradient != 0
    assert torch.isfinite(channels.grad).all()
    # It does not drown the others either.
    assert abs(gradient) < 1e3 * channels.grad[0, 0].abs().median().item()


def test_the_best_variance_is_the_squared_error():
    batch, rate = example()
    residual = batch["x"] - batch["sources"] + 0.5  # wrong by 0.5 everywhere
    values = []
    for log_variance in (-3.0, 2 * np.log(0.5), 1.0):
        channels = channels_of(residual)
        channels[:, 1] = log_variance
        values.append(losses(channels, batch["x"], rate, batch)["variance"].item())
    assert values[1] < values[0] and values[1] < values[2]


def flat_example():
    """A batch of two tiles without light: no place has a higher S/N than another."""
    batch, rate = example(side=64)
    return batch | {name: torch.zeros(2, 1, 64, 64) for name in ("x", "sources")}, rate


def ranked(true, false, *, batch=None):
    """The loss of the ranking of one source and one other place, with these logits, on the first tile."""
    batch, rate = batch or flat_example()
    batch["centre"][0, 0, 11, 11] = 1
    channels = torch.zeros(2, 4, 64, 64)
    channels[:, 3] = -20.0
    channels[0, 3, 11, 11], channels[0, 3, 40, 40] = true, false
    channels.requires_grad_()
    loss = losses(channels, batch["x"], rate, batch)["ranking"]
    loss.backward()
    return loss.item(), channels.grad[0, 3]


def test_a_false_peak_above_a_source_costs():
    good, wrong = (ranked(true, false)[0] for true, false in ((9.0, 2.0), (2.0, 9.0)))
    assert good < 0.1 * wrong
    loss, gradient = ranked(15.0, 15.5)
    assert gradient[11, 11] < 0 < gradient[40, 40], "both must move, however sure they are"
    assert good < loss < wrong


def test_peaks_of_a_source_are_not_false():
    batch, rate = flat_example()
    beside = batch["centre"].clone()
    beside[0, 0, 40, 38] = 1
    other = (batch | {"centre": beside}, rate)
    assert ranked(2.0, 9.0, batch=other)[0] < 0.5 * ranked(2.0, 9.0)[0]
    unscored = batch | {"centre": batch["centre"].clone()}
    unscored["centre"][0, 0, 38:43, 38:43] = -1
    assert ranked(2.0, 9.0, batch=(unscored, rate))[0] < 0.5 * ranked(2.0, 9.0)[0]


def test_the_snr_counts_in_the_ranking():
    batch, rate = flat_example()
    batch["x"][0, 0, 10:13, 10:13] = 5.0
    assert ranked(4.0, 6.0, batch=(batch, rate))[0] < 0.5 * ranked(4.0, 6.0)[0]


def test_tiles_without_sources_have_no_ranking():
    batch, rate = example(side=64)
    channels = channels_of(batch["x"]).requires_grad_()
    loss = losses(channels, batch["x"], rate, batch)["ranking"]
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(channels.grad).all()
