"""The model that every stage takes and returns: pixel normalization, backbone and head.

Shapes: B = batch, D = embedding dimension, C = classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

import longtail.models as models
from longtail import _random as randomness
from longtail.component import Component
from longtail.errors import InputError, unknown_name
from longtail.models import adapters
from longtail.models.base import Backbone, as_backbone
from longtail.models.preprocessing import Channels
from longtail.models.sources import build_backbone, rebuild_backbone

STATISTICS: dict[str, tuple[Channels, Channels]] = {  # mean and standard deviation of the color channels, in [0, 1]
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
LINEAR = Component("LinearHead")


class ModelSpec(Protocol):
    """Options of a model; `longtail.config.schema.ModelConfig` has them."""

    @property
    def backbone(self) -> Component:
        """Name and options of the backbone, or the name of a torchvision network."""

    @property
    def head(self) -> Component:
        """Name and options of the head."""

    @property
    def pretrained(self) -> bool:
        """Whether to load pretrained weights of the backbone."""

    @property
    def weights(self) -> str | None:
        """File with weights of the backbone, used in place of those that `pretrained` selects."""

    @property
    def normalize(self) -> Literal["data", "cifar10", "imagenet"]:
        """Statistics for pixel normalization: of the training data, or one of `STATISTICS`."""


class ClassifiedImages(Protocol):
    """Properties of a data set that a model depends on; `longtail.data.dataset.Dataset` has them."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the C classes."""

    @property
    def mean(self) -> Channels:
        """Mean of each color channel over the training images, in [0, 1]."""

    @property
    def std(self) -> Channels:
        """Standard deviation of each color channel over the training images, in [0, 1]."""


class Classifier(nn.Module):
    """Pixel normalization, a backbone and a head: uint8 images (B, 3, H, W) -> logits (B, C).

    The statistics of the pixels are buffers, so that a checkpoint contains everything needed for prediction.

    Args:
        backbone: A `Backbone`, or a module with an attribute `embedding_dim`.
        head: A module (B, D) -> (B, C).
        mean: Mean of each color channel, in [0, 1].
        std: Standard deviation of each color channel, in [0, 1].
        head_component: Name and options of the head, from which `load_saved` rebuilds it.

    Raises:
        InputError: If the backbone has no valid `embedding_dim`.

    Example:
        >>> from longtail.models import LinearHead, small_net
        >>> model = Classifier(small_net(), LinearHead(64, 10))
        >>> model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([2, 10])
    """

    backbone: Backbone
    scale_C11: Tensor
    shift_C11: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Channels = (0.5, 0.5, 0.5),
        std: Channels = (0.25, 0.25, 0.25),
        head_component: Component = LINEAR,
    ) -> None:
        super().__init__()
        self.backbone = as_backbone(backbone)
        self.head = head
        self.head_component = head_component
        self.adapter_component: Component | None = None
        std_C11 = torch.tensor(std).view(3, 1, 1)
        self.register_buffer("scale_C11", 1 / (255 * std_C11))
        self.register_buffer("shift_C11", -torch.tensor(mean).view(3, 1, 1) / std_C11)

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Compute the embeddings (B, D).

        Args:
            images_BCHW: Images with values in [0, 255], uint8 or float, shape (B, 3, H, W). If the backbone does not
                take images: embeddings, shape (B, D).
        """
        if self.backbone.takes_images:
            images_BCHW = self.normalized(images_BCHW)
        embeddings: Tensor = self.backbone(images_BCHW)
        return embeddings

    def normalized(self, images_BCHW: Tensor) -> Tensor:
        """Return images (B, 3, H, W) with values in [0, 255] normalized by the statistics of the pixels."""
        if images_BCHW.is_floating_point():
            return images_BCHW * self.scale_C11 + self.shift_C11
        # in place, on a copy that nobody else has: equal bits in a third of the time for large images
        return images_BCHW.to(self.scale_C11.dtype).mul_(self.scale_C11).add_(self.shift_C11)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the logits (B, C) of the same input as `embed`."""
        logits: Tensor = self.head(self.embed(images_BCHW))
        return logits

    def replace_head(self, component: Component, head: nn.Module) -> None:
        """Replace the head, keeping the device.

        Args:
            component: Name and options from which `head` can be rebuilt.
            head: A module (B, D) -> (B, C).
        """
        self.head = head.to(self.scale_C11.device)
        self.head_component = component

    def insert_adapter(self, component: Component, *seed: int | str) -> None:
        """Insert an adapter into the backbone, freeze all its other parameters, and keep the device.

        Args:
            component: Name and options of the adapter.
            *seed: Seed of the initialization, any number of parts; the global random state does not change.

        Raises:
            InputError: If the backbone has no layers for the adapter.
        """
        if self.adapter_component is not None:
            raise InputError(
                f"the backbone has an adapter already ({self.adapter_component.name}); keep the `adapter` of one stage"
            )
        device = self.scale_C11.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.key("initialise", "adapter", *seed))  # codespell:ignore
            component.build(adapters).insert(self.backbone.cpu())
        self.backbone.to(device)
        self.adapter_component = component

    def finish_adapter(self) -> None:
        """Merge an adapter into the weights where that is possible, and let all parameters learn again."""
        if self.adapter_component is not None and self.adapter_component.build(adapters).merge(self.backbone):
            self.adapter_component = None
        self.backbone.requires_grad_(True)

    def structure(self) -> dict[str, Any]:
        """Return the plain values from which `load_saved` and `restore_classifier` rebuild the model."""
        adapter, architecture = self.adapter_component, self.backbone.architecture
        return {
            "head": self.head_component.to_mapping(),
            **({} if adapter is None else {"adapter": adapter.to_mapping()}),
            **({} if architecture is None else {"architecture": dict(architecture)}),
        }

    def load_saved(self, saved: Mapping[str, Any], num_classes: int) -> None:
        """Load the head and the weights of a checkpoint.

        Args:
            saved: Checkpoint with the keys "model" (a state dict) and optionally "head" (name and options of the head;
                by default the present head) and "adapter" (name and options of an adapter of the backbone).
            num_classes: Number of classes C.
        """
        component = Component.parse(saved.get("head", self.head_component))
        self.replace_head(component, build_head(component, self, num_classes))
        if "adapter" in saved and self.adapter_component is None:
            self.insert_adapter(Component.parse(saved["adapter"]))
        self.load_state_dict(saved["model"])


