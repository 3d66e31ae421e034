"""Flat settings: every leaf by the path that leads to it."""

from longtail.nested import leaves

NESTED = {"a": {"b": [1, {"c": None}], "d": "text"}, 2: (3, 4), "empty": {}, "none": []}


def test_every_leaf_is_found_where_its_path_leads():
    assert leaves(NESTED) == {"a.b.0": 1, "a.b.1.c": None, "a.d": "text", "2": (3, 4)}


def test_the_path_of_the_whole_comes_first():
    assert leaves(NESTED["a"], "at") == {"at.b.0": 1, "at.b.1.c": None, "at.d": "text"}
    assert leaves(5, "at") == {"at": 5}
