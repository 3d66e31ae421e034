"""Valid and invalid files of predictions and of training counts."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtail import InputError
from longtail.data import ClassCounts
from longtail.evaluation import Predictions, read_predictions, read_training_counts

COUNTS = [500, 5]
Writer = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Writer:
    def write(text: str, name: str = "p.csv") -> Path:
        (tmp_path / name).write_bytes(text.encode())
        return tmp_path / name

    return write


@pytest.fixture
def npz(tmp_path: Path) -> Writer:
    def write(**arrays: Any) -> Path:
        np.savez(tmp_path / "p.npz", **arrays)
        return tmp_path / "p.npz"

    return write


def assert_logits(found: Predictions, expected: list[list[float]]) -> None:
    assert found.logits is not None
    torch.testing.assert_close(found.logits, torch.tensor(expected, dtype=torch.float32))


class TestTables:
    @pytest.mark.parametrize("target", ["target", "label", "true", "y_true", "labels"])
    def test_logits_by_label(self, table: Writer, target: str) -> None:
        found = read_predictions(table(f"id,{target},logit_1,logit_0\n7,1,1.5,-2\n8,0,0,1e1\n"), COUNTS)
        assert_logits(found, [[-2, 1.5], [10, 0]])
        assert (found.targets.tolist(), found.class_names) == ([1, 0], ("0", "1"))

    def test_logits_by_name_with_names_as_labels(self, table: Writer) -> None:
        found = read_predictions(table("target,logit_dog,logit_cat\ncat,1,2\ndog,3,4\n"), COUNTS)
        assert_logits(found, [[1, 2], [3, 4]])
        assert (found.targets.tolist(), found.class_names) == ([1, 0], ("dog", "cat"))

    def test_logits_by_name_with_numbers_as_labels(self, table: Writer) -> None:
        assert read_predictions(table("target,logit_dog,logit_cat\n1,1,2\n"), COUNTS).targets.tolist() == [1]

    def test_classes_that_count_from_one_are_names(self, table: Writer) -> None:
        found = read_predictions(table("target,logit_1,logit_2\n1,5,2\n2,3,4\n"), COUNTS)
        assert (found.targets.tolist(), found.class_names) == ([0, 1], ("1", "2"))

    def test_a_class_name_may_hold_an_underscore_and_a_comma(self, table: Writer) -> None:
        found = read_predictions(
            table('target,logit_sea_lion,"logit_cat, wild"\nsea_lion,1,2\n"cat, wild",3,4\n'), COUNTS
        )
        assert (found.targets.tolist(), found.class_names) == ([0, 1], ("sea_lion", "cat, wild"))

    def test_probabilities_become_logits_of_that_softmax(self, table: Writer) -> None:
        found = read_predictions(table("target,prob_0,prob_1\n0,0.25,0.75\n1,1,0\n"), COUNTS)
        assert found.logits is not None
        torch.testing.assert_close(found.logits.softmax(1), torch.tensor([[0.25, 0.75], [1, 0]]))
        assert found.logits.isfinite().all()

    def test_predicted_labels(self, table: Writer) -> None:
        found = read_predictions(table("target,predicted\n0,1\n1,1\n"), COUNTS)
        assert found.logits is None
        assert (found.predicted.tolist(), found.targets.tolist()) == ([1, 1], [0, 1])

    def test_predicted_names_with_a_table_of_counts(self, table: Writer) -> None:
        counts = table("class,count\ndog,9\ncat,3\n", "counts.csv")
        found = read_predictions(table("target,predicted\ncat,dog\ndog,dog\n"), counts)
        assert (found.predicted.tolist(), found.targets.tolist()) == ([0, 0], [1, 0])
        assert (found.class_names, found.class_counts.tolist()) == (("dog", "cat"), [9, 3])

    def test_counts_by_name_are_put_in_the_order_of_the_columns(self, table: Writer) -> None:
        counts = table("class,count\ncat,3\ndog,9\n", "counts.csv")
        found = read_predictions(table("target,logit_dog,logit_cat\ncat,1,2\n"), counts)
        assert found.class_counts.tolist() == [9, 3]

    def test_counts_by_name_name_the_columns_that_have_only_labels(self, table: Writer) -> None:
        counts = table("class,count\ncat,3\ndog,9\n", "counts.csv")
        found = read_predictions(table("target,logit_0,logit_1\ndog,1,2\n"), counts)
        assert (found.targets.tolist(), found.class_names) == ([1], ("cat", "dog"))

    def test_logits_decide_over_predicted_labels(self, table: Writer) -> None:
        assert read_predictions(table("target,predicted,logit_0,logit_1\n0,1,5,2\n"), COUNTS).predicted.tolist() == [0]

    @pytest.mark.parametrize(
        "text", ["\ufefftarget;predicted;path\r\n0;1;ä.png\r\n", "path\ttarget\tpredicted\nä.png\t0\t1"]
    )
    def test_semicolons_tabs_byte_order_marks_and_paths(self, table: Writer, text: str) -> None:
        found = read_predictions(table(text), COUNTS)
        assert (found.targets.tolist(), found.predicted.tolist(), found.paths) == ([0], [1], ("ä.png",))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "foo,bar\n1,2\n",
                r"has the columns foo, bar; it needs the true labels \(targets, target.*logit_0, logit_1",
            ),
            ("target,other\n1,2\n", "has the columns target, other; it needs"),
            ("target,label,predicted\n1,1,1\n", "true labels twice, as target and label"),
            ("target,target\n1,1\n", "two columns named 'target'"),
            ("", "is empty; it must start with a line of column names"),
            ("target,predicted\n", "nothing to evaluate: the targets are empty"),
            ("id,target,logit_0,logit_1\n9,0,1,2\n9,1,1,z\n", "column 'logit_1': line 3: .*'z'"),
            ("target,logit_0,logit_1\n0,1,2\n1,2\n", "line 3: Expected 3 columns, got 2"),
            ("target,logit_0,logit_1\n0,1,2\n1,,2\n", "p.csv: line 3: logits must not be NaN, .*or missing"),
            ("target,logit_0,logit_1\n0,nan,2\n", "line 2: logits must not be NaN"),
            ("target,logit_0,logit_1\n0,1,2\n2,1,2\n", "line 3: targets of 2 classes must be in 0 to 1, got 2"),
            ("target,predicted\n0,1\n0,2\n", "line 3: predicted labels of 2 classes must be in 0 to 1, got 2"),
            ("target,logit_0,logit_1,logit_2\n0,1,2,3\n", "training counts for 2 classes, but scores or names for 3"),
            ("target,logit_cat,logit_dog\ncat,1,2\ndgo,1,2\n", "line 3: there is no class 'dgo'; did you mean dog"),
            ("target,logit_cat,logit_dog\n,1,2\n", "line 2: the label '' means a missing value"),
            (
                "target,predicted\ncat,dog\n",
                "line 2: the label 'cat' is not an integer, and there are no class names",
            ),
            ("target,predicted\n0,1.5\n", "'1.5' is not an integer"),
            ("target,predicted\n0,nan\n", "line 2: the label 'nan' means a missing value"),
            ("target,prob_0,prob_1\n0,.5,.5\n0,.5,.7\n", "line 3: probabilities must .* the sum 1.2"),
            ("target,prob_0,prob_1\n0,-.5,1.5\n", r"line 2: probabilities must .*minimum -0\.5"),
            ("target,prob_0,prob_1\n0,nan,1\n", "line 2: probabilities must .* the sum nan"),
        ],
    )
    def test_refusals(self, table: Writer, text: str, message: str) -> None:
        with pytest.raises(InputError, match=message) as refusal:
            read_predictions(table(text), COUNTS)
        assert "p.csv" in str(refusal.value)

    def test_counts_of_other_classes_are_refused(self, table: Writer) -> None:
        counts = table("class,count\ncow,3\ndog,9\n", "counts.csv")
        with pytest.raises(InputError, match=r"have different class names:\n  cat\n  cow"):
            read_predictions(table("target,logit_dog,logit_cat\ncat,1,2\n"), counts)

    def test_no_counts_says_how_to_give_them(self, table: Writer) -> None:
        with pytest.raises(InputError, match=r"has no training images per class; pass `counts`.*class,count.*JSON"):
            read_predictions(table("target,predicted\n0,1\n"))

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_bytes(b"\x89PNG\xff\xff\n")
        with pytest.raises(InputError, match=r"cannot read .*p\.csv. as text: line 1 is not UTF-8"):
            read_predictions(tmp_path / "p.csv", COUNTS)

    @pytest.mark.parametrize(
        ("counts", "text", "words"),
        [
            ("class,count\n1,500\n2,50\n3,5\n", "label,predicted\n1,1\n2,2\n1,0\n", "line 4: there is no class '0'"),
            ("class,count\n1,500\n2,50\n3,5\n", "label,predicted\n1,1\n0,2\n", "line 3: there is no class '0'"),
            ("class,count\ncat,500\ndog,5\n", "label,predicted\ncat,0\ndog,1\n", "line 2: there is no class '0'"),
            ("class,count\n1,500\n2,5\n", "label,logit_0,logit_1\n1,0,1\n", "scores are in the order of positions"),
        ],
    )
    def test_all_columns_have_one_code(self, table: Writer, counts: str, text: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            read_predictions(table(text), table(counts, "counts.csv"))

    def test_identifiers_are_names_in_all_columns(self, table: Writer) -> None:
        counts = table("class,count\n3,500\n7,50\n12,5\n", "counts.csv")
        found = read_predictions(table("label,predicted\n3,3\n7,7\n12,3\n"), counts)
        assert (found.targets.tolist(), found.predicted.tolist()) == ([0, 1, 2], [0, 1, 0])

    @pytest.mark.parametrize(
        "text",
        [
            "label,predicted\n0.0,1.0\n1.0,1.0\n",
            "label;predicted\n0,0;1,0\n1,0;1,0\n",
            '"label","predicted"\n"0","1"\n"1","1"\n',
            "\ufefflabel;predicted\r\n0;1\r\n1;1\r\n",
        ],
    )
    def test_numbers_as_other_tools_write_them(self, table: Writer, text: str) -> None:
        found = read_predictions(table(text), COUNTS)
        assert (found.targets.tolist(), found.predicted.tolist()) == ([0, 1], [1, 1])

    def test_decimal_commas(self, table: Writer) -> None:
        assert_logits(read_predictions(table("label;logit_0;logit_1\n0;1,5;-2\n"), COUNTS), [[1.5, -2]])

    def test_unicode_forms_are_one_name(self, table: Writer) -> None:
        counts = table("class,count\nB\u00e4r,500\nowl,5\n", "counts.csv")
        found = read_predictions(table("label,predicted\nBa\u0308r,B\u00e4r\n"), counts)
        assert (found.targets.tolist(), found.predicted.tolist()) == ([0], [0])


class TestArrays:
    def test_numbers_that_may_be_names_or_positions_are_refused(self, npz: Writer, tmp_path: Path) -> None:
        counts = tmp_path / "counts.csv"
        counts.write_text("class,count\n1,500\n2,50\n3,5\n")
        with pytest.raises(InputError, match="may be class names or positions from 0"):
            read_predictions(npz(targets=np.array([1, 2]), predicted=np.array([1, 1])), counts)
        found = read_predictions(npz(targets=np.array([1, 3]), predicted=np.array([3, 3])), counts)
        assert (found.targets.tolist(), found.predicted.tolist()) == ([0, 2], [2, 2])

    def test_bytes_and_whole_floats(self, npz: Writer) -> None:
        names = np.array(["cat", "dog"])
        found = read_predictions(
            npz(targets=np.array([b"dog", b"cat"]), predicted=np.zeros(2), class_names=names), COUNTS
        )
        assert (found.targets.tolist(), found.predicted.tolist()) == ([1, 0], [0, 0])

    @pytest.mark.parametrize("target", ["targets", "labels", "y_true"])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_logits(self, npz: Writer, target: str, dtype: str) -> None:
        found = read_predictions(npz(**{target: np.array([1, 0], "uint8")}, logits=np.eye(2, dtype=dtype)), COUNTS)
        assert_logits(found, [[1, 0], [0, 1]])
        assert found.targets.tolist() == [1, 0]

    @pytest.mark.parametrize("name", ["probabilities", "probs"])
    def test_probabilities(self, npz: Writer, name: str) -> None:
        found = read_predictions(npz(targets=np.array([1]), **{name: np.array([[0.2, 0.8]])}), COUNTS)
        assert found.scores().ece == pytest.approx(20, rel=1e-5)

    @pytest.mark.parametrize("name", ["predicted", "predictions"])
    def test_predicted_labels(self, npz: Writer, name: str) -> None:
        found = read_predictions(npz(targets=np.array([1, 0]), **{name: np.array([0, 0])}), COUNTS)
        assert (found.logits, found.predicted.tolist()) == (None, [0, 0])

    def test_names_as_labels(self, npz: Writer) -> None:
        path = npz(targets=np.array(["a", "b"]), predicted=np.array(["b", "b"]), class_names=np.array(["b", "a"]))
        assert read_predictions(path, COUNTS).targets.tolist() == [1, 0]

    def test_given_counts_go_before_those_of_the_file(self, npz: Writer) -> None:
        path = npz(targets=np.array([0]), predicted=np.array([0]), class_counts=np.array([7, 7]))
        assert read_predictions(path).class_counts.tolist() == [7, 7]
        assert read_predictions(path, COUNTS).class_counts.tolist() == COUNTS

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"foo": np.zeros(1)}, r"has the arrays foo, class_counts; it needs the true labels .*logits \(N, C\)"),
            ({}, "has the arrays \\(none\\); it needs"),
            ({"targets": np.zeros(1, int)}, "has the arrays targets, class_counts; it needs"),
            ({"logits": np.zeros((3, 2))}, r"shape \(2, 2\).*got \(3, 2\)"),
            ({"logits": np.zeros(2)}, r"logits must have shape \(N, C\), got \(2,\)"),
            ({"logits": np.zeros((2, 3))}, "training counts for 2 classes, but scores or names for 3"),
            ({"logits": np.array([["a", "b"]] * 2)}, "logits must be numbers"),
            ({"logits": np.array([[0, 1], [np.nan, 1]])}, r"example 1 \(counted from 0\): logits must not be NaN"),
            ({"predicted": np.zeros(3, int)}, "3 predicted labels for 2 targets"),
            ({"predicted": np.full(2, 0.5)}, "predicted labels must be integers"),
            ({"predicted": np.array([0, 9])}, "example 1 .* must be in 0 to 1, got 9"),
            ({"predicted": np.array([0, None])}, r"Python objects are never loaded; write text as numpy\.array"),
            ({"probs": np.ones((2, 2))}, r"example 0 .*: probabilities must .* the sum 2 .*; name other scores logits"),
            (
                {"predicted": np.zeros(2, int), "class_names": np.array(["a"])},
                "training counts for 2 classes, but scores or names for 1",
            ),
            (
                {"predicted": np.array(["a", "a"]), "class_names": np.array(["a", "a"])},
                "two classes have the same name",
            ),
            (
                {"predicted": np.zeros(2, int), "paths": np.array(["a"])},
                "`paths` must have one entry per example, 2, got 1",
            ),
        ],
    )
    def test_refusals(self, npz: Writer, arrays: dict[str, Any], message: str) -> None:
        targets = {"targets": np.array([0, 1])} if arrays and "foo" not in arrays else {}
        with pytest.raises(InputError, match=message) as refusal:
            read_predictions(npz(**{**targets, **arrays, "class_counts": np.array(COUNTS)} if arrays else {}))
        assert "p.npz" in str(refusal.value)

    def test_counts_of_the_file_must_be_whole(self, npz: Writer) -> None:
        path = npz(targets=np.array([0]), predicted=np.array([0]), class_counts=np.array([0.9, 0.1]))
        with pytest.raises(InputError, match="class counts must be whole numbers"):
            read_predictions(path)

    def test_a_truncated_file_is_refused_wherever_it_ends(self, npz: Writer) -> None:
        path = npz(targets=np.array([0, 1]), logits=np.eye(2), class_counts=np.array(COUNTS))
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match="truncated or not an NPZ file"):
                read_predictions(path)

    def test_a_flipped_byte_is_noticed(self, npz: Writer) -> None:
        path = npz(targets=np.array([0, 1]), logits=np.eye(2), class_counts=np.array(COUNTS))
        damaged = bytearray(path.read_bytes())
        damaged[damaged.index(np.eye(2).tobytes()) + 6] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"cannot read .*CRC"):
            read_predictions(path)

    def test_a_bare_array_is_refused(self, tmp_path: Path) -> None:
        with open(tmp_path / "p.npz", "wb") as stream:
            np.save(stream, np.zeros(3))
        with pytest.raises(InputError, match=r"is a single array; write an NPZ file with numpy\.savez"):
            read_predictions(tmp_path / "p.npz", COUNTS)

    def test_a_pickle_is_never_loaded(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        (tmp_path / "p.npz").write_bytes(pickle.dumps(Trap()))
        with pytest.raises(InputError, match="Python objects are never loaded"):
            read_predictions(tmp_path / "p.npz", COUNTS)
        np.savez(tmp_path / "q.npz", targets=np.array([Trap()], dtype=object), predicted=np.array([0]))
        with pytest.raises(InputError, match="Python objects are never loaded"):
            read_predictions(tmp_path / "q.npz", COUNTS)
        assert not (tmp_path / "sprung").exists()


def write(folder: Path, text: str, name: str = "counts.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("source", [[5, 2], torch.tensor([5, 2]), ClassCounts([5, 2])])
def test_counts_counts_themselves(source: list[int]) -> None:
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
def test_counts_two_columns_name_the_classes(tmp_path: Path, text: str) -> None:
    found = read_training_counts(write(tmp_path, text))
    assert found.names == ("cat", "dog")
    assert found.counts.counts.tolist() == [5, 2]


def test_counts_two_columns_with_labels_are_put_in_their_order(tmp_path: Path) -> None:
    found = read_training_counts(write(tmp_path, "label,count\n2,7\n0,5\n1,3\n"))
    assert (found.counts.counts.tolist(), found.names) == ([5, 3, 7], None)


def test_counts_numbers_that_are_no_labels_are_names(tmp_path: Path) -> None:
    assert read_training_counts(write(tmp_path, "7,5\n3,9\n")).names == ("7", "3")


@pytest.mark.parametrize(("text", "name"), [("count\n5\n2\n", "c.txt"), ("5\n2", "c.csv"), ("[5, 2]", "c.json")])
def test_counts_one_column_and_json(tmp_path: Path, text: str, name: str) -> None:
    found = read_training_counts(str(write(tmp_path, text, name)))
    assert (found.counts.counts.tolist(), found.names) == ([5, 2], None)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            "class,count\ncat,5\ndog,x\n",
            "c.csv",
            "c.csv, line 3: a count of training images must be an integer, got 'x'",
        ),
        ("cat,5\ndog,-2\n", "c.csv", "line 2: .* must be an integer, got '-2'"),
        ("cat,5\ndog,2.5\n", "c.csv", "line 2: .* must be an integer, got '2.5'"),
        ("cat,5\ncat,2\n", "c.csv", "has class 'cat' twice"),
        ("cat,5\n2\n", "c.csv", r"per line, got \[1, 2\]"),
        ("a,b,5\nc,d,2\n", "c.csv", r"one column \(count\) or two .*got \[3\]"),
        ("", "c.csv", "one column"),
        ("class,count\n", "c.csv", "one column"),
        ("cat,5\n", "c.csv", "c.csv: class counts need at least two classes"),
        ('"' + "x" * 200_000, "c.csv", "as a table: field larger than field limit"),
        ("{", "c.json", "is not valid JSON"),
        ('{"cat": 5}', "c.json", "must be a JSON list of integers"),
        ("[5, 2.5]", "c.json", "must be a JSON list of integers"),
        ("[5, true]", "c.json", "must be a JSON list of integers"),
        ("[5, -1]", "c.json", "c.json: class counts must be >= 0, but class 1 has -1"),
        (f"[5, {10**30}]", "c.json", "c.json"),
    ],
)
def test_counts_a_file_that_holds_no_counts_is_refused(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_training_counts(write(tmp_path, text, name))


def test_counts_a_file_that_cannot_be_read_says_how_to_give_counts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file.*pass `counts`"):
        read_training_counts(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read the class counts in .*binary\.csv"):
        read_training_counts(tmp_path / "binary.csv")


@pytest.mark.parametrize("text", ["class;count\n1,0;5,0\n0,0;500,0\n", "class,count\n0.0,500.0\n1.0,5.0\n"])
def test_counts_as_other_tools_write_them(tmp_path: Path, text: str) -> None:
    found = read_training_counts(write(tmp_path, text))
    assert (found.counts.counts.tolist(), found.names) == ([500, 5], None)


def test_counts_in_latin_1_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_bytes("class,count\nB\u00e4r,5\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"line 2 is not UTF-8 \(byte 0xe4\); the file may be in Latin-1"):
        read_training_counts(tmp_path / "counts.csv")
