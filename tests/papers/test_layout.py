import pytest

from longtail.papers.layout import legend_columns, legend_height, panels_in_rows, run_legend
from longtail.report.style import drawing


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


def test_short_labels_stand_beside_each_other():
    assert legend_columns(["ce", "elm", "smart"]) == 3


def test_places_left_over_are_empty():
    with drawing(3) as figure:
        panels = panels_in_rows(figure, 3, 2)
        assert len(panels) == 3
        assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
