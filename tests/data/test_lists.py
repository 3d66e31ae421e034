import json
import os
from pathlib import Path

import pytest
import torch

from longtail.data.counts import ClassCounts
from longtail.data.formats.lists import BENCHMARKS, INAT_NOTE, parse_list, read_lists
from longtail.errors import InputError

TRAIN = "train/cat/1.jpg 0\ntrain/dog/1.jpg 1\ntrain/cat/2.jpg 0\n"
VAL = "train/dog/2.jpg 1\n"
TEST = "val/cat/3.jpg 0\nval/dog/3.jpg 1\n"


def write(folder: Path, stem: str, **parts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in parts.items():
        (folder / f"{stem}_{part}.txt").write_text(text)
    return folder


def touch_images(root: Path, *lists_of: str) -> None:
    for line in "".join(lists_of).splitlines():
        path = root / line.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch_images(tmp_path, TRAIN, VAL, TEST)
    return write(tmp_path, "Toy_LT", train=TRAIN, val=VAL, test=TEST)


def test_a_folder_or_its_training_list(folder: Path) -> None:
    for given in (folder, folder / "Toy_LT_train.txt", str(folder)):
        listing = read_lists(given)
        assert (listing.name, listing.root, listing.source) == (str(given), folder, "list")
        assert listing.class_names == ("0", "1")
        assert listing.parts["train"].paths == ("train/cat/1.jpg", "train/dog/1.jpg", "train/cat/2.jpg")
        assert listing.parts["train"].targets.tolist() == [0, 1, 0]
        assert listing.parts["val"].paths == ("train/dog/2.jpg",)  # as in ImageNet-LT, in train/
        assert listing.parts["test"].targets.tolist() == [0, 1]


def test_unrelated_lists_in_the_folder_are_ignored(folder: Path) -> None:
    write(folder, "Toy_LT", uniform="x.jpg 0\n", forward10="y.jpg 1\n")
    assert set(read_lists(folder).parts) == {"train", "val", "test"}


def test_a_single_list_of_any_name(folder: Path) -> None:
    (folder / "mine.txt").write_text(TRAIN)
    assert set(read_lists(folder / "mine.txt").parts) == {"train"}


def test_images_below_another_root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = write(tmp_path_factory.mktemp("lists"), "Toy_LT", train=TRAIN, test=TEST)
    assert read_lists(elsewhere, folder).root == folder
    with pytest.raises(InputError, match="5 of 5 image files are missing"):
        read_lists(elsewhere)


def test_paths_with_blanks_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a_train.txt"
    path.write_bytes(b"\xef\xbb\xbfmy cats/1.jpg 0\r\n\r\n  dogs/1.jpg\t1  \r\n")
    assert parse_list(path) == (["my cats/1.jpg", "dogs/1.jpg"], [0, 1])


@pytest.mark.parametrize("line", ["cat/1.jpg cat", "cat/1.jpg 1.5", "cat/1.jpg", "7"])
def test_a_line_without_an_integer_label(tmp_path: Path, line: str) -> None:
    write(tmp_path, "a", train=f"{TRAIN}\n{line}\n")
    with pytest.raises(InputError, match=rf"line 5 of .* must be a path and an integer label, got '{line}'"):
        parse_list(tmp_path / "a_train.txt")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": ""}, "there is no image in"),
        ({"train": "train/cat/1.jpg 0\ntrain/cat/2.jpg 0\n"}, "fewer than two classes"),
        ({"train": "train/cat/1.jpg 0\ntrain/dog/1.jpg -1\n"}, "label -1 in .* is out of range"),
        ({"train": TRAIN, "test": TEST + "val/owl/1.jpg 2\n"}, "1 of 3 classes occur only in the test split"),
        ({"train": TRAIN + "train/cat/9.jpg 0\n"}, "1 of 4 image files are missing .*\n  train/cat/9.jpg"),
        ({"train": TRAIN + "../cat/9.jpg 0\n"}, "1 path leads out of the data root"),
    ],
)
def test_refusals(folder: Path, parts: dict[str, str], message: str) -> None:
    (folder / "Toy_LT_train.txt").unlink()
    write(folder, "bad", **parts)
    with pytest.raises(InputError, match=message):
        read_lists(folder)


def test_folders_without_or_with_several_lists(folder: Path) -> None:
    write(folder, "Other", train=TRAIN)
    with pytest.raises(InputError, match=r"one list \*_train.txt, but has 2:\n.*Other_train.*\n.*\ngive one"):
        read_lists(folder)
    with pytest.raises(InputError, match="but has none"):
        read_lists(folder / "train")
    with pytest.raises(InputError, match="no list at"):
        read_lists(folder / "nowhere.txt")


def test_class_names_next_to_the_lists(folder: Path) -> None:
    (folder / "classnames.txt").write_text("n01 crane\nn02 great  white shark\n")
    assert read_lists(folder).class_names == ("crane", "great  white shark")
    (folder / "classnames.txt").write_text("n01 crane\nn02 crane\n")
    assert read_lists(folder).class_names == ("crane (n01)", "crane (n02)")
    (folder / "classnames.txt").write_text("cat\ndog\n\n")
    assert read_lists(folder).class_names == ("cat", "dog")


def test_label_beyond_the_class_names(folder: Path) -> None:
    (folder / "classnames.txt").write_text("cat\ndog\n")
    write(folder, "Toy_LT", test="val/cat/3.jpg 2\n")
    with pytest.raises(InputError, match=r"label 2 of 'val/cat/3.jpg' is out of range: .* has 2 classes"):
        read_lists(folder)


