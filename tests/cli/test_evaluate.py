"""`longtail evaluate`, `longtail report` and `longtail predict`."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from .calling import call


def test_evaluate_a_run_and_its_predictions_agree(run, capsys):
    assert call("evaluate", run, "--json") == 0
    of_run = json.loads(capsys.readouterr().out)
    assert call("evaluate", run / "predictions.npz", "--json") == 0
    assert json.loads(capsys.readouterr().out) == of_run
    stored = json.loads((run / "result.json").read_text())["test"]
    assert {key: of_run[key] for key in stored} == stored
    assert (of_run["class_names"], of_run["test_images"]) == ([str(digit) for digit in range(10)], 500)


def test_evaluate_under_another_test_prior_moves_towards_the_head(run, capsys):
    values = {}
    for prior in ("uniform", "train", "forward-50", "backward-50"):
        assert call("evaluate", run, "--test-prior", prior, "--json") == 0
        values[prior] = json.loads(capsys.readouterr().out)["top1"]
    assert call("evaluate", run, "--json") == 0
    assert values["uniform"] == pytest.approx(json.loads(capsys.readouterr().out)["top1"])
    assert len(set(values.values())) == 4


def test_evaluate_predictions_of_another_tool(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("label,predicted\ncat,cat\ncat,dog\ndog,dog\n")
    (tmp_path / "counts.csv").write_text("class,count\ncat,500\ndog,5\n")
    assert call("evaluate", tmp_path / "p.csv", "--counts", tmp_path / "counts.csv", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["many"], scores["few"], scores["ece"]) == (50.0, 100.0, None)
    assert call("report", tmp_path / "p.csv", "--counts", tmp_path / "counts.csv") == 0
    assert "<html" in (tmp_path / "p.html").read_text()
    assert call("evaluate", tmp_path / "p.csv") == 2
    assert "counts" in capsys.readouterr().err


def test_report_writes_the_page_anew_and_elsewhere(run, tmp_path, capsys):
    page = run / "report.html"
    page.unlink()
    assert call("report", run) == 0
    assert page.exists()
    assert call("report", run, "--output", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").read_text() == page.read_text()
    assert call("report", run, "--output", tmp_path / "no" / "page.html") == 2
    assert str(tmp_path / "no") in capsys.readouterr().err


def test_predict_writes_path_class_probability_and_the_likeliest(run, exported, tmp_path, capsys):
    answers = tmp_path / "answers.csv"
    assert call("predict", run, exported / "test", "--output", answers) == 0
    rows = list(csv.DictReader(answers.open()))
    assert len(rows) == 500
    assert list(rows[0])[:5] == ["path", "class", "probability", "class_2", "probability_2"]
    stored = np.load(run / "predictions.npz")
    shares = np.exp(stored["logits"]) / np.exp(stored["logits"]).sum(1, keepdims=True)
    by_class = {(row["path"].split("/")[-2], round(float(row["probability"]), 4)) for row in rows}
    expected = {(str(t), round(float(s.max()), 4)) for t, s in zip(stored["targets"], shares, strict=True)}
    assert len(by_class & expected) > 0.98 * len(expected)
    assert f"500 images -> {answers}" in capsys.readouterr().out


def test_predict_writes_a_file_name_that_is_not_utf8(run, exported, tmp_path):
    image = Path(os.fsdecode(os.fsencode(tmp_path) + b"/B\344r.png"))
    image.write_bytes(next((exported / "test").rglob("*.png")).read_bytes())
    assert call("predict", run, image, "--output", tmp_path / "answers.csv") == 0
    assert "B\ufffdr.png" in (tmp_path / "answers.csv").read_text("utf-8")


def test_predict_leaves_unreadable_images_out_when_told_to(run, exported, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = next((exported / "test").rglob("*.png"))
    answers = tmp_path / "answers.csv"
    assert call("predict", run, tmp_path / "bad.png", good, "--output", answers) == 2
    assert "bad.png" in capsys.readouterr().err
    assert call("predict", run, tmp_path / "bad.png", good, "--output", answers, "--on-bad-image", "skip") == 0
    printed = capsys.readouterr()
    assert "1 could not be read" in printed.out
    assert "bad.png" in printed.err
    assert len(answers.read_text().splitlines()) == 2
    assert call("predict", run, good, "--output", tmp_path / "no" / "x.csv") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_evaluate_with_logits_shifted_to_the_test_prior(run, capsys):
    scores = {}
    for options in ((), ("--model-prior", "train"), ("--model-prior", "auto")):
        assert call("evaluate", run, "--test-prior", "backward-50", *options, "--json") == 0
        scores[options] = json.loads(capsys.readouterr().out)["top1"]
    assert len(set(scores.values())) >= 2
    assert call("evaluate", run, "--model-prior", "auto") == 2
    assert "needs `--test-prior`" in capsys.readouterr().err


def test_predict_under_a_prior_and_abstain(run, exported, tmp_path, capsys):
    answers = tmp_path / "answers.csv"
    given = ("--output", answers, "--test-prior", "backward-50", "--max-risk", "0.01")
    assert call("predict", run, exported / "test", *given) == 0
    printed = capsys.readouterr()
    assert "class prior:" in printed.out + printed.err
    assert "abstaining below a confidence of" in printed.out + printed.err
    rows = list(csv.DictReader(answers.open()))
    assert {row["abstain"] for row in rows} <= {"yes", "no"}
    assert all(float(row["probability"]) <= 1 for row in rows)
    for wrong in (("--max-risk", "2"), ("--test-prior", "nope")):
        assert call("predict", run, exported / "test", "--output", tmp_path / "none.csv", *wrong) == 2
    assert not (tmp_path / "none.csv").exists()


def test_recall_at_a_rate_of_false_alarms(run, capsys):
    assert call("evaluate", run, "--recall-at-false-alarm", "0.1", "--json") == 0
    points = json.loads(capsys.readouterr().out)["operating_points"]
    assert len(points) == 10
    assert all(point["false_alarm"] <= 0.1 and 0 <= point["average_precision"] <= 1 for point in points)
    assert call("evaluate", run, "--recall-at-false-alarm", "0.1") == 0
    assert capsys.readouterr().out.count("average precision") == 10
    assert call("evaluate", run, "--recall-at-false-alarm", "1.5") == 2
