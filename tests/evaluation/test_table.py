"""The table of predictions."""

import csv

import torch

from longtail.evaluation import Predictions
from longtail.evaluation.table import save_table


def test_rows_hold_path_label_and_the_five_best_classes(tmp_path):
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    names = [f"class, {k}" for k in range(7)]
    paths = ["a/1.jpg", "b/\udcff.jpg", "c/x,y.jpg"]
    found = Predictions([0, 6, 2], [5] * 7, logits=logits, class_names=names, paths=paths)
    save_table(tmp_path / "p.csv", found)
    rows = list(csv.DictReader((tmp_path / "p.csv").open(encoding="utf-8", newline="")))
    assert [row["path"] for row in rows] == ["a/1.jpg", "b/\ufffd.jpg", "c/x,y.jpg"]
    assert [row["label"] for row in rows] == [names[k] for k in (0, 6, 2)]
    assert [row["predicted"] for row in rows] == [names[k] for k in found.predicted.tolist()]
    best = logits.softmax(1).topk(5)
    for row, values, classes in zip(rows, best.values.tolist(), best.indices.tolist(), strict=True):
        assert float(row["probability_5"]) == round(values[4], 6)
        assert row["class_5"] == names[classes[4]]


def test_labels_without_paths_and_logits(tmp_path):
    save_table(tmp_path / "p.csv", Predictions([0, 1], [5, 5], predicted=[1, 1]))
    assert (tmp_path / "p.csv").read_text() == "path,label,predicted\n0,0,1\n1,1,1\n"
