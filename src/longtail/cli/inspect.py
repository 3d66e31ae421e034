"""`longtail inspect`: describe a data set and recommend a method."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from longtail.cli._options import CommandLine, DataOptions, given_of


def main(
    data: str = "digits-lt",
    /,
    *,
    options: DataOptions = DataOptions(),
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    command: CommandLine = "",
) -> None:
    """Describe a data set, measure its imbalance, and recommend a method.

    Args:
        data: Name of a data set (longtail list data), or a path. Default: digits-lt.
        options: Options of the data set.
        as_json: Print JSON.
        command: Command line as typed.

    Examples:
        longtail inspect photos/
        longtail inspect cifar100-lt --imbalance-factor 50 --json
    """
    from longtail.cli._output import out
    from longtail.config import recipes
    from longtail.config.convert import to_mapping
    from longtail.data.inspect import inspect_data
    from longtail.data.load import load_data
    from longtail.run.fit import choose_device
    from longtail.run.recommend import recommend
    from longtail.run.resolve import data_config

    config = data_config(data, given_of(options))
    device = choose_device("auto")
    loaded = load_data(config, device)
    inspection, advice = inspect_data(loaded), recommend(loaded, device)
    if as_json:
        found = {"class_names": list(loaded.class_names), **to_mapping(asdict(inspection))}
        out.print_json(json.dumps({**found, "recommended": to_mapping(asdict(advice))}))
        return
    from longtail.report import Classes, groups_table

    heading, rest = _lines(config.name, loaded.class_names, inspection)
    for line in heading:
        out.print(line)
    out.print(groups_table(Classes.grouped(loaded.class_names, loaded.group_counts.counts)))
    for line in rest:
        out.print(line)
    for reason in advice.reasons[: 1 if config.name in recipes.names("data") else None]:
        out.print(f"recommended: {reason}")
    for alternative in advice.alternatives:
        out.print(f"alternative: {alternative}")
    out.print(f"next: {command.replace('longtail inspect', 'longtail train', 1).replace(' --json', '')}")


def _lines(name: str, class_names: Sequence[str], found: Any) -> tuple[list[str], list[str]]:
    """Return the lines before and after the table of the groups.

    Args:
        name: Name of the data set.
        class_names: Names of the classes.
        found: `longtail.data.inspect.Inspection` of the data set.
    """
    held_out = f", {found.held_out:,} of them held out for validation" if found.held_out else ""
    heading = [
        f"{name}: {found.images:,} training images of {found.classes:,} classes{held_out}",
        f"imbalance factor {found.imbalance_factor:.1f}, Gini {found.gini:.2f}; "
        f"most frequent class {max(found.counts):,}, least frequent class {min(found.counts):,}",
    ]
    rest = [
        f"test: {found.test_images:,} images, {'' if found.test_balanced else 'not '}balanced; "
        f"validation split: {found.val_images:,}; in both train and test: {found.duplicates:,}; "
        f"unreadable, left out: {found.skipped:,}",
        f"training images per class: {_by_frequency(class_names, found.counts)}",
    ]
    for label, names in (("no training image", found.zero_shot), ("a single training image", found.one_shot)):
        if names:
            shown = f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
            rest.append(f"classes with {label}: {len(names)} ({shown})")
    return heading, [*rest, *(f"note: {note}" for note in found.notes)]


def _by_frequency(names: Sequence[str], counts: Sequence[int]) -> str:
    """Return the classes with their counts, most frequent first; of more than 30, the ten at either end."""
    ordered = sorted(zip(counts, names, strict=True), key=lambda each: -each[0])
    shown = [f"{name} {count:,}" for count, name in ordered]
    return ", ".join(shown if len(shown) <= 30 else [*shown[:10], "...", *shown[-10:]])
