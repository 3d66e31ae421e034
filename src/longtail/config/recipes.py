"""Recipes: short YAML files of data sets, training settings and methods, and how they merge.

A run is one of each: N + M files, never N x M. The data file names the usual training file; the method file lists the
stages; each stage takes the settings that the training file has for stages of its kind.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from longtail.config.convert import from_mapping, read_yaml, to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.errors import InputError, unknown_name

Kind = Literal["data", "training", "methods"]
# paths of --set after which a method is no longer what its name says
CHANGES_METHOD = re.compile(
    r"stages\.\d+\.(name|loss|sampler|mixing|embedding_loss|transfer|head|method|initialize)(\.name)?"
)
WORDS = {"data": "data set", "training": "training recipe", "methods": "method"}


def names(kind: Kind) -> list[str]:
    """Names of the recipes of a kind; the files for own images (`own-...`) are not names a user gives.

    Example:
        >>> "ce" in names("methods")
        True
    """
    stems = [
        file.name.removesuffix(".yaml")
        for file in (files("longtail.config") / "recipes" / kind).iterdir()
        if file.name.endswith(".yaml")
    ]
    return sorted(stem for stem in stems if not stem.startswith("own-"))


def read(kind: Kind, name: str) -> dict[str, Any]:
    """A recipe by name.

    Raises:
        InputError: if there is none of that name, with the nearest ones.

    Example:
        >>> read("methods", "ce")
        {'stages': [{'name': 'Train', 'loss': 'CrossEntropy'}]}
    """
    file = files("longtail.config") / "recipes" / kind / f"{name}.yaml"
    if not file.is_file():
        raise unknown_name(WORDS[kind], name, names(kind))
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def about(kind: Kind, name: str) -> str:
    """The first comment of a recipe: what it is.

    Example:
        >>> about("methods", "logit-adjusted")
        'the logit-adjusted loss (Menon et al., 2021). CIFAR-100-LT IF 100: 43.9 published'
    """
    return (files("longtail.config") / "recipes" / kind / f"{name}.yaml").read_text().splitlines()[0].lstrip("# ")


def compose(data: str, method: str, recipe: str | None = None, changes: Sequence[Mapping[str, Any]] = ()) -> Config:
    """The whole configuration of a run from its three recipes.

    Args:
        data: a data recipe.
        method: a method recipe.
        recipe: a training recipe; by default the data recipe's usual one.
        changes: mappings merged over the recipes, in order. The key "training" changes all `Train` stages.

    Raises:
        InputError: for an unknown name or setting.

    Example:
        >>> config = compose("cifar100-lt", "balanced-softmax", changes=[{"seed": 1}, {"training": {"epochs": 24}}])
        >>> config.recipe, config.seed, config.stages[0].options["training"]["epochs"]
        ('ldam', 1, 24)
    """
    merged: dict[str, Any] = {"method": method, **read("data", data)}
    merged["recipe"] = recipe or merged["recipe"]
    read("training", merged["recipe"])  # refuse a misspelt one by name
    method_recipe = read("methods", method)
    merged = merge(merged, {**method_recipe, "stages": _with_defaults(merged["recipe"], method_recipe["stages"])})
    for change in changes:
        merged = apply(merged, change)
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
    settings = read("data", name)["data"] if name in names("data") else {"name": name}
    config: DataConfig = from_mapping(DataConfig, {**settings, **changes}, "data")
    return config


def apply(merged: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a change over a configuration.

    Its key "training" goes to every stage that trains end to end, "loss" too (which makes the method a custom one), and
    "set" is a list of (dotted path, value).

    Raises:
        InputError: if a dotted path leads nowhere.

    Example:
        >>> apply({"stages": [{"name": "Train"}]}, {"training": {"epochs": 3}, "set": [("stages.0.deep", 1)]})
        {'stages': [{'name': 'Train', 'training': {'epochs': 3, 'iterations': None}, 'deep': 1}]}
    """
    change = dict(change)
    training, loss, settings = change.pop("training", {}), change.pop("loss", None), change.pop("set", ())
    result = merge(merged, change)
    if "stages" in change:  # stages of one's own take the recipe's settings, as those of a method do
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


def _with(node: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    """A copy of nested mappings and lists in which the value at a path is another."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(node, list):
        if not key.isdigit() or int(key) >= len(node):
            raise InputError(f"--set {path}: there is no item {key!r} in a list of {len(node)}")
        return [_with(item, rest, value, path) if i == int(key) else item for i, item in enumerate(node)]
    if isinstance(node, str) and rest == [] and node:  # a component given by its name alone takes an option
        node = {"name": node}
    if node is not None and not isinstance(node, Mapping):
        raise InputError(f"--set {path}: {key!r} lies below a value ({node!r})")
    return {**(node or {}), key: _with((node or {}).get(key), rest, value, path)}


def typed(mapping: Mapping[str, Any]) -> Config:
    """A configuration from plain data, with every stage's options checked and filled in.

    Raises:
        InputError: for an unknown stage, component or setting, or a value of another type.
    """
    import longtail.stages as stages  # the stages import the loop, which a look at a recipe need not

    config: Config = from_mapping(Config, mapping)
    if not config.stages:
        raise InputError("a run needs at least one stage; name a method (`longtail list`)")
    full = [{"name": stage.name, **to_mapping(stages.build(stage))} for stage in config.stages]
    filled: Config = from_mapping(Config, {**to_mapping(config), "stages": full})
    return filled


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file that the user wrote.

    Raises:
        InputError: if it can not be read, or holds no mapping.
    """
    try:
        content = read_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"can not read the configuration {path}: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"the configuration {path} must be a mapping of settings, as `longtail show` prints it")
    return content


def to_yaml(config: Config) -> str:
    """A configuration as YAML that `longtail train --config` runs again."""
    return yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged key by key, deep; any other value of `change` takes the place of the one in `base`.

    A component given by another name drops the options of the old one; another data set keeps the settings.

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


def _with_defaults(recipe: str | None, stages: Any) -> list[Any]:
    """Stages with the settings that a training recipe has for stages of their kind."""
    if not isinstance(stages, list):
        raise InputError(f"stages must be a list (- name: Train, say), not {stages!r}")
    defaults = read("training", recipe)["stages"] if recipe in names("training") else {}
    named = [{"name": stage} if isinstance(stage, str) else stage for stage in stages]
    return [
        merge(defaults.get(stage.get("name"), {}), _with_length(stage)) if isinstance(stage, Mapping) else stage
        for stage in named
    ]


def _with_length(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage whose epochs, where it gives any, are the last word on its length."""
    training = stage.get("training", {})
    if "epochs" not in training or "iterations" in training:
        return dict(stage)
    return {**stage, "training": {**training, "iterations": None}}


def _is_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" in new and new["name"] != old.get("name")
