"""A plan: methods x data x imbalance factors x seeds, written down in a few lines of YAML.

data: {cifar100-lt: {imbalance_factors: [100, 50]}}     # or one name, or a list of names or paths
methods:                                                # or all
  - ce
  - {name: bs-half, method: bs-decoupled, set: {stages.1.loss.power: 0.5}}
seeds: 3                                                # or a list
reference: ce                                           # optional, as all that follows
recipe: ldam
changes: {training: {epochs: 24}, set: {data.val_share: 0.1}}
columns: [top1, many, medium, few]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from longtail.config import recipes
from longtail.config.convert import from_mapping
from longtail.config.schema import DataConfig
from longtail.errors import InputError, unknown_name
from longtail.evaluation import Scores

PLANS = files("longtail.config") / "recipes" / "plans"
KEYS = ("about", "data", "methods", "seeds", "reference", "recipe", "changes", "columns")
METHOD_KEYS = ("name", "method", "published", "recipe", "set", "training", "loss", "model", "stages")
CHANGE_KEYS = ("training", "set", "model", "data", "protocol", "many", "few", "groups", "device")
SCORES = tuple(each.name for each in fields(Scores) if each.name != "per_class")
COLUMNS = ("top1", "many", "medium", "few", "mcc", "ece")


@dataclass(frozen=True)
class MethodEntry:
    """A row of the table.

    Args:
        name: shown in the table.
        method: a method recipe.
        recipe: a training recipe of its own; None takes the plan's.
        published: the method recipe whose published figures stand beside it; None: none do.
        change: what differs from the method recipe, as `longtail.config.recipes.apply` takes it.
    """

    name: str
    method: str
    recipe: str | None = None
    published: str | None = None
    change: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataEntry:
    """A data set at one imbalance factor.

    Args:
        name: a data name or a path.
        settings: fields of `longtail.config.schema.DataConfig`, the imbalance factor among them.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is to be compared.

    Args:
        name: of the plan.
        data: each gives a table of its own.
        methods: the rows.
        seeds: each method is trained once with each.
        about: a sentence on it.
        reference: the row that the others are compared with; None takes the first.
        recipe: a training recipe; None takes the usual one of the data.
        changes: of all runs alike.
        columns: scores shown, names of the fields of `longtail.evaluation.Scores`.

    Raises:
        InputError: if it is empty, or names a row, a score or a reference that does not exist.
    """

    name: str
    data: tuple[DataEntry, ...]
    methods: tuple[MethodEntry, ...]
    seeds: tuple[int, ...]
    about: str = ""
    reference: str | None = None
    recipe: str | None = None
    changes: tuple[Mapping[str, Any], ...] = ()
    columns: tuple[str, ...] = COLUMNS

    def __post_init__(self) -> None:
        for what in ("data", "methods", "seeds", "columns"):
            if not getattr(self, what):
                raise InputError(f"the plan {self.name} has no {what}; give at least one")
        names = [entry.name for entry in self.methods]
        for kind, given in (("method", names), ("seed", list(map(str, self.seeds)))):
            twice = next((each for each in given if given.count(each) > 1), None)
            if twice is not None:
                raise InputError(
                    f"the plan {self.name} lists the {kind} {twice} twice; give each one a name of its own"
                )
        if self.reference is not None and self.reference not in names:
            raise unknown_name("row for a reference", self.reference, names)
        for column in self.columns:
            if column not in SCORES:
                raise unknown_name("score", column, SCORES)


def names() -> list[str]:
    """The plans that come with the package.

    Example:
        >>> "quick" in names()
        True
    """
    return sorted(file.name.removesuffix(".yaml") for file in PLANS.iterdir() if file.name.endswith(".yaml"))


def read_plan(name: str) -> Plan:
    """A plan that comes with the package, or one of your own.

    Args:
        name: of a plan (`names()`), or the path of a YAML file.

    Raises:
        InputError: if there is none of that name, or it is not a plan; the message names the place.

    Example:
        >>> read_plan("quick").reference
        'ce'
    """
    shipped = PLANS / f"{name}.yaml"
    if name in names():
        return parse_plan(name, yaml.safe_load(shipped.read_text()))
    path = Path(name).expanduser()
    if not path.is_file():
        raise unknown_name("plan, and no file,", name, names())
    return parse_plan(path.stem, recipes.read_file(path))


def parse_plan(name: str, content: Mapping[str, Any]) -> Plan:
    """A plan from the mapping that YAML gave.

    Raises:
        InputError: for an unknown key, method or score, or a value of another kind.

    Example:
        >>> plan = parse_plan("mine", {"data": "digits-lt", "methods": ["ce"], "seeds": 2})
        >>> plan.seeds, plan.data[0].name
        ((0, 1), 'digits-lt')
    """
    _refuse_unknown(content, KEYS, f"setting of the plan {name}")
    changes = _common(content.get("changes", {}))
    return Plan(
        name,
        _data(content.get("data", ())),
        _methods(content.get("methods", ())),
        _seeds(content.get("seeds", 3)),
        str(content.get("about", "")),
        content.get("reference"),
        content.get("recipe"),
        (changes,) if changes else (),
        tuple(_list(content.get("columns", COLUMNS), "columns")),
    )


def narrowed(
    plan: Plan,
    only: Sequence[str] = (),
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
    factors: Sequence[float] = (),
) -> Plan:
    """A part of a plan, or the whole with other settings.

    Args:
        plan: to be narrowed.
        only: the rows wanted; none given means all.
        seeds: the first so many seeds, from 0.
        changes: settings of all runs, which go before those of the plan.
        factors: imbalance factors in the place of the plan's.

    Raises:
        InputError: for a row that the plan does not have.
    """
    rows = [entry.name for entry in plan.methods]
    for name in only:
        if name not in rows:
            raise unknown_name(f"method in the plan {plan.name}", name, rows)
    kept = tuple(entry for entry in plan.methods if not only or entry.name in only)
    extra = _common(changes or {})
    sets = {entry.name: {**entry.settings} for entry in plan.data}
    wanted = [DataEntry(name, {**each, "imbalance_factor": float(f)}) for name, each in sets.items() for f in factors]
    return replace(
        plan,
        data=tuple(wanted) or plan.data,
        methods=kept,
        reference=plan.reference if plan.reference in [entry.name for entry in kept] else None,
        seeds=plan.seeds if seeds is None else _seeds(seeds),
        changes=(*plan.changes, extra) if extra else plan.changes,
    )


def _data(given: Any) -> tuple[DataEntry, ...]:
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Mapping):
        given = dict.fromkeys(_list(given, "data"))
    entries = []
    for name, settings in given.items():
        settings = settings or {}
        if not isinstance(settings, Mapping):
            raise InputError(f"the data {name} take a mapping, such as {{imbalance_factors: [100]}}, not {settings!r}")
        rest = {key: value for key, value in settings.items() if key != "imbalance_factors"}
        from_mapping(DataConfig, rest, f"data.{name}")
        factors = _list(settings.get("imbalance_factors", [None]), f"data.{name}.imbalance_factors")
        entries += [DataEntry(str(name), {**rest, **({"imbalance_factor": f} if f else {})}) for f in factors]
    return tuple(entries)


def _methods(given: Any) -> tuple[MethodEntry, ...]:
    if given == "all":
        given = recipes.names("methods")
    return tuple(_method(each) for each in _list(given, "methods"))


def _method(given: Any) -> MethodEntry:
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise InputError(f"a method is a name, or a mapping with a name and what differs, not {given!r}")
    _refuse_unknown(given, METHOD_KEYS, f"setting of the method {given['name']}")
    name, method = given["name"], given.get("method", "ce" if "stages" in given else given["name"])
    recipes.read("methods", method)  # refuse a misspelt one by name
    change = _change(
        {key: value for key, value in given.items() if key not in ("name", "method", "recipe", "published")},
        METHOD_KEYS,
        f"the method {name}",
    )
    if change and name in recipes.names("methods"):
        raise InputError(f"the method {name} of the plan is not what {name} stands for elsewhere; give it another name")
    published = given.get("published", None if change else method)
    if published is not None:
        recipes.read("methods", published)
    return MethodEntry(name, method, given.get("recipe"), published, change)


def _common(given: Any) -> dict[str, Any]:
    """The changes of all methods, which must leave each the method that it is."""
    change = _change(given, CHANGE_KEYS, "the changes of all methods")
    for path, _ in change.get("set", ()):
        if recipes.CHANGES_METHOD.fullmatch(path):
            raise InputError(f"{path} makes another method of each, so it can not be set for all; set it in one entry")
    return change


def _change(given: Any, known: Sequence[str], where: str) -> dict[str, Any]:
    """A change as `recipes.apply` takes it: "set" a list of pairs."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must be a mapping of settings, not {given!r}")
    _refuse_unknown(given, known, f"setting of {where}")
    change = dict(given)
    if "set" in change:
        pairs = change["set"].items() if isinstance(change["set"], Mapping) else change["set"]
        change["set"] = [(str(path), value) for path, value in pairs]
    return change


def _seeds(given: Any) -> tuple[int, ...]:
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return tuple(range(given))
    if isinstance(given, list) and given and all(type(seed) is int for seed in given):
        return tuple(given)
    raise InputError(f"seeds must be a number of seeds, at least 1, or a list of them, not {given!r}")


def _list(given: Any, what: str) -> list[Any]:
    if isinstance(given, (list, tuple)):
        return list(given)
    raise InputError(f"{what} must be a list, not {given!r}")


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], kind: str) -> None:
    for key in given:
        if key not in known:
            raise unknown_name(kind, str(key), known)
