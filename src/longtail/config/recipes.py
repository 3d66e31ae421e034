"""Recipes: short YAML files of data sets, training settings, stages and methods, and how they merge.

A run combines one data set, one training recipe and one method: N + M files, never N x M. The data recipe names its
usual training recipe. The method recipe lists the stages. A stage file holds the defaults of one kind of stage, with
overrides per training recipe. Other packages add recipes through the entry point group `longtail`.
"""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import yaml

from longtail.component import Component
from longtail.config.convert import from_mapping, read_yaml, to_mapping, write_yaml
from longtail.config.schema import Config, DataConfig
from longtail.errors import InputError, near_paths, unknown_name

Kind = Literal["data", "training", "methods", "stages", "plans"]
GROUP = "longtail"
"""Entry point group of plug-ins: each entry point names a package with a folder `recipes`."""
# settings that change what a method is, so that its name no longer applies
CHANGES_METHOD = re.compile(
    r"stages\.\d+\.(name|loss|sampler|mixing|embedding_loss|transfer|head|method|initialize)(\.name)?"
)
OWN_DATA: Mapping[str, Any] = {"resize": "auto", "group": "auto"}
"""Settings of data that are given by path, where the user sets none. The data then decide."""
WORDS = {"data": "data set", "training": "training recipe", "methods": "method", "stages": "stage", "plans": "plan"}


def names(kind: Kind) -> list[str]:
    """Return the names of the recipes of a kind. Recipes for a user's own images (`own-...`) are internal.

    Example:
        >>> "ce" in names("methods")
        True
    """
    return sorted(name for name in _files(kind) if not name.startswith("own-"))


def text(kind: Kind, name: str) -> str:
    """Return the content of a recipe file.

    Raises:
        InputError: If no recipe has this name, with the nearest ones.
    """
    found = _files(kind)
    if name not in found:
        raise unknown_name(WORDS[kind], name, names(kind))
    return found[name].read_text(encoding="utf-8")


def read(kind: Kind, name: str) -> dict[str, Any]:
    """Return a recipe by name.

    Raises:
        InputError: If no recipe has this name, with the nearest ones.

    Example:
        >>> read("methods", "ce")
        {'stages': [{'name': 'Train', 'loss': 'CrossEntropy'}]}
    """
    content: dict[str, Any] = read_yaml(text(kind, name))
    return content


def about(kind: Kind, name: str) -> str:
    """Return the first comment of a recipe, which describes it.

    Example:
        >>> about("methods", "logit-adjusted")
        'the logit-adjusted loss (Menon et al., 2021). CIFAR-100-LT IF 100: 43.9 published'
    """
    return text(kind, name).splitlines()[0].lstrip("# ")


def plugin_readers() -> dict[str, Callable[..., Any]]:
    """Return the data readers of plug-ins: the entries of `DATASETS` in their packages, by the name of the data set."""
    found: dict[str, Callable[..., Any]] = {}
    for package in plugins():
        found |= getattr(importlib.import_module(package), "DATASETS", {})
    return found


@cache
def plugins() -> list[str]:
    """Return the packages that add recipes through the entry point group `longtail`."""
    return sorted({entry.value.partition(":")[0] for entry in entry_points(group=GROUP)})


def compose(data: str, method: str, recipe: str | None = None, changes: Sequence[Mapping[str, Any]] = ()) -> Config:
    """Return the configuration of a run from its recipes.

    Args:
        data: Data recipe.
        method: Method recipe.
        recipe: Training recipe. Default: the usual one of the data recipe.
        changes: Mappings that are merged over the recipes, in order; see `apply`.

    Raises:
        InputError: For an unknown name or setting.

    Example:
        >>> config = compose("cifar100-lt", "balanced-softmax", changes=[{"seed": 1}, {"training": {"epochs": 24}}])
        >>> config.recipe, config.seed, config.stages[0].training.epochs
        ('ldam', 1, 24)
    """
    changes = [check_change(change) for change in changes]
    merged: dict[str, Any] = {"method": method, **read("data", data)}
    asked = next((change["recipe"] for change in reversed(changes) if "recipe" in change), None)
    merged["recipe"] = recipe or asked or merged["recipe"]
    read("training", merged["recipe"])  # refuse a misspelled recipe by name
    method_recipe = read("methods", method)
    merged = merge(merged, {**method_recipe, "stages": _with_defaults(merged["recipe"], method_recipe["stages"])})
    for change in changes:
        merged = _apply(merged, {key: value for key, value in change.items() if key != "recipe"})
    return typed(merged)


