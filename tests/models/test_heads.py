"""Each head: a slow float64 reference, its trainable parameters, and the linear head it folds to."""

import math

import pytest
import torch
from torch import Tensor, nn

from longtail.errors import InputError
from longtail.models import CosineHead, DisAlignHead, LinearHead, LWSHead, MaxNormHead
from longtail.models.heads import linear_head

DIM, CLASSES = 4, 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def embeddings() -> Tensor:
    return torch.randn(5, DIM)


def shaken(head: nn.Module) -> nn.Module:
    """Move the trainable parameters of a head away from their initial values."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head


def rows(tensor: Tensor) -> list[list[float]]:
    return tensor.detach().double().tolist()


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def linear_reference(head: nn.Linear, x: Tensor) -> list[list[float]]:
    bias = head.bias.detach().double().tolist()
    return [[dot(w, row) + b for w, b in zip(rows(head.weight), bias, strict=True)] for row in rows(x)]


def learning(head: nn.Module) -> set[str]:
    return {name for name, parameter in head.named_parameters() if parameter.requires_grad}


def test_cosine_head_is_scale_times_the_cosine():
    head, x = CosineHead(DIM, CLASSES, scale=7.0), embeddings()
    expected = [[7 * dot(w, row) / math.sqrt(dot(w, w) * dot(row, row)) for w in rows(head.weight)] for row in rows(x)]
    torch.testing.assert_close(head(x), torch.tensor(expected).float())


def test_cosine_head_sees_no_lengths():
    head, x = CosineHead(DIM, CLASSES), embeddings()
    before = head(x)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[0.1], [1.0], [50.0]]))
    torch.testing.assert_close(head(3 * x), before)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_cosine_head_refuses_a_scale_that_is_not_positive(scale):
    with pytest.raises(InputError, match="`scale` must be > 0"):
        CosineHead(DIM, CLASSES, scale=scale)


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_lws_multiplies_each_logit_by_its_scale_and_folds_to_a_linear_head(rate):
    head, x = shaken(LWSHead(DIM, CLASSES, weights_rate=rate)), embeddings()
    scales = head.scale_C.tolist()
    expected = [[s * z for s, z in zip(scales, row, strict=True)] for row in linear_reference(head, x)]
    torch.testing.assert_close(head(x), torch.tensor(expected).float())
    folded = head.folded()
    assert type(folded) is LinearHead
    torch.testing.assert_close(folded(x), head(x))


def test_lws_learns_the_scales_alone_unless_told_otherwise():
    assert learning(LWSHead(DIM, CLASSES)) == {"scale_C"}
    assert learning(LWSHead(DIM, CLASSES, weights_rate=0.2)) == {"scale_C", "weight", "bias"}


def test_lws_weights_learn_at_their_share_of_the_rate():
    plain, slowed, x = LinearHead(DIM, CLASSES), LWSHead(DIM, CLASSES, weights_rate=0.2), embeddings()
    slowed.load_state_dict(plain.state_dict(), strict=False)
    for head in (plain, slowed):
        head(x).square().sum().backward()
    torch.testing.assert_close(slowed.weight.grad, 0.2 * plain.weight.grad)
    torch.testing.assert_close(slowed.bias.grad, 0.2 * plain.bias.grad)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_lws_refuses_a_rate_outside_0_to_1(rate):
    with pytest.raises(InputError, match=r"`weights_rate` must be >= 0 and <= 1"):
        LWSHead(DIM, CLASSES, weights_rate=rate)


def test_disalign_is_the_papers_formula():
    head, x = shaken(DisAlignHead(DIM, CLASSES)), embeddings()
    v, u = rows(head.confidence.weight)[0], head.confidence.bias.item()
    expected = []
    for row, logits in zip(rows(x), linear_reference(head, x), strict=True):
        sigma = 1 / (1 + math.exp(-(dot(v, row) + u)))
        pairs = zip(logits, head.scale_C.tolist(), head.shift_C.tolist(), strict=True)
        expected.append([sigma * (a * z + b) + (1 - sigma) * z for z, a, b in pairs])
    torch.testing.assert_close(head(x), torch.tensor(expected).float())


def test_disalign_learns_all_but_the_layer():
    assert learning(DisAlignHead(DIM, CLASSES)) == {"scale_C", "shift_C", "confidence.weight", "confidence.bias"}


def test_max_norm_cuts_the_longest_vectors_to_the_bound_and_no_others():
    head = MaxNormHead(DIM, CLASSES, share=0.5)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 3.0, 0]]))
    logits = head(torch.eye(DIM))
    assert head.weight.norm(dim=1).tolist() == [1.0, 2.0, 2.0]
    assert logits[2, 2].item() == pytest.approx(2.0 + head.bias[2].item())
    with torch.no_grad():
        head.weight.mul_(10)  # the bound does not change
    head(torch.eye(DIM))
    torch.testing.assert_close(head.weight.norm(dim=1), torch.full((3,), 2.0))


def test_max_norm_folds_to_a_linear_head_within_the_bound():
    head, x = MaxNormHead(DIM, CLASSES, share=0.0), embeddings()
    head(x)
    shaken(head)
    folded = head.folded()
    assert type(folded) is LinearHead
    assert folded.weight.norm(dim=1).max() <= head.bound * (1 + 1e-6)
    torch.testing.assert_close(folded(x), head(x))


def test_max_norm_keeps_its_bound_in_the_state():
    head = MaxNormHead(DIM, CLASSES)
    head(embeddings())
    other = MaxNormHead(DIM, CLASSES)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.bound, head.bound)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_max_norm_refuses_a_share_outside_0_to_1(share):
    with pytest.raises(InputError, match=r"`share` must be >= 0 and <= 1"):
        MaxNormHead(DIM, CLASSES, share=share)


def test_linear_head_of_weights_copies_them():
    weight, bias = torch.randn(CLASSES, DIM), torch.randn(CLASSES)
    head = linear_head(weight, bias)
    weight.zero_()
    assert head.weight.abs().sum() > 0
    assert torch.equal(head.bias, bias)


def test_class_vectors_of_unit_start_have_length_1_and_the_same_directions():
    torch.manual_seed(0)
    plain, after_plain = CosineHead(64, 100), torch.rand(1)
    torch.manual_seed(0)
    unit, after_unit = CosineHead(64, 100, unit_start=True), torch.rand(1)
    assert plain.weight.detach().norm(dim=1).mean().item() == pytest.approx(0.577, abs=0.01)
    torch.testing.assert_close(unit.weight.detach().norm(dim=1), torch.ones(100))
    assert torch.equal(after_unit, after_plain)
    images = torch.randn(3, 64)
    torch.testing.assert_close(unit(images), plain(images))
