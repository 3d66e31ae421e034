import re
import xml.etree.ElementTree as ElementTree

from longtail.report.style import THEME_NAMES, drawing, plain_log, shortened, themed, to_svg

NAME = "<b>$\\frac{ & 'x' \"y\""


def drawn(name: str = "test", text: str = NAME, note: str = "") -> str:
    with drawing(height=2) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2])
        axes.set_title(text)
        return to_svg(figure, name, note)


def test_a_figure_is_xml_with_its_text_as_text() -> None:
    root = ElementTree.fromstring(drawn())
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert NAME in texts


def test_the_same_figure_gives_the_same_bytes_and_says_nothing_of_when_it_was_made() -> None:
    assert drawn() == drawn()
    assert "metadata" not in drawn()


def test_two_figures_of_a_page_share_no_id() -> None:
    first, second = (set(re.findall(r'id="([^"]+)"', drawn(name))) for name in ("one", "two"))
    assert first
    assert not first & second


def test_every_reference_in_a_figure_is_met() -> None:
    svg = drawn()
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    assert used
    assert {a or b for a, b in used} <= set(re.findall(r'id="([^"]+)"', svg))


def test_a_script_our_font_lacks_draws_no_warning(recwarn: object) -> None:
    assert "日本語" in drawn(text="日本語")
    assert not list(recwarn)  # type: ignore[call-overload]


def test_the_note_is_in_the_figure() -> None:
    assert "chosen on the test set" in drawn(note="chosen on the test set")


def test_in_the_page_a_figure_takes_the_colours_of_the_theme_and_the_width_of_its_column() -> None:
    svg = themed(drawn(), 'a "b"')
    assert not any(f":{color}" in svg for color in THEME_NAMES)
    assert "var(--ink)" in svg
    assert 'aria-label="a &#34;b&#34;"' in svg
    head = svg.split(">", 1)[0]
    assert "viewBox" in head
    assert "width" not in head
    assert "<style" not in svg


def test_names_are_shortened_to_what_an_axis_holds() -> None:
    assert shortened("cat") == "cat"
    assert shortened("a\nb\tc  d") == "a b c d"
    assert shortened("x" * 40) == "x" * 15 + "…"


def test_a_logarithmic_axis_has_plain_numbers_and_enough_of_them() -> None:
    with drawing(height=2) as figure:
        wide, narrow = figure.subplots(2)
        plain_log(wide, 0.7, 2000)
        plain_log(narrow, 80, 400)
        figure.draw_without_rendering()
        labels = [[tick.get_text() for tick in axes.get_yticklabels()] for axes in (wide, narrow)]
    assert {"1", "10", "100", "1,000"} <= set(labels[0])
    assert {"100", "200"} <= set(labels[1])
