"""Checks of every loss: `tests/losses/test_conformance.py` runs each check on each public loss.

A check takes a `LossCase` and asserts. A loss with random numbers declares options that disable them (`deterministic`),
so that the same checks apply to it.
Shapes: B = batch, C = classes.
"""

import copy
import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail import losses
from longtail.errors import InputError

COUNTS = (5000, 600, 70, 8, 1)  # shares from 0.88 down to 0.0002: rare for any threshold
NUM_CLASSES = len(COUNTS)
BATCH = 16


@dataclass(frozen=True)
class LossCase:
    """A public loss by name.

    Args:
        name: Name in `longtail.losses`.
        deterministic: Options that disable random numbers; empty for a loss without any.
        plain: Mean of the loss over a batch if all classes have the same number of images.
    """

    name: str
    deterministic: Mapping[str, Any] = field(default_factory=dict)
    plain: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy

    @property
    def cls(self) -> Any:
        return getattr(losses, self.name)

    def build(self, counts: tuple[int, ...] = COUNTS, **options: Any) -> nn.Module:
        """Build a new loss without randomness."""
        loss: nn.Module = self.cls(list(counts), **{**self.deterministic, **options})
        return loss


def batch(seed: int = 0, size: int = BATCH, classes: int = NUM_CLASSES) -> tuple[Tensor, Tensor]:
    """Return logits (B, C) in [-1, 1], like cosines, and imbalanced labels (B,) with every class."""
    generator = torch.Generator().manual_seed(seed)
    logits_BC = 2 * torch.rand(size, classes, generator=generator) - 1
    imbalanced_B = (classes * torch.rand(size, generator=generator) ** 2).long()
    imbalanced_B[:classes] = torch.arange(classes)
    return logits_BC, imbalanced_B[torch.randperm(size, generator=generator)]


def one_hot(targets_B: Tensor, classes: int = NUM_CLASSES) -> Tensor:
    return F.one_hot(targets_B, classes).float()


