"""Plain training of one classifier on features in memory: what DLSA does for each of its groups.

Shapes: T = examples, B = batch, D = what the classifier sees, C = classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longtail import _random as randomness
from longtail._logging import progress_bar
from longtail.errors import InputError
from longtail.losses.base import Loss


@dataclass(frozen=True)
class ClassifierSettings:
    """How each of the classifiers learns: stochastic gradient descent at a constant rate, without momentum.

    Args:
        epochs: over the examples of its group.
        batch_size: examples in a batch.
        lr: learning rate. The authors take 1e-2 for features of nets trained with cross-entropy, 1e-4 for PaCo's, on
            two layers whose outputs are summed; the one layer here moves as fast at twice the rate.

    Raises:
        InputError: if a number is not positive.
    """

    epochs: int = 150
    batch_size: int = 128
    lr: float = 2e-2

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.lr > 0:
            raise InputError(
                f"a classifier needs epochs >= 1, batch_size >= 1 and lr > 0, not {self.epochs}, {self.batch_size} and "
                f"{self.lr}"
            )


def fit_classifier(
    classifier: nn.Module,
    inputs: Callable[[Tensor], Tensor],
    targets_T: Tensor,
    loss: Loss,
    settings: ClassifierSettings,
    *seed: int | str,
    on_epoch: Callable[[], None] | None = None,
) -> float:
    """Train a classifier in place, and give its mean loss over the last epoch.

    Args:
        classifier: (B, D) -> (B, C), on the device of the labels.
        inputs: what it sees, (B, D), of the examples at the places (B,), which lie in [0, T): so that nobody has to
            hold all of it at once.
        targets_T: labels, shape (T,).
        loss: of logits and labels.
        settings: length, batch size, learning rate.
        seed: of the order of each epoch.
        on_epoch: called after each epoch.

    Raises:
        InputError: if the loss is no longer finite.

    Example:
        >>> from longtail.losses import CrossEntropy
        >>> x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
        >>> fit_classifier(nn.Linear(1, 2), x.__getitem__, y, CrossEntropy([1, 1]), ClassifierSettings(lr=1.0)) < 0.1
        True
    """
    optimizer = torch.optim.SGD(classifier.parameters(), lr=settings.lr)
    loss = loss.to(targets_T.device)
    with progress_bar("classifier", settings.epochs) as bar:
        for epoch in range(settings.epochs):
            loss.set_progress(epoch / settings.epochs)
            order_T = torch.randperm(len(targets_T), generator=randomness.generator("order", *seed, epoch))
            total = torch.zeros((), device=targets_T.device)
            for picked_B in torch.split(order_T.to(targets_T.device), settings.batch_size):
                value = loss(classifier(inputs(picked_B)), targets_T[picked_B])
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                total += value.detach() * len(picked_B)
            mean = float(total) / len(targets_T)
            if not mean < float("inf"):
                raise InputError(
                    f"the loss of a classifier is no longer finite in epoch {epoch + 1} of {settings.epochs}; give a "
                    f"lower learning rate than lr {settings.lr}"
                )
            bar.advance()
            bar.note(f"loss {mean:.3f}")
            if on_epoch is not None:
                on_epoch()
    return mean
