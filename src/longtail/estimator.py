"""Scikit-learn estimator of a long-tailed classifier on arrays of features.

Shapes: N = examples, D = features, C = classes, B = batch.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

import longtail.losses as losses
import longtail.posthoc as posthoc
import longtail.samplers as samplers
from longtail.component import Component
from longtail.data.counts import ClassCounts
from longtail.errors import InputError, unknown_name
from longtail.evaluation.calibration import fit_temperature
from longtail.losses.base import Loss
from longtail.models.base import FeatureBackbone
from longtail.models.classifier import LINEAR, Classifier, fresh_head, head_class
from longtail.models.heads import DisAlignHead, FoldingHead
from longtail.ranges import check_number
from longtail.stages.base import build_loss, build_sampler, double_balancing_warnings, refuse_head
from longtail.training.convex import check_convex, statistics
from longtail.training.head_sgd import ClassWeights, HeadTrainer, StandardizedHead, weights_of_classes
from longtail.training.penalty import solve_head, stratified_holdout

Array = npt.NDArray[Any]
Solver = Literal["auto", "lbfgs", "sgd"]
DTYPES = (np.float64, np.float32, np.float16)
ROWS = 16_384
"""Examples that are predicted at a time."""
SAFE_L2 = 0.01
"""Penalty where none can be chosen, because every class has a single example."""
SGD_L2 = 5e-4


class LongTailClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear or cosine classifier on features, for class-imbalanced data, with the interface of scikit-learn.

    Heads, losses, samplers and post-hoc corrections are given by name, or as a mapping with a name and options. A
    linear head with a convex loss and instance-balanced sampling is solved to its optimum (`solver="lbfgs"`); its L2
    penalty is chosen on held-out training examples, and the final head uses all examples. Everything else is trained
    by SGD. Features are standardized; the standardization is part of the classifier.

    Args:
        loss: Loss of `longtail.losses`. The default is the Balanced Softmax, for a uniform test prior.
        head: Head of `longtail.models`.
        sampler: Sampler of `longtail.samplers`.
        posthoc: Correction of `longtail.posthoc` after training, or None. Its strength is chosen on held-out examples.
        class_weights: Weight of the loss of each class: None, "auto" for N / (C n_c), or a mapping from labels to
            weights >= 0; classes that it lacks have weight 1.
        solver: "lbfgs" solves the head, "sgd" trains it, "auto" solves it where possible.
        l2: L2 penalty on the weights of standardized features, > 0. None chooses it (lbfgs) or takes 5e-4 (sgd).
        calibrate: Divide the logits by a temperature that is fitted on held-out examples, so that the probabilities
            are calibrated: for a uniform prior if loss, sampler, weights or correction balance the classes, and
            otherwise for the prior of the training examples.
        validation_fraction: Share of each class that is held out for these choices, in (0, 1).
        tol: Largest entry of the gradient of a solved head, > 0.
        epochs: Passes over the examples by SGD.
        batch_size: Examples per step of SGD. None takes a 20th of the examples, between 16 and 256.
        lr: Peak learning rate of SGD, and the constant one of `partial_fit`.
        device: Device of the computation.
        random_state: Seed of the held-out part and of SGD, an integer >= 0.

    Attributes:
        classes_: Labels, in sorted order.
        head_: Fitted head on the original features, a `torch.nn.Module`.
        l2_: Penalty used.
        temperature_: Temperature of `predict_proba`.
        n_features_in_: Number of features D.

    Raises:
        InputError: For an unknown component or option, or a combination that does not work. It is a `ValueError`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = LongTailClassifier(l2=0.01).fit(X[:500], y[:500])
        >>> classifier.score(X[500:], y[500:]) > 0.9
        True
    """

    classes_: Array
    head_: nn.Module
    n_features_in_: int

    def __init__(
        self,
        loss: Any = "BalancedSoftmax",
        *,
        head: Any = "LinearHead",
        sampler: Any = "InstanceSampler",
        posthoc: Any = None,
        class_weights: ClassWeights = None,
        solver: Solver = "auto",
        l2: float | None = None,
        calibrate: bool = True,
        validation_fraction: float = 0.2,
        tol: float = 1e-4,
        epochs: int = 60,
        batch_size: int | None = None,
        lr: float = 0.1,
        device: str = "cpu",
        random_state: int | None = 0,
    ) -> None:
        self.loss = loss
        self.head = head
        self.sampler = sampler
        self.posthoc = posthoc
        self.class_weights = class_weights
        self.solver = solver
        self.l2 = l2
        self.calibrate = calibrate
        self.validation_fraction = validation_fraction
        self.tol = tol
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the classifier.

        Args:
            X: Features, shape (N, D), float16, float32 or float64.
            y: Labels of any type, shape (N,).

        Returns:
            The fitted estimator itself.
        """
        features, labels = validate_data(self, X, y, dtype=DTYPES, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"`y` must have at least two classes, got 1 class: {self.classes_[0]!r}; add another one")
        self._check()
        features_ND = torch.from_numpy(features).to(self.device)
        targets_N = torch.from_numpy(codes.astype(np.int64))
        self.class_counts_ = ClassCounts.from_targets(targets_N, len(self.classes_))
        self._seen_C = self.class_counts_.counts
        self._fit_heads(features_ND, targets_N)
        self._trainer: HeadTrainer | None = None
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Train by SGD with a constant learning rate for one pass over the examples.

        The class counts of the loss are those of all examples so far. The features are standardized by the statistics
        of the first call. The probabilities are not calibrated.

        Args:
            X: Features, shape (N, D), float16, float32 or float64.
            y: Labels, shape (N,).
            classes: All labels that occur. Required in the first call, unless `fit` was called before.

        Returns:
            The estimator itself.

        Raises:
            InputError: If `classes` is missing or changes, `y` has other labels, or `posthoc` is set.
        """
        first = not hasattr(self, "classes_")
        features, labels = validate_data(self, X, y, dtype=DTYPES, reset=first)
        check_classification_targets(labels)
        if self.posthoc is not None:
            raise InputError(f"`posthoc` must be None for partial_fit, got {self.posthoc!r}; use fit")
        if first and classes is None:
            raise InputError("`classes` must be given in the first call of partial_fit, got None; pass all labels")
        if first:
            self.classes_ = np.unique(classes)
            self._seen_C = torch.zeros(len(self.classes_), dtype=torch.long)
            self.temperature_, self._trainer = 1.0, None
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise InputError(f"`classes` must be those of the first call, {self.classes_}, got {np.unique(classes)}")
        if not np.isin(labels, self.classes_).all():
            raise InputError(f"`y` must hold labels of `classes` only, got {np.setdiff1d(labels, self.classes_)}")
        features_ND = torch.from_numpy(features).to(self.device)
        targets_N = torch.from_numpy(np.searchsorted(self.classes_, labels).astype(np.int64))
        self._seen_C = self._seen_C + torch.bincount(targets_N, minlength=len(self.classes_))
        self._check()
        if self._trainer is None:
            head = copy.deepcopy(self.head_) if hasattr(self, "head_") else self._new_head()
            if not isinstance(head, StandardizedHead):
                self._mean_D, self._std_D = statistics(features_ND)
                head = StandardizedHead.around(head, self._mean_D, self._std_D)
            self._trainer = self._new_trainer(head, len(targets_N))
        self._trainer.weights_C = self._weights(ClassCounts(self._seen_C))
        loss = self._build_loss(ClassCounts(self._seen_C), absent="mask")
        self._trainer.run_epoch(features_ND, targets_N, loss, build_sampler(self._sampler, targets_N))
        self.head_, self.temperature_ = self._trainer.head.folded().eval(), 1.0
        return self

    def decision_function(self, X: Any) -> Array:
        """Compute the logits.

        Args:
            X: Features, shape (N, D).

        Returns:
            Logits, shape (N, C), or for two classes their difference, shape (N,).
        """
        logits_NC = self._logits(X)
        return (logits_NC[:, 1] - logits_NC[:, 0] if len(self.classes_) == 2 else logits_NC).numpy()

    def predict_proba(self, X: Any) -> Array:
        """Compute the softmax of the logits, divided by the temperature.

        Args:
            X: Features, shape (N, D).

        Returns:
            Probabilities of the classes, float64, shape (N, C).
        """
        proba: Array = (self._logits(X) / self.temperature_).softmax(dim=1).numpy()
        return proba

    def predict(self, X: Any) -> Array:
        """Return the label with the largest logit.

        Args:
            X: Features, shape (N, D).

        Returns:
            Labels, shape (N,).
        """
        codes_N = self._logits(X).argmax(dim=1).numpy()
        labels: Array = self.classes_[codes_N]
        return labels

    @torch.no_grad()
    def _logits(self, X: Any) -> Tensor:
        """Return the logits (N, C), float64, on the CPU."""
        check_is_fitted(self, "head_")
        features = validate_data(self, X, dtype=DTYPES, reset=False)
        chunks = torch.split(torch.from_numpy(features), ROWS)
        return torch.cat([self.head_(chunk.to(self.device).float()).double().cpu() for chunk in chunks])

    def _check(self) -> None:
        """Check the parameters, before any computation."""
        check_number("validation_fraction", self.validation_fraction, above=0, below=1)
        check_number("tol", self.tol, above=0)
        check_number("lr", self.lr, above=0)
        check_number("l2", self.l2, optional=True, above=0)
        check_number("epochs", self.epochs, integer=True, at_least=1)
        check_number("batch_size", self.batch_size, integer=True, optional=True, at_least=1)
        check_number("random_state", self.random_state, "a seed", integer=True, optional=True, at_least=0)
        if self.solver not in get_args(Solver):
            raise unknown_name("solver", str(self.solver), get_args(Solver))
        self._loss, self._head = Component.parse(self.loss, "`loss`"), Component.parse(self.head, "`head`")
        self._sampler = Component.parse(self.sampler, "`sampler`")
        self._posthoc = None if self.posthoc is None else Component.parse(self.posthoc, "`posthoc`")
        head_class(self._head)
        if self._head.name == "DLSAHead":
            raise InputError("`head` must not be a DLSAHead, which only the method dlsa can train; use a LinearHead")
        self._sampler.check(samplers)
        self._loss.check(losses)
        refuse_head(self._loss, self._head)
        if self._posthoc is not None:
            correction = self._posthoc.build(posthoc)
            if correction.fits_on == "val" and self._head != LINEAR:
                raise InputError(f"{self._posthoc.name} corrects a LinearHead, got {self._head.name}; use a LinearHead")
        for warning in double_balancing_warnings(self._loss, self._sampler, False):
            warnings.warn(warning, UserWarning, stacklevel=3)

    def _solves(self, loss: nn.Module) -> bool:
        """Return whether the head is solved rather than trained by SGD."""
        plain = self._head == LINEAR and self._sampler.name == "InstanceSampler"
        if self.solver == "lbfgs":
            check_convex(loss)
            if not plain:
                raise InputError(
                    f"solver='lbfgs' requires a LinearHead and the InstanceSampler, got {self._head.name} and "
                    f"{self._sampler.name}; use solver='sgd'"
                )
        return self.solver != "sgd" and plain and isinstance(loss, Loss) and loss.convex

    def _fit_heads(self, features_ND: Tensor, targets_N: Tensor) -> None:
        """Fit the head on all examples, and the choices on a held-out part."""
        counts = self.class_counts_
        can_hold_out = int(counts.counts.max()) > 1
        self._mean_D, self._std_D = statistics(features_ND)
        l2, held_M = self.l2, None
        held_head: nn.Module | None = None
        loss = self._build_loss(counts)
        if self._solves(loss):
            solved = solve_head(
                features_ND,
                targets_N,
                cast("Loss", loss),
                l2=SAFE_L2 if l2 is None and not can_hold_out else l2,
                holdout_share=self.validation_fraction,
                seed=self._seed,
                weights_C=self._weights(counts),
                tolerance=self.tol,
            )
            head: nn.Module = solved.head
            l2, held_head, held_M = solved.l2, solved.held_head, solved.held_M
        else:
            head, l2 = self._trained(features_ND, targets_N), SGD_L2 if l2 is None else l2
        self.l2_, self.temperature_ = l2, 1.0
        if held_head is None and can_hold_out and (self.calibrate or self._chooses_strength()):
            kept_N, held_M = stratified_holdout(targets_N, len(counts), self.validation_fraction, self._seed)
            part = (features_ND[kept_N.to(features_ND.device)], targets_N[kept_N])
            if self._solves(loss):
                weights_C = self._weights(counts)
                held_head = solve_head(*part, cast("Loss", loss), l2=l2, weights_C=weights_C, tolerance=1e-3).head
            else:
                held_head = self._trained(*part)
        held = None if held_M is None else (features_ND[held_M.to(features_ND.device)].float(), targets_N[held_M])
        correction = self._correction(held, held_head)
        self.head_ = self._corrected(correction, features_ND, targets_N, head).eval()
        if self.calibrate and held is not None and held_head is not None:
            corrected = self._corrected(correction, features_ND, targets_N, held_head).eval()
            with torch.no_grad():
                logits_MC = corrected(held[0]).double().cpu()
            self.temperature_ = fit_temperature(logits_MC, held[1], balanced=self._balances())

    def _trained(self, features_ND: Tensor, targets_N: Tensor) -> nn.Module:
        """Return a head that is trained by SGD, on the original features."""
        head = self._new_head()
        if isinstance(head, (FoldingHead, DisAlignHead)):  # these correct a linear head
            cross_entropy = cast("Loss", Component("CrossEntropy").build(losses, self.class_counts_))
            solved = solve_head(features_ND, targets_N, cross_entropy, l2=SAFE_L2, tolerance=self.tol)
            head.load_state_dict(solved.head.state_dict(), strict=False)
            model = StandardizedHead.around(head, self._mean_D, self._std_D)
        else:
            model = StandardizedHead(head, self._mean_D, self._std_D)
        trainer = self._new_trainer(model, len(targets_N))
        trainer.weights_C = self._weights(self.class_counts_)
        loss = self._build_loss(self.class_counts_)
        trainer.train(features_ND, targets_N, loss, build_sampler(self._sampler, targets_N), self.epochs)
        return model.folded()

    def _new_head(self) -> nn.Module:
        model = Classifier(FeatureBackbone(embedding_dim=self.n_features_in_), nn.Identity())
        return fresh_head(self._head, model, len(self.classes_), self._seed).to(self.device)

    def _new_trainer(self, head: StandardizedHead, num: int) -> HeadTrainer:
        batch_size = min(256, max(16, num // 20)) if self.batch_size is None else self.batch_size
        weight_decay = SGD_L2 if self.l2 is None else self.l2
        return HeadTrainer(
            head.to(self.device), lr=self.lr, weight_decay=weight_decay, batch_size=batch_size, seed=self._seed
        )

    def _build_loss(self, counts: ClassCounts, **options: Any) -> nn.Module:
        if self.class_weights is not None:
            options["reduction"] = "none"
        return build_loss(Component(self._loss.name, {**self._loss.options, **options}), counts)

    def _weights(self, counts: ClassCounts) -> Tensor | None:
        return weights_of_classes(self.class_weights, self.classes_.tolist(), counts)

    def _chooses_strength(self) -> bool:
        return self._posthoc is not None and bool(self._posthoc.build(posthoc).needs_holdout)

    def _correction(self, held: tuple[Tensor, Tensor] | None, held_head: nn.Module | None) -> Component | None:
        """Return the correction with its strength chosen on the held-out examples."""
        if self._posthoc is None or not self._chooses_strength():
            return self._posthoc
        if held is None or held_head is None:
            raise InputError(f"{self._posthoc.name} chooses its strength on held-out examples; set `tau`")
        chosen = self._fitted(self._posthoc, *held, held_head).chosen
        return Component(self._posthoc.name, {**self._posthoc.options, **chosen})

    def _corrected(self, correction: Component | None, features_ND: Tensor, targets_N: Tensor, head: nn.Module) -> Any:
        if correction is None:
            return head
        if correction.build(posthoc).fits_on == "val":  # the strength is known, so no example is needed
            features_ND, targets_N = features_ND[:0], targets_N[:0]
        fitted = self._fitted(correction, features_ND, targets_N, head)
        return StandardizedHead(fitted.head, self._mean_D, self._std_D).folded()

    def _fitted(
        self, correction: Component, features_ND: Tensor, targets_N: Tensor, head: nn.Module
    ) -> posthoc.PostHoc:
        """Fit a correction in the space of the standardized features, where all of them have the same scale."""
        model = StandardizedHead.around(head, self._mean_D, self._std_D)
        features_ND, inner = model.standardized(features_ND), cast("nn.Linear", model.head)
        fitted: posthoc.PostHoc = correction.build(posthoc)
        return fitted.fit(features_ND, targets_N.to(features_ND.device), inner, self.class_counts_)

    def _balances(self) -> bool:
        """Return whether the logits are those of a uniform prior."""
        by_parts = self._loss.check(losses).balances or self._sampler.check(samplers).balances
        return bool(by_parts or self.class_weights is not None or self._posthoc is not None)

    @property
    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)
