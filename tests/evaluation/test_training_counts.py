from pathlib import Path

import pytest
import torch

from longtail import InputError
from longtail.data import ClassCounts
from longtail.evaluation import read_training_counts


def write(folder: Path, text: str, name: str = "counts.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("source", [[5, 2], torch.tensor([5, 2]), ClassCounts([5, 2])])
def test_counts_themselves(source: list[int]) -> None:
    found = read_training_counts(source)
    assert (found.counts.counts.tolist(), found.names) == ([5, 2], None)


@pytest.mark.parametrize(
    "text",
    [
        "class,count\ncat,5\ndog,2\n",
        "cat;5\ndog;2",
        "\ufeffname\tn\n\ncat\t5\ndog \t 2\n",
        'class,count\n"cat",5\ndog,2\n',
    ],
)
def test_two_columns_name_the_classes(tmp_path: Path, text: str) -> None:
    found = read_training_counts(write(tmp_path, text))
    assert found.names == ("cat", "dog")
    assert found.counts.counts.tolist() == [5, 2]


def test_two_columns_with_labels_are_put_in_their_order(tmp_path: Path) -> None:
    found = read_training_counts(write(tmp_path, "label,count\n2,7\n0,5\n1,3\n"))
    assert (found.counts.counts.tolist(), found.names) == ([5, 3, 7], None)


def test_numbers_that_are_no_labels_are_names(tmp_path: Path) -> None:
    assert read_training_counts(write(tmp_path, "7,5\n3,9\n")).names == ("7", "3")


@pytest.mark.parametrize(("text", "name"), [("count\n5\n2\n", "c.txt"), ("5\n2", "c.csv"), ("[5, 2]", "c.json")])
def test_one_column_and_json(tmp_path: Path, text: str, name: str) -> None:
    found = read_training_counts(str(write(tmp_path, text, name)))
    assert (found.counts.counts.tolist(), found.names) == ([5, 2], None)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("class,count\ncat,5\ndog,x\n", "c.csv", "c.csv, line 3: 'x' is no whole number of training images"),
        ("cat,5\ndog,-2\n", "c.csv", "line 2: '-2' is no whole number"),
        ("cat,5\ndog,2.5\n", "c.csv", "line 2: '2.5' is no whole number"),
        ("cat,5\ncat,2\n", "c.csv", "gives class 'cat' twice"),
        ("cat,5\n2\n", "c.csv", r"on every line, not \[1, 2\]"),
        ("a,b,5\nc,d,2\n", "c.csv", r"one column \(count\) or two .*not \[3\]"),
        ("", "c.csv", "one column"),
        ("class,count\n", "c.csv", "one column"),
        ("cat,5\n", "c.csv", "c.csv: class counts need at least two classes"),
        ('"' + "x" * 200_000, "c.csv", "as a table: field larger than field limit"),
        ("{", "c.json", "is no JSON"),
        ('{"cat": 5}', "c.json", "must hold a JSON list of whole numbers"),
        ("[5, 2.5]", "c.json", "must hold a JSON list of whole numbers"),
        ("[5, true]", "c.json", "must hold a JSON list of whole numbers"),
        ("[5, -1]", "c.json", "c.json: class counts must be >= 0, but class 1 has -1"),
        (f"[5, {10**30}]", "c.json", "c.json"),
    ],
)
def test_a_file_that_holds_no_counts_is_refused(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_training_counts(write(tmp_path, text, name))


def test_a_file_that_cannot_be_read_says_how_to_give_counts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file.*give the training images per class \(--counts\)"):
        read_training_counts(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read the class counts in .*binary\.csv"):
        read_training_counts(tmp_path / "binary.csv")