def value_and_gradient(loss: Any, logits_BC: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, and the gradient of its sum with respect to the logits."""
    leaf_BC = logits_BC.detach().clone().requires_grad_()
    value = loss(leaf_BC, targets)
    value.sum().backward()
    assert leaf_BC.grad is not None
    return value.detach(), leaf_BC.grad


def assert_same(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def check_signature(case: LossCase) -> None:
    """The class counts are positional; all options are keyword-only, have a default and are documented."""
    first, *options = inspect.signature(case.cls).parameters.values()
    assert first.name == "class_counts"
    assert {"reduction", "ignore_index", "absent"} <= {option.name for option in options}
    for option in options:
        assert option.kind is option.KEYWORD_ONLY, f"{option.name} is not keyword-only"
        assert option.default is not option.empty, f"{option.name} has no default"
        assert f"        {option.name}: " in case.cls.__doc__, f"{option.name} is not documented"
    assert ">>>" in (case.cls.__doc__ or ""), "the docstring has no example"


def check_finite(case: LossCase) -> None:
    """Also where the softmax saturates at the true class or at another class."""
    logits_BC, targets_B = batch()
    right_BC = 200 * one_hot(targets_B) - 100
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for values_BC in (logits_BC, right_BC, -right_BC):
            value, gradient_BC = value_and_gradient(case.build(), values_BC.to(dtype), targets_B)
            assert value.dtype == torch.float32
            assert gradient_BC.dtype == dtype
            assert value.isfinite(), (dtype, value)
            assert gradient_BC.isfinite().all(), (dtype, gradient_BC)


def check_gradient_is_the_derivative(case: LossCase) -> None:
    """Against finite differences, in float64."""
    logits_BC, targets_B = batch(size=6)
    loss = case.build().eval()  # running statistics must not change between the evaluations
    leaf_BC = logits_BC.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z_BC: loss(z_BC, targets_B), (leaf_BC,), eps=1e-6, atol=1e-6)


def check_hard_targets_are_one_hot_soft_targets(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    hard = value_and_gradient(case.build(), logits_BC, targets_B)
    assert_same(value_and_gradient(case.build(), logits_BC, one_hot(targets_B)), hard)


def check_soft_targets_are_an_expectation(case: LossCase) -> None:
    """The loss of 0.3 of one label and 0.7 of another is 0.3 of the one loss and 0.7 of the other."""
    logits_BC, targets_B = batch()
    other_B = targets_B.roll(1)
    loss = case.build(reduction="none").eval()
    mixed_B = loss(logits_BC, 0.3 * one_hot(targets_B) + 0.7 * one_hot(other_B))
    expected_B = 0.3 * loss(logits_BC, targets_B) + 0.7 * loss(logits_BC, other_B)
    torch.testing.assert_close(mixed_B, expected_B, rtol=1e-4, atol=1e-5)


def check_reductions_agree(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    for targets in (targets_B, one_hot(targets_B)):
        each_B = case.build(reduction="none")(logits_BC, targets)
        assert each_B.shape == (BATCH,)
        torch.testing.assert_close(case.build(reduction="sum")(logits_BC, targets), each_B.sum())
        torch.testing.assert_close(case.build(reduction="mean")(logits_BC, targets), each_B.mean())


def check_ignored_rows_contribute_nothing(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    for marker in (-100, -1):
        kept_B = torch.arange(BATCH) % 3 > 0
        loss, without = case.build(ignore_index=marker), case.build()
        value, gradient_BC = value_and_gradient(loss, logits_BC, torch.where(kept_B, targets_B, marker))
        expected, expected_kept_BC = value_and_gradient(without, logits_BC[kept_B], targets_B[kept_B])
        assert_same((value, gradient_BC[kept_B]), (expected, expected_kept_BC))
        assert not gradient_BC[~kept_B].any()
        assert_same_state(loss, without)
    value, gradient_BC = value_and_gradient(case.build(), logits_BC, torch.full_like(targets_B, -100))
    assert value == 0
    assert not gradient_BC.any()


def check_absent_class_is_refused(case: LossCase) -> None:
    with pytest.raises(InputError, match=r"1 of 5 classes have no training image:\n  2\n.*absent='mask'"):
        case.build((5000, 600, 0, 8, 1))


def check_masked_class_is_dropped(case: LossCase) -> None:
    """Value and gradient are those of the loss built without the class."""
    logits_BC, targets_B = batch(classes=4)
    with_BC = torch.cat([logits_BC[:, :2], torch.full((BATCH, 1), 0.9), logits_BC[:, 2:]], dim=1)
    with_B = targets_B + (targets_B >= 2)
    expected = value_and_gradient(case.build((5000, 600, 8, 3)), logits_BC, targets_B)
    for targets in (with_B, one_hot(with_B)):
        loss = case.build((5000, 600, 0, 8, 3), absent="mask")
        value, gradient_BC = value_and_gradient(loss, with_BC, targets)
        assert not gradient_BC[:, 2].any()
        assert_same((value, gradient_BC[:, [0, 1, 3, 4]]), expected)


def check_permuting_the_classes_permutes_the_gradient(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    order_C = torch.tensor([3, 0, 4, 1, 2])
    value, gradient_BC = value_and_gradient(case.build(), logits_BC, targets_B)
    permuted = case.build(tuple(COUNTS[c] for c in order_C.tolist()))
    actual = value_and_gradient(permuted, logits_BC[:, order_C], order_C.argsort()[targets_B])
    assert_same(actual, (value, gradient_BC[:, order_C]))


def check_equal_counts_give_the_plain_loss(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    actual = value_and_gradient(case.build((40,) * NUM_CLASSES), logits_BC, targets_B)
    assert_same(actual, value_and_gradient(case.plain, logits_BC, targets_B))


def check_state_dict_round_trip(case: LossCase) -> None:
    """The state dict of a loss is sufficient to resume."""
    loss, fresh = case.build(), case.build()
    for seed in (1, 2):
        loss(*batch(seed))
    fresh.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert_same(value_and_gradient(fresh, *batch(3)), value_and_gradient(loss, *batch(3)), tolerance=0)
    assert_same_state(fresh, loss)


def check_compiles_to_one_graph(case: LossCase) -> None:
    """The compiled value is the same, so `forward` neither synchronizes nor branches on data."""
    logits_BC, targets_B = batch()
    for targets in (targets_B, one_hot(targets_B)):
        torch._dynamo.reset()
        eager, inner = case.build(), case.build()
        compiled = torch.compile(inner, backend="eager", fullgraph=True)
        assert_same(value_and_gradient(compiled, logits_BC, targets), value_and_gradient(eager, logits_BC, targets))
        assert_same_state(inner, eager)


def check_autocast_changes_nothing(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    for values_BC in (logits_BC, logits_BC.bfloat16()):
        expected = value_and_gradient(case.build(), values_BC, targets_B)
        loss = case.build()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = value_and_gradient(loss, values_BC, targets_B)
        assert_same(actual, expected, tolerance=0)
        assert {b.dtype for b in loss.buffers() if b.is_floating_point()} <= {torch.float32}


def check_copies_and_pickles(case: LossCase) -> None:
    loss = case.build()
    loss(*batch(1))
    copies = [copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))]
    expected = value_and_gradient(loss, *batch(2))
    for twin in copies:
        assert_same(value_and_gradient(twin, *batch(2)), expected, tolerance=0)


def check_seed_reproduces(case: LossCase) -> None:
    """The same seed gives the same loss. Another seed gives another loss if and only if it is declared random."""
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(case.cls(list(COUNTS))(*batch()))
    assert values[0] == values[1]
    assert (values[0] != values[2]) == bool(case.deterministic)


def check_moves_to_another_device(case: LossCase) -> None:
    """The meta device has shapes but no values, so a tensor on another device or a data access fails."""
    logits_BC, targets_B = batch()
    for targets in (targets_B, one_hot(targets_B)):
        value = case.build(reduction="none").to("meta")(logits_BC.to("meta"), targets.to("meta"))
        assert value.is_meta
        assert value.shape == (BATCH,)


def check_labels_of_any_integer_type(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    expected = value_and_gradient(case.build(ignore_index=4), logits_BC, targets_B)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert_same(value_and_gradient(case.build(ignore_index=4), logits_BC, targets_B.to(dtype)), expected, 0)


def check_labels_that_are_no_class_are_refused(case: LossCase) -> None:
    """On the CPU by an `InputError`; in a compiled loss, as on a GPU, by an assertion."""
    logits_BC, targets_B = batch()
    for label in (-1, NUM_CLASSES + 1, 255, -100):
        wrong_B = targets_B.clone()
        wrong_B[3] = label
        with pytest.raises(InputError, match=rf"labels must be in \[0, \d\] .* \(7777\), got {label};"):
            case.build(ignore_index=7777)(logits_BC, wrong_B)
        assert case.build(ignore_index=label)(logits_BC, wrong_B).isfinite()
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="neither a class nor ignore_index"):
        torch.compile(case.build(), backend="eager", fullgraph=True)(logits_BC, wrong_B + 94)  # -6
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(InputError, match=f"labels must be integers, got {dtype}"):
            case.build()(logits_BC, targets_B.to(dtype))


def check_empty_batch(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    for targets in (targets_B[:0], one_hot(targets_B[:0])):
        for reduction in ("sum", "mean"):
            value, gradient_BC = value_and_gradient(case.build(reduction=reduction), logits_BC[:0], targets)
            assert (value.shape, value.item(), gradient_BC.shape) == ((), 0.0, (0, NUM_CLASSES))
        assert case.build(reduction="none")(logits_BC[:0], targets).shape == (0,)


def check_double_has_double_constants(case: LossCase) -> None:
    """In float64, the constants are those computed in float64, not rounded ones."""
    logits_BC, targets_B = batch()
    buffers = dict(case.build().double().named_buffers())
    assert {b.dtype for b in buffers.values() if b.is_floating_point()} <= {torch.float64}
    loss = case.build().double()
    assert loss(logits_BC.double(), targets_B).dtype == torch.float64


def check_bad_input_is_named(case: LossCase) -> None:
    logits_BC, targets_B = batch()
    with pytest.raises(InputError, match=r"logits must have shape \(B, 5\)"):
        case.build()(logits_BC[:, :4], targets_B)
    with pytest.raises(InputError, match="targets must have shape"):
        case.build()(logits_BC, targets_B[1:])
    with pytest.raises(InputError, match="no reduction 'meen'; did you mean mean"):
        case.build(reduction="meen")
    with pytest.raises(InputError, match="no treatment of absent classes 'drop'"):
        case.build(absent="drop")


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key])


LOSS_CHECKS: dict[str, Callable[[LossCase], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
