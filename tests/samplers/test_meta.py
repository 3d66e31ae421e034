"""The Meta Sampler against the method of the authors: `F.gumbel_softmax` over all images, straight through."""

import copy
import json
import math

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.samplers.meta import MetaSampler, initial_logits

COUNTS = (60, 20, 7, 2, 1)
TARGETS = torch.repeat_interleave(torch.tensor(COUNTS))[torch.randperm(90, generator=torch.Generator().manual_seed(7))]
LEVELS = ["class", "instance"]


def with_rates(level: str, rates: list[float], targets: Tensor = TARGETS) -> MetaSampler:
    sampler = MetaSampler(targets, level=level)
    sampler.logits_K.data = torch.logit(torch.tensor(rates))
    return sampler


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("level", LEVELS)
def test_the_class_law_is_count_times_rate_over_the_sum(level: str) -> None:
    rates = [0.1, 0.4, 0.5, 0.8, 0.95]
    sampler = with_rates(level, rates)
    expected = torch.tensor(COUNTS) * torch.tensor(rates, dtype=torch.float64)
    expected = 30_000 * expected / expected.sum()
    drawn = torch.bincount(TARGETS[sampler.draw_batch(30_000, generator()).indices_B])
    assert chisquare(drawn, expected).pvalue > 1e-3
    whole_epoch = MetaSampler(TARGETS, num_samples=30_000)
    whole_epoch.logits_K.data = sampler.logits_K.data
    assert chisquare(torch.bincount(TARGETS[whole_epoch.order(0, 0)]), expected).pvalue > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_images_of_a_class_are_equally_likely(level: str) -> None:
    indices_B = with_rates(level, [0.1, 0.4, 0.5, 0.8, 0.95]).draw_batch(30_000, generator()).indices_B
    times_N = torch.bincount(indices_B, minlength=90)
    for label in range(4):
        assert chisquare(times_N[label == TARGETS]).pvalue > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_the_record_is_of_the_images_it_travels_with(level: str) -> None:
    draw = with_rates(level, [0.1, 0.4, 0.5, 0.8, 0.95]).draw_batch(64, generator())
    assert torch.equal(TARGETS[draw.indices_B], draw.classes_B)
    torch.testing.assert_close(draw.mass_BK.sum(dim=1), torch.ones(64))
    of_own_class_B = draw.mass_BK[torch.arange(64), draw.classes_B]
    assert bool((draw.soft_B > 0).all())
    assert bool((draw.soft_B <= of_own_class_B + 1e-6).all())
    if level == "class":
        assert torch.equal(draw.soft_B, of_own_class_B)
    part = draw.part(slice(1, None, 2))
    assert torch.equal(part.indices_B, draw.indices_B[1::2])
    assert torch.equal(part.mass_BK, draw.mass_BK[1::2])


@pytest.mark.parametrize("level", LEVELS)
def test_draw_and_gradient_are_those_of_a_straight_through_gumbel_softmax(level: str) -> None:
    """Reference with autograd through the whole one-hot matrix, as in the authors' code, with the same noise."""
    sampler, size = with_rates(level, [0.1, 0.4, 0.5, 0.8, 0.95]), 16
    gradients_B = torch.randn(size, generator=generator(1))
    draw = sampler.draw_batch(size, generator())

    w_K = sampler.logits_K.detach().clone().requires_grad_()
    order = TARGETS.argsort(stable=True)
    log_weights = (
        w_K.sigmoid().log() + torch.tensor(COUNTS).log() if level == "class" else w_K.sigmoid().log()[TARGETS[order]]
    )
    gumbel = -(-torch.rand(size, len(log_weights), generator=generator()).log()).log()
    soft = (log_weights + gumbel).softmax(dim=1)
    choice_B = soft.argmax(dim=1)
    hard = F.one_hot(choice_B, len(log_weights)) - soft.detach() + soft
    picked_B = hard[torch.arange(size), choice_B]

    assert torch.equal(choice_B if level == "class" else TARGETS[order[choice_B]], draw.classes_B)
    torch.testing.assert_close(picked_B, draw.weights(sampler.log_rates))
    (expected_K,) = torch.autograd.grad(picked_B, w_K, gradients_B)
    torch.testing.assert_close(sampler.rate_gradient(draw, gradients_B), expected_K)


