import os
from pathlib import Path

import pytest
import torch

from longtail.data.formats.listing import (
    check_class_presence,
    make_listing,
    numbered_labels,
    ordered_class_names,
    split_from_name,
)
from longtail.data.formats.paths import locate_files, relative_paths
from longtail.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    return tmp_path


def test_parts_without_an_image_are_left_out(root: Path) -> None:
    parts = {"train": (["a.png", "./b.png"], [1, 0]), "val": ([], []), "test": (["c.png"], [0])}
    listing = make_listing("x", root, "table", ["cat", "dog"], parts)
    assert set(listing.parts) == {"train", "test"}
    assert listing.parts["train"].paths == ("a.png", "b.png")
    assert torch.equal(listing.parts["train"].targets, torch.tensor([1, 0]))
    assert len(listing.parts["test"]) == 1


@pytest.mark.parametrize(
    ("class_names", "parts", "message"),
    [
        (["cat", "dog"], {"train": ([], [])}, "there is no image in 'x'"),
        (
            ["cat"],
            {"train": (["a.png"], [0])},
            "'x' has fewer than two classes, 'cat'; a classifier needs at least two",
        ),
        ([], {"train": (["a.png"], [0])}, "fewer than two classes; a"),
        (["cat", "dog"], {"train": (["a.png", "b.png"], [0, 2])}, r"label 2 of 'b.png' is out of range.*be 0 to 1"),
        (["cat", "dog"], {"train": (["a.png", "b.png"], [0, -1])}, r"label -1 of 'b.png' is out of range"),
        (["cat", "dog"], {"test": (["a.png", "b.png"], [0, 1])}, "'x' has no training image; mark some"),
        (["cat", "dog"], {"train": (["a.png"], [0])}, r"1 of 2 classes of 'x' have no training image; add training"),
        (["cat", "dog"], {"train": (["a.png", "z.png"], [0, 1])}, "1 of 2 image files are missing"),
        (["cat", "dog"], {"train": (["a.png", "../z.png"], [0, 1])}, "leads out of the data root"),
    ],
)
def test_refusals(root: Path, class_names: list[str], parts: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_listing("x", root, "table", class_names, parts)


@pytest.mark.parametrize("part", ["test", "val"])
def test_class_seen_only_outside_training(part: str) -> None:
    targets = {"train": torch.tensor([0, 0]), part: torch.tensor([0, 1])}
    with pytest.raises(
        InputError, match=rf"2 classes occur only in the {part} split of 'x', never in training.*\n  dog"
    ):
        check_class_presence("x", ["cat", "dog"], targets)


def test_names_are_sorted_as_text_and_numbers_as_numbers() -> None:
    assert ordered_class_names(["b", "a", "C", "b"]) == ("C", "a", "b")
    assert ordered_class_names(["10", "9", "1"]) == ("1", "9", "10")
    assert ordered_class_names(["10", "09"]) == ("09", "10")
    assert ordered_class_names(["10", "9", "x"]) == ("10", "9", "x")


@pytest.mark.parametrize(
    ("labels", "class_names", "numbers"),
    [
        (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        (["0", "1", "1"], ("0", "1"), [0, 1, 1]),
        (["1.0", "0.0"], ("0", "1"), [1, 0]),  # as spreadsheets write integers
        (["1", "2", "3"], ("1", "2", "3"), [0, 1, 2]),
        (["007", "006"], ("006", "007"), [1, 0]),
        (["A", "0", "1"], ("0", "1", "A"), [2, 0, 1]),
        (["7", "3", "12"], ("3", "7", "12"), [1, 0, 2]),  # gaps: identifiers
        (["7,0", "3", "12"], ("3", "7", "12"), [1, 0, 2]),  # a decimal comma
        (["0", "1", "12345678901234567890"], ("0", "1", "12345678901234567890"), [0, 1, 2]),
        (["Ba\u0308r", "B\u00e4r", "owl"], ("B\u00e4r", "owl"), [0, 0, 1]),
    ],
)
def test_labels_are_names_or_numbers(labels: list[str], class_names: tuple[str, ...], numbers: list[int]) -> None:
    assert numbered_labels("x", labels) == (class_names, numbers)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "1.5"], "label 1.5 in 'x' is not an integer"),
        (["0", "-1"], "label -1 in 'x' is out of range"),
        (["0", "nan"], "1 of 2 rows of 'x' have the label 'nan', first in row 2, which means a missing value"),
        (["cat", "dog", "NA"], "have the label 'NA', first in row 3"),
        (["cat", "dog", "<NA>"], "have the label '<NA>', first in row 3"),
    ],
)
def test_bad_numbers(labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        numbered_labels("x", labels)


def test_part_names() -> None:
    assert [split_from_name(name) for name in ("train", "Training ", "VALID", "val", "test")] == [
        "train",
        "train",
        "val",
        "val",
        "test",
    ]
    with pytest.raises(InputError, match="there is no split 'tset'; did you mean test"):
        split_from_name("tset")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_one_spelling_for_every_path(tmp_path: Path) -> None:
    given = ["cat/1.png", "./cat//1.png", "dog/../cat/1.png", f"{tmp_path}/cat/1.png"]
    assert set(relative_paths(tmp_path, given)) == {"cat/1.png"}


def test_backslashes_separate_folders_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert relative_paths(tmp_path, ["cat\\1.png"]) == ("cat/1.png",)  # a table that was written on Windows
    (tmp_path / "cat\\1.png").touch()
    assert relative_paths(tmp_path, ["cat\\1.png"]) == ("cat\\1.png",)
    monkeypatch.setattr(os, "sep", "\\")
    assert relative_paths(tmp_path, ["cat\\1.png", "dog/2.png"]) == ("cat/1.png", "dog/2.png")


def test_absolute_path_below_a_root_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for home in ("real", "link"):
        assert relative_paths(tmp_path / "link", [f"{tmp_path}/{home}/cat/1.png"]) == ("cat/1.png",)


@pytest.mark.parametrize("path", ["../secret.png", "cat/../../secret.png", "/etc/secret.png", "..", ""])
def test_path_that_leaves_the_root(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match=r"1 path leads out of the data root .* copy the files into it"):
        relative_paths(tmp_path, ["cat/1.png", path])


def test_a_folder_whose_name_starts_like_the_root_is_outside(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leads out of the data root"):
        relative_paths(tmp_path / "data", [f"{tmp_path}/data2/1.png"])


def test_missing_files_are_counted_and_ten_named(tmp_path: Path) -> None:
    touch(tmp_path / "cat/0.png")
    with pytest.raises(InputError) as caught:
        locate_files(tmp_path, [f"cat/{k}.png" for k in range(13)] + ["dog/0.png"])
    message = str(caught.value)
    assert message.startswith("13 of 14 image files are missing in")
    assert "  cat/10.png\n  ... and 3 more" in message
    assert "cat/11.png" not in message


def test_a_folder_is_no_image_file(tmp_path: Path) -> None:
    (tmp_path / "cat/0.png").mkdir(parents=True)
    with pytest.raises(InputError, match="1 of 1 image files are missing"):
        locate_files(tmp_path, ["cat/0.png"])


def test_zero_byte_in_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        locate_files(tmp_path, ["cat\0/0.png"])


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder at .*set `root`"):
        locate_files(tmp_path / "nowhere", ["0.png"])


def test_symbolic_links_may_stay_inside(tmp_path: Path) -> None:
    touch(tmp_path / "root/cat/0.png")
    os.symlink(tmp_path / "root/cat/0.png", tmp_path / "root/cat/1.png")
    os.symlink(tmp_path / "root/cat", tmp_path / "root/feline")
    locate_files(tmp_path / "root", ["cat/0.png", "cat/1.png", "feline/0.png"])


def test_symbolic_links_must_not_escape(tmp_path: Path) -> None:
    touch(tmp_path / "root/cat/0.png")
    touch(tmp_path / "secret/0.png")
    os.symlink(tmp_path / "secret/0.png", tmp_path / "root/cat/1.png")
    os.symlink(tmp_path / "secret", tmp_path / "root/dog")
    with pytest.raises(InputError, match=r"2 paths lead out of the data root") as caught:
        locate_files(tmp_path / "root", ["cat/0.png", "cat/1.png", "dog/0.png"])
    assert "  cat/1.png\n  dog/0.png" in str(caught.value)


def test_root_that_is_itself_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "real/cat/0.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    locate_files(tmp_path / "link", ["cat/0.png"])
