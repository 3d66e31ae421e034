"""Differentiable step of gradient descent for bilevel methods.

A bilevel method needs the derivative of the loss *after* the step by the weights of the examples of a batch:

- `sgd_lookahead`, for any model: the parameters after the step, differentiable by autograd (as in the `higher`
  package; Grefenstette et al., 2019, https://arxiv.org/abs/1910.01727);
- `example_gradients`, in closed form. The step is linear in the gradient, so the derivative for example i is minus the
  step size times the slope of its loss along the gradient of the later loss. No second backward pass is needed.

Shapes: B = batch, D = embedding dimension, C = classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional as F

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class SGDStep:
    """Step of `torch.optim.SGD` in differentiable operations.

    Args:
        lr: Learning rate.
        momentum: Momentum of the velocity.
        weight_decay: L2 penalty.
        nesterov: Use Nesterov momentum.

    Example:
        >>> SGDStep(lr=0.1, momentum=0.9, weight_decay=0.0).apply(
        ...     {"w": torch.tensor(1.0)}, {"w": torch.tensor(2.0)}, {"w": torch.tensor(1.0)}
        ... )  # the velocity becomes 0.9 + 2
        {'w': tensor(0.7100)}
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    @classmethod
    def next_of(cls, optimizer: torch.optim.Optimizer) -> "SGDStep":
        """Return the next step of an optimizer, by the settings of its first parameter group."""
        group = optimizer.param_groups[0]
        return cls(group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])

    @property
    def gain(self) -> float:
        """Distance that a parameter moves for each unit of its gradient."""
        return self.lr * (1 + self.momentum if self.nesterov else 1.0)

    def apply(self, parameters: Parameters, gradients: Parameters, velocities: Parameters) -> dict[str, Tensor]:
        """Return the parameters after the step.

        Args:
            parameters: Parameters by name.
            gradients: Gradients by the same names.
            velocities: Velocities before the step. A missing one is 0.
        """
        return {name: self._moved(value, gradients[name], velocities.get(name)) for name, value in parameters.items()}

    def _moved(self, value: Tensor, gradient: Tensor, velocity: Tensor | None) -> Tensor:
        pull = gradient + self.weight_decay * value
        new_velocity = pull if velocity is None else self.momentum * velocity + pull
        return value - self.lr * (pull + self.momentum * new_velocity if self.nesterov else new_velocity)


def velocities_of(optimizer: torch.optim.SGD, module: nn.Module) -> dict[str, Tensor]:
    """Return the velocities of a module's parameters in an optimizer, by name. None exist before the first step."""
    found = {
        name: optimizer.state[value].get("momentum_buffer")
        for name, value in module.named_parameters()
        if value in optimizer.state
    }
    return {name: velocity for name, velocity in found.items() if velocity is not None}


def call_with(module: nn.Module, parameters: Parameters, *inputs: Any) -> Any:
    """Return the output of a module with other parameters. Its buffers (batch-norm statistics, counters) do not change.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> call_with(layer, {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}, torch.tensor([[3.0]]))
        tensor([[7.]])
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return functional_call(module, {**parameters, **buffers}, inputs)


def sgd_lookahead(
    parameters: Parameters,
    loss_at: Callable[[Parameters], Tensor],
    step: SGDStep,
    velocities: Parameters | None = None,
) -> dict[str, Tensor]:
    """Return the parameters after one step on a loss, differentiable by everything that `loss_at` depends on.

    Args:
        parameters: Parameters of the model by name, the argument of `loss_at`. They are not changed.
        loss_at: Function from parameters to a scalar, such as
            `lambda p: (weights * losses(call_with(model, p, images))).mean()`.
        step: Learning rate, momentum and weight decay.
        velocities: Velocities of the optimizer (`velocities_of`). They are not changed.

    Example:
        >>> weight = torch.tensor(3.0, requires_grad=True)  # of the one example
        >>> start = {"w": torch.tensor(1.0, requires_grad=True)}
        >>> after = sgd_lookahead(start, lambda p: weight * p["w"] ** 2, SGDStep(lr=0.1))
        >>> after["w"].detach(), torch.autograd.grad(after["w"], weight)  # 1 - 0.1 * 3 * 2, and its slope
        (tensor(0.4000), (tensor(-0.2000),))
    """
    loss = loss_at(parameters)
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    return step.apply(parameters, dict(zip(parameters, gradients, strict=True)), velocities or {})


def example_gradients(slopes_BC: Tensor, residuals_BC: Tensor, gain: float) -> Tensor:
    """Return the derivative of the loss after the step by the weight of each example, in closed form. Shape (B,).

    The weights are those of the mean `sum_i weight_i loss_i / B` that the step minimizes.

    Args:
        slopes_BC: Slopes of the logits along the gradient of the later loss (`logit_slopes`).
        residuals_BC: Gradient of the mean loss with respect to the logits before the step. For a softmax it is
            (p - one_hot) / B.
        gain: Distance that the step moves a parameter for each unit of its gradient (`SGDStep.gain`).

    Example:
        >>> example_gradients(torch.tensor([[1.0, -1.0]]), torch.tensor([[0.3, -0.3]]), gain=0.1)
        tensor([-0.0600])
    """
    return -gain * (residuals_BC * slopes_BC).sum(dim=1)


def softmax_residuals(logits_BC: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of a batch and its gradient by the logits, (softmax - one_hot) / B.

    Example:
        >>> softmax_residuals(torch.zeros(1, 2), torch.tensor([1]))
        (tensor(0.6931), tensor([[ 0.5000, -0.5000]]))
    """
    log_p_BC = logits_BC.log_softmax(dim=1)
    index_B1 = targets_B.unsqueeze(1)
    loss = -log_p_BC.gather(1, index_B1).mean()
    minus_one = log_p_BC.new_full((), -1.0).expand_as(index_B1)
    return loss, log_p_BC.exp_().scatter_add_(1, index_B1, minus_one).div_(len(targets_B))


def linear_gradients(head: nn.Linear, embeddings_BD: Tensor, residuals_BC: Tensor) -> dict[str, Tensor]:
    """Return the gradients of the parameters of a linear head, by name, from those of its logits.

    Example:
        >>> head = nn.Linear(1, 2)
        >>> linear_gradients(head, torch.tensor([[3.0]]), torch.tensor([[0.5, -0.5]]))["weight"]
        tensor([[ 1.5000],
                [-1.5000]])
    """
    gradients = {"weight": residuals_BC.T @ embeddings_BD}
    return gradients if head.bias is None else {**gradients, "bias": residuals_BC.sum(dim=0)}


def logit_slopes(head: nn.Module, parameters: Parameters, pull: Parameters, embeddings_BD: Tensor) -> Tensor:
    """Return the derivative of the logits when the parameters of a head move along `pull`. Shape (B, C).

    Args:
        head: Module from embeddings to logits. A linear head needs no autograd: the slope is `pull` applied.
        parameters: Parameters at which the derivative is taken.
        pull: Direction, a tensor for each parameter.
        embeddings_BD: Embeddings of the batch.

    Example:
        >>> head = nn.Linear(1, 2, bias=False)
        >>> pull = {"weight": torch.tensor([[1.0], [2.0]])}
        >>> logit_slopes(head, dict(head.named_parameters()), pull, torch.tensor([[3.0]]))
        tensor([[3., 6.]])
    """
    if isinstance(head, nn.Linear):
        return F.linear(embeddings_BD, pull["weight"], pull.get("bias"))
    slopes_BC: Tensor = jvp(lambda moved: call_with(head, moved, embeddings_BD), (dict(parameters),), (dict(pull),))[1]
    return slopes_BC
