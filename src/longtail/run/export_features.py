"""Write the features of a data set: embeddings by a run or a backbone, logits and labels."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from longtail import _random as randomness
from longtail import models
from longtail.augment.policies import policy
from longtail.component import Component
from longtail.config.convert import from_mapping, to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.data.dataset import Dataset
from longtail.data.formats.features import write_features
from longtail.data.load import load_data, refuse_unused
from longtail.errors import InputError, unknown_name
from longtail.models.base import Backbone
from longtail.models.classifier import STATISTICS, Classifier
from longtail.models.pretrained import torchvision_names
from longtail.models.sources import build_backbone, library_of
from longtail.ranges import check_ranges, ranged
from longtail.run.resolve import data_config
from longtail.run.run import Run
from longtail.training.checkpoint import CheckpointStore
from longtail.training.features import fingerprint
from longtail.training.predict import feature_blocks, feature_rows, views_of
from longtail.version import __version__

logger = logging.getLogger("longtail")
PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Content and format of a file of features.

    Args:
        output: File to write. Its suffix must be that of the format.
        kind: Format of the file.
        dtype: Type of embeddings and logits.
        parts: Splits to write: "train", "val", "test". None: all that the data set has.
        augment: Number of augmented views of each training image, in addition to the plain one.
        policy: Augmentation of these views. None: that of the run.
        seed: Seed of the augmentation and of an untrained backbone. None: 0.

    Raises:
        InputError: If a number is out of range, a split or augmentation is unknown, `policy` has no effect, or the
            suffix does not match the format.
    """

    output: Path
    kind: Literal["npz", "safetensors", "parquet"] = "npz"
    dtype: Literal["float32", "float16"] = "float32"
    parts: tuple[str, ...] | None = None
    augment: int = ranged(0, at_least=0)
    policy: str | None = None
    seed: int | None = ranged(None, at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        for part in self.parts or ():
            if part not in PARTS:
                raise unknown_name("split", part, PARTS)
        if self.output.suffix.lower() != f".{self.kind}":
            raise InputError(f"`output` must end in .{self.kind}, the suffix of its format, got {self.output}")
        if self.policy is not None:
            policy(self.policy)
            if not self.augment:
                raise InputError(f"`policy` {self.policy} has no effect without augmented views; set `augment`")


@dataclass(frozen=True)
class Source:
    """A network and the data set that it embeds.

    Args:
        model: Network in evaluation mode, on its device.
        data: Data set.
        policy: Augmentation that the network was trained with. None for a backbone.
        with_logits: Whether the network has a head for the classes of the data set.
        about: Provenance, which the file records.
    """

    model: Classifier
    data: Dataset
    policy: str | None
    with_logits: bool
    about: dict[str, Any]


def export_features(
    target: str,
    data: str | None,
    options: ExportOptions,
    *,
    changes: Mapping[str, Any],
    pretrained: bool | None,
    device: torch.device,
    command: str,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Write embeddings, logits if there is a head for the classes, and labels to one file.

    Args:
        target: Folder of a finished run, or name of a backbone.
        data: Name or path of the data set. None: that of the run, or digits-lt.
        options: Content and format of the file.
        changes: Fields of `DataConfig` to replace.
        pretrained: Whether a backbone has ImageNet weights. None: True. A run has its own weights.
        device: Device of the computation.
        command: Command line or call, which the file records.
        on_progress: Called with the rows done and the number of rows after each batch.

    Returns:
        Number of rows and embedding dimension.

    Raises:
        InputError: If the run, backbone or data set cannot be read, or an option does not apply to it.
    """
    is_run, seed = (Path(target) / "config.yaml").exists(), options.seed or 0
    if options.seed is not None and not options.augment and (is_run or pretrained is not False):
        raise InputError(f"`seed` {seed} has no effect without augmented views; set `augment`, or leave it out")
    if is_run:
        if pretrained is not None:
            raise InputError(f"`pretrained` does not apply to {target}: a run has its own weights; leave it out")
        source = _from_run(Path(target), data, changes, device)
    else:
        wanted = data_config(data or "digits-lt", changes)
        source = _from_backbone(target, wanted, pretrained is not False, seed, device)
    _check_size(source, target)
    parts = options.parts or tuple(part for part in PARTS if part != "val" or source.data.val is not None)
    views = views_of(source.data, parts, options.augment)
    name = _augmentation(source, options)
    about = {**source.about, **_describe(source.data), "command": command, "made_by": f"longtail {__version__}"}
    if options.augment:
        about["augment"] = {"policy": name, "views": options.augment, "seed": seed}
    rows = feature_rows(source.data, views, about)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, len(rows))

    blocks = feature_blocks(
        source.model,
        source.data,
        views,
        policy(name).to(device),
        seed,
        with_logits=source.with_logits,
        on_batch=advance,
    )
    write_features(options.output, rows, blocks, kind=options.kind, dtype=options.dtype)
    dimensions: Any = source.model.backbone.embedding_dim
    return len(rows), dimensions


def _from_run(folder: Path, data: str | None, changes: Mapping[str, Any], device: torch.device) -> Source:
    """Return a finished run with its own data set, or with another one at the image size of the run."""
    run = Run(folder)
    trained = run.trained(device)
    if data is None:
        wanted: DataConfig = from_mapping(DataConfig, {**to_mapping(run.config.data), **changes}, "data")
        refuse_unused(wanted, changes)
    else:
        size = changes.get("image_size", trained.image_size)
        resize = changes.get("resize", trained.resize)
        wanted = replace(data_config(data, changes), image_size=size, resize=resize)
    loaded = load_data(wanted, device)
    same_classes = trained.class_names == loaded.class_names
    if not same_classes:
        logger.info("note: no logits are written, because the classes of the data set are not those of the run")
    checkpoint = CheckpointStore(folder / "checkpoint").last
    about = {
        "run": str(folder),
        "method": run.config.method,
        "backbone": run.config.model.backbone.name,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    return Source(trained.model, loaded, _policy_of(run.config), same_classes, about)


def _policy_of(config: Config) -> str:
    """Return the augmentation of the first stage, which trained the backbone."""
    training = config.stages[0].training_settings()
    return "none" if training is None else training.augment


def _from_backbone(name: str, wanted: DataConfig, pretrained: bool, seed: int, device: torch.device) -> Source:
    """Return a backbone without a head. An untrained one is initialized as in a run with this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("initialise", seed))  # part of the key: codespell:ignore initialise
        backbone = _backbone(name, pretrained)
    if wanted.image_size is None and backbone.preprocessing is not None:
        wanted = replace(wanted, image_size=backbone.preprocessing.image_size)
    loaded = load_data(wanted, device)
    mean, std = STATISTICS["imagenet"] if pretrained else (loaded.mean, loaded.std)
    if backbone.preprocessing is not None:
        mean, std = backbone.preprocessing.mean, backbone.preprocessing.std
    model = Classifier(backbone, nn.Identity(), mean, std).to(device).eval()
    about = {"backbone": name, "pretrained": pretrained, "weights_sha256": fingerprint(backbone)}
    return Source(model, loaded, None, False, about)


def _backbone(name: str, pretrained: bool) -> Backbone:
    library = library_of(name)
    if library == "own" and pretrained and name.islower():
        raise InputError(f"{name} has no pretrained weights; set `pretrained` to false, or use resnet50")
    if library in ("torchvision", "timm", "transformers") or (library == "own" and name.islower()):
        return build_backbone(Component(name), pretrained=pretrained)
    if Path(name).exists():
        raise InputError(f"{name} holds no run (no config.yaml); give the folder that `longtail train` wrote")
    own = [each for each in models.BACKBONES if each.islower()]
    raise unknown_name("run or backbone", name, [*own, *torchvision_names()])


@torch.inference_mode()
def _check_size(source: Source, name: str) -> None:
    """Embed a blank image: some networks accept images of one size only."""
    size, device = source.data.test.images.size, source.model.scale_C11.device
    try:
        source.model.embed(torch.zeros(1, 3, size, size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{name} does not accept images of {size} pixels ({reason}); set `image_size` to 224, for example"
        ) from error


def _augmentation(source: Source, options: ExportOptions) -> str:
    """Return the augmentation of the views; "none" if only plain views are written."""
    if not options.augment:
        return "none"
    name = options.policy or source.policy
    if name is None:
        raise InputError("a backbone has no augmentation of its own; set `policy` to crop-flip or imagenet")
    if not policy(name).num_uniforms:
        raise InputError(f"`policy` must change the images, got {name!r}")
    return name


def _describe(data: Dataset) -> dict[str, Any]:
    """Return the description of the data set that the file records."""
    return {
        "data": data.name.rstrip("/").rpartition("/")[2],
        "split": to_mapping(data.split),
        "imbalance_factor": data.imbalance_factor,
        "image_size": data.test.images.size,
        "val_from_train": data.val_from_train,
        **({} if data.resize == "crop" else {"resize": data.resize}),
    }