def test_class_names_from_categories(folder: Path) -> None:
    entries = [{"id": 1, "name": "Canis"}, {"id": 0, "name": "Felis"}]
    (folder / "categories.json").write_text(json.dumps(entries))
    assert read_lists(folder).class_names == ("Felis", "Canis")
    for bad, message in (("[{}]", 'mappings with "id" and "name"'), ("{", "mappings"), ("[]", "fewer than two")):
        (folder / "categories.json").write_text(bad)
        with pytest.raises(InputError, match=message):
            read_lists(folder)
    (folder / "categories.json").write_text(json.dumps(entries[:1]))
    with pytest.raises(InputError, match=r"ids of the 1 classes in .* must be 0 to 0"):
        read_lists(folder)


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("below", ["lists", ""])
@pytest.mark.parametrize("with_own_folder", [True, False])
def test_benchmarks_are_found_below_the_root(tmp_path: Path, name: str, below: str, with_own_folder: bool) -> None:
    known = BENCHMARKS[name]
    write(tmp_path / below / known.lists, known.lists, train=TRAIN, val=VAL, test=TEST)
    home = tmp_path / known.images if with_own_folder else tmp_path
    touch_images(home, TRAIN, VAL, TEST)
    listing = read_lists(name, tmp_path)
    assert (listing.name, listing.root) == (name, home)
    assert len(listing.parts["train"]) == 3


def test_benchmark_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "lists/Places_LT", "Places_LT", train=TRAIN, test=TEST)
    touch_images(tmp_path / "places365", TRAIN, TEST)
    monkeypatch.setenv("LONGTAIL_DATA", str(tmp_path))
    assert read_lists("places-lt").root == tmp_path / "places365"


def test_inat_validation_is_the_test_part(tmp_path: Path) -> None:
    write(tmp_path / "lists/iNaturalist18", "iNaturalist18", train=TRAIN, val=TEST)
    touch_images(tmp_path / "inat18", TRAIN, TEST)
    listing = read_lists("inat18", tmp_path)
    assert set(listing.parts) == {"train", "test"}
    assert listing.notes == (INAT_NOTE,)


def test_absent_benchmark_names_the_places_tried_and_the_source(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_lists("imagenet-lt", tmp_path)
    message = str(caught.value)
    assert f"  {tmp_path}/lists/ImageNet_LT\n  {tmp_path}/ImageNet_LT\nget the lists from https://github.com" in message
    write(tmp_path / "lists/ImageNet_LT", "ImageNet_LT", train=TRAIN)
    with pytest.raises(InputError) as caught:
        read_lists("imagenet-lt", tmp_path)
    message = str(caught.value)
    assert f"  {tmp_path}/imagenet/train/cat/1.jpg\n  {tmp_path}/train/cat/1.jpg\nget" in message
    assert "https://image-net.org" in message


def test_lists_named_train_and_test(folder: Path) -> None:
    (folder / "train.txt").write_text(TRAIN)
    (folder / "test.txt").write_text(TEST.replace(" 1", " 1.0"))
    (folder / "val.txt").write_text("train/dog/2.jpg\n")
    listing = read_lists(folder / "train.txt")
    assert {part: len(these) for part, these in listing.parts.items()} == {"train": 3, "test": 2}
    assert listing.notes[0] == "test.txt next to train.txt is used as the test split."
    assert listing.notes[1].startswith("val.txt next to train.txt is not used as the val split: line 1 of")


def test_identifiers_with_gaps_are_names(folder: Path) -> None:
    (folder / "mine.txt").write_text(TRAIN.replace(" 1", " 12").replace(" 0", " 3"))
    listing = read_lists(folder / "mine.txt")
    assert (listing.class_names, listing.parts["train"].targets.tolist()) == (("3", "12"), [0, 1, 0])


REAL = Path(os.environ.get("LONGTAIL_DATA", "nowhere")) / "lists"
needs_lists = pytest.mark.skipif(not REAL.is_dir(), reason="no folder `lists` with the released lists in LONGTAIL_DATA")


@needs_lists
def test_released_places_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtail.data.formats.listing.locate_files", lambda root, paths, follow_links: tuple(paths))
    listing = read_lists(REAL / "Places_LT")
    sizes = {part: len(examples) for part, examples in listing.parts.items()}
    assert sizes == {"train": 62_500, "val": 7_300, "test": 36_500}
    assert len(listing.class_names) == 365
    assert listing.class_names[:2] == ("airfield", "airplane_cabin")
    groups = ClassCounts.from_targets(listing.parts["train"].targets, 365).groups()
    assert [int(groups[name].sum()) for name in ("many", "medium", "few")] == [131, 163, 71]
    assert torch.bincount(listing.parts["test"].targets).unique().tolist() == [100]


@needs_lists
def test_released_imagenet_and_inaturalist_lists() -> None:
    paths, labels = parse_list(REAL / "ImageNet_LT/ImageNet_LT_val.txt")
    assert len(paths) == 20_000
    assert all(path.startswith("train/") for path in paths)
    assert torch.bincount(torch.tensor(labels)).tolist() == [20] * 1000
    paths, labels = parse_list(REAL / "iNaturalist18/iNaturalist18_val.txt")
    assert torch.bincount(torch.tensor(labels)).tolist() == [3] * 8142
