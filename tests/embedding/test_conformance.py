"""Checks of every public embedding loss, and of every choice of pairs of `PullLoss`."""

import copy
import inspect
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from longtail import embedding
from longtail.embedding.base import EmbeddingLoss
from longtail.errors import InputError
from tests.embedding.examples import COUNTS, DIM, NUM_CLASSES, batch, value_and_gradient


@dataclass(frozen=True)
class Case:
    """A public loss by name, with options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])

    def build(self, **options: Any) -> "WithLogits":
        loss = getattr(embedding, self.name)(list(COUNTS), DIM, **{"weight": 1.0, **self.options, **options})
        return WithLogits(loss)

    def warm(self, **options: Any) -> "WithLogits":
        """After three batches."""
        loss = self.build(**options)
        for seed in (1, 2, 3):
            loss(*batch(seed))
        return loss


class WithLogits(torch.nn.Module):
    """Call a loss, with the logits of a fixed linear head if it uses them."""

    def __init__(self, loss: EmbeddingLoss) -> None:
        super().__init__()
        self.loss = loss
        self.head_DC = torch.randn(DIM, NUM_CLASSES, generator=torch.Generator().manual_seed(7))

    def forward(self, embeddings_BD: Tensor, targets_B: Tensor) -> Tensor:
        if not self.loss.uses_logits:
            return self.loss(embeddings_BD, targets_B)  # type: ignore[no-any-return]
        wide_BD = embeddings_BD if embeddings_BD.dtype == torch.float64 else embeddings_BD.float()
        return self.loss(embeddings_BD, targets_B, wide_BD @ self.head_DC.to(wide_BD.dtype))  # type: ignore[no-any-return]


CASES = [Case(name) for name in embedding.__all__] + [
    Case("PullLoss", {"pairs": "memory"}),
    Case("PullLoss", {"pairs": "memory", "memory_size": 2, "normalize": "l2"}),
    Case("PullLoss", {"pairs": "centroid", "normalize": "scale_by_sqrt_dim"}),
    Case("PullLoss", {"pairs": "balanced", "relaxation": "hinge"}),
    Case("PullLoss", {"pairs": "batch", "count_correct": True, "stop_grad_keys": True}),
    Case("SpreadOutLoss", {"pairs": "all"}),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def assert_same(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def assert_same_state(one: torch.nn.Module, other: torch.nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key])


@every_case
def test_signature(case: Case) -> None:
    """Run values are positional; options are keyword-only and have defaults."""
    cls = getattr(embedding, case.name)
    counts, dim, *options = inspect.signature(cls).parameters.values()
    assert (counts.name, dim.name, dim.default) == ("class_counts", "embedding_dim", None)
    for option in options:
        assert option.kind in (option.KEYWORD_ONLY, option.VAR_KEYWORD), f"{option.name} is positional"
    assert ">>>" in (cls.__doc__ or "")


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_everywhere(case: Case, dtype: torch.dtype) -> None:
    """Also for equal, all-zero, distant and few embeddings, and for labels that are all different."""
    embeddings, targets = batch()
    same, zero, far = embeddings[:1].expand(24, -1), torch.zeros(24, DIM), 60 * embeddings
    for values in (embeddings, same, zero, far):
        for loss in (case.build(), case.warm()):
            value, gradient = value_and_gradient(loss, values.to(dtype), targets)
            assert value.shape == ()
            assert value.dtype == torch.float32
            assert gradient.dtype == dtype
            assert value.isfinite()
            assert gradient.isfinite().all()
    for size in (1, NUM_CLASSES):
        value, gradient = value_and_gradient(case.warm(), embeddings[:size].to(dtype), torch.arange(size))
        assert value.isfinite()
        assert gradient.isfinite().all()


@every_case
def test_gradient_is_the_derivative(case: Case) -> None:
    if case.options.get("stop_grad_keys"):
        pytest.skip("leaves a part of the derivative out, by its definition")
    embeddings, targets = batch(size=8, dtype=torch.float64)
    loss = case.warm().eval()
    assert torch.autograd.gradcheck(lambda leaf: loss(leaf, targets), (embeddings.requires_grad_(),), atol=1e-6)


@every_case
@pytest.mark.parametrize("marker", [-100, -1])
def test_ignored_rows_contribute_nothing(case: Case, marker: int) -> None:
    """Ignored rows count as 0 in the mean and are not partners."""
    embeddings, targets = batch(4)
    kept = torch.arange(24) % 3 > 0
    loss, without = case.warm(ignore_index=marker), case.warm()
    value, gradient = value_and_gradient(loss, embeddings, torch.where(kept, targets, marker))
    expected = value_and_gradient(without, embeddings[kept], targets[kept])
    share = float(kept.float().mean())
    assert_same((value / share, gradient[kept] / share), expected)
    assert not gradient[~kept].any()
    assert_same(value_and_gradient(loss, *batch(5)), value_and_gradient(without, *batch(5)))
    value, gradient = value_and_gradient(loss, embeddings, torch.full_like(targets, marker))
    assert value == 0
    assert not gradient.any()


@every_case
def test_order_of_the_batch_does_not_matter(case: Case) -> None:
    embeddings, targets = batch()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    value, gradient = value_and_gradient(case.warm(), embeddings, targets)
    assert_same(value_and_gradient(case.warm(), embeddings[order], targets[order]), (value, gradient[order]))


@every_case
def test_weight_multiplies(case: Case) -> None:
    value, gradient = value_and_gradient(case.warm(), *batch())
    assert value > 0
    assert_same(value_and_gradient(case.warm(weight=0.25), *batch()), (value / 4, gradient / 4))


@every_case
def test_state_dict_round_trip(case: Case) -> None:
    """The state dict of a loss after some batches is sufficient to resume."""
    loss, fresh = case.warm(), case.build()
    fresh.load_state_dict(copy.deepcopy(loss.state_dict()))
    for seed in (4, 5):
        assert_same(value_and_gradient(fresh, *batch(seed)), value_and_gradient(loss, *batch(seed)), tolerance=0)
    assert_same_state(fresh, loss)


@every_case
def test_evaluation_leaves_no_trace(case: Case) -> None:
    loss, untouched = case.warm(), case.warm()
    loss.eval()(*batch(4))
    assert_same_state(loss, untouched)


def test_training_leaves_one_where_something_is_remembered() -> None:
    """Verify that the test above can fail."""
    loss, untouched = embedding.CenterLoss(COUNTS, DIM), embedding.CenterLoss(COUNTS, DIM)
    loss(*batch(4))
    with pytest.raises(AssertionError):
        assert_same_state(loss, untouched)


@every_case
def test_copies_and_pickles(case: Case) -> None:
    loss = case.warm()
    copies = [copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))]
    expected = value_and_gradient(loss, *batch(4))
    for twin in copies:
        assert_same(value_and_gradient(twin, *batch(4)), expected, tolerance=0)


@every_case
def test_autocast_changes_nothing(case: Case) -> None:
    embeddings, targets = batch(4)
    logits = embeddings @ torch.randn(DIM, NUM_CLASSES)
    values = []
    for enabled in (False, True):
        loss = case.warm().loss
        extra = (logits,) if loss.uses_logits else ()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            values.append(loss(embeddings, targets, *extra))
        assert {b.dtype for b in loss.buffers() if b.is_floating_point()} <= {torch.float32}
    assert torch.equal(*values)


@every_case
def test_compiles_to_one_graph(case: Case) -> None:
    """The compiled value is the same, so `forward` neither synchronizes nor branches on data."""
    torch._dynamo.reset()
    eager, inner = case.warm(), case.warm()
    compiled = torch.compile(inner, backend="eager", fullgraph=True)
    assert_same(value_and_gradient(compiled, *batch(4)), value_and_gradient(eager, *batch(4)))
    assert_same_state(inner, eager)


@every_case
def test_a_class_without_images_changes_nothing(case: Case) -> None:
    embeddings, targets = batch(4)
    loss = getattr(embedding, case.name)([*COUNTS, 0], DIM, **{"weight": 1.0, **case.options})
    known = case.build().loss
    extras = [(embeddings @ torch.ones(DIM, n),) if loss.uses_logits else () for n in (NUM_CLASSES + 1, NUM_CLASSES)]
    for _ in range(2):
        torch.testing.assert_close(loss(embeddings, targets, *extras[0]), known(embeddings, targets, *extras[1]))


@every_case
def test_bad_input_is_named(case: Case) -> None:
    embeddings, targets = batch()
    loss = case.build().loss
    for values in (embeddings[:, :5], embeddings[0], embeddings[:0]):
        with pytest.raises(InputError, match=rf"{case.name} needs embeddings of shape \(B, 6\) with B >= 1, got"):
            loss(values, targets)
    for labels in (targets[1:], torch.nn.functional.one_hot(targets), targets.float()):
        with pytest.raises(InputError, match=r"needs integer labels of shape .* train without mixing"):
            loss(embeddings, labels)
    extra = () if loss.uses_logits else (torch.zeros(24, NUM_CLASSES),)
    with pytest.raises(InputError, match="after embeddings and labels, got"):
        loss(embeddings, targets, *extra)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="`weight` must be >= 0"):
            case.build(weight=weight)
    for dim in (0, 2.5):
        with pytest.raises(InputError, match="`embedding_dim` must be an integer >= 1 or None"):
            getattr(embedding, case.name)(list(COUNTS), dim)
