"""Groups of images that no held-out split separates, and folds."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset
from longtail.data.grouped import assign_folds, grouped_holdout
from longtail.data.groups import find_groups
from longtail.data.load import load_files
from longtail.errors import InputError
from tests.data.helpers import noise, save


def bursts(folder: Path, sizes: dict[str, list[int]], pattern: str = "{burst:04d}_{frame:02d}.png") -> Path:
    seed = 0
    for name, frames in sizes.items():
        for burst, count in enumerate(frames):
            for frame in range(count):
                seed += 1
                save(folder / name / pattern.format(burst=burst, frame=frame), noise(seed))
    return folder


def groups_of(part, depth: int) -> set[str]:
    return {path.rsplit("_" if depth else "/", 1)[0] for path in part.paths}


def assert_apart(data: Dataset, depth: int) -> None:
    parts = [groups_of(part, depth) for part in (data.train, data.val, data.test) if part is not None]
    for k, first in enumerate(parts):
        for other in parts[k + 1 :]:
            assert not first & other


SIZES = {"cat": [5, 4, 6, 5, 3, 4], "dog": [3, 2, 4, 3]}


@pytest.mark.parametrize(
    ("pattern", "depth", "words"),
    [("{burst:04d}_{frame:02d}.png", 1, "burst names"), ("track{burst}/{frame}.png", 0, "their folders")],
)
def test_bursts_are_found_and_kept_together(tmp_path: Path, pattern: str, depth: int, words: str) -> None:
    place = str(bursts(tmp_path, SIZES, pattern))
    data = load_files(DataConfig(name=place, group="auto", val_share=0.2))
    assert data.group == "auto"
    assert data.load_report.groups == 10
    assert any(words in note and "`group` none" in note for note in data.load_report.notes)
    assert data.split.name.endswith("-grouped")
    assert_apart(data, depth)
    assert len(data.train) + len(data.val) + len(data.test) == 39
    assert set(data.test.targets.tolist()) == {0, 1}
    # without groups, the split is that of earlier versions
    plain = load_files(DataConfig(name=place, group="none", val_share=0.2))
    assert plain.split.sha256 == load_files(DataConfig(name=place, val_share=0.2)).split.sha256 != data.split.sha256
    with pytest.raises(AssertionError):
        assert_apart(plain, depth)


@pytest.mark.parametrize(
    "names",
    [
        [f"{label}/{k}.png" for label in ("cat", "dog") for k in range(9)],
        [f"{label}/{label}_{k:03d}.png" for label in ("cat", "dog") for k in range(9)],
        [f"{label}/n0144_{k:03d}.png" for label in ("cat", "dog") for k in range(9)],  # one prefix per class
        [f"{label}/images/{k}.png" for label in ("cat", "dog") for k in range(9)],  # one folder per class
        [f"part{k % 2}/{label}{k}.png" for label in ("cat", "dog") for k in range(9)],  # two folders of all classes
        [f"{label}/IMG_{k:03d}.png" for label in ("cat", "dog") for k in range(9)],
    ],
)
def test_ordinary_names_are_no_groups(names: list[str]) -> None:
    assert find_groups("auto", names, torch.tensor([0] * 9 + [1] * 9), ["cat", "dog"]) is None


def test_a_rule_of_the_user_is_followed_even_if_it_is_implausible() -> None:
    names = [f"{label}/n0144_{k:03d}.png" for label in ("cat", "dog") for k in range(9)]
    found = find_groups("name", names, torch.tensor([0] * 9 + [1] * 9), ["cat", "dog"])
    assert found.groups.tolist() == [0] * 9 + [1] * 9
    with pytest.raises(InputError, match="`group` must be auto, none, folder, name, similar, or a column"):
        find_groups("patient", names, torch.tensor([0] * 9 + [1] * 9), ["cat", "dog"])


def test_near_duplicates_are_a_group(tmp_path: Path) -> None:
    for k in range(6):
        photo = noise(k, 9, 8).resize((160, 120), Image.Resampling.BICUBIC)
        save(tmp_path / ("cat" if k % 2 else "dog") / f"{k}.png", photo)
        save(tmp_path / ("cat" if k % 2 else "dog") / f"copy{k}.jpg", photo.resize((80, 60)), quality=80)
    data = load_files(DataConfig(name=str(tmp_path), group="similar", workers=0, resize="squash"))
    assert data.load_report.groups == 6
    assert not data.load_report.near_duplicates
    assert load_files(DataConfig(name=str(tmp_path), workers=0)).load_report.near_duplicates


@pytest.mark.parametrize(("option", "column"), [("patient", "patient"), ("auto", "patient_id"), ("auto", "Track")])
def test_columns_of_tables_are_groups(tmp_path: Path, option: str, column: str) -> None:
    lines = [f"path,label,{column}"]
    for k in range(24):
        save(tmp_path / f"{k}.png", noise(k))
        lines.append(f"{k}.png,{'cat' if k % 2 else 'dog'},{'' if k > 20 else k // 4}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = load_files(DataConfig(name=str(tmp_path / "t.csv"), group=option))
    train, test = ({int(Path(path).stem) // 4 for path in part.paths} for part in (data.train, data.test))
    assert not (train & test) - {5}
    assert data.load_report.groups == 5
    with pytest.raises(InputError, match="no column 'farm'; its columns are"):
        load_files(DataConfig(name=str(tmp_path / "t.csv"), group="farm"))
    assert load_files(DataConfig(name=str(tmp_path / "t.csv"))).load_report.groups == 0


def test_a_class_keeps_images_and_a_single_group_is_not_divided() -> None:
    targets = torch.tensor([0] * 10 + [1] * 6 + [2] * 2)
    groups = torch.tensor([0] * 5 + [1] * 5 + [2] * 6 + [3, 4])
    kept, held = grouped_holdout(targets, groups, torch.tensor([2, 2, 2]), seed=0)
    assert targets[held].bincount(minlength=3).tolist() == [5, 0, 1]
    assert len(kept) + len(held) == len(targets)


def test_folds_are_stratified_and_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate((60, 20, 5, 2, 1))])
    alone = assign_folds(targets, torch.arange(len(targets)), 5, seed=0)
    for label, count in enumerate((60, 20, 5)):
        assert (alone[targets == label].bincount(minlength=5) == count // 5).all()
    assert alone[-1] == -1
    assert alone[-3] != alone[-2]
    groups = torch.randint(0, 25, targets.shape, generator=generator)
    folds = assign_folds(targets, groups, 3, seed=1)
    for group in groups.unique().tolist():
        assert len(folds[groups == group].unique()) == 1
    for label in range(4):
        assert len(folds[targets == label].unique()) > 1  # no model misses a class


def test_each_fold_of_a_data_set_is_tested_once(tmp_path: Path) -> None:
    place = str(bursts(tmp_path, SIZES))
    folds = [load_files(DataConfig(name=place, folds=3, fold=fold, group="auto")) for fold in range(3)]
    pooled = load_files(DataConfig(name=place, folds=3, group="auto"))
    assert sorted(path for data in folds for path in data.test.paths) == sorted(pooled.test.paths)
    assert len(pooled.test) == 39
    assert pooled.load_report.duplicates == 0
    assert len({data.split.sha256 for data in folds}) == 3
    for data in folds:
        assert_apart(data, 1)
        assert len(data.train) + len(data.test) == 39
    with pytest.raises(InputError, match="`fold` must be below `folds` 3, got 3"):
        load_files(DataConfig(name=place, folds=3, fold=3))
    with pytest.raises(InputError, match="too few for `folds` 11; use fewer"):
        load_files(DataConfig(name=place, folds=11, group="auto", fold=0))
    (tmp_path / "all").mkdir()
    for name in SIZES:
        (tmp_path / name).rename(tmp_path / "all" / name)
    save(tmp_path / "rest/cat/1.png", noise(99))
    with pytest.raises(InputError, match="the data have one; leave `folds` out"):
        load_files(DataConfig(name=str(tmp_path / "all"), test=str(tmp_path / "rest"), folds=3))


def test_a_tiny_test_split_is_announced(tmp_path: Path) -> None:
    data = load_files(DataConfig(name=str(bursts(tmp_path, {"cat": [9], "dog": [7]}))))
    assert any("1 image of a class" in note and "`folds` 5" in note for note in data.load_report.notes)
