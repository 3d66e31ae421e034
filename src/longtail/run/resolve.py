"""From what a user typed to a run: which data, which recipes, and why, where nobody said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from longtail.config import recipes
from longtail.config.convert import from_mapping, to_mapping
from longtail.config.schema import Config, DataConfig, ModelConfig
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.models.pretrained import TorchvisionBackbone
from longtail.run.recommend import recommend, without_weights


@dataclass(frozen=True)
class Plan:
    """A run that is ready to go.

    Args:
        config: all of it.
        data: the data set, if it had to be looked at.
        reasons: why it is so, where the user left the choice open.
    """

    config: Config
    data: Dataset | None
    reasons: tuple[str, ...] = ()


def plan_run(
    data_name: str,
    method: str | None,
    recipe: str | None,
    changes: Sequence[Mapping[str, Any]],
    device: torch.device,
    *,
    fetch: bool = True,
) -> Plan:
    """Settle a run.

    Args:
        data_name: a data name or a path.
        method: a method; None lets the data decide.
        recipe: a training recipe; None takes the data's usual one.
        changes: what the user asked for beside that, merged over the recipes in order.
        device: where it will run.
        fetch: make sure of pretrained weights, which may download them.

    Raises:
        InputError: for an unknown name or setting, or data that can not be read.
    """
    named = data_name in recipes.names("data")
    if method is None and any("stages" in change for change in changes):
        method = "ce"  # what is to be done is written down: nothing is left to recommend but the net
    if named and method is not None:
        return Plan(recipes.compose(data_name, method, recipe, changes), None)
    data = load_data(_data_config(data_name, named, changes), device)
    advice = recommend(data, device)
    if named:
        config = recipes.compose(data_name, advice.method, recipe, changes)
        return Plan(config, data, advice.reasons[:1])
    own = {"data": _absolute(data_name, changes)}
    config = recipes.compose(advice.data_recipe, method or advice.method, recipe, [advice.changes, *changes, own])
    reasons = advice.reasons[0 if method is None else 1 :]
    if any("model" in change for change in changes):  # the net is the user's choice
        return Plan(config, data, reasons[:-1])
    if fetch and config.model.pretrained and (missing := _missing_weights(config.model.backbone.name)):
        scratch = without_weights(advice.changes)
        config = recipes.compose(advice.data_recipe, method or advice.method, recipe, [scratch, *changes, own])
        reasons = (*reasons, f"from scratch, longer, which costs accuracy: {missing}")
    return Plan(config, data, reasons)


def same_but_method(config: Config, method: str) -> Config:
    """The same run by another method: same data, backbone, training settings and seed; the head is the method's."""
    wanted = recipes.read("methods", method)
    defaults = recipes.read("training", config.recipe)["stages"] if config.recipe in recipes.names("training") else {}
    training = next((stage.options.get("training") for stage in config.stages if stage.name == "Train"), None)
    if training:
        defaults = {**defaults, "Train": {"training": training}}
    stages = [recipes.merge(defaults.get(stage["name"], {}), stage) for stage in wanted.pop("stages")]
    same = to_mapping(config)
    if config.method in recipes.names("methods") and "model" in recipes.read("methods", config.method):
        same["model"]["head"] = to_mapping(ModelConfig().head)  # the present one is the present method's
    return recipes.typed({**recipes.merge(same, wanted), "method": method, "stages": stages})


def _data_config(data_name: str, named: bool, changes: Sequence[Mapping[str, Any]]) -> DataConfig:
    settings: dict[str, Any] = recipes.read("data", data_name)["data"] if named else {"name": data_name}
    for change in changes:
        sets = [(path, value) for path, value in change.get("set", ()) if path.startswith("data.")]
        settings = recipes.apply({"data": settings}, {"data": change.get("data", {}), "set": sets})["data"]
    config: DataConfig = from_mapping(DataConfig, settings, "data")
    return replace(config, name=data_name)


def _absolute(data_name: str, changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Paths that still lead there when the run is gone on with from another folder."""
    roots = [change["data"]["root"] for change in changes if change.get("data", {}).get("root")]
    absolute = {"name": str(Path(data_name).expanduser().resolve())}
    return absolute | ({"root": str(Path(roots[-1]).expanduser().resolve())} if roots else {})


def _missing_weights(backbone: str) -> str:
    """Why the pretrained weights of a net can not be had; empty where they can (and then are at hand)."""
    try:
        TorchvisionBackbone(backbone, pretrained=True)
    except InputError as error:
        return str(error)
    return ""
