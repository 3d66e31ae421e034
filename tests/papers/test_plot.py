import csv
import io

import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from longtail.errors import InputError
from longtail.papers.plot import (
    MOST,
    Plot,
    Table,
    legend_columns,
    legend_height,
    looks,
    panels_in_rows,
    run_legend,
    write_plot,
)
from longtail.report.style import PALETTE, drawing

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
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)  # opaque for print


def test_the_same_figure_gives_the_same_files(tmp_path):
    first = [path.read_bytes() for path in write_plot(plot(), "x", tmp_path / "one")]
    assert first == [path.read_bytes() for path in write_plot(plot(), "x", tmp_path / "two")]


def test_a_long_note_stays_within_the_figure(tmp_path):
    text = write_plot(plot("word " * 40), "x", tmp_path)[0].read_text()
    assert text.count("word word") >= 2
    assert " ".join(["word"] * 20) not in text


def test_a_folder_that_can_not_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the figure"):
        write_plot(plot(), "x", tmp_path / "file" / "below")


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_ten_runs_are_told_apart_without_any_colour():
    assert MOST == 10
    assert len({look.marker for look in looks(MOST)}) == MOST
    assert len({look.hatch for look in looks(MOST)}) == MOST
    assert len({(look.color, look.dash) for look in looks(MOST)}) == MOST


def test_neighbours_have_another_colour_and_another_dash():
    for one, other in zip(looks(MOST), looks(MOST)[1:], strict=False):
        assert one.color != other.color
        assert one.dash != other.dash


@pytest.mark.parametrize("color", PALETTE)
def test_every_colour_shows_on_white_paper(color):
    assert 1.05 / (luminance(color) + 0.05) > 2.0


def test_more_runs_than_a_reader_can_tell_apart_are_refused():
    with pytest.raises(InputError, match="at most 10 runs, got 11"):
        looks(11)


@pytest.mark.parametrize("labels", [["ce"], ["a name of middling length"] * 4, [f"method {i}" for i in range(10)]])
def test_a_legend_lies_within_the_figure_and_above_the_panels(labels):
    labels = [f"{label}{i}" for i, label in enumerate(labels)]
    with drawing(2.5 + legend_height(labels)) as figure:
        axes = figure.subplots()
        run_legend(figure, labels)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y0 >= axes.get_window_extent().y1 - 1
        assert axes.get_window_extent().height > 100  # pixels at 100 dpi: the panel is not squeezed


def test_short_labels_share_a_line():
    assert legend_columns(["ce", "elm", "smart"]) == 3


def test_places_left_over_are_empty():
    with drawing(3) as figure:
        panels = panels_in_rows(figure, 3, 2)
        assert len(panels) == 3
        assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
