"""Folders in the layouts of COCO, Pascal VOC and YOLO."""

import json

import numpy as np
import pytest

from longtail.detection import read_annotations
from longtail.errors import InputError

from .making import mapping, write

VOC = """<annotation><filename>{name}</filename><size><width>32</width><height>24</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
</object>"""


def voc(folder, **objects):
    """Write a VOC folder; each keyword is an image with a list of objects."""
    write(folder / "JPEGImages", "{}", tuple(f"{name}.png" for name in objects))
    (folder / "JPEGImages" / "annotations.json").unlink()
    (folder / "Annotations").mkdir()
    for name, own in objects.items():
        text = "".join(OBJECT.format(*box, name=label) for label, box in own)
        (folder / "Annotations" / f"{name}.xml").write_text(VOC.format(name=f"{name}.jpg", objects=text))
    return folder


def test_voc_boxes_count_from_one_and_include_the_last_pixel(tmp_path):
    folder = voc(tmp_path, a=[("RBC", (1, 1, 32, 24)), ("WBC", (3, 4, 5, 6))], b=[("RBC", (2, 2, 9, 9))])
    dataset = read_annotations(folder)
    assert dataset.categories == ("RBC", "WBC")
    assert dataset.objects.boxes_A4.tolist() == [[0, 0, 32, 24], [2, 3, 5, 6], [1, 1, 9, 9]]
    assert dataset.image_counts_C.tolist() == [2, 1]
    assert dataset.sample(1)[1]["labels"].tolist() == [1]
    assert not dataset.repairs


def test_a_split_of_voc_keeps_the_classes_of_all(tmp_path):
    folder = voc(tmp_path, a=[("RBC", (1, 1, 9, 9)), ("WBC", (3, 4, 5, 6))], b=[("WBC", (2, 2, 9, 9))])
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    dataset = read_annotations(folder, split="val")
    assert (len(dataset), dataset.categories, dataset.image_counts_C.tolist()) == (1, ("RBC", "WBC"), [0, 1])
    with pytest.raises(InputError, match=r"there is no split 'tset'.*there are: val"):
        read_annotations(folder, split="tset")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([("RBC", (5, 5, 3, 9))], r"a.xml: the box .* must have xmin <= xmax"),
        ([("RBC", (5, 5, "x", 9))], "a.xml: `xmax` of 'RBC' must be a finite number, got 'x'"),
        ([("", (5, 5, 9, 9))], "a.xml: an object has no `name`"),
        ([], "the list 'annotations' is empty"),
    ],
)
def test_invalid_voc_files_are_refused(objects, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_annotations(voc(tmp_path, a=objects))


def test_xml_that_is_cut_off_is_named(tmp_path):
    folder = voc(tmp_path, a=[("RBC", (5, 5, 9, 9))])
    (folder / "Annotations" / "a.xml").write_text("<annotation><object>")
    with pytest.raises(InputError, match=r"a.xml is not valid XML: .*line 1"):
        read_annotations(folder)


def yolo(folder, **lines):
    """Write a YOLO folder with the classes cat and dog; each keyword is an image."""
    write(folder / "images" / "train", "{}", tuple(f"{name}.png" for name in lines))
    (folder / "labels" / "train").mkdir(parents=True)
    for name, text in lines.items():
        if text is not None:
            (folder / "labels" / "train" / f"{name}.txt").write_text(text)
    (folder / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    return folder


def test_yolo_boxes(tmp_path):
    dataset = read_annotations(yolo(tmp_path, a="1 0.5 0.5 0.25 0.5\n0 0.25 0.25 0.5 0.5\n", b=None), split="train")
    assert dataset.categories == ("cat", "dog")
    assert dataset.objects.boxes_A4.tolist() == [[12, 6, 20, 18], [0, 0, 16, 12]]
    assert (len(dataset), dataset.has_masks, dataset.image_labels()) == (2, False, [[0, 1], []])


def test_yolo_polygons_are_masks(tmp_path):
    dataset = read_annotations(yolo(tmp_path, a="0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"), split="train")
    mask = dataset.sample(0)[1]["masks"][0]
    assert mask[6:18, 8:24].all()
    assert mask.sum() == 12 * 16
    assert np.allclose(dataset.objects.boxes_A4, [[8, 6, 24, 18]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 0.5 0.5 0.1 0.1", "a.txt, line 1: the class must be an integer >= 0, got 'cat'"),
        (
            "\n0 0.5 0.5 0.1",
            "a.txt, line 2: a line must hold a class and 4 numbers or 3 points, got 4 values",
        ),
        ("0 0.5 nan 0.1 0.1", "a.txt, line 1: a coordinate must be a finite number, got 'nan'"),
        ("0 16 12 8 8", r"a.txt, line 1: coordinates must be shares of the image, in \[0, 1\], got 16"),
        ("2 0.5 0.5 0.1 0.1", "has the class number 2, and there are 2 names"),
    ],
)
def test_invalid_yolo_files_are_refused(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_annotations(yolo(tmp_path, a=text), split="train")


def test_a_label_file_without_image_is_named(tmp_path):
    folder = yolo(tmp_path, a="0 0.5 0.5 0.1 0.1")
    (folder / "labels" / "train" / "z.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(InputError, match=r"label files without an image .*\n.*z.txt"):
        read_annotations(folder, split="train")


def test_a_folder_with_coco_files_needs_a_split(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / f"{split}2017", "{}")
        (tmp_path / f"{split}2017" / "annotations.json").unlink()
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(mapping()))
    (tmp_path / "annotations" / "captions_val2017.json").write_text("{}")
    dataset = read_annotations(tmp_path, tmp_path / "val2017", split="val")
    assert dataset.images[0].file == tmp_path / "val2017" / "a.png"
    with pytest.raises(InputError, match=r"several annotation files; .*\n.*instances_train2017.json"):
        read_annotations(tmp_path)


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no annotations: no JSON file"):
        read_annotations(tmp_path)
    with pytest.raises(InputError, match="there is no file or folder"):
        read_annotations(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"there is no folder .*; give the folder of the images"):
        read_annotations(write(tmp_path, mapping()), tmp_path / "nowhere")
