"""The registry of figures, and `longtail figure`."""

import csv

import pytest

from longtail.cli import main
from longtail.errors import InputError
from longtail.papers import FIGURES, draw

OF_RUNS = [name for name, kind in FIGURES.items() if kind.most]


def longtail(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["figure", *map(str, arguments)])
    return stop.value.code, capsys.readouterr()


def test_without_a_name_all_figures_are_listed(capsys):
    code, said = longtail(capsys)
    assert code == 0
    for name, kind in FIGURES.items():
        assert name in said.out
        assert kind.about.split()[0] in said.out


def test_four_files_are_written_and_the_numbers_told(capsys, make_run, tmp_path):
    code, said = longtail(capsys, "group-bars", make_run("a"), make_run("b", "focal"), "--out", tmp_path / "figures")
    assert code == 0
    assert "few: fewer than 20 training images" in said.out
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "group-bars.csv",
        "group-bars.pdf",
        "group-bars.png",
        "group-bars.svg",
    ]
    with (tmp_path / "figures" / "group-bars.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"ce", "focal"}


def test_options_and_labels_reach_the_figure(capsys, make_run, tmp_path):
    options = ["--classes", "bee", "fox", "--labels", "base", "ours", "--out", tmp_path]
    code, said = longtail(capsys, "margin-cdfs", make_run("a"), make_run("b", "focal"), *options)
    assert code == 0
    assert "fox: ours margin" in said.out
    assert "dog" not in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grup-bars"], "there is no figure 'grup-bars'; did you mean group-bars"),
        (["group-bars", "RUN", "--tail", "fox"], "group-bars has no option `tail`; it has no options"),
        (["tsne", "RUN", "--metric", "few"], "tsne has no option `metric`; its options are part, classes"),
        (["group-bars"], "group-bars takes 1 or more runs"),
        (["confusions", "RUN"], "confusions takes 2 runs (two runs), got 1"),
        (["two-moons", "RUN"], "two-moons takes no runs"),
        (["two-moons", "--labels", "x"], "two-moons takes no runs; leave out --labels"),
        (["group-bars", "nowhere"], "nowhere holds no run"),
    ],
)
def test_bad_input_is_said_plainly(capsys, make_run, tmp_path, arguments, message):
    run = make_run("a")
    given = [run if word == "RUN" else word for word in arguments]
    code, said = longtail(capsys, *given, "--out", tmp_path / "out")
    assert code == 2
    assert message in said.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_value_names_the_choices(capsys, make_run):
    code, said = longtail(capsys, "margin-cdfs", make_run("a"), "--part", "valid")
    assert code == 2
    assert "test, train" in said.err


@pytest.mark.parametrize("name", [name for name in OF_RUNS if FIGURES[name].most > 1])
def test_no_figure_compares_other_splits(make_run, name):
    other = {"split": {"name": "made-up", "sha256": "cd" * 32, "images": 1}}
    with pytest.raises(InputError, match="differ in their training images"):
        draw(name, [make_run("a"), make_run("b", "focal", result=other)])
