"""A detection run from start to end, and the use of a finished one."""

import json

import pytest
import torch
from PIL import Image

from longtail.detection import run as runs
from longtail.detection import shapes_lt
from longtail.detection.run import DetectionRun, fit_detector, predict_files, subset
from longtail.detection.settings import compose
from longtail.errors import InputError

SMALL = {
    "model": {"proposals": 16, "candidates": 20, "detections": 5, "score_threshold": 0.0},
    "view": {"short_sides": [32], "test_side": 32},
    "train": {"training": {"epochs": 1, "batch_size": 6}},
    "finetune": {"training": {"epochs": 1, "batch_size": 6}, "meta_batch_size": 2},
    "data": {"workers": 0},
    "device": "cpu",
}


def test_a_run(tmp_path, monkeypatch):
    data = shapes_lt("train", images=12), shapes_lt("test", images=12)
    monkeypatch.setattr(runs, "load_detection_data", lambda config: data)
    config = compose(method="balms", changes=[SMALL])
    run = fit_detector(config, tmp_path / "run")
    assert len(run.result["chosen"]["class_rates"]) == 12
    assert run.result["test"]["box"]["ap"] >= 0
    assert run.config == config
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert all(name in page for name in data[1].categories)
    with pytest.raises(InputError, match="already holds a run"):
        fit_detector(config, tmp_path / "run")
    with pytest.raises(InputError, match="another seed"):
        fit_detector(compose(method="balms", changes=[SMALL, {"seed": 3}]), tmp_path / "run", resume=True)
    pixels, _ = data[1].sample(0)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    output = tmp_path / "found.json"
    number = predict_files(DetectionRun(run.folder), [tmp_path / "a.png"], output, "cpu", tmp_path / "drawn", 0.0)
    records = json.loads(output.read_text())
    assert number == len(records) == 5
    assert records[0]["file_name"] == str(tmp_path / "a.png")
    assert records[0]["segmentation"]["size"] == [96, 96]
    assert Image.open(tmp_path / "drawn" / "000001-a.png").size == (96, 96)


def test_a_part_of_a_data_set():
    data = shapes_lt("train", images=12)
    part = subset(data, [3, 5])
    assert part.image_labels() == [data.image_labels()[3], data.image_labels()[5]]
    assert torch.equal(part.instance_counts_C.sum(), torch.tensor(len(part.objects)))


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        DetectionRun(tmp_path)
