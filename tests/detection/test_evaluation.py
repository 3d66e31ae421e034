"""Average precision, AP-fixed and calibration of detections, against hand-computed values and the official code."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.detection import (
    Detections,
    draw,
    encode_masks,
    evaluate_detections,
    read_annotations,
    read_results,
    to_records,
    use_groups_of,
    write_results,
)
from longtail.detection.coco import from_mapping
from longtail.errors import InputError

from ..cli.calling import call

FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ap_r", "ap_c", "ap_f", "ar", "ar_small",
           "ar_medium", "ar_large")  # fmt: skip


def annotation(number, category, box, image=1, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, **more}


def detection(category, box, score, image=1):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def by_hand(*annotations, **image):
    """Return one image of 100 x 100 pixels with a frequent class 2 and a rare class 1, in this order."""
    categories = [{"id": 2, "name": "head", "frequency": "f"}, {"id": 1, "name": "tail", "frequency": "r"}]
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 100, **image}]
    return {"images": images, "categories": categories, "annotations": list(annotations)}


HEAD = (annotation(1, 2, [0, 0, 10, 10]), annotation(2, 2, [50, 50, 10, 10]))
TAIL = annotation(3, 1, [20, 20, 10, 10])
FOUND = [detection(2, [0, 0, 10, 10], 0.9), detection(2, [80, 80, 10, 10], 0.8), detection(2, [50, 50, 10, 6], 0.7),
         detection(1, [20, 20, 10, 10], 0.6)]  # fmt: skip


def score(mapping, records, **options):
    return evaluate_detections(records, from_mapping(mapping, need_images=False), **options)


def test_average_precision_by_hand():
    scores = score(by_hand(*HEAD, TAIL), FOUND).box
    # class head: precision 1 up to recall 0.5 (51 of 101 points), then 2/3 where IoU 0.6 matches (0.50, 0.55, 0.60)
    loose, strict = (51 + 50 * 2 / 3) / 1.01, 51 / 1.01
    head = (3 * loose + 7 * strict) / 10
    assert scores.ap_f == pytest.approx(head)
    assert scores.per_class == pytest.approx((head, 100))
    assert scores.ap == pytest.approx((head + 100) / 2)
    assert scores.ap50 == pytest.approx((loose + 100) / 2)
    assert scores.ap75 == pytest.approx((strict + 100) / 2)
    assert (scores.ap_r, scores.ap_c, scores.ap_large) == (pytest.approx(100), None, None)
    assert scores.ar == pytest.approx((0.3 * 100 + 0.7 * 50 + 100) / 2)


def test_the_limit_per_image_does_not_hold_for_ap_fixed():
    scores = score(by_hand(*HEAD, TAIL), FOUND, max_per_image=3)
    assert scores.box.ap_r == 0
    assert scores.box_fixed.ap_r == pytest.approx(100)
    few = score(by_hand(*HEAD, TAIL), FOUND, max_per_class=1)
    assert few.box_fixed.ap_f == pytest.approx(51 / 1.01)


def test_calibration_by_hand():
    ece = score(by_hand(*HEAD, TAIL), FOUND).ece
    # in 15 bins of equal width, every detection has a bin of its own: gaps 0.1, 0.8, 0.3 (IoU 0.6 is a match) and 0.4
    assert ece == pytest.approx({"all": 40, "f": 40, "r": 40, "c": None}, nan_ok=True)
    assert score(by_hand(*HEAD, TAIL), FOUND, min_score=0.85).ece["all"] == pytest.approx(10)


def test_detections_of_classes_that_are_not_verified_do_not_count():
    false = [*FOUND, detection(1, [60, 20, 9, 9], 0.95)]
    assert score(by_hand(*HEAD), false[:3]).box.ap == score(by_hand(*HEAD, neg_category_ids=[]), false).box.ap
    verified = by_hand(*HEAD, TAIL, neg_category_ids=[])
    assert score(verified, false).box.ap_r == pytest.approx(50)
    incomplete = by_hand(*HEAD, TAIL, neg_category_ids=[], not_exhaustive_category_ids=[1])
    assert score(incomplete, false).box.ap_r == pytest.approx(100)
    assert score(incomplete, false).ece["r"] == pytest.approx(40)


def test_a_match_of_a_crowd_does_not_count():
    crowd = by_hand(*HEAD, annotation(4, 2, [70, 70, 30, 30], iscrowd=1))
    scores = score(crowd, FOUND)
    assert scores.box.ap50 == pytest.approx(100)
    assert scores.ece["f"] == pytest.approx(20)  # gaps 0.1 and 0.3


def test_no_detections_have_an_average_precision_of_zero():
    scores = score(by_hand(*HEAD, TAIL), [])
    assert (scores.box.ap, scores.box.ar, scores.box_fixed.ap_r, scores.detections) == (0, 0, 0, 0)
    assert scores.ece == {"all": None, "r": None, "c": None, "f": None}


def federated(seed=0):
    """Return annotations in the layout of LVIS, with masks, and detections: boxes, masks, errors and ties."""
    random = np.random.default_rng(seed)
    categories = [{"id": 2 * k + 1, "name": f"c{k}", "frequency": "rcf"[k % 3]} for k in range(6)]
    images, annotations, found = [], [], []
    for image in range(1, 13):
        groups = random.permutation([each["id"] for each in categories]).tolist()
        present, negative, incomplete = groups[:3], groups[3:5], groups[2:3]
        images.append({"id": image, "width": 400, "height": 320, "file_name": f"{image}.png"})
        images[-1].update(neg_category_ids=negative, not_exhaustive_category_ids=incomplete)
        for category in present:
            for _ in range(random.integers(1, 4)):
                x, y = (int(each) for each in random.integers(0, [190, 150]))
                w, h = (int(each) for each in 8 + 160 * random.random(2) ** 2)
                own = {"id": len(annotations) + 1, "image_id": image, "category_id": category}
                annotations.append({**own, **region(x, y, w, h), "area": w * h, "iscrowd": 0})
                for _ in range(random.integers(0, 3)):
                    moved = np.maximum(0, np.array([x, y, w, h]) + random.integers(-2, 3, 4))
                    label = category if random.random() < 0.8 else int(random.choice(groups))
                    own = {"image_id": image, "category_id": label, "score": round(float(random.random()), 1)}
                    found.append({**own, **region(*(int(each) for each in moved))})
    return {"images": images, "categories": categories, "annotations": annotations}, found


def region(x, y, w, h):
    """Return a box and the triangle in it."""
    return {"bbox": [x, y, w, h], "segmentation": [[x, y, x + w, y, x, y + h]]}


def with_run_lengths(records, mapping):
    """Return detections whose polygons are run lengths."""
    drawn = from_mapping({**mapping, "annotations": [{"id": k + 1, **each} for k, each in enumerate(records)]},
                         need_images=False)  # fmt: skip
    masks = {}
    for position, number in enumerate(drawn.objects.ids_A.tolist()):
        rle = drawn.objects.segments.rle(position, (320, 400))
        masks[number] = {**rle, "counts": rle["counts"].decode()}
    return [{**each, "segmentation": masks[k + 1]} for k, each in enumerate(records)]


# printed by LVISEval of github.com/lvis-dataset/lvis-api at 7d7f07d, with pycocotools 2.0.11, on federated()
OFFICIAL = {
    "bbox": (0.446, 0.608, 0.503, 0.395, 0.524, 0.595, 0.412, 0.519, 0.406, 0.544, 0.423, 0.582, 0.683),
    "segm": (0.354, 0.544, 0.329, 0.238, 0.46, 0.565, 0.311, 0.443, 0.308, 0.468, 0.297, 0.519, 0.653),
}


@pytest.mark.parametrize("kind", OFFICIAL)
def test_the_figures_equal_those_of_the_official_code(kind):
    mapping, records = federated()
    scores = score(mapping, with_run_lengths(records, mapping))
    figures = (scores.box if kind == "bbox" else scores.mask).figures()
    assert tuple(figures) == FIGURES
    assert [round(value / 100, 3) for value in figures.values()] == list(OFFICIAL[kind])


def test_the_sample_detections_of_lvis():
    folder = Path(os.environ.get("LONGTAIL_DATA", "nowhere")) / "lvis"
    annotations, detections = folder / "lvis_val_100.json", folder / "lvis_results_100.json"
    if not annotations.exists() or not detections.exists():
        pytest.skip(f"needs {annotations.name} and {detections.name} of lvis-dataset/lvis-api in LONGTAIL_DATA/lvis")
    dataset = read_annotations(annotations, need_images=False)
    figures = evaluate_detections(read_results(detections, dataset), dataset).box.figures()
    # of the test of faster-coco-eval 1.8.0, tests/test_lvis_metric.py, derived with the official code for boxes
    expected = (0.368, 0.626, 0.384, 0.301, 0.438, 0.447, 0.0, 0.274, 0.388, 0.430, 0.345, 0.488, 0.515)
    assert [round(value / 100, 3) for value in figures.values()] == list(expected)


def test_groups_come_from_the_training_annotations():
    test = from_mapping({**by_hand(*HEAD, TAIL), "categories": [{"id": 1, "name": "tail"}, {"id": 2, "name": "head"}]},
                        need_images=False)  # fmt: skip
    assert test.groups == ("r", "r")
    use_groups_of(test, from_mapping(by_hand(*HEAD, TAIL), need_images=False))
    assert test.groups == ("r", "f")
    other = by_hand(TAIL)
    other["categories"][0]["name"] = "other"
    with pytest.raises(InputError, match="lack the class 'head'"):
        use_groups_of(test, from_mapping(other, need_images=False))


def test_a_result_file_keeps_boxes_scores_and_masks(tmp_path):
    dataset = from_mapping(by_hand(*HEAD, TAIL), need_images=False)
    masks = torch.zeros(2, 100, 100, dtype=torch.bool)
    masks[0, 10:30, 5:25] = masks[1, 50:60, 50:70] = True
    boxes = torch.tensor([[5.0, 10, 25, 30], [50, 50, 70, 60]])
    found = Detections(1, boxes, torch.tensor([0.75, 0.5]), torch.tensor([2, 1]), encode_masks(masks))
    write_results(tmp_path / "d.json", to_records([found], dataset))
    records = read_results(tmp_path / "d.json", dataset)
    assert [each["bbox"] for each in records] == [[5, 10, 20, 20], [50, 50, 20, 10]]
    assert [(each["score"], each["category_id"]) for each in records] == [(0.75, 1), (0.5, 2)]
    assert records[1]["segmentation"] == found.masks[1]


def test_drawings_show_confident_detections_only():
    pixels = torch.zeros(3, 100, 100, dtype=torch.uint8)
    masks = torch.zeros(2, 100, 100, dtype=torch.bool)
    masks[0, 40:60, 40:60] = masks[1, 80:90, 80:90] = True
    boxes = torch.tensor([[40.0, 40, 60, 60], [80, 80, 90, 90]])
    found = Detections(1, boxes, torch.tensor([0.9, 0.1]), torch.tensor([1, 2]), encode_masks(masks))
    drawn = draw(pixels, found, ["cat", "dog"])
    assert drawn[:, 50, 50].any()
    assert not drawn[:, 75:, 75:].any()
    assert torch.equal(draw(pixels, found, ["cat", "dog"], min_score=0.95), pixels)


def runs(counts, size=(100, 100)):
    return {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": {"size": list(size), "counts": counts}}


REFUSED = {
    "not a list": ({"images": []}, "detections must be a list"),
    "not a mapping": ([3], "detection 0 must be a mapping, got 3"),
    "unknown image": ([detection(1, [0, 0, 1, 1], 0.5, image=4)], "detection 0 is in the image id 4, which the"),
    "unknown class": ([detection(7, [0, 0, 1, 1], 0.5)], "detection 0 in image id 1 has the category id 7, which the"),
    "no score": ([detection(1, [0, 0, 1, 1], None)], "`score` of detection 0 in image id 1 must be a finite number"),
    "score not finite": ([detection(1, [0, 0, 1, 1], float("nan"))], "`score` of detection 0 .* got nan"),
    "no box": ([detection(1, None, 0.5)], "detection 0 in image id 1 has neither `bbox` nor `segmentation`"),
    "three numbers": ([detection(1, [0, 0, 1], 0.5)], r"`bbox` of detection 0 .* must be \[x, y, width, height\]"),
    "negative width": ([detection(1, [0, 0, -1, 1], 0.5)], "`bbox` of detection 0 .* a width and height >= 0"),
    "polygon": (
        [{**runs("0"), "segmentation": [[1, 2, 3, 4, 5, 6]]}],
        "`segmentation` of detection 0 .* run lengths, got",
    ),
    "mask of another size": ([runs("0", (90, 100))], r"detection 0 in image id 1: .* the size \[90, 100\]; it must be"),
    "damaged mask": ([runs("zzz\x7f")], "detection 0 in image id 1: its run-length mask is damaged"),
    "some with boxes": ([FOUND[0], runs("`X3")], "some detections lack `bbox` or `segmentation`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_result_files_are_refused(name, tmp_path):
    content, message = REFUSED[name]
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        read_results(tmp_path / "d.json", from_mapping(by_hand(*HEAD, TAIL), need_images=False))
    assert "d.json" in str(error.value)


@pytest.mark.parametrize("name", ["max_per_image", "max_per_class"])
def test_limits_below_one_are_refused(name):
    with pytest.raises(InputError, match=f"`{name}` must be an integer >= 1, got 0"):
        score(by_hand(*HEAD, TAIL), FOUND, **{name: 0})


def test_evaluate_detections_from_the_command_line(tmp_path, capsys):
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    truth.write_text(json.dumps(by_hand(*HEAD, TAIL)))
    found.write_text(json.dumps(FOUND))
    assert call("evaluate", found, "--against", truth) == 0
    assert "AP_r" in (table := capsys.readouterr().out)
    assert "found.json: boxes" in table
    assert call("evaluate", found, "--against", truth, "--counts", truth, "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["box"]["ap_r"], scores["mask"], scores["groups"]) == (pytest.approx(100), None, ["f", "r"])
    assert call("evaluate", truth, "--against", truth) == 2
    assert "detections must be a list" in capsys.readouterr().err
