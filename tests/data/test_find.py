"""A separate test split, and classes without training images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtail.config.schema import DataConfig
from longtail.data.find import find_listing
from longtail.data.load import load_data
from longtail.errors import InputError
from tests.data.helpers import make_classes


@pytest.fixture
def photos(tmp_path: Path) -> DataConfig:
    return DataConfig(name=str(make_classes(tmp_path / "photos", {"cat": 6, "d\u00f6g": 4, "owl": 2})))


def held_folder(tmp_path: Path) -> Path:
    return make_classes(tmp_path / "held", {"cat": 1, "do\u0308g": 2})  # the other Unicode form of the training folder


def held_split_folder(tmp_path: Path) -> Path:
    make_classes(tmp_path / "split" / "train", {"cat": 5, "d\u00f6g": 5})
    return make_classes(tmp_path / "split" / "test", {"cat": 1, "d\u00f6g": 2}).parent


def held_table(tmp_path: Path) -> Path:
    held_folder(tmp_path)
    table = tmp_path / "train_of_others.csv"
    names = ["held/cat/000.png,cat", "held/do\u0308g/000.png,d\u00f6g", "held/do\u0308g/001.png,d\u00f6g"]
    table.write_text("\n".join(["path,label", *names]), encoding="utf-8")
    return table


@pytest.mark.parametrize("make", [held_folder, held_split_folder, held_table])
def test_separate_test_split(photos: DataConfig, tmp_path: Path, make) -> None:
    test = make(tmp_path)
    data = load_data(replace(photos, test=str(test)))
    assert data.class_counts.counts.tolist() == [6, 4, 2]  # the training data keep all their images
    assert data.class_names == ("cat", "d\u00f6g", "owl")
    assert torch.bincount(data.test.targets, minlength=3).tolist() == [1, 2, 0]
    assert data.load_report.notes[0] == f"The test split is {str(test)!r}, with 3 images."
    assert "1 of 3 classes have no test image: owl." in data.load_report.notes


def test_own_test_split_is_not_used(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "root" / "train", {"cat": 3, "dog": 2}).parent
    make_classes(root / "test", {"cat": 1, "dog": 1})
    data = load_data(DataConfig(name=str(root), test=str(make_classes(tmp_path / "held", {"cat": 2, "dog": 2}))))
    assert (len(data.train), len(data.test)) == (5, 4)


def test_list_with_names_and_a_list_of_positions(tmp_path: Path) -> None:
    make_classes(tmp_path / "a", {"cat": 2, "dog": 2})
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "classnames.txt").write_text("n1 cat\nn2 dog\n")
    (lists / "mine.txt").write_text("a/cat/000.png 0\na/dog/000.png 1\n")
    (tmp_path / "held.txt").write_text("a/dog/001.png 1\na/cat/001.png 0\n")
    config = DataConfig(name=str(lists / "mine.txt"), root=str(tmp_path), test=str(tmp_path / "held.txt"))
    assert find_listing(config).parts["test"].targets.tolist() == [1, 0]


def test_unknown_class_of_the_test_split(photos: DataConfig, tmp_path: Path) -> None:
    config = replace(photos, test=str(make_classes(tmp_path / "held", {"cat": 1, "ape": 1})))
    with pytest.raises(InputError, match=r"1 of 2 classes of the test split .* whose classes are cat, .*\n  ape"):
        load_data(config)
    kept = load_data(replace(config, empty_classes="keep"))
    assert (kept.class_names[0], kept.class_counts.counts.tolist()) == ("ape", [0, 6, 4, 2])
    assert sorted(kept.test.targets.tolist()) == [0, 1]
    dropped = load_data(replace(config, empty_classes="drop"))
    assert (dropped.class_names, dropped.test.targets.tolist()) == (kept.class_names[1:], [0])
    note = "1 of 4 classes have no training image and were removed, with 1 test images: ape."
    assert note in dropped.load_report.notes


@pytest.mark.parametrize(("name", "test"), [("digits-lt", "."), ("photos", "nowhere")])
def test_refused_test_splits(photos: DataConfig, name: str, test: str) -> None:
    config = DataConfig(name=name, test=test) if name == "digits-lt" else replace(photos, test=test)
    with pytest.raises(InputError, match=r"`test` (applies to folders|must be a folder)"):
        load_data(config)


def test_empty_class_folder(photos: DataConfig) -> None:
    (Path(photos.name) / "ant").mkdir()
    with pytest.raises(InputError, match=r"without an image; remove it, add images .*`empty_classes`.*\n  ant"):
        load_data(photos)
    kept = load_data(replace(photos, empty_classes="keep"))
    assert kept.class_names[0] == "ant"
    assert kept.class_counts.counts.tolist()[0] == 0
    assert "1 of 4 classes have no training image and keep their outputs of the model: ant." in kept.load_report.notes
    dropped = load_data(replace(photos, empty_classes="drop"))
    assert dropped.class_names == kept.class_names[1:]
    assert dropped.class_counts.counts.tolist() == kept.class_counts.counts.tolist()[1:]
    with pytest.raises(InputError, match="`imbalance_factor` 2 needs training images of every class, and 1 classes"):
        load_data(replace(photos, empty_classes="keep", imbalance_factor=2))


def test_class_that_loses_its_images(photos: DataConfig) -> None:
    for image in (Path(photos.name) / "owl").iterdir():
        image.write_bytes(b"broken")
    config = replace(photos, on_bad_image="skip")
    with pytest.raises(InputError, match=r"without its 2 unreadable images' have no training image.*`empty_classes`"):
        load_data(config)
    data = load_data(replace(config, empty_classes="drop"))
    assert data.class_names == ("cat", "d\u00f6g")
    assert [each.path for each in data.load_report.unreadable] == ["owl/000.png", "owl/001.png"]


def test_two_classes_with_images_are_needed(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "root", {"cat": 3})
    (root / "dog").mkdir()
    with pytest.raises(InputError, match="has 1 of 2 classes with a training image; a classifier needs at least two"):
        load_data(DataConfig(name=str(root), empty_classes="keep"))
