"""Parts of a net by their names: where in it a method sits.

Shapes: B = batch, C = channels.
"""

import torch
from torch import Tensor, nn

from longtail.errors import InputError, unknown_name


def find_stage(backbone: nn.Module, name: str | int | None) -> nn.Module:
    """A part of a backbone by its dotted name; None takes the one that makes the last feature maps.

    Args:
        backbone: images -> embeddings.
        name: as in `backbone.named_modules()`, such as "stage2" or "net.layer3".

    Raises:
        InputError: for an unknown name, with those of its outermost parts, or if the last maps are not known.

    Example:
        >>> from longtail.models import resnet20
        >>> net = resnet20()
        >>> find_stage(net, None) is net.stage3
        True
    """
    wanted = getattr(backbone, "last_stage", None) if name is None else str(name)  # YAML reads 2 as a number
    parts = dict(backbone.named_modules())
    outer = [part for part in parts if part and part.count(".") <= 1]
    if wanted is None:
        raise InputError(
            f"{type(backbone).__name__} does not say which part of it makes the last feature maps; say which with "
            f"`at`: {', '.join(outer[:20])}"
        )
    if wanted not in parts or not wanted:
        raise unknown_name("part of the backbone", wanted, outer)
    stage: nn.Module = parts[wanted]
    return stage


@torch.no_grad()
def channels_at(backbone: nn.Module, name: str | None, image_size: int) -> int:
    """Channels of what a part of a backbone gives out, found by passing one blank image through it.

    Args:
        backbone: images -> embeddings; left as it was.
        name: see `find_stage`.
        image_size: side of the square images, in pixels.

    Raises:
        InputError: for an unknown name, or a part whose output has no channels.

    Example:
        >>> from longtail.models import resnet20
        >>> channels_at(resnet20(), "stage2", 32)
        32
    """
    shapes: list[tuple[int, ...]] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        del module, given
        shapes.append(tuple(output.shape))

    trained, device = backbone.training, next(backbone.parameters()).device
    with find_stage(backbone, name).register_forward_hook(note):
        backbone.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    backbone.train(trained)
    if len(shapes) != 1 or len(shapes[0]) not in (2, 4):
        raise InputError(
            f"{name or 'the last stage'} gives {shapes or 'nothing'}; a transfer needs a part that runs once and gives "
            "maps (B, C, H, W) or embeddings (B, C)"
        )
    return shapes[0][1]