@pytest.mark.parametrize("level", LEVELS)
def test_the_weights_are_exactly_one(level: str) -> None:
    sampler = with_rates(level, [0.1, 0.4, 0.5, 0.8, 0.95])
    assert torch.equal(sampler.draw_batch(200, generator()).weights(sampler.log_rates), torch.ones(200))


def test_the_soft_values_at_the_authors_scale() -> None:
    """The specification's simulation: about 0.22 at 10,847 images of CIFAR-100-LT, drawn by instance."""
    counts = [int(500 * 0.01 ** (c / 99)) for c in range(100)]
    targets = torch.repeat_interleave(torch.tensor(counts))
    soft_B = MetaSampler(targets, level="instance").draw_batch(400, generator()).soft_B
    assert len(targets) == 10_847
    assert float(soft_B.mean()) == pytest.approx(0.22, abs=0.03)


def test_learning_is_adam_with_the_papers_betas() -> None:
    sampler = MetaSampler(TARGETS, lr=0.02)
    logits, m, v = [0.0] * 5, [0.0] * 5, [0.0] * 5
    for t in range(1, 4):
        gradient_K = torch.randn(5, generator=generator(t))
        sampler.learn(gradient_K)
        for k, g in enumerate(gradient_K.tolist()):
            m[k], v[k] = 0.9 * m[k] + 0.1 * g, 0.99 * v[k] + 0.01 * g * g
            logits[k] -= 0.02 * (m[k] / (1 - 0.9**t)) / (math.sqrt(v[k] / (1 - 0.99**t)) + 1e-8)
    torch.testing.assert_close(sampler.logits_K.detach(), torch.tensor(logits))


def test_images_that_help_are_drawn_more_often() -> None:
    sampler = MetaSampler(TARGETS)
    for step in range(100):
        draw = sampler.draw_batch(64, generator(step))
        helps_B = draw.classes_B == 3  # the later loss falls as their weight grows
        sampler.learn(sampler.rate_gradient(draw, -helps_B.float()))
    assert int(sampler.rates.argmax()) == 3
    assert float(sampler.rates[3]) > 0.6
    assert float(sampler.rates[0]) < 0.4


@pytest.mark.parametrize("level", LEVELS)
def test_a_restored_sampler_goes_on_to_the_same_bits(level: str) -> None:
    def teach(sampler: MetaSampler, first: int, last: int) -> MetaSampler:
        for step in range(first, last):
            draw = sampler.draw_batch(8, generator(step))
            sampler.learn(sampler.rate_gradient(draw, torch.randn(8, generator=generator(-step - 1))))
        return sampler

    unbroken = teach(MetaSampler(TARGETS, level=level), 0, 7)
    saved = json.loads(json.dumps(teach(MetaSampler(TARGETS, level=level), 0, 3).state_dict()))
    resumed = MetaSampler(TARGETS, level=level, init_pow=0.3)
    resumed.load_state_dict(saved)
    assert torch.equal(teach(resumed, 3, 7).logits_K, unbroken.logits_K)
    twin = copy.deepcopy(unbroken)
    assert torch.equal(teach(twin, 7, 9).logits_K, teach(unbroken, 7, 9).logits_K)


def test_the_rates_start_as_in_the_authors_code() -> None:
    torch.testing.assert_close(MetaSampler(TARGETS).rates, torch.full((5,), 0.5))
    counts = torch.tensor(COUNTS)
    for power in (0.1, 0.3):
        raw = [(n / 90) ** -power for n in COUNTS]
        expected = [p / (min(raw) + max(raw)) for p in raw]
        torch.testing.assert_close(initial_logits(counts, power).sigmoid(), torch.tensor(expected))


def test_labels_need_not_be_consecutive() -> None:
    draw = MetaSampler([7, 0, 7, 10**9]).draw_batch(50, generator())
    assert draw.mass_BK.shape == (50, 3)
    assert set(draw.indices_B.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "image"}, "level"),
        ({"lr": 0.0}, r"`lr` must be > 0 .*, got 0.0"),
        ({"init_pow": -1.0}, "`init_pow` must be"),
        ({"init_pow": math.nan}, "`init_pow` must be"),
        ({"init_pow": 50.0}, "`init_pow` must be"),
    ],
)
def test_refusals(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MetaSampler(TARGETS, **options)
