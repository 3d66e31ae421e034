import csv
import io

import pytest
from PIL import Image

from longtail.errors import InputError
from longtail.papers.plot import Plot, Table, write_plot

TABLE = Table(("run", "value"), [("a, b", 1 / 3), ("c", None), ("d", float("nan"))])


def plot(note=""):
    return Plot(TABLE, lambda figure: figure.subplots().plot([0, 1], [0, 1]), height=2.0, note=note)


def test_a_table_reads_back_from_its_csv():
    rows = list(csv.reader(io.StringIO(TABLE.to_csv())))
    assert rows == [["run", "value"], ["a, b", "0.333333"], ["c", ""], ["d", ""]]
    assert TABLE.column("run") == ["a, b", "c", "d"]


def test_a_figure_is_written_as_vector_pixels_and_numbers(tmp_path):
    svg, pdf, png, table = write_plot(plot("a note"), "name", tmp_path / "new" / "folder")
    assert svg.name == "name.svg"
    assert svg.read_text().startswith("<svg")
    assert "a note" in svg.read_text()
    assert pdf.read_bytes().startswith(b"%PDF")
    assert table.read_text() == TABLE.to_csv()
    with Image.open(png) as image:
        assert image.width == round(5.6 * 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)  # print needs a page


def test_the_same_figure_gives_the_same_files(tmp_path):
    first = [path.read_bytes() for path in write_plot(plot(), "x", tmp_path / "one")]
    assert first == [path.read_bytes() for path in write_plot(plot(), "x", tmp_path / "two")]


def test_a_long_note_stays_within_the_figure(tmp_path):
    text = write_plot(plot("word " * 40), "x", tmp_path)[0].read_text()
    assert text.count("word word") >= 2
    assert " ".join(["word"] * 20) not in text


def test_a_folder_that_can_not_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can not write the figure"):
        write_plot(plot(), "x", tmp_path / "file" / "below")
