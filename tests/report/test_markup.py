from html.parser import HTMLParser

import pytest

from longtail.report.markup import Html, clean, escape, join, tag


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: dict[str, str | None] = {}
        self.names: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes.update(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


NASTY = ["<script>alert(1)</script>", 'a" onload="x', "a' b", "&amp; & <", "</p>", "<!--", "]]>", "日本語 العربية"]


@pytest.mark.parametrize("text", NASTY)
def test_a_parser_reads_back_the_text_and_attribute_that_were_given(text: str) -> None:
    read = Reader(tag("p", text, title=text))
    assert read.names == ["p"]
    assert read.text == text
    assert read.attributes == {"title": text}


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "1 < 2"), "<") == "<p><b>1 &lt; 2</b>&lt;</p>"
    assert escape(escape("<")) == "&lt;"
    assert isinstance(join(["<", tag("br")]), Html)


def test_attributes_that_are_none_or_false_are_left_out_but_zero_is_not() -> None:
    assert tag("td", data_value=0, title=None, hidden=False) == '<td data-value="0"></td>'
    assert tag("input", hidden=True, class_="a") == '<input hidden class="a"></input>'


def test_an_attribute_may_be_called_name() -> None:
    assert tag("meta", name="viewport") == '<meta name="viewport">'


def test_children_that_are_none_are_left_out() -> None:
    assert tag("p", None, 0, "") == "<p>0</p>"


def test_void_elements_are_not_closed() -> None:
    assert tag("img", src="data:,") == '<img src="data:,">'


@pytest.mark.parametrize("text", ["caf\udce9", "a\x00b", "\x1b[31m", "\ud83d"])
def test_cleaned_text_can_be_written_and_shows_that_something_was_there(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.encode("utf-8")
    assert "\ufffd" in cleaned


def test_cleaning_leaves_sound_text_alone() -> None:
    assert clean("naïve 🦉\tfish\n") == "naïve 🦉\tfish\n"
