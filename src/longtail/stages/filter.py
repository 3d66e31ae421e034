"""DLSA as a stage (Xu et al., ECCV 2022, https://arxiv.org/abs/2208.02567); see `longtail.posthoc.DLSA`.

The backbone is frozen, so the features are computed once, from the images without augmentation. An interrupted run
resumes at the first unfinished level; the result is bit-identical.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import nn

from longtail._random import key
from longtail.component import Component
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.models.classifier import LINEAR, Classifier
from longtail.posthoc.dlsa import DLSA, DLSASettings, Group
from longtail.stages.base import PreparedStage, Stage, balances, feature_scorer
from longtail.training.context import Context, Interrupted
from longtail.training.features import features_of


@dataclass(frozen=True)
class Filter(DLSASettings, Stage):
    """Split of the label space by flow filters, with a classifier for each group; the head becomes a `DLSAHead`.

    The options are those of `longtail.posthoc.DLSASettings`.
    """

    def balances(self) -> bool:
        """Return whether the loss of the classifiers compensates for the class counts."""
        return balances(self.loss)

    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Check the head that the classifiers start from.

        Raises:
            InputError: If the classifiers start from the present head and it is not linear.
        """
        if self.initialize == "keep" and head != LINEAR:
            raise InputError(
                f"the classifiers of DLSA can start only from a LinearHead, not from a {head.name}; train the stage "
                'before with a LinearHead, or set `initialize` to "new"'
            )
        component = Component("DLSAHead", self.head_options)
        return PreparedStage(component, lambda model, context: self._run(model, data, component, context))

    def _run(self, model: Classifier, data: Dataset, component: Component, context: Context) -> Classifier:
        """Replace the head of `model` and return the model."""
        features = features_of(model, data, "train", context)
        dlsa = DLSA(self, seed=key(context.seed, context.stage))
        saved, done = (None, 0) if context.saved is None else (context.saved["dlsa"], context.saved["epoch"])
        head = cast("nn.Linear", model.head)  # only used if it is linear
        given = (features.embeddings_ND, features.targets_N, head, data.class_counts)
        started = time.perf_counter()
        for group in dlsa.groups(*given, saved=saved, done=done, on_epoch=lambda: _raise_if_stopped(context)):
            seconds = time.perf_counter() - started
            context.add_time(seconds, self._examples_seen(group))
            row = {"stage": context.stage, "epoch": group.level, **row_of(group), "seconds": round(seconds, 3)}
            if group.level < self.levels:
                context.log.write(row)
                _save(model, dlsa, group.level + 1, context)
                _raise_if_stopped(context)
            else:
                model.replace_head(component, dlsa.head)
                score = feature_scorer(model, data, context)
                context.log.write(row if score is None else {**row, context.watch or "score": score(model)})
            started = time.perf_counter()
        return model

    def _examples_seen(self, group: Group) -> int:
        """Count the examples used for training: pairs by the filter, single examples by the classifier."""
        pairs = 0 if group.history is None else len(group.history.epochs) * group.in_play
        return 2 * pairs + self.learning.epochs * group.taken


def row_of(group: Group) -> dict[str, Any]:
    """Return the log entry of a group, with the history of its filter under "filter" as one list per quantity.

    Args:
        group: Result for the group.

    Example:
        >>> row_of(Group(level=1, in_play=7, taken=7, loss=0.5, history=None))
        {'loss': 0.5, 'in_play': 7, 'taken': 7}
    """
    row: dict[str, Any] = {"loss": group.loss, "in_play": group.in_play, "taken": group.taken}
    if group.history is None:
        return row
    epochs, kept = [asdict(epoch) for epoch in group.history.epochs], group.history.kept
    now = {name: epochs[kept][name] for name in ("balancedness", "good_clusters", "largest_cluster")}
    course = {name: [epoch[name] for epoch in epochs] for name in epochs[0] if name != "epoch"}
    return {**row, **now, "filter": {"kept": kept, **course}}


def _save(model: Classifier, dlsa: DLSA, done: int, context: Context) -> None:
    """Save the finished groups; the model itself is unchanged until the last group."""
    weights = {"model": model.state_dict(), **model.structure()}
    context.store.save({**context.place(), "epoch": done, **weights, "dlsa": dlsa.head.state_dict()})


def _raise_if_stopped(context: Context) -> None:
    """Raise `Interrupted` if the user asked to stop; finished groups are saved."""
    if context.stop.is_set():
        raise Interrupted
