"""The interface of a backbone, and its submodules by name.

Shapes: B = batch, D = embedding dimension, C = channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from longtail.errors import InputError, first_line, unknown_name
from longtail.models.preprocessing import Preprocessing


class Backbone(nn.Module, ABC):
    """A network from images to embeddings: (B, 3, H, W) -> (B, D).

    Subclasses set `embedding_dim` and `width` in `__init__` and implement `forward`.

    Attributes:
        embedding_dim: Embedding dimension D.
        width: Size by which results compare networks of the same name, e.g. the channels of the first stage.
        last_stage: Dotted name of the submodule that returns the last feature maps, (B, C, H, W). None if there is
            no such submodule; feature transfer then needs an explicit name.
        takes_images: Whether the input is an image, whose pixels `Classifier` normalizes. False for embeddings.
        preprocessing: Preparation of images that pretrained weights expect. `Classifier` uses its statistics. None if
            the weights are random or state nothing.
        weights: Source of the pretrained weights, for results. None for random weights.
        architecture: Plain values that rebuild the network for a checkpoint where its source cannot be read. None if
            the name of the backbone is enough.

    Example:
        >>> class Average(Backbone):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.embedding_dim = self.width = 3
        ...
        ...     def forward(self, images_BCHW: Tensor) -> Tensor:
        ...         return images_BCHW.mean(dim=(2, 3))
        >>> Average()(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3])
    """

    embedding_dim: int
    width: int
    last_stage: str | None = None
    takes_images: ClassVar[bool] = True
    preprocessing: Preprocessing | None = None
    weights: str | None = None
    architecture: Mapping[str, Any] | None = None

    @abstractmethod
    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the embeddings of a batch, shape (B, D)."""


OPTIONAL = ("last_stage", "takes_images", "preprocessing", "weights", "architecture")
"""Attributes of a backbone that a plain module may lack."""


def as_backbone(module: nn.Module) -> Backbone:
    """Check a backbone before it is used, and add the optional attributes that a plain module lacks.

    The module itself is returned, so the names of its parameters in a checkpoint do not change.

    Args:
        module: A `Backbone`, or any module with an attribute `embedding_dim`. Missing attributes are set to the
            defaults of `Backbone`, and a missing `width` to `embedding_dim`.

    Raises:
        InputError: If `embedding_dim` is missing or not an integer >= 1.

    Example:
        >>> own = nn.Sequential(nn.Flatten(), nn.Linear(192, 16))
        >>> own.embedding_dim = 16
        >>> as_backbone(own).width
        16
    """
    name = type(module).__name__
    if not hasattr(module, "embedding_dim"):
        raise InputError(
            f"{name} has no attribute `embedding_dim`; set it to the dimension of the embeddings, or derive {name} "
            "from longtail.models.Backbone"
        )
    dim = module.embedding_dim
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        raise InputError(f"`embedding_dim` of {name} must be an integer >= 1, got {dim!r}")
    optional = {name: getattr(Backbone, name) for name in OPTIONAL}
    for attribute, default in {"width": dim, **optional}.items():
        if not hasattr(module, attribute):
            setattr(module, attribute, default)
    return cast("Backbone", module)


@torch.no_grad()
def check_output(backbone: Backbone, image_size: int) -> None:
    """Check that a backbone turns images into embeddings, by a forward pass of two gray images.

    Args:
        backbone: The backbone. Its weights, statistics and mode do not change.
        image_size: Side of the square images, in pixels.

    Raises:
        InputError: If the forward pass fails, or the output is not a finite tensor of shape (2, D).

    Example:
        >>> from longtail.models import small_net
        >>> check_output(small_net(), 8)
    """
    name, was_training = type(backbone).__name__, backbone.training
    first = next(backbone.parameters(), torch.empty(0))
    try:
        with torch.random.fork_rng(devices=[]):
            output: Any = backbone.eval()(torch.zeros(2, 3, image_size, image_size, device=first.device))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"the backbone {name} does not accept images of {image_size} pixels ({first_line(error)}); "
            "set `image_size` to a size that it accepts, such as 224"
        ) from error
    finally:
        backbone.train(was_training)
    wanted = (2, backbone.embedding_dim)
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != wanted:
        raise InputError(
            f"the backbone {name} must return embeddings of shape (B, D) with D = `embedding_dim` = "
            f"{backbone.embedding_dim}; for two images of {image_size} pixels it returned {found}"
        )
    if not bool(output.isfinite().all()):
        raise InputError(f"the backbone {name} returns NaN or infinite values for a gray image; check its weights")


class FeatureBackbone(Backbone):
    """The identity, for data sets of precomputed embeddings: (B, D) -> (B, D).

    Args:
        embedding_dim: Embedding dimension D.

    Raises:
        InputError: If the input is not of shape (B, D), e.g. an image.

    Example:
        >>> FeatureBackbone(embedding_dim=2)(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    takes_images = False

    def __init__(self, *, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = self.width = embedding_dim

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Return the input, shape (B, D)."""
        if embeddings_BD.ndim != 2 or embeddings_BD.shape[1] != self.embedding_dim:
            raise InputError(
                f"this model was trained on features and takes embeddings of shape (B, {self.embedding_dim}), got "
                f"{tuple(embeddings_BD.shape)}; for images, use the run that computed the features"
            )
        return embeddings_BD


def find_stage(backbone: Backbone, name: str | int | None) -> nn.Module:
    """Return a submodule of a backbone.

    Args:
        backbone: The backbone.
        name: Dotted name as in `backbone.named_modules()`, e.g. "stage2" or "net.layer3". None selects
            `backbone.last_stage`.

    Raises:
        InputError: If there is no submodule of this name, or `name` is None and the backbone has no `last_stage`.

    Example:
        >>> from longtail.models import resnet20
        >>> net = resnet20()
        >>> find_stage(net, None) is net.stage3
        True
    """
    wanted = backbone.last_stage if name is None else str(name)  # YAML reads 2 as a number
    modules = dict(backbone.named_modules())
    outer = [each for each in modules if each and each.count(".") <= 1]
    if wanted is None:
        raise InputError(
            f"{type(backbone).__name__} has no `last_stage`; set `at` to the submodule that returns the feature maps: "
            f"{', '.join(outer[:20])}"
        )
    if wanted not in modules or not wanted:
        raise unknown_name("submodule of the backbone", wanted, outer)
    stage: nn.Module = modules[wanted]
    return stage


@torch.no_grad()
def channels_at(backbone: Backbone, name: str | None, image_size: int) -> int:
    """Return the number of output channels of a submodule, found by a forward pass of a blank image.

    Args:
        backbone: The backbone. Its weights, statistics and mode do not change.
        name: Name of the submodule, see `find_stage`.
        image_size: Side of the square images, in pixels.

    Raises:
        InputError: If there is no submodule of this name, or its output is neither feature maps nor embeddings.

    Example:
        >>> from longtail.models import resnet20
        >>> channels_at(resnet20(), "stage2", 32)
        32
    """
    shapes: list[tuple[int, ...]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module, inputs
        shapes.append(tuple(output.shape))

    was_training, device = backbone.training, next(backbone.parameters()).device
    with find_stage(backbone, name).register_forward_hook(record):
        backbone.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    backbone.train(was_training)
    if len(shapes) != 1 or len(shapes[0]) not in (2, 4):
        raise InputError(
            f"{name or 'the last stage'} returns outputs of shape {shapes or 'none'}; a transfer needs a submodule "
            "that runs once and returns maps (B, C, H, W) or embeddings (B, C)"
        )
    return shapes[0][1]
