"""Tables: comparable rows, marks, published scores, intervals, and agreement of all formats."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest
from scipy import stats

from longtail.bench.formats import LEGEND, csv_table, latex, markdown
from longtail.bench.results import correct_answers, differences, image_weights, require_alike
from longtail.bench.table import build_table, difference, heading, published_rows, summarize, tables_of
from longtail.errors import InputError
from longtail.evaluation import paired_bootstrap
from longtail.papers.published import published
from tests.bench.fakes import PER_CLASS, finished, row

COLUMNS = ("top1", "many", "few", "mcc")
GOOD, BAD, SAME_AS_GOOD = [0.9, 0.9, 0.95], [0.9, 0.9, 0.2], [0.9, 0.9, 0.93]


@pytest.fixture
def table(tmp_path):
    return build_table([row(tmp_path, "ce", BAD), row(tmp_path, "good_50%", GOOD)], COLUMNS, "ce", ["a note"])


def test_the_best_is_marked_only_where_it_beats_the_next_by_more_than_chance(table, tmp_path):
    best = {line.name: line.best for line in table.lines}
    assert best == {"ce": frozenset(), "good_50%": frozenset({"top1", "few"})}  # "many" and MCC: nobody
    close = build_table([row(tmp_path / "c", "one", GOOD), row(tmp_path / "c", "two", SAME_AS_GOOD)], COLUMNS)
    assert all(not line.best for line in close.lines)


def test_two_names_of_one_training_share_the_mark(tmp_path):
    good = row(tmp_path, "good", GOOD)
    twin = dataclasses.replace(good, name="twin")
    lines = build_table([good, row(tmp_path, "ce", BAD), twin], ("few",)).lines
    assert [line.best for line in lines] == [frozenset({"few"}), frozenset(), frozenset({"few"})]


def test_the_difference_is_that_of_the_scores_and_of_the_bootstrap(table):
    ce, good = table.lines
    assert ce.against is None
    assert good.against.mean == pytest.approx(good.scores["top1"].mean - ce.scores["top1"].mean)
    assert good.against.significant
    few = difference(good.row, ce.row, "few")
    assert few.mean == pytest.approx(good.scores["few"].mean - ce.scores["few"].mean)
    assert few.mean > good.against.mean
    assert difference(good.row, ce.row, "mcc") is None


def test_only_shared_seeds_are_compared(tmp_path):
    one, two = row(tmp_path, "one", GOOD, seeds=3), row(tmp_path, "two", BAD, seeds=2)
    alone = dataclasses.replace(one, runs={seed: one.runs[seed] for seed in (0, 1)})
    assert difference(one, two, "top1") == difference(alone, two, "top1")
    strangers = dataclasses.replace(one, runs={2: one.runs[2]})
    assert difference(strangers, two, "top1") is None


def test_weights_of_images_make_the_groups(tmp_path):
    found = finished(tmp_path / "run", GOOD)
    assert image_weights(found, "top1").tolist() == [1] * 3 * PER_CLASS
    few = image_weights(found, "few")
    assert few[: 2 * PER_CLASS].sum() == 0
    assert few[2 * PER_CLASS :].tolist() == pytest.approx([1 / PER_CLASS] * PER_CLASS)
    assert image_weights(found, "balanced").sum() == pytest.approx(3)
    assert image_weights(found, "ece") is None


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"backbone": {"name": "resnet32", "width": 64}}, r"backbone resnet32 \(width 64\), not resnet32 \(width 16\)"),
        ({"recipe": "balms"}, "recipe balms, not ldam"),
        ({"split": {"name": "other", "sha256": "1" * 64, "images": 9}}, r"split other \(1{12}\), not toy-split"),
        ({"protocol": {"checkpoint": "best", "selected_on": "test"}}, "best checkpoint on the test set, not last"),
        ({"class_groups": {"kind": "fixed", "many": 50, "few": 20}}, "class groups fixed 50 20"),
        ({"imbalance_factor": 50.0}, "imbalance factor 50.0, not 100.0"),
    ],
)
def test_what_does_not_compare_is_refused_in_one_column_and_given_a_table_of_its_own(tmp_path, about, reason):
    ours, other = row(tmp_path, "ours", GOOD), row(tmp_path, "other", BAD, **about)
    with pytest.raises(InputError, match=f"(?s)cannot share a column: .*{reason}"):
        build_table([ours, other], COLUMNS)
    first, second = tables_of([ours, other], COLUMNS, "ours")
    assert ([line.name for line in first.lines], [line.name for line in second.lines]) == (["ours"], ["other"])
    assert re.search(reason, " ".join(second.notes))
    assert second.reference is None


def test_a_larger_head_is_no_other_backbone(tmp_path):
    one = finished(tmp_path / "a", GOOD).result
    assert differences(one, {**one, "backbone": {**one["backbone"], "parameters": 9}}) == []
    require_alike({"a": one, "b": {**one, "seed": 3}})


def test_seeds_of_one_row_must_compare_too(tmp_path):
    found = row(tmp_path, "ce", GOOD, seeds=1)
    mixed = dataclasses.replace(found, runs={**found.runs, 1: finished(tmp_path / "x", GOOD, 1, recipe="balms")})
    with pytest.raises(InputError, match=r"ce \(seed 1\) and ce \(seed 0\) cannot share a column: recipe"):
        tables_of([mixed], COLUMNS)


def test_notes_say_what_is_missing_and_what_is_old(tmp_path):
    found = row(tmp_path, "ce", GOOD, seeds=1)
    half = dataclasses.replace(found, missing=(1, 2), older=frozenset({0}))
    notes = build_table([half], COLUMNS).notes
    assert "not finished: ce (seed 1, 2)" in notes
    assert any("older version" in note for note in notes)
    assert any("one seed" in note for note in notes)
    assert "| ce †" in markdown([build_table([half], COLUMNS)], "t")
    with pytest.raises(InputError, match="no training is finished"):
        build_table([], COLUMNS)
    assert tables_of([dataclasses.replace(found, runs={})], COLUMNS) == []


def test_rows_that_call_every_image_the_same_are_named(tmp_path):
    rows = [row(tmp_path / "1", "a", GOOD), row(tmp_path, "b", BAD), row(tmp_path / "2", "c", GOOD)]
    alike = "identical predictions for every test image: a, c"
    assert alike in build_table(rows, COLUMNS).notes
    assert alike not in build_table([rows[0], row(tmp_path / "3", "c", GOOD, seeds=2)], COLUMNS).notes
    assert not build_table(rows[:2], COLUMNS).notes


def test_markdown_says_it_all(table):
    text = markdown([table], "my plan", "about it")
    lines = text.splitlines()
    assert lines[0] == "# my plan"
    assert "## toys, imbalance factor 100: resnet32 of width 16, recipe ldam" in lines
    rows = [line for line in lines if line.startswith("| ")]
    assert len({line.count("|") for line in rows}) == 1
    assert len({len(line) for line in rows}) == 1
    assert "- a note" in lines
    good = next(line for line in rows if "good_50%" in line)
    assert f"**{table.lines[1].scores['few'].mean:.1f} ± " in good
    assert "]*" in good
    assert LEGEND[1:] in text


def test_the_csv_reads_back_to_the_unrounded_numbers(table):
    ce, good = list(csv.DictReader(io.StringIO(csv_table([table]))))
    line = table.lines[1]
    assert (good["method"], good["n"], good["best_in"], good["reference"]) == ("good_50%", "3", "top1 few", "ce")
    for column in COLUMNS:
        score = line.scores[column]
        assert float(good[f"{column}_mean"]) == score.mean
        assert float(good[f"{column}_sd"]) == score.sd
        assert float(good[f"{column}_high"]) == score.high
    assert float(good["difference"]) == line.against.mean
    assert float(good["difference_p"]) == line.against.p
    assert ce["difference"] == ""
    assert (good["data"], good["imbalance_factor"], good["recipe"]) == ("toys", "100", "ldam")


def test_latex_is_escaped_and_uses_booktabs(table):
    text = latex([table], "a plan")
    assert r"good\_50\%" in text
    assert r"\textbf{" in text
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {columns - 1}
    assert not re.search(r"(?<!\\)[%#_](?!.*usepackage)", text.split("\n", 2)[2])
    assert text.isascii()


def test_names_can_not_break_a_table(tmp_path):
    nasty = build_table([row(tmp_path, "a|b\n& c", GOOD)], COLUMNS)
    (line,) = [each for each in markdown([nasty], "t\n# x").splitlines() if each.startswith("| a\\|b & c")]
    assert line.count(" | ") == 8
    assert r"a|b \& c &" in latex([nasty], "t")


def test_the_marks_rest_on_the_bootstrap_of_the_very_answers(table):
    ce, good = (line.row for line in table.lines)
    by_hand = paired_bootstrap(correct_answers(good, [0, 1, 2]), correct_answers(ce, [0, 1, 2]))
    assert by_hand == table.lines[1].against


def test_headings():
    assert [heading(name) for name in ("top1", "mcc", "ece_few", "few")] == ["all", "MCC", "ECE few", "few"]


def test_each_published_score_has_its_distance_and_its_setting(tmp_path):
    ours = dataclasses.replace(row(tmp_path, "ce", [0.5, 0.4, 0.3], data="cifar100-lt"), published="ce")
    found = list(published_rows(ours))
    assert [each.published for each in found] == [
        each for each in published("cifar100-lt", 100, "ce") if "top1" in each.scores
    ]
    first = found[0]
    assert first.ours.n == 3
    gap = first.ours.mean - first.published.scores["top1"]
    assert (first.distance > 0) == (gap > 0)
    text = markdown([build_table([ours], ("top1",))], "t")
    assert first.published.place in text
    assert f"{first.distance:+.1f} sd" in text


def test_a_changed_method_and_one_seed_have_nothing_to_compare(tmp_path):
    changed = row(tmp_path, "ce long", [0.5] * 3, data="cifar100-lt")
    assert list(published_rows(changed)) == []
    one = dataclasses.replace(row(tmp_path / "one", "ce", [0.5] * 3, seeds=1, data="cifar100-lt"), published="ce")
    assert {each.distance for each in published_rows(one)} == {None}
    assert list(published_rows(dataclasses.replace(one, published="no-such-recipe"))) == []


def test_data_without_published_scores_give_no_rows(tmp_path):
    ours = dataclasses.replace(row(tmp_path, "ce", [0.5] * 3, data="digits-lt"), published="ce")
    assert list(published_rows(ours)) == []


def test_the_interval_is_students():
    values = [51.2, 50.1, 52.9, 50.8, 51.0]
    found = summarize(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.sd, found.n) == pytest.approx((np.mean(values), np.std(values, ddof=1), 5))


def test_an_interval_is_cut_at_the_bounds_of_the_score():
    found = summarize([99.0, 90.0, 99.5], 0, 100)
    assert (found.low, found.high) == (pytest.approx(82.9, abs=0.1), 100)
    assert summarize([1.0, 9.0], 0, 100).low == 0


def test_one_seed_has_no_deviation_and_no_seed_no_summary():
    one = summarize([50.0, None])
    assert (one.mean, one.n, one.sd, one.low, one.high) == (50.0, 1, None, None, None)
    assert summarize([None]) is None
