"""The Meta Reweigher against scalar formulas and autograd through a step, and on images of several instances."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import BalancedSigmoid
from longtail.training.balms.reweigher import MetaReweigher, ReweighedStep, balanced_image_rates

COUNTS = (300, 60, 12, 4)
BACKGROUND = len(COUNTS)


def rows(seed: int, targets_B: Tensor) -> Tensor:
    """Embeddings (B, 5): each class has its place, background is anywhere."""
    generator = torch.Generator().manual_seed(seed)
    centres_CD = 1.5 * torch.randn(BACKGROUND + 1, 5, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return centres_CD[targets_B] + torch.randn(len(targets_B), 5, generator=generator, dtype=torch.float64)


def reweigher(*logits: float) -> MetaReweigher:
    module = MetaReweigher(len(logits)).double()
    module.logits_K.data = torch.tensor(logits, dtype=torch.float64)
    return module


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_the_weights_are_the_rates_rescaled_to_the_number_of_foreground_rows() -> None:
    targets = [0, 1, BACKGROUND, 0, 3, BACKGROUND]
    logits = [1.0, -2.0, 0.0, 0.5]
    rates = [sigmoid(logits[y]) for y in targets if y < BACKGROUND]
    expected = [sigmoid(logits[y]) * 4 / sum(rates) if y < BACKGROUND else 1.0 for y in targets]
    weights = reweigher(*logits)(torch.tensor(targets))
    torch.testing.assert_close(weights.tolist(), expected)
    assert torch.equal(reweigher(*logits)(torch.tensor([BACKGROUND, -1])), torch.ones(2, dtype=torch.float64))


def test_the_rates_start_at_one_half() -> None:
    assert torch.equal(MetaReweigher(3).rates, torch.full((3,), 0.5))


def test_no_gradient_is_lost_or_becomes_nan_where_all_rows_are_background() -> None:
    module = reweigher(1.0, 2.0)
    module(torch.tensor([2, 2])).sum().backward()
    assert torch.equal(module.logits_K.grad, torch.zeros(2, dtype=torch.float64))
    module = reweigher(1.0, -2.0)
    assert torch.autograd.gradcheck(
        lambda logits: torch.func.functional_call(module, {"logits_K": logits}, (torch.tensor([0, 1, 1, 2]),)),
        (module.logits_K,),
    )


def plain_sigmoid(logits_BK: Tensor, targets_B: Tensor) -> Tensor:
    wanted_BK = F.one_hot(targets_B, BACKGROUND + 1)[:, :BACKGROUND].to(logits_BK.dtype)
    return F.binary_cross_entropy_with_logits(logits_BK, wanted_BK, reduction="none").sum(dim=1).mean()


@pytest.mark.parametrize("shifted", [False, True])
def test_equals_an_iteration_written_out(shifted: bool) -> None:
    torch.manual_seed(0)
    classifier = nn.Linear(5, BACKGROUND).double()
    loss = BalancedSigmoid(COUNTS, test_rate=0.5, reduction="none")
    targets_B, meta_M = torch.tensor([0, 0, 1, 4, 0, 2, 4, 0]), torch.tensor([0, 1, 2, 3, 4])
    rows_BD, meta_MD = rows(1, targets_B), rows(2, meta_M)
    module = reweigher(0.3, -0.2, 0.1, 0.0)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.2, weight_decay=1e-2)
    meta_optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    weight, logits_K = classifier.weight.detach().clone(), module.logits_K.detach().clone().requires_grad_()
    bias = classifier.bias.detach().clone()

    def step(weights_B: Tensor) -> tuple[Tensor, Tensor]:
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        value = (weights_B * loss(F.linear(rows_BD, w, b), targets_B)).mean()
        gw, gb = torch.autograd.grad(value, (w, b), create_graph=True)
        return weight - 0.2 * (gw + 1e-2 * weight), bias - 0.2 * (gb + 1e-2 * bias)

    def weights_of(logits: Tensor) -> Tensor:
        rates_B = torch.cat([logits.sigmoid(), logits.new_zeros(1)])[targets_B]
        return torch.where(targets_B < BACKGROUND, rates_B * 6 / rates_B.sum(), 1.0)

    after = F.linear(meta_MD, *step(weights_of(logits_K)))
    meta_loss = loss(after, meta_M).mean() if shifted else plain_sigmoid(after, meta_M)
    (gradient_K,) = torch.autograd.grad(meta_loss, logits_K)
    learnt_K = logits_K.detach() - 0.05 * gradient_K.sign()  # the first step of Adam
    expected_weight, expected_bias = step(weights_of(learnt_K))

    bilevel = ReweighedStep(classifier, loss, module, optimizer, meta_optimizer, shifted_meta_loss=shifted)
    value = bilevel(rows_BD, targets_B, meta_MD, meta_M)
    torch.testing.assert_close(module.logits_K.detach(), learnt_K, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(classifier.weight, expected_weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(classifier.bias, expected_bias, rtol=1e-5, atol=1e-6)
    start = loss(F.linear(rows_BD, weight, bias), targets_B)
    torch.testing.assert_close(value, (weights_of(learnt_K) * start).mean(), rtol=1e-5, atol=1e-6)


def test_buffers_change_once_an_iteration_and_frozen_parameters_never() -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, BACKGROUND)).double()
    classifier[0].requires_grad_(False)
    frozen = copy.deepcopy(classifier[0].state_dict())
    module = MetaReweigher(BACKGROUND).double()
    learning = [value for value in classifier.parameters() if value.requires_grad]
    step = ReweighedStep(
        classifier,
        BalancedSigmoid(COUNTS, reduction="none"),
        module,
        torch.optim.SGD(learning, lr=0.1, momentum=0.9),
        torch.optim.Adam(module.parameters()),
    )
    targets_B = torch.arange(10) % 5
    for _ in range(3):
        step(rows(1, targets_B), targets_B, rows(2, targets_B), targets_B)
    assert int(classifier[1].num_batches_tracked) == 3
    torch.testing.assert_close(dict(classifier[0].state_dict()), dict(frozen), rtol=0, atol=0)


class MultiInstanceImages:
    """Images of one to six instances of a long tail, with as many background proposals."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        targets = torch.repeat_interleave(torch.tensor(COUNTS))
        targets = targets[torch.randperm(len(targets), generator=generator)]
        sizes = torch.randint(1, 7, (len(targets),), generator=generator)
        ends = sizes.cumsum(0).clamp(max=len(targets))
        self.num_images = int((ends < len(targets)).sum()) + 1
        self.image_of_row = torch.searchsorted(ends, torch.arange(len(targets)), right=True)
        self.targets = targets

    def batch(self, rates_I: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
        """Rows and labels of some images."""
        drawn = torch.multinomial(rates_I, size, replacement=True, generator=torch.Generator().manual_seed(seed))
        held = torch.cat([self.targets[self.image_of_row == image] for image in drawn.tolist()])
        targets_B = torch.cat([held, torch.full_like(held, BACKGROUND)])
        return rows(seed + 1, targets_B), targets_B


def learnt_rates(loss: BalancedSigmoid) -> Tensor:
    images = MultiInstanceImages()
    balanced_I = balanced_image_rates(images.image_of_row, images.targets, images.num_images, BACKGROUND)
    torch.manual_seed(0)
    classifier, module = nn.Linear(5, BACKGROUND).double(), MetaReweigher(BACKGROUND).double()
    step = ReweighedStep(
        classifier,
        loss,
        module,
        torch.optim.SGD(classifier.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4),
        torch.optim.Adam(module.parameters(), lr=0.02),
    )
    for index in range(150):
        batch = images.batch(torch.ones(images.num_images), 16, 2 * index)
        step(*batch, *images.batch(balanced_I, 16, 2 * index + 1))
    return module.rates


def test_on_images_of_several_instances_the_rare_classes_get_the_larger_weights() -> None:
    rates_K = learnt_rates(BalancedSigmoid([1] * BACKGROUND, reduction="none"))
    assert rates_K[0] < rates_K[1] < rates_K[3]
    assert rates_K[3] - rates_K[0] > 0.15


def test_images_are_drawn_by_their_rarest_class() -> None:
    images = MultiInstanceImages()
    rates_I = balanced_image_rates(images.image_of_row, images.targets, images.num_images, BACKGROUND)
    share = [len(set(images.image_of_row[images.targets == k].tolist())) / images.num_images for k in range(BACKGROUND)]
    for image in range(0, images.num_images, 7):
        held = images.targets[images.image_of_row == image].tolist()
        assert float(rates_I[image]) == pytest.approx(max(1 / share[k] for k in held), rel=1e-5)


def test_refusals() -> None:
    with pytest.raises(InputError, match="`num_classes` must be >= 2, got 1"):
        MetaReweigher(1)
    classifier, module = nn.Linear(2, 3), MetaReweigher(3)
    optimizers = torch.optim.SGD(classifier.parameters(), lr=0.1), torch.optim.Adam(module.parameters())
    with pytest.raises(InputError, match=r'`loss.reduction` must be "none"'):
        ReweighedStep(classifier, BalancedSigmoid([3, 2, 1]), module, *optimizers)
