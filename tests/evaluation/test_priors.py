import pytest
import torch

from longtail import InputError
from longtail.data import ClassCounts
from longtail.evaluation import adjust_to_prior, example_weights, long_tailed_prior


def test_forward_prior_is_the_geometric_profile_of_lade() -> None:
    # calculate_prior of the authors' code, before its truncation to whole images
    shares = [50 * (1 / 25) ** (label / 9) for label in range(10)]
    expected = torch.tensor([share / sum(shares) for share in shares], dtype=torch.float64)
    torch.testing.assert_close(long_tailed_prior(10, 25), expected)


def test_backward_prior_is_the_forward_one_reversed() -> None:
    torch.testing.assert_close(long_tailed_prior(7, 50, "backward"), long_tailed_prior(7, 50).flip(0))


def test_the_prior_follows_the_order_of_the_training_counts() -> None:
    counts = torch.tensor([20, 500, 3, 20])
    forward = long_tailed_prior(counts, 8)
    assert forward.argsort(descending=True).tolist() == [1, 0, 3, 2]
    assert long_tailed_prior(ClassCounts(counts), 8, "backward").argsort(descending=True).tolist() == [2, 3, 0, 1]
    assert float(forward.max() / forward.min()) == pytest.approx(8)
    assert float(forward.sum()) == pytest.approx(1)


def test_equal_counts_keep_the_order_of_the_classes() -> None:
    torch.testing.assert_close(long_tailed_prior([7] * 300, 8), long_tailed_prior(300, 8))


def test_factor_one_is_the_uniform_prior() -> None:
    torch.testing.assert_close(long_tailed_prior(4, 1, "backward"), torch.full((4,), 0.25, dtype=torch.float64))


def test_long_tailed_prior_refuses_what_makes_no_prior() -> None:
    with pytest.raises(InputError, match=r"at least 1, not 0\.5"):
        long_tailed_prior(10, 0.5)
    with pytest.raises(InputError, match="at least 1, not nan"):
        long_tailed_prior(10, float("nan"))
    with pytest.raises(InputError, match="at least two classes, not 1"):
        long_tailed_prior(1, 10)
    with pytest.raises(InputError, match="no direction 'foward'; did you mean forward"):
        long_tailed_prior(10, 10, "foward")  # type: ignore[arg-type]


def test_weights_give_each_class_its_share() -> None:
    targets = torch.tensor([0, 0, 0, 1, 2, 2])
    weights = example_weights(targets, [0.2, 0.5, 0.3], 3)
    shares = torch.bincount(targets, weights) / weights.sum()
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
    assert float(weights.mean()) == pytest.approx(1)


def test_counts_serve_as_a_prior() -> None:
    targets = torch.tensor([0, 1, 1])
    torch.testing.assert_close(example_weights(targets, ClassCounts([30, 10]), 2), example_weights(targets, [3, 1], 2))


def test_what_a_prior_gives_to_an_absent_class_goes_to_the_others_in_proportion() -> None:
    weights = example_weights(torch.tensor([0, 2]), [0.3, 0.6, 0.1], 3)
    torch.testing.assert_close(weights, torch.tensor([1.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5, 0.5], r"one share for each of 3 classes, not \(2,\)"),
        ([0.5, 0.7, -0.2], "shares >= 0"),
        ([0.0, 0.0, 0.0], "not all zero"),
        ([0.5, float("nan"), 0.5], "shares >= 0"),
        ([0.0, 0.0, 1.0], "zero for every class that has a test image"),
        (["a", "b", "c"], "test prior must be a tensor or array of numbers"),
    ],
)
def test_no_prior_is_refused(prior: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        example_weights(torch.tensor([0, 1]), prior, 3)


def test_adjusting_equals_bayes_rule() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    model, test = torch.tensor([0.6, 0.2, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    unnormalised = logits.softmax(1) * test.double() / model.double()
    expected = unnormalised / unnormalised.sum(1, keepdim=True)
    torch.testing.assert_close(adjust_to_prior(logits, model, test).softmax(1), expected, rtol=1e-6, atol=1e-7)


def test_adjusting_to_the_models_own_prior_changes_nothing() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adjust_to_prior(logits, [9, 1], [0.9, 0.1]), logits)


def test_adjusting_there_and_back_changes_nothing() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    there = adjust_to_prior(logits, [0.9, 0.1], [0.5, 0.5])
    torch.testing.assert_close(adjust_to_prior(there, [0.5, 0.5], [0.9, 0.1]), logits)


def test_a_class_that_the_test_never_has_is_ruled_out() -> None:
    adjusted = adjust_to_prior(torch.tensor([[9.0, 0.0, 9.0]]), [0.5, 0.5, 0.0], [0.0, 1.0, 0.0])
    assert adjusted.argmax(1).item() == 1
    assert adjusted[0, 0] == adjusted[0, 2] == -torch.inf


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_adjusting_keeps_the_type(dtype: torch.dtype) -> None:
    assert adjust_to_prior(torch.zeros(1, 2, dtype=dtype), [0.9, 0.1], [0.5, 0.5]).dtype == dtype


def test_adjusting_refuses() -> None:
    with pytest.raises(InputError, match="model's prior is 0 for class 1"):
        adjust_to_prior(torch.zeros(1, 2), [1.0, 0.0], [0.5, 0.5])
    with pytest.raises(InputError, match="the model's prior needs one share for each of 2 classes"):
        adjust_to_prior(torch.zeros(1, 2), [1.0], [0.5, 0.5])
    with pytest.raises(InputError, match=r"shape \(N, C\), not torch\.int64 \(2,\)"):
        adjust_to_prior(torch.zeros(2, dtype=torch.int64), [0.5, 0.5], [0.5, 0.5])
