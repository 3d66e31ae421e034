"""Backbones by name: of this package, torchvision, timm or transformers, or a module of the user.

| name | network |
|---|---|
| `resnet32`, `small_net`, ... | of this package |
| `resnet50`, `vit_b_16`, ... | of torchvision |
| `timm/NAME`, or `NAME` if only timm has it | of timm, also with the tag of its weights |
| `hf-hub:ORG/NAME`, `local-dir:FOLDER` | of timm, from the hub or a folder |
| `hf/ORG/NAME`, `hf/FOLDER` | of transformers, from the hub or a folder |
| `package.module.Class` | a module of the user with an attribute `embedding_dim` |
"""

import hashlib
import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

import longtail.models as models
from longtail.component import Component, find_class
from longtail.errors import InputError, unknown_name
from longtail.models.base import Backbone, as_backbone
from longtail.models.hub import import_timm
from longtail.models.preprocessing import Preprocessing
from longtail.models.pretrained import (
    PREFIX,
    SOURCES,
    TimmBackbone,
    TorchvisionBackbone,
    timm_preprocessing,
    torchvision_names,
)
from longtail.models.transformers_backbone import PREFIX as HF
from longtail.models.transformers_backbone import TransformersBackbone, preprocessing_of
from longtail.models.weights import load_weights, read_weights

logger = logging.getLogger("longtail")

TRANSFORMERS = ("vit", "deit", "dino", "clip", "siglip", "eva", "beit", "swin", "cait", "xcit", "hiera")
"""Parts of the names of vision transformers."""


def library_of(name: str) -> str:
    """Return the source of a backbone: "own", "torchvision", "timm", "transformers", "module", or "" if unknown.

    Args:
        name: Name of the backbone.

    Example:
        >>> library_of("resnet50"), library_of("timm/resnet50.a1_in1k"), library_of("hf/facebook/dinov2-small")
        ('torchvision', 'timm', 'transformers')
    """
    if name.startswith(HF):
        return "transformers"
    if name.startswith((PREFIX, *SOURCES)):
        return "timm"
    if name in models.BACKBONES:
        return "own"
    if name in torchvision_names():
        return "torchvision"
    if "." in name and _is_importable(name):
        return "module"
    return "timm" if _timm_has(name) else "module" if "." in name else ""


def absolute_source(name: str) -> str:
    """Return the name of a backbone with the absolute path of its folder, if it names a folder.

    Example:
        >>> absolute_source("hf/facebook/dinov2-small"), absolute_source("local-dir:/net")
        ('hf/facebook/dinov2-small', 'local-dir:/net')
    """
    for prefix in ("local-dir:", HF):
        path = Path(name.removeprefix(prefix)).expanduser()
        if name.startswith(prefix) and path.is_dir():
            return f"{prefix}{path.resolve()}"
    return name


def is_transformer(name: str) -> bool:
    """Return whether the name of a backbone is that of a vision transformer, which needs lower learning rates.

    Example:
        >>> is_transformer("timm/vit_small_patch16_224"), is_transformer("resnet50")
        (True, False)
    """
    return any(part in name.lower() for part in TRANSFORMERS)


def has_pretrained_weights(name: str) -> bool:
    """Return whether a library offers pretrained weights for a name. They may have to be downloaded."""
    return library_of(name) in ("torchvision", "timm", "transformers")


def stated_preprocessing(name: str) -> Preprocessing | None:
    """Return the preparation of images stated with the pretrained weights of a backbone, without building it.

    Args:
        name: Name of the backbone.

    Raises:
        InputError: If the library is not installed, or the configuration cannot be read.
    """
    library = library_of(name)
    if library == "timm":
        return timm_preprocessing(name.removeprefix(PREFIX))
    return preprocessing_of(name.removeprefix(HF)) if library == "transformers" else None


def build_backbone(component: Component, *, pretrained: bool, weights: str | None = None) -> Backbone:
    """Build a backbone by its name.

    Args:
        component: Name and options.
        pretrained: Load the weights that the library offers.
        weights: File with weights, which replaces `pretrained`.

    Raises:
        InputError: For an unknown name or option, or if the weights cannot be loaded.
    """
    backbone = as_backbone(_build(component, pretrained and weights is None))
    if weights is not None:
        _load_file(backbone, component.name, Path(weights).expanduser())
    return backbone


def rebuild_backbone(component: Component, architecture: Mapping[str, Any] | None) -> Backbone:
    """Build the backbone of a checkpoint. Its source is not needed, and its weights are random.

    Args:
        component: Name and options of the configuration.
        architecture: `Backbone.architecture` of the trained backbone. None builds by the name.
    """
    library = (architecture or {}).get("library")
    if architecture is not None and library == "timm":
        return TimmBackbone(architecture=architecture["name"], options=architecture["options"])
    if architecture is not None and library == "transformers":
        return TransformersBackbone(source=architecture["source"], architecture=architecture)
    return as_backbone(_build(component, pretrained=False))


def _build(component: Component, pretrained: bool) -> nn.Module:
    name, library = component.name, library_of(component.name)
    if library in ("own", "module"):
        if pretrained:
            raise InputError(
                f"there are no pretrained weights of {name}; set `pretrained` to false, give a file with `weights`, or "
                "use resnet50"
            )
        find_class(name, models)
        backbone: nn.Module = component.build(models)
        return backbone
    if library == "torchvision":
        _refuse_options(component, ())
        return TorchvisionBackbone(name, pretrained=pretrained)
    if library == "timm":
        _refuse_options(component, ("options",))
        return TimmBackbone(architecture=name.removeprefix(PREFIX), pretrained=pretrained, **component.options)
    if library == "transformers":
        _refuse_options(component, ())
        return TransformersBackbone(source=name.removeprefix(HF), pretrained=pretrained)
    raise unknown_name("backbone", name, [*models.BACKBONES, *torchvision_names()])


def _refuse_options(component: Component, known: tuple[str, ...]) -> None:
    for option in component.options:
        if option not in known:
            raise InputError(
                f"the backbone {component.name} has no option {option!r}; "
                + (f"it has: {', '.join(known)}" if known else "remove it")
            )


def _load_file(backbone: Backbone, name: str, file: Path) -> None:
    loaded = load_weights(backbone, read_weights(file), file)
    logger.info(
        "weights: %d tensors of %s by %s%s",
        loaded.matched,
        file.name,
        loaded.how,
        f"; left out: {', '.join(loaded.left_out[:10])}" if loaded.left_out else "",
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    backbone.weights = f"{file.name}, sha256 {digest[:16]}"
    if library_of(name) == "timm":
        backbone.preprocessing = timm_preprocessing(name.removeprefix(PREFIX))


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _timm_has(name: str) -> bool:
    """Return whether timm is installed and has a network of this name."""
    return importlib.util.find_spec("timm") is not None and bool(import_timm().is_model(name))
