"""SMART (Zhang et al., "Semantic Transfer from Head to Tail: Enlarging Tail Margin ...", WACV 2024).

Features of tail classes receive the variation of head classes through a map computed from the running covariances of
both. Their loss is weighted by the size of that map (Eqs. 2 to 6, 10 and 11).

The authors have published no code, and the text leaves many details open. Every choice is an option here, and the
defaults are those that train. Taken literally (`scale="literal"`, `normalization="none"`, `merge="literal"`,
`omega="literal"`, `clamp=None`, `eps=1e-8`), the formulas overflow within a few epochs. Even then, negative weights are
set to 0.
Shapes: B = batch, b = images of the batch that may be changed, P = positions of a feature map, C = channels,
K = classes, G = groups of images of one class, D = dimension of the stored covariances.
"""

import logging
import math
from collections.abc import Hashable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, distributed

import longtail.samplers as samplers
from longtail.component import Component
from longtail.data.counts import Countable
from longtail.errors import unknown_name
from longtail.ranges import check_number
from longtail.transfer.base import Transfer
from longtail.transfer.forms import DenseForm, dense_bytes
from longtail.transfer.maps import Covariance, Negative, Normalization, Scale, Temperature, TransferMap
from longtail.transfer.pairing import Pairing, Rule, Tails, head_classes, tail_classes
from longtail.transfer.projected import ProjectedForm, projected_sizes
from longtail.transfer.statistics import Merge

Statistics = Literal["spatial", "pooled"]
Omega = Literal["mean-one", "literal", "one-plus"]
Enters = Literal["both", "second"]
Reset = Literal["start", "epoch"]
Form = Literal["auto", "dense", "projected"]

OMEGA_RANGE = (0.1, 10.0)
_log = logging.getLogger("longtail")


