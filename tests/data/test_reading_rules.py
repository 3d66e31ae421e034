"""Files of people and of other tools: one rule for tables, lists, folders and predictions."""

from pathlib import Path

import pytest

from longtail.config.schema import DataConfig
from longtail.data.files import find_images
from longtail.data.find import find_listing
from longtail.data.load import load_data
from longtail.errors import InputError
from tests.data.helpers import make_classes, noise, save


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_classes(tmp_path / "photos", {"cat": 2, "dog": 2})


def listing(path: Path):
    return find_listing(DataConfig(name=str(path)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'path,label\ncat/000.png,"1,0"\ndog/000.png,"0,0"\n'),
        ("t.csv", "path;label\rcat/000.png;1,0\rdog/000.png;0\r"),
        ("t.csv", "path|label\ncat/000.png|1\ndog/000.png|0\n"),
        ("t.csv", "\n sep=;\n\npath;label\ncat/000.png;1\n\ndog/000.png;0\n".replace(" sep", "sep")),
        ("t.csv", '"a\nnote",path,label\n"x\ny",cat/000.png,1\n,dog/000.png,0\n'),
        ("t.csv", "path,label\ncat\\000.png,1\ndog\\000.png,0\n"),
        ("t.tsv", "path\tlabel\r\ncat/000.png\t1\r\ndog/000.png\t0\r\n"),
        ("t.txt", "cat/000.png 1,0\rdog/000.png 0\r"),
        ("t.txt", '"cat/000.png",1\n"dog/000.png";0.0\n'),
    ],
)
def test_spellings_of_tables_and_lists(root: Path, name: str, text: str, encoding: str) -> None:
    (root / name).write_bytes(text.encode(encoding))
    found = listing(root / name)
    assert found.class_names == ("0", "1")
    assert dict(zip(found.parts["train"].paths, found.parts["train"].targets.tolist(), strict=True)) == {
        "cat/000.png": 1,
        "dog/000.png": 0,
    }


def test_text_with_zero_bytes_is_refused_in_words(root: Path) -> None:
    (root / "t.csv").write_bytes("path,label\n".encode("utf-16-le"))
    with pytest.raises(
        InputError, match="it has zero bytes, as UTF-16 without a byte order mark has; save it as UTF-8"
    ):
        listing(root / "t.csv")


@pytest.mark.parametrize("label", ["None", "null", "N/A", "-", "--", "?", "NAN", "NaT", "Null", "(null)"])
def test_missing_labels(root: Path, label: str) -> None:
    (root / "t.csv").write_text(f"path,label\ncat/000.png,cat\ndog/000.png,{label}\n")
    with pytest.raises(InputError, match="means a missing value"):
        listing(root / "t.csv")


@pytest.mark.parametrize("label", ["none", "unknown", "na"])
def test_words_that_are_classes(root: Path, label: str) -> None:
    (root / "t.csv").write_text(f"path,label\ncat/000.png,cat\ndog/000.png,{label}\n")
    assert listing(root / "t.csv").class_names == ("cat", label)


@pytest.mark.parametrize(
    ("train", "test"),
    [("trainLabels.csv", "testLabels.csv"), ("my train.csv", "my test.csv"), ("train2.csv", "test2.csv")],
)
def test_names_of_test_tables(root: Path, train: str, test: str) -> None:
    (root / train).write_text("path,label\ncat/000.png,cat\ndog/000.png,dog\n")
    (root / test).write_text("path,label\ncat/001.png,cat\n")
    assert len(listing(root / train).parts["test"]) == 1


@pytest.mark.parametrize(
    ("train", "other"), [("train.csv", "holdout.csv"), ("images.csv", "test.csv"), ("a.txt", "test.txt")]
)
def test_possible_test_files_are_named(root: Path, train: str, other: str) -> None:
    text = "path,label\ncat/000.png,0\ndog/000.png,1\n" if train.endswith(".csv") else "cat/000.png 0\ndog/000.png 1\n"
    (root / train).write_text(text)
    (root / other).write_text(text)
    assert listing(root / train).notes == (f"Next to {train}, not used: {other}; set `test` if it is the test split.",)


def test_system_folders_and_hidden_images(root: Path) -> None:
    for folder in (
        "@eaDir",
        ".AppleDouble",
        "__MACOSX",
        "$RECYCLE.BIN",
        "lost+found",
        "#recycle",
        "FOUND.000",
        "@__thumb",
    ):
        save(root / folder / "1.png", noise(1))
    save(root / "cat" / ".hidden.png", noise(2))
    for name in ("._000.png", "Thumbs.db", "x.jxl", "x.CR2", "x.svg"):
        (root / "cat" / name).write_bytes(b"x")
    found = listing(root)
    assert found.class_names == ("cat", "dog")
    assert len(find_images([root])) == 4
    assert {each.reason: each.count for each in found.passed_over} == {
        "hidden or system folder": 8,
        "hidden file": 1,
        "not in a supported image format: .cr2": 1,
        "not in a supported image format: .jxl": 1,
        "not in a supported image format: .svg": 1,
    }
    assert "1 hidden image files were left out: cat/.hidden.png." in found.notes


def test_path_in_the_other_unicode_form(tmp_path: Path) -> None:
    make_classes(tmp_path / "Ho\u0308f", {"a\u0308": 3, "b": 3})
    assert len(find_images([tmp_path / "H\u00f6f" / "\u00e4", tmp_path / "H\u00f6f" / "b" / "000.png"])) == 4
    assert load_data(DataConfig(name=str(tmp_path / "H\u00f6f"))).class_names == ("b", "\u00e4")
