"""SMART (Zhang et al., "Semantic Transfer from Head to Tail: Enlarging Tail Margin ...", WACV 2024).

Features of tail classes are given the variation of head classes, by a map made of the running covariances of both, and
count in the loss by the size of that map (Eqs. 2 to 6, 10 and 11). There is no public code, and the text leaves much
open: every choice is an option here, and the default is what trains. Taken literally (`scale="literal"`,
`normalization="none"`, `merge="literal"`, `omega="literal"`, `clamp=None`, `eps=1e-8`), the formulas overflow in a few
epochs; only a negative weight is 0 even so.
Shapes: B = batch, b = its images that may be changed, P = positions of a feature map, C = channels, K = classes,
G = groups of images of one class, D = dimension in which covariances are kept.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, Unpack, get_args, get_type_hints

import torch
from torch import Tensor, distributed

import longtail.samplers as samplers
from longtail._logging import console
from longtail.component import Component, keyword_options
from longtail.config.convert import from_mapping
from longtail.data.counts import Countable
from longtail.errors import InputError, unknown_name
from longtail.transfer.base import Transfer
from longtail.transfer.forms import DenseForm, dense_bytes
from longtail.transfer.maps import MapOptions, TransferMap
from longtail.transfer.pairing import Pairing, PairingOptions, Tails, head_classes, tail_classes
from longtail.transfer.projected import ProjectedForm, projected_sizes
from longtail.transfer.statistics import StatisticsOptions

Statistics = Literal["spatial", "pooled"]
Omega = Literal["mean-one", "literal", "one-plus"]
Enters = Literal["both", "second"]
Reset = Literal["start", "epoch"]
Form = Literal["auto", "dense", "projected"]

OMEGA_RANGE = (0.1, 10.0)


class Options(MapOptions, PairingOptions, StatisticsOptions, total=False):
    """The options of the map, of the pairing and of the statistics."""


class SemanticTransfer(Transfer):
    """Tail classes borrow the covariance of head classes.

    Draws head classes from torch's default generator. In a loop of your own, call `set_progress` before each epoch;
    one that never does gets the transfer from its first step on.

    Args:
        class_counts: training images per class, shape (K,).
        channels: of the feature maps, C.
        stream: sampler of the second, tail-dominated stream, whose images alone are changed; None changes the tail
            images of the only stream.
        at: dotted name of the submodule of the backbone after which features are changed; None: its last stage.
        augment: change the features of tail images.
        reweight: weight the loss of tail images. With neither, only the second stream is left: the control.
        heads: classes that lend: "many" (more than 100 images; the fuller half, where that leaves a side empty), a
            number of the fullest classes, or a share of the classes below 1.
        tails: classes that receive: the "rest", or the "few" of them with fewer than 20 images.
        transfer_heads: change the head classes' images of the second stream, too.
        share: of the tail images that are changed and weighted, drawn anew in each step; 0.5 stands for a copy of the
            second stream that is left as it is.
        pairing: how a head is drawn: "uniform" (default), by "frequency", one of the `nearest` by "covariance" or by a
            "table".
        nearest: heads to draw from, with "covariance" and "table"; 5 by default.
        similarity: the table: similarities of all pairs of classes, shape (K, K), or the .npy or comma-separated file.
        min_seen: images that a head class must have shown since the start; 20 by default.
        per_image: draw a head for each image; else for each class of the batch.
        statistics: "spatial" takes every position of a feature map for a sample, "pooled" the mean of the map.
        merge: "exact" (default) running covariances, or Eq. 3's "literal" ones, which leave out how batch means differ.
        momentum: fixed share of each batch in the statistics of its classes; None counts all images alike.
        count_cap: images after which a class begins to forget; None: never.
        reset: forget the statistics when the transfer begins ("start"), or before every "epoch".
        detach: take the statistics for constants; else gradients flow through those of the batch's own classes.
        tau: how sharply the largest products of a row stand out (Eq. 4); 0 takes all alike. 10 by default.
        temperature: whether tau does "multiply" (default) or "divide" the products.
        normalization: before tau, divide each row of products by its largest size ("row-max", default), or not
            ("none").
        negative: negative products are kept ("keep", default), or set to 0 ("relu").
        scale: of the map: "trace" (default) gives the changed features the head's total variance; "literal" takes Eq. 5
            as it is; "spectral" divides by the largest singular value; "correlation" uses correlations, in the head's
            units; "optimal-transport" is the solution of Eq. 24 that moves features least.
        covariance: make the map of "both" (default) covariances, or of the "head" or "tail" one alone.
        shrinkage: of the tail covariance under "optimal-transport"; 0.1 by default.
        omega: weights of tail images by the sum of their map's entries over C, not below 0: "mean-one" divides by the
            batch's mean and keeps them in [0.1, 10]; "literal" takes them as they are; "one-plus" adds 1.
        enters: whose loss counts: of "both" streams, or of the "second" alone.
        start: share of the training after which the transfer begins; 0.025 is epoch 5 of 200.
        eps: added to the variances that features are divided by.
        clamp: largest size of the features thus standardised, in standard deviations; None: no limit.
        form: keep the covariances "dense" (K C C numbers), or "projected" to a common subspace of the channels, which
            is fixed when the transfer begins; "auto" takes the dense form where it fits.
        memory_budget_gb: what it must fit into, in 1e9 bytes, with what a step needs beside the net; the dimension of
            the subspace follows from it.

    Raises:
        InputError: if an option is unknown or out of range, or no class can lend or receive.

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
        per_image: bool = False,
        statistics: Statistics = "spatial",
        reset: Reset = "start",
        detach: bool = True,
        omega: Omega = "mean-one",
        enters: Enters = "both",
        start: float = 0.025,
        eps: float = 1e-5,
        clamp: float | None = 5.0,
        form: Form = "auto",
        memory_budget_gb: float = 2.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(class_counts, channels)
        _check_choices(statistics, reset, omega, enters, form)
        _check_numbers(start, share, eps, clamp, memory_budget_gb)
        _check_names(options)
        self.stream = None if stream is None else from_mapping(Component, stream, "stream")
        if self.stream is not None:
            self.stream.check(samplers)
        self.at, self.augment, self.reweight, self.omega = at, augment, reweight, omega
        self.transfer_heads, self.share, self.per_image, self.detach = transfer_heads, share, per_image, detach
        self.pooled, self.only_second = statistics == "pooled", enters == "second"
        self.resets_each_epoch = reset == "epoch"
        self.start, self.active, self.progress, self.is_announced = start, True, -1.0, False
        is_head_K = head_classes(self.counts, heads)
        self.register_buffer("is_tail_K", tail_classes(self.counts, is_head_K, tails), persistent=False)
        self.pairing = Pairing(self.counts, is_head_K, **_those_of(PairingOptions, options))
        rule, limit = TransferMap(**_those_of(MapOptions, options)), math.inf if clamp is None else clamp
        kept = {"eps": eps, "clamp": limit, **_those_of(StatisticsOptions, options)}
        self.form = _form(self.num_classes, channels, rule, form, memory_budget_gb * 1e9, kept)

    def set_progress(self, progress: float) -> None:
        """Begin the transfer where its start is reached, with fresh statistics."""
        if progress == self.progress:  # an epoch gone on with, after a stop: its statistics are in use
            return
        begins = progress >= self.start
        if begins and (self.resets_each_epoch or self.progress < self.start):
            self.form.reset()
        if begins and not self.is_announced:
            console.print(f"transfer from head to tail classes: {self.form}")
            self.is_announced = True
        self.active, self.progress = begins, progress

    def get_extra_state(self) -> dict[str, Any]:
        """Where the training stands."""
        return {"active": self.active, "progress": self.progress}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.active, self.progress = state["active"], state["progress"]

    def forward(self, maps: Tensor, targets_B: Tensor, second_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change the tail images of the second stream, in training mode, once the transfer has begun.

        See `Transfer.forward`; of two streams, only the odd rows are changed, those that `second_B` names.
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
        if self.only_second:  # and the mean of the loss is that of the second stream
            share_B = second_B / second_B.float().mean().clamp(min=1 / len(second_B))
            weights_B = share_B if weights_B is None else weights_B * share_B
        return maps, weights_B

    def _transfer(
        self, maps: Tensor, rows_BPC: Tensor, targets_B: Tensor, second_B: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Maps and weights of a batch, once it is merged into the statistics."""
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
        is_sound_G = is_sound_G & (moments.variances_GC.sum(dim=1) > 0)  # a single pooled image has nothing to map
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
        """Maps of which the chosen are changed; by pooled statistics, all positions of an image by the same shift."""
        if self.pooled:
            changed = maps + (changed_bPC - rows_bPC).transpose(1, 2).reshape(*maps.shape[:2], *[1] * (maps.ndim - 2))
        else:
            changed = changed_bPC.transpose(1, 2).reshape(maps.shape)
        return torch.where(chosen_b.view(-1, *[1] * (maps.ndim - 1)), changed.to(maps.dtype), maps)

    def _placed(self, values: Tensor, whole: Tensor) -> Tensor:
        """The whole batch, with the values of the second stream in their rows."""
        return values if self.stream is None else whole.slice_scatter(values, dim=0, start=1, step=2)

    def _weights(self, omega_b: Tensor, chosen_b: Tensor) -> Tensor:
        """Eq. 11: 1, or for the chosen images the sum of the map's entries over C."""
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
    """The form asked for, or the dense one where it fits into the memory."""
    if form == "dense" or (form == "auto" and dense_bytes(num_classes, channels) <= budget_bytes):
        return DenseForm(num_classes, channels, rule, **options)
    dimension, at_once = projected_sizes(num_classes, channels, budget_bytes)
    return ProjectedForm(num_classes, channels, rule, dimension=dimension, at_once=at_once, **options)


def _sums_over_ranks(values: Tensor) -> Tensor:
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)
    return values


def _those_of(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a part declares."""
    return {name: options[name] for name in get_type_hints(kind) if name in options}


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


def _check_names(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in get_type_hints(Options):
            raise unknown_name("option of SemanticTransfer", name, keyword_options(SemanticTransfer))


def _check_numbers(start: float, share: float, eps: float, clamp: float | None, memory_budget_gb: float) -> None:
    if not 0 <= start < 1:
        raise InputError(f"start is a share of the training, from 0 to below 1 (0.025 is epoch 5 of 200), not {start}")
    if not 0 < share <= 1:
        raise InputError(f"share is of the tail images, above 0 and at most 1, not {share}")
    if not (eps > 0 and (clamp is None or clamp > 0) and memory_budget_gb > 0):
        raise InputError(
            "eps, clamp and memory_budget_gb must be positive (1e-5, 5 and 2 by default), "
            f"not {eps}, {clamp} and {memory_budget_gb}"
        )
