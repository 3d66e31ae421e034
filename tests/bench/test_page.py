"""The page: everything is in it, nothing is fetched, and no name gets out of its place."""

import json
import re
from html.parser import HTMLParser

import pytest

from longtail.bench.page import page
from longtail.bench.table import build_table
from tests.bench.fakes import COUNTS, finished, row

NASTY = ("</script><script>alert(1)", '"><img src=x onerror=alert(1)>', "c & d")


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def table(tmp_path):
    rows = [row(tmp_path, name, right, names=NASTY) for name, right in (("ce", [0.9, 0.8, 0.1]), ("b<s", [0.8] * 3))]
    return build_table(rows, ("top1", "few"), "ce", ["note <b>"])


@pytest.fixture
def text(table):
    return page([table], "plan <i>", "about & more")


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_it_holds_the_numbers_of_every_row_and_class(text, table):
    (about,) = data_of(text)
    assert about["names"] == list(NASTY)
    assert (about["counts"], about["groups"]) == (COUNTS, ["many", "medium", "few"])
    assert [each["name"] for each in about["rows"]] == ["ce", "b<s"]
    per_class = [run.result["test"]["per_class"] for run in table.lines[0].row.runs.values()]
    mean = [sum(values) / 3 for values in zip(*per_class, strict=True)]
    assert about["rows"][0]["accuracy"] == pytest.approx(mean, abs=0.01)
    assert f"{table.lines[1].scores['few'].mean:.1f} ± " in text


def test_it_needs_no_network(text):
    elements = Elements()
    elements.feed(text)
    assert not [attrs for _, attrs in elements.found if attrs.get("src") or "//" in (attrs.get("href") or "")]
    assert "http" not in re.sub(r'http-equiv="', "", text)
    policy = next(a["content"] for t, a in elements.found if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_nothing_a_class_is_called_becomes_markup(text):
    elements = Elements()
    elements.feed(text)
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 2
    assert not {"img", "i", "b"} & set(tags)
    assert "note &lt;b&gt;" in text
    assert "plan &lt;i&gt;" in text


def test_a_class_without_a_test_image_is_left_empty(tmp_path):
    found = finished(tmp_path / "run", [0.5] * 3)
    found.result["test"]["per_class"][2] = None
    from longtail.bench.results import Row

    (about,) = data_of(page([build_table([Row("ce", {0: found})], ("top1",))], "t"))
    assert about["rows"][0]["accuracy"][2] is None
