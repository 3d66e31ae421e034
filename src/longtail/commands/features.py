"""What `features` does, once its arguments are read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from longtail import _random as randomness
from longtail import models
from longtail._logging import console, progress_bar
from longtail.augment.policies import policy
from longtail.commands.data import data_config
from longtail.commands.output import out, refuse_unwritable
from longtail.config.convert import from_mapping, to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.data.dataset import Dataset
from longtail.data.formats.features import write_features
from longtail.data.load import load_data
from longtail.errors import InputError, unknown_name
from longtail.models.backbones import TorchvisionBackbone, torchvision_names
from longtail.models.classifier import STATISTICS, Classifier
from longtail.models.timm_backbone import PREFIX, TimmBackbone
from longtail.run.fit import choose_device
from longtail.run.folder import load_config
from longtail.run.run import Run
from longtail.training.checkpoint import CheckpointStore
from longtail.training.predict import feature_blocks, feature_rows, views_of
from longtail.training.features import fingerprint
from longtail.version import __version__

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Wish:
    """What is to be written.

    Args:
        parts: of "train", "val" and "test"; None writes all that the data have.
        augment: augmented views of each training image.
        policy: of augmentation; None takes the run's.
        seed: of augmentation, and of an untrained backbone.
        output: the file.
        kind: of file.
        dtype: of embeddings and logits.
    """

    parts: tuple[str, ...] | None
    augment: int
    policy: str | None
    seed: int
    output: Path
    kind: Literal["npz", "parquet"]
    dtype: Literal["float32", "float16"]

    def __post_init__(self) -> None:
        for part in self.parts or ():
            if part not in PARTS:
                raise unknown_name("part", part, PARTS)
        if self.output.suffix.lower() != f".{self.kind}":
            raise InputError(f"a file of --format {self.kind} ends in .{self.kind}, which {self.output} does not")
        if self.policy is not None:
            policy(self.policy)


@dataclass(frozen=True)
class Source:
    """A net with the data it is to embed.

    Args:
        model: in evaluation mode, on its device.
        data: what it embeds.
        policy: of augmentation that the net was trained with; None of a backbone.
        with_logits: whether its head is one for these classes.
        about: where it comes from.
    """

    model: Classifier
    data: Dataset
    policy: str | None
    with_logits: bool
    about: dict[str, Any]


def features(
    *,
    target: str,
    data: str | None,
    changes: Mapping[str, Any],
    pretrained: bool | None,
    wish: Wish,
    device: str,
    command: str,
) -> None:
    """Write embeddings, logits where there is a head for the classes, and labels to one file."""
    refuse_unwritable(wish.output)
    where = choose_device(device)
    if (Path(target) / "config.yaml").exists():
        if pretrained is not None:
            raise InputError(f"{target} is a run, which has its own weights; leave --pretrained out")
        source = _of_run(Path(target), data, changes, where)
    else:
        source = _of_backbone(target, data_config(data, changes), pretrained is not False, wish.seed, where)
    _refuse_size(source, target)
    parts = wish.parts or tuple(part for part in PARTS if part != "val" or source.data.val is not None)
    views = views_of(source.data, parts, wish.augment)
    name = _policy(source, wish)
    about = {**source.about, **_about(source.data), "command": command, "made_by": f"longtail {__version__}"}
    if wish.augment:
        about["augment"] = {"policy": name, "views": wish.augment, "seed": wish.seed}
    rows = feature_rows(source.data, views, about)
    with progress_bar("embedding", len(rows)) as bar:
        blocks = feature_blocks(
            source.model,
            source.data,
            views,
            policy(name).to(where),
            wish.seed,
            with_logits=source.with_logits,
            on_batch=bar.advance,
        )
        write_features(wish.output, rows, blocks, kind=wish.kind, dtype=wish.dtype)
    width: Any = source.model.backbone.embedding_dim
    out.print(f"{len(rows):,} rows of {width:,} features -> {wish.output}")


def _of_run(folder: Path, data: str | None, changes: Mapping[str, Any], device: torch.device) -> Source:
    """A finished run with its own data set, or with another one, seen at the size that it was trained on."""
    config, trained = load_config(folder), Run(folder).trained(device)
    if data is None:
        wanted: DataConfig = from_mapping(DataConfig, {**to_mapping(config.data), **changes}, "data")
    else:
        wanted = replace(data_config(data, changes), image_size=changes.get("image_size", trained.image_size))
    loaded = load_data(wanted, device)
    checkpoint = CheckpointStore(folder / "checkpoint").last
    knows_classes = trained.class_names == loaded.class_names
    if not knows_classes:
        console.print("note: without logits, as the classes of the data are not those of the run")
    about = {
        "run": str(folder),
        "method": config.method,
        "backbone": config.model.backbone.name,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    return Source(trained.model, loaded, _policy_of(config), knows_classes, about)


def _policy_of(config: Config) -> str:
    """The augmentation of the first stage, in which the backbone has learnt."""
    training = config.stages[0].training_settings()
    return "none" if training is None else training.augment


def _of_backbone(name: str, wanted: DataConfig, pretrained: bool, seed: int, device: torch.device) -> Source:
    """A net by name, without a head; an untrained one is initialised as in a run of that seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("initialise", seed))
        backbone = _backbone(name, pretrained)
    loaded = load_data(wanted, device)
    mean, std = STATISTICS["imagenet"] if pretrained else (loaded.mean, loaded.std)
    if isinstance(backbone, TimmBackbone):
        mean, std = backbone.mean, backbone.std
    model = Classifier(backbone, nn.Identity(), mean, std).to(device).eval()
    about = {"backbone": name, "pretrained": pretrained, "weights_sha256": fingerprint(backbone)}
    return Source(model, loaded, None, False, about)


def _backbone(name: str, pretrained: bool) -> nn.Module:
    if name.startswith(PREFIX):
        return TimmBackbone(architecture=name.removeprefix(PREFIX), pretrained=pretrained)
    if name in torchvision_names():
        return TorchvisionBackbone(name, pretrained=pretrained)
    own = [each for each in models.BACKBONES if each.islower()]
    if name in own:
        if pretrained:
            raise InputError(f"there are no pretrained weights of {name}; say --pretrained false, or take resnet50")
        backbone: nn.Module = getattr(models, name)()
        return backbone
    if Path(name).exists():
        raise InputError(f"{name} holds no run (no config.yaml); give the folder that `longtail train` wrote")
    raise unknown_name("run or backbone", name, [*own, *torchvision_names()])


@torch.inference_mode()
def _refuse_size(source: Source, name: str) -> None:
    """Show the net a blank image before the work, as some take only images of one size."""
    size, device = source.data.test.images.size, source.model.scale_C11.device
    try:
        source.model.embed(torch.zeros(1, 3, size, size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{name} can not take images of {size} pixels ({reason}); give another --image-size (224, say)"
        ) from error


def _policy(source: Source, wish: Wish) -> str:
    """The augmentation of the views; "none" where there are none."""
    if not wish.augment:
        return "none"
    name = wish.policy or source.policy
    if name is None:
        raise InputError("a backbone does not say how to augment; choose: --policy crop-flip, or --policy imagenet")
    if not policy(name).num_uniforms:
        raise InputError(f"the augmentation {name!r} leaves images as they are; choose another --policy")
    return name


def _about(data: Dataset) -> dict[str, Any]:
    """What the features are of, for whoever reads them."""
    return {
        "data": data.name.rstrip("/").rpartition("/")[2],
        "split": to_mapping(data.split),
        "imbalance_factor": data.imbalance_factor,
        "image_size": data.test.images.size,
        "val_from_train": data.val_from_train,
    }