def build_classifier(spec: ModelSpec, data: ClassifiedImages, seed: int) -> Classifier:
    """Build a newly initialized model for a data set; equal seeds give equal weights.

    Args:
        spec: Backbone, head, pretrained weights and pixel statistics.
        data: Data set with class names and pixel statistics.
        seed: Seed of the initialization; the global random state does not change.

    Raises:
        InputError: For an unknown backbone, head or option, or if pretrained weights cannot be loaded.
    """
    mean, std = (data.mean, data.std) if spec.normalize == "data" else STATISTICS[spec.normalize]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("initialise", seed))  # codespell:ignore
        backbone = build_backbone(spec.backbone, pretrained=spec.pretrained, weights=spec.weights)
        if backbone.preprocessing is not None:  # the weights were trained with these statistics
            mean, std = backbone.preprocessing.mean, backbone.preprocessing.std
        return _assemble(spec, backbone, len(data.class_names), mean, std)


def restore_classifier(spec: ModelSpec, num_classes: int, saved: Mapping[str, Any]) -> Classifier:
    """Build a trained model from its checkpoint, in evaluation mode.

    The checkpoint determines the head and the pixel statistics; pretrained weights are not loaded.

    Args:
        spec: Backbone, and head if the checkpoint has none.
        num_classes: Number of classes C.
        saved: Checkpoint, see `Classifier.load_saved`.
    """
    backbone = rebuild_backbone(spec.backbone, saved.get("architecture"))
    model = _assemble(spec, backbone, num_classes, *STATISTICS["imagenet"])
    model.load_saved(saved, num_classes)
    return model.eval()


def build_head(component: Component, model: Classifier, num_classes: int) -> nn.Module:
    """Build a head for the backbone of a model, from the global random state.

    Args:
        component: Name and options of the head.
        model: Model whose embedding dimension the head takes.
        num_classes: Number of classes C.

    Raises:
        InputError: For an unknown head or option, listing the nearest names.
    """
    return _build_head(component, model.backbone.embedding_dim, num_classes)


def fresh_head(component: Component, model: Classifier, num_classes: int, *seed: int | str) -> nn.Module:
    """Build a newly initialized head; equal seeds give equal weights.

    Args:
        component: Name and options of the head.
        model: Model whose embedding dimension the head takes.
        num_classes: Number of classes C.
        *seed: Seed of the initialization, any number of parts; the global random state does not change.

    Raises:
        InputError: For an unknown head or option, listing the nearest names.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("initialise", *seed))  # codespell:ignore
        return build_head(component, model, num_classes)


def head_class(component: Component) -> Any:
    """Return the class of a head after checking its name and the names of its options.

    Args:
        component: Name and options of the head.

    Raises:
        InputError: For an unknown head or option, listing the nearest names.

    Example:
        >>> head_class(Component("LinearHead")).__name__
        'LinearHead'
    """
    if "." not in component.name and component.name not in models.HEADS:
        raise unknown_name("head", component.name, models.HEADS)
    return component.check(models)


def describe_backbone(spec: ModelSpec, model: Classifier) -> dict[str, Any]:
    """Return name, number of parameters (head included), width and pretraining of a model, for its result file.

    Args:
        spec: Options of the model.
        model: The model.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    stated, weights = model.backbone.preprocessing, model.backbone.weights
    return {
        "name": spec.backbone.name,
        "parameters": parameters,
        "width": model.backbone.width,
        "pretrained": spec.pretrained,
        **({} if weights is None else {"weights": weights}),
        **({} if stated is None else {"preprocessing": asdict(stated)}),
    }


def _assemble(spec: ModelSpec, backbone: Backbone, num_classes: int, mean: Channels, std: Channels) -> Classifier:
    head = _build_head(spec.head, backbone.embedding_dim, num_classes)
    return Classifier(backbone, head, mean, std, spec.head)


def _build_head(component: Component, embedding_dim: int, num_classes: int) -> nn.Module:
    head: nn.Module = head_class(component)(embedding_dim, num_classes, **component.options)
    return head
