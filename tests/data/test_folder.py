from pathlib import Path

import pytest

from longtail.data.formats.folder import read_folder
from longtail.errors import InputError
from tests.data.helpers import make_classes, noise, save


def test_a_folder_per_class(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"dog": 1, "cat": 2})
    save(root / "cat/young/a.JPEG", noise(0))
    listing = read_folder(root)
    assert (listing.name, listing.root, listing.source) == (str(root), root, "folder")
    assert listing.class_names == ("cat", "dog")
    assert listing.parts["train"].paths == ("cat/000.png", "cat/001.png", "cat/young/a.JPEG", "dog/000.png")
    assert listing.parts["train"].targets.tolist() == [0, 0, 0, 1]
    assert set(listing.parts) == {"train"}
    assert listing.notes == ()


def test_numbered_classes_count_upwards(tmp_path: Path) -> None:
    listing = read_folder(make_classes(tmp_path, {"10": 1, "9": 1, "0": 1}))
    assert listing.class_names == ("0", "9", "10")
    assert listing.parts["train"].paths == ("0/000.png", "10/000.png", "9/000.png")
    assert listing.parts["train"].targets.tolist() == [0, 2, 1]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_parts_above_the_classes(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for name, counts in zip(names, ({"cat": 2, "dog": 1}, {"cat": 1}, {"dog": 1, "cat": 1}), strict=True):
        make_classes(tmp_path / name, counts)
    listing = read_folder(str(tmp_path))
    assert {part: len(examples) for part, examples in listing.parts.items()} == {"train": 3, "val": 1, "test": 2}
    assert listing.parts["test"].paths == (f"{names[2]}/cat/000.png", f"{names[2]}/dog/000.png")


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"cat": 1, "dog": 1})
    (root / "cat/.hidden.png").write_bytes(b"")
    (root / "cat/readme.md").write_text("cats")
    (root / ".git/objects").mkdir(parents=True)
    assert len(read_folder(root).parts["train"]) == 2


def test_what_was_left_out_is_noted(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"cat": 1, "dog": 1})
    save(tmp_path / "train/stray.png", noise(0))
    (tmp_path / "devkit").mkdir()
    assert read_folder(tmp_path).notes == (
        "Folders next to train that are not part of the data were left out: devkit.",
        "1 images directly in train belong to no class folder and were left out.",
    )


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    listing = read_folder(make_classes(tmp_path, {"train": 1, "bus": 1, "test": 1}))
    assert listing.class_names == ("bus", "test", "train")


def test_empty_class_folder_is_named(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl/notes.txt").write_text("none yet")
    with pytest.raises(InputError, match=r"1 class folder in .* without an image; remove it, add images .*\n  owl"):
        read_folder(tmp_path)


def test_empty_class_folders_of_all_parts_are_named_at_once(tmp_path: Path) -> None:
    for part in ("train", "test"):
        make_classes(tmp_path / part, {"cat": 1, "dog": 1})
        (tmp_path / part / "owl").mkdir()
    (tmp_path / "train/emu").mkdir()
    with pytest.raises(InputError, match=r"3 class folders in .* without an image; remove them") as caught:
        read_folder(tmp_path)
    assert sorted(str(caught.value).splitlines()[1:]) == ["  test/owl", "  train/emu", "  train/owl"]


def test_class_only_in_test(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"cat": 1, "dog": 1})
    make_classes(tmp_path / "test", {"cat": 1, "owl": 1})
    with pytest.raises(InputError, match=r"1 of 3 classes occur only in the test split .*\n  owl"):
        read_folder(tmp_path)


def test_one_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fewer than two classes, 'cat'"):
        read_folder(make_classes(tmp_path, {"cat": 2}))


def test_images_without_class_folders(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(0))
    with pytest.raises(InputError, match="holds no folders; put the images into one folder per class"):
        read_folder(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder at .*; give the folder that holds one folder per class"):
        read_folder(tmp_path / "nowhere")


def test_parts_without_training(tmp_path: Path) -> None:
    make_classes(tmp_path / "val", {"cat": 1})
    make_classes(tmp_path / "test", {"cat": 1})
    with pytest.raises(InputError, match="has test, val but no train folder"):
        read_folder(tmp_path)


def test_two_folders_for_one_part(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"cat": 1, "dog": 1})
    make_classes(tmp_path / "val", {"cat": 1})
    make_classes(tmp_path / "valid", {"cat": 1})
    with pytest.raises(InputError, match=r"val and valid in .* both mean the val split"):
        read_folder(tmp_path)


def test_links_that_escape_or_go_round(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "root", {"cat": 1, "dog": 1})
    elsewhere = make_classes(tmp_path / "elsewhere", {"owl": 1})
    (root / "owl").symlink_to(elsewhere / "owl")
    with pytest.raises(InputError, match=r"leads out of the data root .*\n  owl$"):
        read_folder(root)
    (root / "owl").unlink()
    (root / "cat/loop").symlink_to(root)
    with pytest.raises(InputError, match=r"'cat/loop' in .* is a symbolic link to a folder that contains it"):
        read_folder(root)
