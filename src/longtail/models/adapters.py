"""Adapters for parameter-efficient fine-tuning: a frozen backbone with a few parameters that learn.

LIFT (Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML 2024,
https://arxiv.org/abs/2309.10019) trains AdaptFormer or LoRA with a cosine head and the logit-adjusted loss for ten
epochs. Fine-tuning all weights costs accuracy on the rare classes there.

Shapes: T = any leading dimensions (batch, tokens), D = width of a block.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.models.hub import import_peft
from longtail.ranges import check_number

__all__ = ["AdaptFormer", "Adapter", "LoRA"]


class Adapter(ABC):
    """Change of a backbone by which few parameters learn."""

    def insert(self, backbone: nn.Module) -> None:
        """Insert the adapter in place. Of the backbone, only the parameters of the adapter learn afterwards.

        Args:
            backbone: Backbone on the CPU.

        Raises:
            InputError: If the backbone has no layers for the adapter.
        """
        before = {id(parameter) for parameter in backbone.parameters()}
        self._insert(backbone)
        for parameter in backbone.parameters():
            parameter.requires_grad_(id(parameter) not in before)

    @abstractmethod
    def _insert(self, backbone: nn.Module) -> None:
        """Insert the adapter in place."""

    def merge(self, backbone: nn.Module) -> bool:
        """Merge the adapter into the weights of the backbone, in place, if its kind allows that.

        Args:
            backbone: Backbone with the adapter.

        Returns:
            Whether the adapter was merged. If not, it is part of the model from now on.
        """
        del backbone
        return False


class AdaptFormer(Adapter):
    """A bottleneck next to the MLP of each transformer block: `MLP(x) + scale * up(relu(down(x)))`.

    Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition", NeurIPS 2022,
    https://arxiv.org/abs/2205.13535, Eqs. 3 and 4; x is the input of the MLP after its normalization. `up` starts at
    zero, so that the network is unchanged at first. In blocks with a layer scale (DINOv2), the scale also applies to
    the adapter. The adapter is part of the model after training.

    Args:
        width: Width of the bottleneck.
        scale: Factor of the bottleneck; 0.1 in the paper.

    Raises:
        InputError: If an option is out of range.
    """

    def __init__(self, *, width: int = 16, scale: float = 0.1) -> None:
        check_number("width", width, "64 in the paper", integer=True, at_least=1)
        check_number("scale", scale, "0.1 in the paper", above=0)
        self.width, self.scale = width, scale

    def _insert(self, backbone: nn.Module) -> None:
        found = [(name, module) for name, module in backbone.named_modules() if _is_mlp(name, module)]
        if not found:
            raise InputError(
                "AdaptFormer needs a vision transformer, and this backbone has no block with an `mlp` of linear "
                "layers; use LoRA, or the recipe finetune"
            )
        for name, module in found:
            _replace(backbone, name, ParallelAdapter(module, self.width, self.scale))


class ParallelAdapter(nn.Module):
    """A module and a bottleneck next to it, see `AdaptFormer`: (T, D) -> (T, D).

    Args:
        module: Module with a linear layer, whose input width is D.
        width: Width of the bottleneck.
        scale: Factor of the bottleneck.
    """

    def __init__(self, module: nn.Module, width: int, scale: float) -> None:
        super().__init__()
        dim = next(layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear))
        self.module, self.scale = module, scale
        self.down, self.up = nn.Linear(dim, width), nn.Linear(width, dim)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the sum of the module and the scaled bottleneck."""
        output: Tensor = self.module(x) + self.scale * self.up(F.relu(self.down(x)))
        return output


class LoRA(Adapter):
    """Low-rank updates of the linear layers, by the package peft, merged into their weights after training.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, https://arxiv.org/abs/2106.09685. The
    merged model is a plain one: it needs no peft, and costs nothing more.

    Args:
        rank: Rank of the updates.
        alpha: Scale of the updates, times the rank. None takes the rank, which is a scale of 1.
        dropout: Share of the inputs of an update that are dropped in training.

    Raises:
        InputError: If an option is out of range.
    """

    def __init__(self, *, rank: int = 8, alpha: float | None = None, dropout: float = 0.0) -> None:
        check_number("rank", rank, "4 to 64 are usual", integer=True, at_least=1)
        check_number("alpha", alpha, "None takes the rank", optional=True, above=0)
        check_number("dropout", dropout, "0 to 0.1 are usual", at_least=0, below=1)
        self.rank, self.alpha, self.dropout = rank, rank if alpha is None else alpha, dropout

    def _insert(self, backbone: nn.Module) -> None:
        peft = import_peft()
        layers = linear_layers(backbone)
        if not layers:
            raise InputError("LoRA needs a backbone with linear layers, such as a vision transformer; use finetune")
        config = peft.LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=layers, bias="none"
        )
        peft.inject_adapter_in_model(config, backbone)

    @torch.no_grad()
    def merge(self, backbone: nn.Module) -> bool:
        """Merge the updates into the weights, in place.

        Args:
            backbone: Backbone with the adapter.

        Returns:
            True.
        """
        import_peft()
        from peft.tuners.lora import LoraLayer

        for name, module in list(backbone.named_modules()):
            if isinstance(module, LoraLayer):
                layer: Any = module
                layer.merge()
                _replace(backbone, name, layer.get_base_layer())
        return True


def linear_layers(backbone: nn.Module) -> list[str]:
    """Return the names of the linear layers, apart from those of `nn.MultiheadAttention`, which reads their weights.

    Example:
        >>> linear_layers(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 4)))
        ['1']
    """
    skipped = [name for name, module in backbone.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and not any(name.startswith(f"{each}.") for each in skipped)
    ]


def _is_mlp(name: str, module: nn.Module) -> bool:
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    is_last = name.rpartition(".")[2] == "mlp"
    return is_last and len(linear) >= 2 and linear[0].in_features == linear[-1].out_features


def _replace(backbone: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(backbone.get_submodule(parent), attribute, module)
