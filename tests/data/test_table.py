from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from longtail.data.formats.table import read_table
from longtail.data.scan import Selection
from longtail.errors import InputError
from tests.data.helpers import make_classes

ROWS = ["cat/000.png,cat", "dog/000.png,dog", "cat/001.png,cat"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_classes(tmp_path, {"cat": 2, "dog": 2})


def write(root: Path, *lines: str, name: str = "images.csv") -> Path:
    path = root / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows_keep_their_order(root: Path) -> None:
    listing = read_table(write(root, "path,label", *ROWS))
    assert (listing.root, listing.source, listing.class_names) == (root, "table", ("cat", "dog"))
    assert listing.parts["train"].paths == ("cat/000.png", "dog/000.png", "cat/001.png")
    assert listing.parts["train"].targets.tolist() == [0, 1, 0]


@pytest.mark.parametrize("path", ["path", "file", "filename", "image", "image_path", "filepath", " Path"])
@pytest.mark.parametrize("label", ["label", "class", "target", "category", "Label"])
def test_column_names(root: Path, path: str, label: str) -> None:
    listing = read_table(write(root, f"id,{label},{path}", "1, dog ,dog/000.png", "2,cat,cat/000.png"))
    assert listing.parts["train"].paths == ("dog/000.png", "cat/000.png")
    assert listing.parts["train"].targets.tolist() == [1, 0]


def test_split_column(root: Path) -> None:
    rows = ["cat/000.png,cat,train", "dog/000.png,dog,Train", "cat/001.png,cat,validation", "dog/001.png,dog,test"]
    listing = read_table(write(root, "path,label,split", *rows))
    assert {part: examples.paths for part, examples in listing.parts.items()} == {
        "train": ("cat/000.png", "dog/000.png"),
        "val": ("cat/001.png",),
        "test": ("dog/001.png",),
    }


def test_tabs_quotes_and_a_byte_order_mark(root: Path) -> None:
    tabs = write(root, "path\tlabel", "cat/000.png\tbig, cat", "dog/000.png\tdog", name="images.tsv")
    assert read_table(tabs).class_names == ("big, cat", "dog")
    marked = write(root, "\ufeffpath,label,caption", 'cat/000.png,"big, cat","two\nlines"', "dog/000.png,dog,")
    assert read_table(marked).class_names == ("big, cat", "dog")


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ";"), ("a.tsv", ",")])
def test_the_header_tells_another_separator(root: Path, name: str, separator: str) -> None:
    rows = [("path", "label", "note"), ("cat/000.png", "cat", "1.5"), ("dog/000.png", '"big dog"', "2.5")]
    listing = read_table(write(root, *(separator.join(row) for row in rows), name=name))
    assert listing.class_names == ("big dog", "cat")
    assert listing.parts["train"].paths == ("cat/000.png", "dog/000.png")


def test_a_separator_inside_a_column_is_text(root: Path) -> None:
    listing = read_table(write(root, "path,label,a;b", "cat/000.png,big;cat,1", "dog/000.png,dog,2"))
    assert listing.class_names == ("big;cat", "dog")


def test_leading_zeros_are_kept(root: Path) -> None:
    assert read_table(write(root, "path,label", "cat/000.png,007", "dog/000.png,010")).class_names == ("007", "010")


def test_whole_numbers_are_labels(root: Path) -> None:
    listing = read_table(write(root, "path,label", "dog/000.png,1", "cat/000.png,0"))
    assert (listing.class_names, listing.parts["train"].targets.tolist()) == (("0", "1"), [1, 0])


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["cat", "dog", "cat"]),
        pa.array(["cat", "dog", "cat"], pa.large_string()),
        pa.array(["cat", "dog", "cat"]).dictionary_encode(),
        pa.array([0, 1, 0], pa.int8()),
        pa.array([0.0, 1.0, 0.0]),
    ],
)
def test_parquet(root: Path, labels: pa.Array) -> None:
    table = pa.table({"path": ["cat/000.png", "dog/000.png", "cat/001.png"], "label": labels, "other": [1, 2, 3]})
    pa_parquet.write_table(table, root / "images.parquet")
    listing = read_table(root / "images.parquet")
    assert listing.class_names in (("cat", "dog"), ("0", "1"))
    assert listing.parts["train"].targets.tolist() == [0, 1, 0]


