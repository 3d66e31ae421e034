from pathlib import Path

import pytest
import torch

from longtail.data.listing import check_class_presence, make_listing, numbered_labels, ordered_class_names, part_of
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
        (["cat", "dog"], {"train": (["a.png", "b.png"], [0, 2])}, r"label 2 of 'b.png' is out of range.*from 0 to 1"),
        (["cat", "dog"], {"train": (["a.png", "b.png"], [0, -1])}, r"label -1 of 'b.png' is out of range"),
        (["cat", "dog"], {"test": (["a.png", "b.png"], [0, 1])}, "'x' has no training image; mark some"),
        (["cat", "dog"], {"train": (["a.png"], [0])}, r"1 of 2 classes of 'x' have no training image; add some"),
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
        InputError, match=rf"2 classes are seen only in the {part} part of 'x', never in training.*\n  dog"
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
        (["1.0", "0.0"], ("0", "1"), [1, 0]),  # what a table program makes of whole numbers
        (["1", "2", "3"], ("1", "2", "3"), [0, 1, 2]),
        (["007", "006"], ("006", "007"), [1, 0]),
        (["A", "0", "1"], ("0", "1", "A"), [2, 0, 1]),
    ],
)
def test_labels_are_names_or_numbers(labels: list[str], class_names: tuple[str, ...], numbers: list[int]) -> None:
    assert numbered_labels("x", labels) == (class_names, numbers)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "1.5"], "label 1.5 in 'x' is no integer"),
        (["0", "2", "2"], r"1 of 3 classes of 'x' have no training image: .* use names .*\n  1$"),
        (["0", "-1"], "label -1 in 'x' is out of range"),
        (["0", "1", "12345678901234567890"], "label 12345678901234567890 in 'x' is out of range"),
    ],
)
def test_bad_numbers(labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        numbered_labels("x", labels)


def test_part_names() -> None:
    assert [part_of(name) for name in ("train", "Training ", "VALID", "val", "test")] == [
        "train",
        "train",
        "val",
        "val",
        "test",
    ]
    with pytest.raises(InputError, match="there is no split 'tset'; did you mean test"):
        part_of("tset")
