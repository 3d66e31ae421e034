"""Plans: methods x data sets x imbalance factors x seeds, as a few lines of YAML.

data: {cifar100-lt: {imbalance_factors: [100, 50]}}     # or one name, or a list of names or paths
methods:                                                # or all
  - ce
  - {name: bs-half, method: bs-decoupled, set: {stages.1.loss.power: 0.5}}
seeds: 3                                                # or a list
reference: ce                                           # optional, like every key below
recipe: ldam
changes: {training: {epochs: 24}, set: {data.val_share: 0.1}}
columns: [top1, many, medium, few]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from longtail.config import recipes
from longtail.config.convert import from_mapping
from longtail.config.schema import DataConfig
from longtail.errors import InputError, naming, unknown_name
from longtail.evaluation import Scores

KEYS = ("about", "data", "methods", "seeds", "reference", "recipe", "changes", "columns")
METHOD_KEYS = ("name", "method", "published", "recipe", "set", "training", "loss", "model", "stages")
CHANGE_KEYS = ("training", "set", "model", "data", "protocol", "many", "few", "groups", "device")
LONGEST_NAME = 100
SCORES = tuple(each.name for each in fields(Scores) if each.name != "per_class")
COLUMNS = ("top1", "many", "medium", "few", "mcc", "ece")


@dataclass(frozen=True)
class MethodEntry:
    """A row of the table.

    Args:
        name: Name of the row.
        method: Name of a method recipe.
        recipe: Training recipe of this row. None uses that of the plan.
        published: Method recipe whose published scores are shown next to the row. None shows no published scores.
        change: Difference from the method recipe, in the form that `longtail.config.recipes.apply` takes.
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
        name: Name of a data recipe, or a path.
        settings: Fields of `longtail.config.schema.DataConfig`, including the imbalance factor.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A comparison of methods.

    Args:
        name: Name of the plan.
        data: Data sets. Each gets its own table.
        methods: Rows of the tables.
        seeds: Seeds. Each method is trained once with each seed.
        about: Description in one sentence.
        reference: Name of the row that the others are compared with. None uses the first row.
        recipe: Training recipe. None uses the default recipe of the data.
        changes: Settings of all runs.
        columns: Scores to show, as field names of `longtail.evaluation.Scores`.

    Raises:
        InputError: If a part is empty, or a row, a score or the reference is unknown or repeated.
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
        parts = {"data": self.data, "methods": self.methods, "seeds": self.seeds, "columns": self.columns}
        for part, entries in parts.items():
            if not entries:
                raise InputError(f"the plan {self.name} has no {part}; list at least one")
        names = [entry.name for entry in self.methods]
        for kind, given in (("method", names), ("seed", list(map(str, self.seeds)))):
            repeated = next((each for each in given if given.count(each) > 1), None)
            if repeated is not None:
                raise InputError(f"the plan {self.name} lists the {kind} {repeated} twice; names and seeds must differ")
        if self.reference is not None and self.reference not in names:
            raise unknown_name("reference row", self.reference, names)
        for column in self.columns:
            if column not in SCORES:
                raise unknown_name("score", column, SCORES)


def names() -> list[str]:
    """Return the names of the plans that ship with the package.

    Example:
        >>> "quick" in names()
        True
    """
    return recipes.names("plans")


def read_plan(name: str) -> Plan:
    """Read a plan that ships with the package, or a plan file.

    Args:
        name: Name of a plan (see `names`), or path of a YAML file.

    Raises:
        InputError: If there is no such plan or file, or its content is not a valid plan.

    Example:
        >>> read_plan("quick").reference
        'ce'
    """
    if name in names():
        return parse_plan(name, recipes.read("plans", name))
    path = Path(name).expanduser()
    if not path.is_file():
        raise unknown_name("plan or file", name, names())
    with naming(path):
        return parse_plan(path.stem, recipes.read_file(path))