def test_paths_start_from_the_root_given(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    table = write(tmp_path_factory.mktemp("tables"), "path,label", *ROWS)
    assert read_table(table, root).root == root
    with pytest.raises(InputError, match=r"3 of 3 image files are missing .* set `root`"):
        read_table(table)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["name,label", *ROWS], r"has no column 'path' \(or file, .*\); its columns are: name, label"),
        (["path,sort", *ROWS], r"has no column 'label' \(or class, target, category\); its columns are: path, sort"),
        (["path;sort", "cat/000.png;cat"], "has no column 'label' .*; its columns are: path, sort"),
        (ROWS, "the first line of .* is an image, not a header; name the columns: path,label"),
        ([""], "its columns are: none, the file is empty"),
        (["path,label"], "has no rows; give one row per image"),
        (["path,label", *ROWS, "cat/000.png,"], "row 4 of .* has no label"),
        (["path,label", *ROWS, ",cat"], "row 4 of .* has no path"),
        (["path,label", *ROWS, "cat/000.png"], "cannot read the table .*columns"),
        (["path,label,path", "a,b,c"], "has more than one column 'path'"),
        (
            ["path,label,split", "cat/000.png,cat,tset"],
            "column 'split' of .*: there is no split 'tset'; did you mean test",
        ),
        (["path,label,split", "cat/000.png,cat,test", "dog/000.png,dog,test"], "has no training image"),
        (
            ["path,label,split", "cat/000.png,cat,train", "cat/001.png,cat,train", "dog/000.png,dog,test"],
            "1 of 2 classes occur only in the test split",
        ),
        (["path,label", "cat/000.png,0", "dog/000.png,1.5"], r"label 1\.5 .* is not an integer"),
        (["path,label", "cat/000.png,0", "dog/000.png,-1"], "label -1 .* is out of range"),
        (["path,label", *ROWS, "owl/000.png,dog"], "1 of 4 image files are missing"),
        (["path,label", *ROWS, "../a.png,dog"], "1 path leads out of the data root"),
        (["path,label", "cat/000.png,cat"], "fewer than two classes, 'cat'"),
    ],
)
def test_refusals(root: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(write(root, *lines))


def test_files_that_are_no_tables(root: Path) -> None:
    with pytest.raises(InputError, match=r"not a supported table; save it as \.csv"):
        read_table(root / "images.xlsx")
    with pytest.raises(InputError, match="no table at"):
        read_table(root / "nowhere.csv")
    (root / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot read the table"):
        read_table(root / "bad.parquet")
    (root / "bad.csv").write_bytes(b"path,label\n\xff\xfe.png,cat\n")
    with pytest.raises(InputError, match=r"line 2 is not UTF-8 \(byte 0xff\); the file may be in Latin-1"):
        read_table(root / "bad.csv")


def test_parquet_row_without_a_path(root: Path) -> None:
    pa_parquet.write_table(pa.table({"path": ["cat/000.png", None], "label": [0, 1]}), root / "null.parquet")
    with pytest.raises(InputError, match=r"row 2 of .* has no path"):
        read_table(root / "null.parquet")


def test_tables_next_to_the_training_table_are_its_splits(root: Path) -> None:
    table = write(root, "path,label", "cat/000.png,cat", "dog/000.png,dog", name="train.csv")
    write(root, "path,label", "cat/001.png,cat", name="test.csv")
    write(root, "path,id", "cat/001.png,cat", name="val.csv")
    listing = read_table(table)
    assert {part: these.paths for part, these in listing.parts.items()} == {
        "train": ("cat/000.png", "dog/000.png"),
        "test": ("cat/001.png",),
    }
    assert "test.csv next to train.csv is used as the test split." in listing.notes
    assert any(note.startswith("val.csv next to train.csv is not used as the val split: ") for note in listing.notes)


def test_columns_of_any_name(root: Path) -> None:
    table = write(root, "Foto;Art", "cat/000.png;cat", "dog/000.png;dog")
    assert read_table(table, path_column="foto", label_column="Art").class_names == ("cat", "dog")
    with pytest.raises(InputError, match=r"has no column 'path' .*; name it in `path_column`"):
        read_table(table)
    with pytest.raises(InputError, match="has no column 'kind'; its columns are: Foto, Art"):
        read_table(table, path_column="Foto", label_column="kind")


@pytest.mark.parametrize("missing", ["nan", "NA", "<NA>", "None", "NULL"])
def test_missing_labels_are_no_class(root: Path, missing: str) -> None:
    with pytest.raises(InputError, match=f"1 of 3 rows of .* have the label '{missing}', first in row 3"):
        read_table(write(root, "path,label", "cat/000.png,cat", "dog/000.png,dog", f"cat/001.png,{missing}"))


def test_nan_in_parquet_is_no_class(root: Path) -> None:
    table = pa.table({"path": ["cat/000.png", "dog/000.png", "cat/001.png"], "label": [0.0, 1.0, float("nan")]})
    pa_parquet.write_table(table, root / "images.parquet")
    with pytest.raises(InputError, match="have the label 'nan', first in row 3"):
        read_table(root / "images.parquet")


def test_identifiers_with_gaps_are_names(root: Path) -> None:
    listing = read_table(write(root, "path,label", "cat/000.png,12", "dog/000.png,3"))
    assert (listing.class_names, listing.parts["train"].targets.tolist()) == (("3", "12"), [1, 0])
    assert listing.notes == ("The integer labels have gaps and are used as class names: 2 classes from 3 to 12.",)


def test_several_labels_in_one_are_noted(root: Path) -> None:
    listing = read_table(write(root, "path,label", "cat/000.png,cat;dog", "dog/000.png,dog"))
    assert "1 class names contain a separator" in listing.notes[0]


def test_utf_16_and_names_in_another_unicode_form(root: Path) -> None:
    make_classes(root, {"Ba\u0308r": 1})
    text = "path,label\r\nB\u00e4r/000.png,B\u00e4r\r\ndog/000.png,dog\r\n"
    (root / "images.csv").write_bytes(text.encode("utf-16"))
    listing = read_table(root / "images.csv")
    assert listing.class_names == ("B\u00e4r", "dog")
    assert listing.parts["train"].paths == ("Ba\u0308r/000.png", "dog/000.png")


def test_selected_rows(root: Path) -> None:
    table = write(root, "path,label", *ROWS, "missing/1.png,dog")
    assert len(read_table(table, selection=Selection(exclude=("missing",))).parts["train"]) == 3