class SemanticTransfer(Transfer):
    """Transfer of the covariance of head classes to the features of tail classes.

    Draws head classes from the default generator of torch. In a custom training loop, call `set_progress` before each
    epoch; without it, the transfer is active from the first step.

    Args:
        class_counts: Training images per class, shape (K,).
        channels: Number of channels of the feature maps, C.
        stream: Sampler of the second, tail-dominated stream, whose images alone are changed. Default:
            `ClassBalancedSampler`. None changes the tail images of a single stream.
        at: Dotted name of the backbone submodule whose output is changed. Default (None): the last stage.
        augment: Whether to change the features of tail images. Default: True.
        reweight: Whether to weight the loss of tail images. Default: True. Without `augment` and `reweight`, only the
            second stream remains, which is the control experiment.
        heads: Classes that lend. "many" (default) selects the classes with more than 100 images, or the more frequent
            half if that leaves no head or no tail class. An integer selects this number of the most frequent classes, a
            share below 1 this share of the classes.
        tails: Classes that receive: the "rest" (default), or the "few" of them with fewer than 20 images.
        transfer_heads: Whether to change the images of head classes in the second stream, too. Default: False.
        share: Share of the tail images that are changed and weighted, in (0, 1], drawn in each step. Default: 1. 0.5
            corresponds to an additional unchanged copy of the second stream.
        pairing: Distribution of the head class: "uniform" (default), "frequency" (in proportion to the images), or one
            of the `nearest` by "covariance" or by a "table".
        nearest: Number of heads to draw from with "covariance" and "table". Default: 5.
        similarity: Similarities of all pairs of classes for "table", shape (K, K), or the path of a .npy or
            comma-separated file.
        min_seen: Number of images of a head class that must be seen before it lends. Default: 20.
        per_image: Whether to draw a head for each image instead of each class of the batch. Default: False.
        statistics: Samples of the statistics: "spatial" (default) for every position of a feature map, "pooled" for the
            mean of the map.
        merge: "exact" (default) running covariances, or the "literal" ones of Eq. 3, which omit the distance between
            batch means.
        momentum: Fixed share of each batch in the statistics of its classes. Default (None): all images count equally.
        count_cap: Number of images after which a class forgets. Default (None): never.
        reset: Reset of the statistics: once when the transfer starts ("start", default), or before every "epoch".
        detach: Whether the statistics are constants for the gradient. Default: True. Otherwise, gradients flow through
            the statistics of the classes of the batch.
        tau: Sharpness of the softmax over a row of products (Eq. 4). Default: 10; 0 weights all products equally.
        temperature: Whether tau should "multiply" (default) or "divide" the products.
        normalization: Normalization of the products before tau: each row by its largest absolute value ("row-max",
            default), or "none".
        negative: Treatment of negative products: "keep" (default), or "relu" to set them to 0.
        scale: Scale of the map. "trace" (default) gives the changed features the total variance of the head. "literal"
            follows Eq. 5, "spectral" divides by the largest singular value, and "correlation" uses correlations in the
            units of the head. "optimal-transport" is the solution of Eq. 24 that moves features least.
        covariance: Covariances of which the map is made: "both" (default), "head" or "tail".
        shrinkage: Shrinkage of the tail covariance for "optimal-transport", in [0, 1]. Default: 0.1.
        omega: Weights of tail images from the sum of the entries of their map divided by C, at least 0. "mean-one"
            (default) divides by the batch mean and clamps to [0.1, 10], "literal" uses them unchanged, "one-plus" adds
            1.
        enters: Streams whose loss counts: "both" (default), or "second".
        start: Share of the training after which the transfer starts, in [0, 1). Default: 0.025, which is epoch 5 of
            200.
        eps: Constant added to the variances before standardization. Default: 1e-5.
        clamp: Largest absolute value of the standardized features, in standard deviations. Default: 5. None: no limit.
        form: Storage of the covariances: "dense" (K C C numbers), or "projected" to a common subspace of the channels,
            which is fixed when the transfer starts. "auto" (default) uses the dense form if it fits into memory.
        memory_budget_gb: Memory limit in 1e9 bytes for the covariances and a step with them, besides the model.
            Default: 2. It determines the dimension of the subspace.

    Raises:
        InputError: If an option is unknown or out of range, or there is no head or no tail class.

    Example:
        >>> transfer = SemanticTransfer([200, 5], 4, min_seen=2)
        >>> torch.manual_seed(0)
        <torch._C.Generator object at 0x...>
        >>> maps, targets = torch.randn(6, 4, 3, 3), torch.tensor([0, 1, 0, 1, 0, 1])
        >>> second = torch.arange(6) % 2 == 1
        >>> changed, weights = transfer(maps, targets, second)
        >>> (changed != maps).flatten(1).any(dim=1), weights
        (tensor([False,  True, False,  True, False,  True]), tensor([1., 1., 1., 1., 1., 1.]))
    """

    is_tail_K: Tensor

    def __init__(
        self,
        class_counts: Countable,
        channels: int,
        *,
        stream: str | dict[str, Any] | Component | None = "ClassBalancedSampler",
        at: str | None = None,
        augment: bool = True,
        reweight: bool = True,
        heads: str | float = "many",
        tails: Tails = "rest",
        transfer_heads: bool = False,
        share: float = 1.0,
        pairing: Rule = "uniform",
        nearest: int = 5,
        similarity: Any = None,
        min_seen: int = 20,
        per_image: bool = False,
        statistics: Statistics = "spatial",
        merge: Merge = "exact",
        momentum: float | None = None,
        count_cap: int | None = None,
        reset: Reset = "start",
        detach: bool = True,
        tau: float = 10.0,
        temperature: Temperature = "multiply",
        normalization: Normalization = "row-max",
        negative: Negative = "keep",
        scale: Scale = "trace",
        covariance: Covariance = "both",
        shrinkage: float = 0.1,
        omega: Omega = "mean-one",
        enters: Enters = "both",
        start: float = 0.025,
        eps: float = 1e-5,
        clamp: float | None = 5.0,
        form: Form = "auto",
        memory_budget_gb: float = 2.0,
    ) -> None:
        super().__init__(class_counts, channels)
        _check_choices(statistics, reset, omega, enters, form)
        _check_numbers(start, share, eps, clamp, memory_budget_gb)
        self.stream = None if stream is None else Component.parse(stream, "`stream`")
        if self.stream is not None:
            self.stream.check(samplers)
        self.at, self.augment, self.reweight, self.omega = at, augment, reweight, omega
        self.transfer_heads, self.share, self.per_image, self.detach = transfer_heads, share, per_image, detach
        self.pooled, self.only_second = statistics == "pooled", enters == "second"
        self.resets_each_epoch = reset == "epoch"
        self.start, self.active, self.progress, self.is_announced = start, True, -1.0, False
        is_head_K = head_classes(self.counts, heads)
        self.register_buffer("is_tail_K", tail_classes(self.counts, is_head_K, tails), persistent=False)
        self.pairing = Pairing(
            self.counts, is_head_K, pairing=pairing, nearest=nearest, similarity=similarity, min_seen=min_seen
        )
        rule = TransferMap(scale, covariance, tau, temperature, normalization, negative, shrinkage)
        kept: dict[str, Any] = {"eps": eps, "clamp": math.inf if clamp is None else clamp}
        kept |= {"merge": merge, "momentum": momentum, "count_cap": count_cap}
        self.form = _form(self.num_classes, channels, rule, form, memory_budget_gb * 1e9, kept)

    def set_progress(self, progress: float) -> None:
        """Start the transfer with fresh statistics once the share `start` of the training is completed.

        Args:
            progress: Completed share of the training, in [0, 1).
        """
        if progress == self.progress:  # a resumed epoch: its statistics are in use
            return
        begins = progress >= self.start
        if begins and (self.resets_each_epoch or self.progress < self.start):
            self.form.reset()
        if begins and not self.is_announced:
            _log.info("transfer from head to tail classes: %s", self.form)
            self.is_announced = True
        self.active, self.progress = begins, progress

    def phase(self) -> Hashable:
        """Return whether the transfer has started."""
        return self.active

    def get_extra_state(self) -> dict[str, Any]:
        """Return the training progress."""
        return {"active": self.active, "progress": self.progress}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the training progress."""
        self.active, self.progress = state["active"], state["progress"]

    def forward(self, maps: Tensor, targets_B: Tensor, second_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change the tail images of the second stream, in training mode, once the transfer has started.

        See `Transfer.forward`. With two streams, only odd rows that are marked in `second_B` are changed.
        """
        self.check_shapes(maps, targets_B, second_B)
        if not self.training:
            return maps, None
        weights_B = None
        if self.augment or self.reweight:
            with torch.autocast(maps.device.type, enabled=False):
                rows_BPC = maps.to(self.form.seen.dtype).reshape(*maps.shape[:2], -1).transpose(1, 2)
                if self.pooled:
                    rows_BPC = rows_BPC.mean(dim=1, keepdim=True)
                if self.active:
                    maps, weights_B = self._transfer(maps, rows_BPC, targets_B, second_B)
                else:
                    self.form.observe(rows_BPC, targets_B)
        if self.only_second:  # the mean of the loss becomes that of the second stream
            share_B = second_B / second_B.float().mean().clamp(min=1 / len(second_B))
            weights_B = share_B if weights_B is None else weights_B * share_B
        return maps, weights_B

    def _transfer(
        self, maps: Tensor, rows_BPC: Tensor, targets_B: Tensor, second_B: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Merge a batch into the statistics and return its maps and weights."""
        moments = self.form.update(rows_BPC, targets_B, self.detach)
        if self.per_image:
            moments = moments.per_image(targets_B)
        heads_G, is_sound_G = self.pairing(
            moments.groups.classes_G,
            self.form.seen,
            moments.covariances_GDD.detach(),
            self.form.covariances,
            per_class=not self.per_image,
        )
        is_sound_G = is_sound_G & (moments.variances_GC.sum(dim=1) > 0)  # a single pooled image has no variance
        mine = slice(None) if self.stream is None else slice(1, None, 2)
        group_b, labels_b = moments.groups.group_E[mine], targets_B[mine]
        chosen_b = is_sound_G[group_b]
        if not self.transfer_heads:
            chosen_b = chosen_b & self.is_tail_K[labels_b]
        if self.stream is not None:
            chosen_b = chosen_b & second_B[mine]
        if self.share < 1:
            chosen_b = chosen_b & (torch.rand(len(chosen_b), device=chosen_b.device) < self.share)
        changed_bPC, omega_b = self.form.change(rows_BPC[mine], group_b, moments, heads_G)
        weights_B = None
        if self.reweight:
            weights_B = self._placed(self._weights(omega_b, chosen_b), torch.ones_like(targets_B, dtype=omega_b.dtype))
        if self.augment:
            maps = self._placed(self._changed(maps[mine], rows_BPC[mine], changed_bPC, chosen_b), maps)
        return maps, weights_B

    def _changed(self, maps: Tensor, rows_bPC: Tensor, changed_bPC: Tensor, chosen_b: Tensor) -> Tensor:
        """Replace the chosen maps. With pooled statistics, all positions of an image receive the same shift."""
        if self.pooled:
            changed = maps + (changed_bPC - rows_bPC).transpose(1, 2).reshape(*maps.shape[:2], *[1] * (maps.ndim - 2))
        else:
            changed = changed_bPC.transpose(1, 2).reshape(maps.shape)
        return torch.where(chosen_b.view(-1, *[1] * (maps.ndim - 1)), changed.to(maps.dtype), maps)

    def _placed(self, values: Tensor, whole: Tensor) -> Tensor:
        """Insert the values of the second stream into the rows of the whole batch."""
        return values if self.stream is None else whole.slice_scatter(values, dim=0, start=1, step=2)

    def _weights(self, omega_b: Tensor, chosen_b: Tensor) -> Tensor:
        """Compute Eq. 11: the sum of the entries of the map divided by C for the chosen images, 1 for the others."""
        omega_b = omega_b.clamp(min=0)
        if self.omega == "one-plus":
            omega_b = 1 + omega_b
        elif self.omega == "mean-one":
            total, number = _sums_over_ranks(torch.stack([torch.where(chosen_b, omega_b, 0.0).sum(), chosen_b.sum()]))
            omega_b = torch.where(total > 0, omega_b * number / total, 1.0).clamp(*OMEGA_RANGE)
        return torch.where(chosen_b, omega_b, 1.0)


def _form(
    num_classes: int, channels: int, rule: TransferMap, form: Form, budget_bytes: float, options: dict[str, Any]
) -> DenseForm | ProjectedForm:
    """Build the requested form; "auto" is the dense form if it fits into memory."""
    if form == "dense" or (form == "auto" and dense_bytes(num_classes, channels) <= budget_bytes):
        return DenseForm(num_classes, channels, rule, **options)
    dimension, at_once = projected_sizes(num_classes, channels, budget_bytes)
    return ProjectedForm(num_classes, channels, rule, dimension=dimension, at_once=at_once, **options)


def _sums_over_ranks(values: Tensor) -> Tensor:
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)
    return values


def _check_choices(statistics: Statistics, reset: Reset, omega: Omega, enters: Enters, form: Form) -> None:
    for kind, value, known in (
        ("kind of statistics", statistics, Statistics),
        ("time to reset the statistics", reset, Reset),
        ("weighting", omega, Omega),
        ("choice of streams that enter the loss", enters, Enters),
        ("form of the covariances", form, Form),
    ):
        if value not in get_args(known):
            raise unknown_name(kind, str(value), get_args(known))


def _check_numbers(start: float, share: float, eps: float, clamp: float | None, memory_budget_gb: float) -> None:
    check_number("start", start, "a share of the training; 0.025 is epoch 5 of 200", at_least=0, below=1)
    check_number("share", share, "a share of the tail images", above=0, at_most=1)
    check_number("eps", eps, "default: 1e-5", above=0)
    check_number("clamp", clamp, "default: 5", optional=True, above=0)
    check_number("memory_budget_gb", memory_budget_gb, "default: 2", above=0)
