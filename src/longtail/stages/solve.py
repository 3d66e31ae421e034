"""Linear head on the features of a frozen backbone, solved to its optimum.

For a loss that is convex in the logits, the best linear head is a convex problem with one solution. No learning rate,
schedule or number of epochs has to be chosen, and the result does not depend on the order of the examples. See
`longtail.training.convex`.
"""

import time
from dataclasses import dataclass, field
from typing import Literal, cast

import longtail.losses as losses
from longtail.component import Component
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.losses.base import Loss
from longtail.models.classifier import LINEAR, Classifier
from longtail.ranges import check_ranges, ranged
from longtail.stages.base import PreparedStage, Stage, balances, build_loss, feature_scorer, refuse_head
from longtail.training.context import Context, Interrupted
from longtail.training.convex import check_convex
from longtail.training.features import Features, features_of
from longtail.training.penalty import CANDIDATES, Criterion, solve_head


@dataclass(frozen=True)
class Solve(Stage):
    """Solution of a linear head on the features of the backbone, from the unaugmented view of each image.

    The features are standardized by their mean and standard deviation over the training images. Afterwards the
    standardization is folded into the head, a plain `LinearHead`. The choice of the L2 penalty and the held-out scores
    are written to the result under "chosen".

    Args:
        loss: Class of `longtail.losses` that is convex in the logits, built with the class counts.
        l2: L2 penalty on the weights of standardized features, > 0. None chooses one of `candidates`.
        candidates: Penalties to try, strongest first, each from the solution of the one before.
        criterion: Score by which the penalty is chosen: the "loss" of held-out examples as a mean over the examples,
            "balanced_loss" as a mean over the classes, or "balanced" accuracy.
        scaling: Standardization: "each" feature by its own standard deviation, "all" by a common one, which keeps their
            relative sizes. "auto" chooses it together with the penalty, and is "each" for a given `l2`.
        holdout_share: Share of each class that is held out for the choice if the data have no validation split. The
            final head is solved on all training examples.
        tolerance: Largest entry of the gradient at which to stop, in coordinates in which the Hessian is close to the
            identity.

    Raises:
        InputError: For an unknown loss or option, or a value out of range.
    """

    loss: Component = field(default_factory=lambda: Component("BalancedSoftmax"))
    l2: float | None = ranged(None, above=0)
    candidates: tuple[float, ...] = ranged(CANDIDATES, above=0)
    criterion: Criterion = "loss"
    scaling: Literal["auto", "each", "all"] = "auto"
    holdout_share: float = ranged(0.2, above=0, below=1)
    tolerance: float = ranged(5e-4, above=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        self.loss.check(losses)
        if self.l2 is None and not self.candidates:
            raise InputError("`candidates` must hold at least one penalty if `l2` is None, got none; set `l2`")

    def balances(self) -> bool:
        """Return whether the loss compensates for the class counts."""
        return balances(self.loss)

    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Build the loss once. The head becomes linear.

        Raises:
            InputError: If the loss is not convex in the logits, or expects cosines.
        """
        refuse_head(self.loss, LINEAR)
        loss = build_loss(self.loss, data.class_counts)
        check_convex(loss)
        convex = cast("Loss", loss)
        return PreparedStage(LINEAR, lambda model, context: self._run(model, data, convex, context))

    def _run(self, model: Classifier, data: Dataset, loss: Loss, context: Context) -> Classifier:
        train = features_of(model, data, "train", context)
        held: Features | None = None
        if data.val is not None and self.l2 is None:
            held = features_of(model, data, "val", context)
        started = time.perf_counter()
        solved = solve_head(
            train.embeddings_ND,
            train.targets_N,
            loss,
            l2=self.l2,
            candidates=self.candidates,
            criterion=self.criterion,
            scaling=self.scaling,
            held_out=None if held is None else (held.embeddings_ND, held.targets_N),
            holdout_share=self.holdout_share,
            seed=context.seed,
            tolerance=self.tolerance,
            on_evaluation=lambda: _raise_if_stopped(context),
        )
        model.replace_head(LINEAR, solved.head)
        seconds = time.perf_counter() - started
        context.add_time(seconds, solved.solution.evaluations * len(train.targets_N))
        context.chosen[type(self).__name__] = solved.chosen
        row = {"stage": context.stage, "epoch": 0, "loss": solved.solution.value, "seconds": round(seconds, 3)}
        score = feature_scorer(model, data, context)
        context.log.write(row if score is None else {**row, context.watch or "score": score(model)})
        return model


def _raise_if_stopped(context: Context) -> None:
    """Raise `Interrupted` if the user asked to stop. The stage starts again when the run is resumed."""
    if context.stop.is_set():
        raise Interrupted