def parse_plan(name: str, content: Mapping[str, Any]) -> Plan:
    """Parse the mapping that YAML yields for a plan.

    Args:
        name: Name of the plan.
        content: Mapping with the keys of the module's docstring.

    Raises:
        InputError: If a key, a method or a score is unknown, or a value has the wrong type.

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
        _name(content.get("reference"), "reference"),
        _name(content.get("recipe"), "recipe"),
        (changes,) if changes else (),
        tuple(str(column) for column in _list(content.get("columns", COLUMNS), "columns")),
    )


def narrowed(
    plan: Plan,
    only: Sequence[str] = (),
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
    factors: Sequence[float] = (),
) -> Plan:
    """Return a plan with fewer rows or other settings.

    Args:
        plan: Plan to start from.
        only: Names of the rows to keep. Empty keeps all.
        seeds: Number of seeds (0 to seeds - 1). None keeps those of the plan.
        changes: Settings of all runs, which take precedence over those of the plan.
        factors: Imbalance factors of every data set. Empty keeps those of the plan.

    Raises:
        InputError: If the plan has no row of that name.
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
            raise InputError(f"`data.{name}` must be a mapping, such as {{imbalance_factors: [100]}}, got {settings!r}")
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
        raise InputError(f"a method must be a name, or a mapping with a `name` and changed settings, got {given!r}")
    _refuse_unknown(given, METHOD_KEYS, f"setting of the method {given['name']}")
    name = given["name"]
    if len(name) > LONGEST_NAME:  # the folder of a training is named by it
        raise InputError(f"the name of a method must have at most {LONGEST_NAME} characters, got {name[:20]}...")
    method = _name(given.get("method"), "method") or ("ce" if "stages" in given else name)
    recipes.read("methods", method)  # raises for an unknown recipe
    change = _change(
        {key: value for key, value in given.items() if key not in ("name", "method", "recipe", "published")},
        METHOD_KEYS,
        f"the method {name}",
    )
    if change and name in recipes.names("methods"):
        raise InputError(f"the plan changes the method {name}, which is a recipe; give the changed row another name")
    published = _name(given.get("published", None if change else method), "published")
    if published is not None:
        recipes.read("methods", published)
    return MethodEntry(name, method, _name(given.get("recipe"), "recipe"), published, change)


def _common(given: Any) -> dict[str, Any]:
    """Parse the changes of all runs, which must not turn a method into another one."""
    change = _change(given, CHANGE_KEYS, "the changes of all methods")
    for path, _ in change.get("set", ()):
        if recipes.CHANGES_METHOD.fullmatch(path):
            raise InputError(f"{path} defines the method, so it cannot be set for all methods; set it in one entry")
    return change


def _change(given: Any, known: Sequence[str], where: str) -> dict[str, Any]:
    """Return a change in the form that `recipes.apply` takes: "set" is a list of pairs."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must be a mapping of settings, got {given!r}")
    _refuse_unknown(given, known, f"setting of {where}")
    change = dict(given)
    if "set" in change:
        pairs = change["set"].items() if isinstance(change["set"], Mapping) else _list(change["set"], f"set of {where}")
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            raise InputError(f"`set` of {where} must map dotted paths to values, got {change['set']!r}")
        change["set"] = [(str(path), value) for path, value in pairs]
    return recipes.check_change(change)


def _seeds(given: Any) -> tuple[int, ...]:
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return tuple(range(given))
    if isinstance(given, list) and given and all(type(seed) is int for seed in given):
        return tuple(given)
    raise InputError(f"`seeds` must be a number of seeds >= 1 or a list of seeds, got {given!r}")


def _name(given: Any, what: str) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise InputError(f"`{what}` must be a name, got {given!r}")


def _list(given: Any, what: str) -> list[Any]:
    if isinstance(given, (list, tuple)):
        return list(given)
    raise InputError(f"`{what}` must be a list, got {given!r}")


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], kind: str) -> None:
    for key in given:
        if key not in known:
            raise unknown_name(kind, str(key), known)
