"""Flat settings: every leaf by the path that leads to it."""

from longtail.config.convert import leaves, read_yaml

NESTED = {"a": {"b": [1, {"c": None}], "d": "text"}, 2: (3, 4), "empty": {}, "none": []}


def test_every_leaf_is_found_where_its_path_leads():
    assert leaves(NESTED) == {"a.b.0": 1, "a.b.1.c": None, "a.d": "text", "2": (3, 4)}


def test_the_path_of_the_whole_comes_first():
    assert leaves(NESTED["a"], "at") == {"at.b.0": 1, "at.b.1.c": None, "at.d": "text"}
    assert leaves(5, "at") == {"at": 5}


def test_numbers_with_an_exponent_are_numbers_without_a_point_too():
    values = read_yaml("[1e-5, -2E3, 1.0e-5, .5e1, 1e, e5, 3, layers.2, 12e4x]")
    assert values == [1e-5, -2000.0, 1e-5, 5.0, "1e", "e5", 3, "layers.2", "12e4x"]