def data_config(name: str, changes: Mapping[str, Any]) -> DataConfig:
    """Return the data configuration of a data set, with the settings of its recipe if it has one.

    Args:
        name: Name of a data set, or a path.
        changes: Fields of `DataConfig` to replace.

    Raises:
        InputError: If a field is unknown or of another type.

    Example:
        >>> data_config("digits-lt", {"imbalance_factor": 10}).imbalance_factor
        10.0
    """
    settings = read("data", name)["data"] if name in names("data") else {"name": name, **OWN_DATA}
    config: DataConfig = from_mapping(DataConfig, {**settings, **changes}, "data")
    return config


def apply(merged: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a change over a configuration.

    The key "training" changes every `Train` stage, and so does "loss", which makes the method a custom one. The key
    "set" is a list of (dotted path, value).

    Raises:
        InputError: If a dotted path leads nowhere.

    Example:
        >>> apply({"stages": [{"name": "Train"}]}, {"training": {"epochs": 3}, "set": [("stages.0.deep", 1)]})
        {'stages': [{'name': 'Train', 'training': {'epochs': 3, 'iterations': None}, 'deep': 1}]}
    """
    return _apply(merged, check_change(change))


def _apply(merged: Mapping[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Merge a checked change over a configuration."""
    training, loss, settings = change.pop("training", {}), change.pop("loss", None), change.pop("set", ())
    result = merge(merged, change)
    if "stages" in change:  # custom stages take the defaults of the recipe, as those of a method do
        result["stages"] = _with_defaults(result.get("recipe"), result["stages"])
        result["method"] = change.get("method", "custom")
    if any(CHANGES_METHOD.fullmatch(path) for path, _ in settings):
        result["method"] = "custom"
    everywhere = _with_length({"training": training}) if training else {}
    if loss is not None:
        everywhere["loss"] = loss
        result["method"] = f"custom-{loss['name'] if isinstance(loss, Mapping) else loss}"
    result["stages"] = [
        merge(stage, everywhere) if stage["name"] == "Train" else stage for stage in result.get("stages", ())
    ]
    for path, value in settings:
        result = _with(result, path.split("."), value, path)
    return result


def check_change(change: Any) -> dict[str, Any]:
    """Return a change whose parts that `apply` reads have the right types.

    Args:
        change: Mapping that is merged over a configuration.

    Raises:
        InputError: If a part has another type, with its name, or a name of the run is set as a value.
    """
    if not isinstance(change, Mapping):
        raise InputError(f"a configuration must be a mapping of settings, got {change!r}")
    for key in ("data", "model", "training"):
        if not isinstance(change.get(key, {}), Mapping):
            raise InputError(f"`{key}` must be a mapping of settings, got {change[key]!r}")
    if "loss" in change and change["loss"] is not None:
        Component.parse(change["loss"], "`loss`")
    pairs = change.get("set", ())
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise InputError(f"`set` must be a list of pairs of a dotted path and a value, got {pairs!r}")
    for path, _ in pairs:
        if path in ("recipe", "method"):
            raise InputError(
                f"`{path}` cannot be changed by its path, because the stages follow from it; use the option"
            )
    for index, stage in enumerate(_stages(change.get("stages", []))):
        Component.parse(stage, f"`stages.{index}`")
        if isinstance(stage, Mapping) and not isinstance(stage.get("training", {}), Mapping):
            raise InputError(f"`stages.{index}.training` must be a mapping of settings, got {stage['training']!r}")
    return dict(change)


def _stages(stages: Any) -> list[Any]:
    if not isinstance(stages, list):
        raise InputError(f"`stages` must be a list (- name: Train), got {stages!r}")
    return stages


def typed(mapping: Mapping[str, Any]) -> Config:
    """Return a configuration from plain data. Every option that needs no data is checked.

    Raises:
        InputError: For an unknown stage, component or setting, or a value of another type.
    """
    config: Config = from_mapping(Config, mapping)
    if not config.stages:
        raise InputError("`stages` must hold at least one stage, got none; choose a method (`longtail list methods`)")
    return config


def read_file(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file of the user.

    Raises:
        InputError: If the file cannot be read, or does not hold a mapping.
    """
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        near = near_paths(path)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"cannot read the configuration {path}: {error.strerror or error}{hint}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"the configuration {path} must be a mapping of settings, as `longtail show` prints it")
    return content


def to_yaml(config: Config) -> str:
    """Return a configuration as YAML that `longtail train --config` runs again."""
    return write_yaml(to_mapping(config))


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings deeply. Any value of `change` that is not a mapping replaces the one of `base`.

    A component with another name drops the options of the old one. Another data set keeps the settings.

    Example:
        >>> merge({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4}})
        {'a': 1, 'b': {'c': 4, 'd': 3}}
    """
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and (key == "data" or not _is_another(old, value)):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def stage_defaults(recipe: str | None, stage: str) -> dict[str, Any]:
    """Return the settings that a kind of stage has under a training recipe.

    Args:
        recipe: Training recipe; an unknown name or None has no defaults.
        stage: Name of the stage.

    Example:
        >>> stage_defaults("digits", "RetrainMeta")["meta_batch_size"]
        64
    """
    if recipe not in names("training"):
        return {}
    if stage == "Train":
        return {key: value for key, value in read("training", str(recipe)).items() if key != "replace"}
    if stage not in names("stages"):
        return {}
    found = read("stages", stage)
    return merge(found.get("default", {}), found.get("overrides", {}).get(recipe) or {})


def replaced(recipe: str | None, stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the stage that a training recipe puts in the place of a stage of a method, or the stage itself.

    Args:
        recipe: Training recipe; an unknown name or None replaces nothing.
        stage: Stage of a method.

    Raises:
        InputError: If the stage has settings that the other one lacks.

    Example:
        >>> replaced("linear-probe", {"name": "Train", "loss": "BalancedSoftmax"})
        {'name': 'Solve', 'loss': 'BalancedSoftmax'}
    """
    recipes = read("training", str(recipe)) if recipe in names("training") else {}
    name = recipes.get("replace", {}).get(stage.get("name"))
    if name is None:
        return stage
    if extra := [key for key in stage if key not in ("name", "loss", "training")]:
        raise InputError(
            f"the recipe {recipe} solves a head for a loss, and the method sets `{extra[0]}` for the training; "
            "choose a method that sets the loss only, such as balanced-softmax, or another recipe"
        )
    return {**{key: value for key, value in stage.items() if key != "training"}, "name": name}


def _with_defaults(recipe: str | None, stages: Any) -> list[Any]:
    """Return stages with the defaults of their kind under a training recipe."""
    named = [{"name": stage} if isinstance(stage, str) else stage for stage in stages]
    named = [replaced(recipe, stage) if isinstance(stage, Mapping) else stage for stage in named]
    return [
        merge(stage_defaults(recipe, str(stage.get("name"))), _with_length(stage))
        if isinstance(stage, Mapping)
        else stage
        for stage in named
    ]


def _with_length(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage in which `epochs`, if given, overrides the `iterations` of the recipe."""
    training = stage.get("training", {})
    if "epochs" not in training or "iterations" in training:
        return dict(stage)
    return {**stage, "training": {**training, "iterations": None}}


def _with(node: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    """Return a copy of nested mappings and lists with another value at a path."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(node, list):
        if not (key.isascii() and key.isdecimal()) or int(key) >= len(node):
            raise InputError(f"cannot set `{path}`: there is no item {key!r} in a list of {len(node)}")
        return [_with(item, rest, value, path) if i == int(key) else item for i, item in enumerate(node)]
    if isinstance(node, str) and rest == [] and node:  # a component given by its name alone takes an option
        node = {"name": node}
    if node is not None and not isinstance(node, Mapping):
        raise InputError(f"cannot set `{path}`: {key!r} is below a value ({node!r})")
    return {**(node or {}), key: _with((node or {}).get(key), rest, value, path)}


def _is_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" in new and new["name"] != old.get("name")


@cache
def _files(kind: Kind) -> dict[str, Traversable]:
    """Recipe files by name; our own recipes take precedence over those of plug-ins."""
    found: dict[str, Traversable] = {}
    for folder in _folders():
        directory = folder / kind
        for file in directory.iterdir() if directory.is_dir() else ():
            if file.name.endswith(".yaml"):
                found.setdefault(file.name.removesuffix(".yaml"), file)
    return found


def _folders() -> Iterator[Traversable]:
    yield files("longtail.config") / "recipes"
    for package in plugins():
        yield files(package) / "recipes"
