"""What `inspect`, `data get` and `data export` do, once their arguments are read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longtail._logging import progress_bar
from longtail.commands.output import out
from longtail.config import recipes
from longtail.config.convert import from_mapping, to_mapping
from longtail.config.schema import DataConfig
from longtail.data.download import download_data
from longtail.data.export import export_dataset
from longtail.data.files import data_root
from longtail.data.inspect import inspect_data
from longtail.data.load import load_data
from longtail.run.fit import choose_device
from longtail.run.recommend import recommend


def inspect(*, data: DataConfig, as_json: bool, again: str) -> None:
    """Say what a data set holds, how uneven it is, and what to do about it."""
    device = choose_device("auto")
    loaded = load_data(data, device)
    inspection, advice = inspect_data(loaded), recommend(loaded, device)
    if as_json:
        seen = {"class_names": list(loaded.class_names), **to_mapping(asdict(inspection))}
        out.print_json(json.dumps({**seen, "recommended": to_mapping(asdict(advice))}))
        return
    from longtail.report import Classes, groups_table

    out.print(f"{data.name}: {inspection.images:,} training images of {inspection.classes:,} classes")
    out.print(
        f"imbalance factor {inspection.imbalance_factor:.1f}, Gini {inspection.gini:.2f}; "
        f"fullest class {max(inspection.counts):,}, emptiest {min(inspection.counts):,}"
    )
    out.print(groups_table(Classes.grouped(loaded.class_names, loaded.class_counts.counts)))
    out.print(
        f"test: {inspection.test_images:,} images, {'' if inspection.test_balanced else 'not '}balanced; "
        f"held out for choices: {inspection.val_images:,}; in both train and test: {inspection.duplicates:,}; "
        f"unreadable, left out: {inspection.skipped:,}"
    )
    out.print(f"training images per class: {_fullest_first(loaded.class_names, inspection.counts)}")
    for label, names in (("no training image", inspection.zero_shot), ("a single training image", inspection.one_shot)):
        if names:
            out.print(
                f"classes with {label}: {len(names)} ({', '.join(names[:10])}{', ...' if len(names) > 10 else ''})"
            )
    for note in inspection.notes:
        out.print(f"note: {note}")
    for reason in advice.reasons[: 1 if data.name in recipes.names("data") else None]:
        out.print(f"recommended: {reason}")
    out.print(f"go: {again}")


def _fullest_first(names: Sequence[str], counts: Sequence[int]) -> str:
    """Classes with their counts, the fullest first; of more than thirty, the ten at either end."""
    ordered = [
        f"{name} {count:,}" for count, name in sorted(zip(counts, names, strict=True), key=lambda each: -each[0])
    ]
    return ", ".join(ordered if len(ordered) <= 30 else [*ordered[:10], "...", *ordered[-10:]])


def data_get(*, name: str, root: Path | None) -> None:
    """Download a data set."""
    with progress_bar(f"downloading {name}", 1) as bar:
        place = download_data(name, root or data_root(), on_progress=bar.moved_to)
    out.print(f"{name} -> {place}")


def data_export(*, data: DataConfig, target: Path) -> None:
    """Write a data set as a folder per class of PNGs, and a CSV that lists them."""
    loaded = load_data(data, choose_device("cpu"))
    with progress_bar("writing", 1) as bar:
        place = export_dataset(loaded, target, on_progress=bar.moved_to)
    out.print(f"{data.name} -> {place}")


def data_config(name: str | None, changes: Mapping[str, Any]) -> DataConfig:
    """The data configuration of a name or path, with a named set's usual settings."""
    name = name or "digits-lt"
    settings = recipes.read("data", name)["data"] if name in recipes.names("data") else {"name": name}
    config: DataConfig = from_mapping(DataConfig, {**settings, **changes}, "data")
    return config
