"""Class frequencies in use: the prior that a trained model assumes, and priors named by the user.

Shapes: N = images, C = classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from longtail._numbers import parse_number
from longtail.config.stage import Stage
from longtail.data.counts import ClassCounts
from longtail.errors import InputError, first_ten
from longtail.evaluation import adjust_to_prior, estimate_prior_em, long_tailed_prior, read_training_counts
from longtail.evaluation.scores import Direction, Prior

TestPrior = str | Path | Mapping[str, float] | Prior
"""A prior as `Run.predict` accepts it."""


def model_prior(stages: Sequence[Stage], class_counts: ClassCounts) -> Tensor:
    """Return the class prior under which the softmax of a trained model is a posterior, shape (C,), float64.

    The training prior after plain training, the uniform one if the last stage balances by its loss, its sampler or a
    correction. Losses that balance in part, such as `BalancedSoftmax(power=0.25)`, count as balanced.

    Args:
        stages: Stages of the run.
        class_counts: Training images per class.
    """
    if stages and stages[-1].balances():
        return torch.full((len(class_counts),), 1 / len(class_counts), dtype=torch.float64)
    return class_counts.prior.double()


def named_prior(name: str | Path, class_counts: ClassCounts, class_names: Sequence[str]) -> Tensor:
    """Return the prior of a name, or of a file with counts per class, shape (C,), float64.

    Args:
        name: "uniform", "train", "forward-K" or "backward-K" (`longtail.evaluation.long_tailed_prior` with the
            imbalance factor K), or a file with the two columns class,count.
        class_counts: Training images per class.
        class_names: Names of the C classes.

    Raises:
        InputError: If there is no such prior or file, or its classes differ.

    Example:
        >>> named_prior("backward-4", ClassCounts([9, 1]), ["cat", "dog"])
        tensor([0.2000, 0.8000], dtype=torch.float64)
    """
    direction, _, factor = str(name).partition("-")
    if name == "uniform":
        return torch.full((len(class_counts),), 1 / len(class_counts), dtype=torch.float64)
    if name == "train":
        return class_counts.prior.double()
    if direction in get_args(Direction) and (number := _number(factor)) is not None:
        return long_tailed_prior(class_counts, number, "forward" if direction == "forward" else "backward")
    if not Path(name).expanduser().is_file():
        raise InputError(
            f"`test_prior` must be uniform, train, estimate, forward-K or backward-K (forward-50, for example), or a "
            f"file with counts per class, got {str(name)!r}"
        )
    return _prior_of_file(Path(name), class_names)


def to_prior(
    probabilities_NC: Tensor,
    assumed: Tensor,
    wanted: TestPrior,
    class_counts: ClassCounts,
    class_names: Sequence[str],
) -> tuple[Tensor, Tensor]:
    """Convert probabilities under one class prior to another one.

    Args:
        probabilities_NC: Probabilities under the prior `assumed`, shape (N, C).
        assumed: Class prior of the model, shape (C,).
        wanted: A name or file for `named_prior`, "estimate" for the prior of these images by
            `longtail.evaluation.estimate_prior_em`, shares by class name, or shares of shape (C,).
        class_counts: Training images per class.
        class_names: Names of the C classes.

    Returns:
        The probabilities, shape (N, C), float32, and the prior, shape (C,), float64.

    Raises:
        InputError: If the prior is invalid.

    Example:
        >>> even, counts = torch.tensor([0.5, 0.5]), ClassCounts([9, 1])
        >>> to_prior(torch.tensor([[0.5, 0.5]]), even, "train", counts, ["cat", "dog"])[0]
        tensor([[0.9000, 0.1000]])
    """
    logits_NC = probabilities_NC.double().log()
    if isinstance(wanted, str) and wanted == "estimate":
        prior_C = estimate_prior_em(logits_NC, assumed)
    elif isinstance(wanted, (str, Path)):
        prior_C = named_prior(wanted, class_counts, class_names)
    elif isinstance(wanted, Mapping):
        prior_C = _ordered(wanted, class_names, "`test_prior`")
    else:
        prior_C = torch.as_tensor(wanted.counts if isinstance(wanted, ClassCounts) else wanted, dtype=torch.float64)
    return adjust_to_prior(logits_NC, assumed, prior_C).softmax(dim=1).float(), prior_C / prior_C.sum()


def _number(text: str) -> float | None:
    try:
        return parse_number(text)
    except ValueError:
        return None


def _prior_of_file(path: Path, class_names: Sequence[str]) -> Tensor:
    named = read_training_counts(path)
    if named.names is None:
        if len(named.counts) != len(class_names):
            raise InputError(f"{path} must hold {len(class_names)} counts, one per class, got {len(named.counts)}")
        return named.counts.prior.double()
    shares = dict(zip(named.names, named.counts.prior.tolist(), strict=True))
    return _ordered(shares, class_names, str(path))


def _ordered(shares: Mapping[str, float], class_names: Sequence[str], where: str) -> Tensor:
    """Return shares in the order of the classes. A class that is not named has share 0."""
    if unknown := [name for name in shares if name not in class_names]:
        raise InputError(
            f"{where} names {len(unknown)} classes that the model does not have:\n{first_ten(unknown)}\n"
            f"its classes are {', '.join(class_names[:10])}{', ...' if len(class_names) > 10 else ''}"
        )
    return torch.tensor([float(shares.get(name, 0.0)) for name in class_names], dtype=torch.float64)
