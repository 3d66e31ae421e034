"""Optimizers of a stage, and the groups of parameters with learning rates of their own."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from longtail.config.training import OptimizerConfig
from longtail.training.step import Step

Named = tuple[str, nn.Parameter]

MARKER = "__dynamo_disable"
"""Attribute in which torch keeps the version of a function that its compiler leaves alone."""
DECORATED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods that are excluded from compilation. No compiled function of this package calls them."""

_plain_step: Callable[..., Any] = inspect.unwrap(torch.optim.SGD.step)


class SGD(torch.optim.SGD):
    """Stochastic gradient descent that does not import the compiler of torch, which takes as long as torch itself.

    The optimizers of torch import `torch._dynamo` on their first call, only to exclude parts of themselves from it.
    Results and state are those of `torch.optim.SGD`. If a version of torch is built otherwise, it is still imported.

    Example:
        >>> optimizer = SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
        >>> len(optimizer.param_groups)
        1
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        for name in DECORATED:
            plain = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
            if plain is not None and not hasattr(plain, MARKER):
                setattr(plain, MARKER, plain)
        super().__init__(*arguments, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Perform one step.

        Args:
            closure: Function that evaluates the model again, as for the optimizer of torch.
        """
        return _plain_step(self, closure)


def build_optimizer(step: Step, options: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a stage, over the parameters that learn.

    With the default options, all parameters are one group. Each group has its share of the learning rate ("factor") and
    the share of the stage after which it learns ("starts").

    Args:
        step: Model and loss.
        options: Settings of the optimizer.
    """
    groups = _groups(step, options)
    if options.kind == "sgd":
        return SGD(
            groups,
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.nesterov,
            fused=True,
        )
    on_cuda = any(parameter.is_cuda for parameter in step.parameters())
    return torch.optim.AdamW(
        groups,
        lr=options.lr,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        weight_decay=options.weight_decay,
        fused=True,
        capturable=on_cuda,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float | Tensor, progress: float = 0.0) -> None:
    """Set the learning rate of each group: its factor times `lr`, or 0 before its start.

    A group whose factor is 1 takes `lr` itself, so that a recorded step reads a tensor that stays in place. The tensors
    of the other groups are kept, and their values are set.

    Args:
        optimizer: Optimizer from `build_optimizer`.
        lr: Learning rate of the stage.
        progress: Share of the stage that is done.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD([{"params": [layer.weight], "factor": 0.5}, {"params": [layer.bias]}], lr=1.0)
        >>> set_learning_rate(optimizer, 0.2)
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.2]
    """
    for group in optimizer.param_groups:
        factor, starts = group.get("factor", 1.0), group.get("starts", 0.0)
        if factor == 1 and starts == 0:
            group["lr"] = lr
        elif not isinstance(lr, Tensor):
            group["lr"] = lr * factor * (progress >= starts)
        else:
            if not isinstance(group["lr"], Tensor):
                group["lr"] = torch.empty_like(lr)
            group["lr"].copy_(lr * factor * (progress >= starts))


def _groups(step: Step, options: OptimizerConfig) -> list[dict[str, Any]]:
    named = [(name, parameter) for name, parameter in step.named_parameters() if parameter.requires_grad]
    if not options.needs_groups:
        return [{"params": [parameter for _, parameter in named]}]
    layers, depth = layers_of(step.model.backbone)
    undecayed = set() if options.decay_norms_and_biases else _without_decay(step, named)
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        factor, starts = _place(name, layers, depth, options)
        decays = name not in undecayed
        group = groups.setdefault((factor, starts, decays), {"params": [], "factor": factor, "starts": starts})
        group["params"].append(parameter)
        if not decays:
            group["weight_decay"] = 0.0
    return list(groups.values())


def _place(name: str, layers: dict[str, int], depth: int, options: OptimizerConfig) -> tuple[float, float]:
    """Return the factor of the learning rate of a parameter, and the share of the stage after which it learns."""
    if name.startswith("model.head."):
        return options.head_lr, 0.0
    layer = layers.get(name.removeprefix("model.backbone."), depth)
    if not name.startswith("model.backbone."):  # of a loss or a transfer
        return 1.0, 0.0
    factor = 1.0 if options.layer_decay is None else options.layer_decay ** (depth - layer)
    return factor, options.unfreeze * (depth - layer) / depth


def _without_decay(step: Step, named: Iterable[Named]) -> set[str]:
    """Return the names of norms, biases and of what the backbone exempts from decay, such as position embeddings.

    A vector or a scalar is a norm or a bias in all networks here.
    """
    net: Any = getattr(step.model.backbone, "net", None)
    exempt = set(net.no_weight_decay()) if hasattr(net, "no_weight_decay") else set()
    endings = ("pos_embed", "cls_token", "position_embeddings", "position_embedding.weight", "class_embedding")
    return {
        name
        for name, parameter in named
        if parameter.ndim <= 1
        or name.endswith((".bias", *endings))
        or name.removeprefix("model.backbone.net.") in exempt
    }


def layers_of(backbone: nn.Module) -> tuple[dict[str, int], int]:
    """Return the layer of each parameter of a backbone, counted from the input, and the number of layers.

    timm states the layers of its networks. Elsewhere, a layer is a block of a list of blocks, or another child of the
    network in the order of its definition; parameters of the network itself, such as position embeddings, are in the
    first layer.

    Args:
        backbone: The backbone.

    Example:
        >>> from longtail.models import small_net
        >>> layers, depth = layers_of(nn.Sequential(small_net(), small_net()))
        >>> depth, layers["1.layers.0.weight"]
        (2, 1)
    """
    net: Any = getattr(backbone, "net", None)
    if hasattr(net, "group_matcher"):
        from timm.models import group_parameters  # type: ignore[import-not-found, unused-ignore]

        found = group_parameters(net, net.group_matcher(coarse=False), reverse=True)
        layers = {f"net.{name}": int(layer) for name, layer in found.items()}
    else:
        units = list(dict.fromkeys(_units(backbone, "")))
        layers = {name: _unit_of(name, units) for name, _ in backbone.named_parameters()}
    order = {layer: index for index, layer in enumerate(sorted(set(layers.values())))}
    return {name: order[layer] for name, layer in layers.items()}, max(1, len(order))


def _unit_of(name: str, units: list[str]) -> int:
    return next((index for index, unit in enumerate(units) if name.startswith(f"{unit}.")), 0)


def _units(module: nn.Module, prefix: str) -> Iterator[str]:
    """Yield the names of the layers of a network, in the order of their definition."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if _is_list(child) or any(_is_list(each) for each in child.children()) or name == "net":
            yield from _units(child, f"{path}.")
        else:
            yield path


def _is_list(module: nn.Module) -> bool:
    """Return whether a module is a list of blocks, rather than of single operations."""
    lists = isinstance(module, (nn.Sequential, nn.ModuleList))
    return lists and any(any(True for _ in child.children()) for child in module.children())
