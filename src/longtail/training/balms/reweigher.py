"""Meta Reweigher: learned class weights for images with several instances.

Balanced Meta-Softmax (Ren et al., NeurIPS 2020, https://arxiv.org/abs/2007.10740), supplement B.2: an image of several
classes cannot be sampled for one of them, so the loss of an instance is weighted by a learnable rate of its class.
This is tensor code: a detector passes the rows (proposals) of its box classifier.

The authors' code (`cunjunyu/BalancedMetaSoftmax-InstanceSeg`) shifts the logits of foreground rows in place, and so
shifts them in its "plain" meta loss too. Here the meta loss is plain, as in the paper; `shifted_meta_loss` reproduces
their code. The paper does not specify the real step; here it uses the weights that were just updated.
Shapes: B = rows, K = classes, I = images.
"""

import torch
from torch import Tensor, nn

from longtail.errors import InputError
from longtail.losses import BalancedSigmoid
from longtail.losses.base import Loss
from longtail.training.balms.lookahead import Parameters, SGDStep, call_with, sgd_lookahead, velocities_of


class MetaReweigher(nn.Module):
    """Weights of rows: a learnable rate in (0, 1) for each class, initially 1/2. Background has weight 1.

    The weights of the foreground rows are rescaled so that they sum to the number of these rows.

    Args:
        num_classes: Number of classes, K. A label outside 0 .. K - 1 is background.

    Raises:
        InputError: For fewer than two classes.

    Example:
        >>> reweigher = MetaReweigher(3)
        >>> reweigher(torch.tensor([0, 2, 3])).detach()  # equal rates
        tensor([1., 1., 1.])
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(f"`num_classes` must be >= 2, got {num_classes}")
        self.logits_K = nn.Parameter(torch.zeros(num_classes))

    @property
    def rates(self) -> Tensor:
        """Current rates, shape (K,)."""
        return self.logits_K.detach().sigmoid()

    def forward(self, targets_B: Tensor) -> Tensor:
        """Return the weights of rows by their labels, shape (B,), differentiable by the rates."""
        last = len(self.logits_K) - 1
        foreground_B = (targets_B >= 0) & (targets_B <= last)
        rates_B = self.logits_K.sigmoid()[targets_B.clamp(0, last)]
        total = torch.where(foreground_B, rates_B, 0.0).sum()
        scale = foreground_B.sum() / torch.where(total > 0, total, 1.0)  # all may be background
        return torch.where(foreground_B, rates_B * scale, 1.0)


class ReweighedStep:
    """Bilevel iteration: look-ahead of the classifier, step of the rates, real step of the classifier.

    Args:
        classifier: Module from rows to logits (B, K). Frozen parameters stay frozen; buffers change only in the real
            step.
        loss: Loss of the rows with `reduction="none"`. The paper uses `BalancedSigmoid`.
        reweigher: Module with the learned rates.
        optimizer: Optimizer of the classifier.
        meta_optimizer: Optimizer of the reweigher. The paper uses Adam with 0.001, the authors' code 0.01.
        shifted_meta_loss: Use `loss` as the meta loss, as the authors' code does by mistake, instead of the plain
            sigmoid loss.

    Raises:
        InputError: If the loss has another `reduction` than "none".

    Example:
        >>> classifier, reweigher = nn.Linear(4, 3), MetaReweigher(3)
        >>> step = ReweighedStep(
        ...     classifier,
        ...     BalancedSigmoid([90, 9, 1], reduction="none"),
        ...     reweigher,
        ...     torch.optim.SGD(classifier.parameters(), lr=0.1),
        ...     torch.optim.Adam(reweigher.parameters(), lr=0.01),
        ... )
        >>> loss = step(torch.randn(8, 4), torch.arange(8) % 4, torch.randn(6, 4), torch.arange(6) % 3)
        >>> loss.isfinite(), bool((reweigher.rates != 0.5).any())
        (tensor(True), True)
    """

    def __init__(
        self,
        classifier: nn.Module,
        loss: Loss,
        reweigher: MetaReweigher,
        optimizer: torch.optim.SGD,
        meta_optimizer: torch.optim.Optimizer,
        *,
        shifted_meta_loss: bool = False,
    ) -> None:
        if loss.reduction != "none":
            raise InputError(f'`loss.reduction` must be "none", got {loss.reduction!r}')
        self.classifier, self.loss, self.reweigher = classifier, loss, reweigher
        self.optimizer, self.meta_optimizer = optimizer, meta_optimizer
        # with equal counts nothing is shifted
        plain = BalancedSigmoid([1] * len(loss.counts_C), reduction="none").to(loss.counts_C.device)
        self.meta_loss = loss if shifted_meta_loss else plain

    def __call__(self, rows: Tensor, targets_B: Tensor, meta_rows: Tensor, meta_targets_M: Tensor) -> Tensor:
        """Train on a batch.

        Args:
            rows: Inputs of the classifier, such as embeddings (B, D) of proposals.
            targets_B: Classes of the rows; K for background.
            meta_rows: Rows of images drawn by `balanced_image_rates`.
            meta_targets_M: Classes of the meta rows.

        Returns:
            The weighted mean loss of the real step, detached.
        """
        meta_loss = self._loss_after(rows, targets_B, meta_rows, meta_targets_M)
        self.reweigher.logits_K.grad = torch.autograd.grad(meta_loss, self.reweigher.logits_K)[0]
        self.meta_optimizer.step()
        self.meta_optimizer.zero_grad()
        self.optimizer.zero_grad()
        losses_B: Tensor = self.loss(self.classifier(rows), targets_B)
        loss: Tensor = (self.reweigher(targets_B).detach() * losses_B).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _loss_after(self, rows: Tensor, targets_B: Tensor, meta_rows: Tensor, meta_targets_M: Tensor) -> Tensor:
        """Return the meta loss after a step on the weighted loss, differentiable by the rates."""

        def weighted_loss(parameters: Parameters) -> Tensor:
            losses_B: Tensor = self.loss(call_with(self.classifier, parameters, rows), targets_B)
            weights_B: Tensor = self.reweigher(targets_B)
            return (weights_B * losses_B).mean()

        parameters = {name: value for name, value in self.classifier.named_parameters() if value.requires_grad}
        velocities = velocities_of(self.optimizer, self.classifier)
        ahead = sgd_lookahead(parameters, weighted_loss, SGDStep.next_of(self.optimizer), velocities)
        losses_M: Tensor = self.meta_loss(call_with(self.classifier, ahead, meta_rows), meta_targets_M)
        return losses_M.mean()


def balanced_image_rates(image_of_row_B: Tensor, targets_B: Tensor, num_images: int, num_classes: int) -> Tensor:
    """Return the sampling rates of images for the meta batch: the largest 1 / f_k of their classes. Shape (I,).

    f_k is the share of the images that contain class k. An image without an instance is never drawn.

    Args:
        image_of_row_B: Index of the image of each instance.
        targets_B: Class of each instance.
        num_images: Number of images, I.
        num_classes: Number of classes, K.

    Example:
        >>> balanced_image_rates(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 0]), num_images=4, num_classes=2)
        tensor([4.0000, 1.3333, 1.3333, 0.0000])
    """
    holds_IK = torch.zeros(num_images, num_classes, device=targets_B.device)
    holds_IK[image_of_row_B, targets_B] = 1.0
    shares_K = holds_IK.mean(dim=0).clamp(min=1 / num_images)  # a class without images has no rate
    return (holds_IK / shares_K).amax(dim=1)
