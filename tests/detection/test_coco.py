"""Annotations of COCO and LVIS: what is read, what is repaired, and what is refused."""

import copy

import numpy as np
import pytest

from longtail.detection import read_annotations
from longtail.detection.coco import CLIPPED, NO_AREA, SHORT, from_mapping
from longtail.detection.segments import mask_library
from longtail.errors import InputError

from .making import SQUARE, changed, mapping, write


def read(content, **options):
    return from_mapping(content, need_images=False, **options)


def test_objects_are_sorted_by_image_and_classes_by_the_file(tmp_path):
    dataset = read_annotations(write(tmp_path, mapping()))
    assert (dataset.categories, dataset.category_ids) == (("cat", "dog"), (3, 5))
    assert dataset.objects.starts_N.tolist() == [0, 1, 3]
    assert dataset.objects.ids_A.tolist() == [2, 1, 3]
    assert dataset.image_counts_C.tolist() == [2, 1]
    assert dataset.image_labels() == [[0], [0, 1]]
    assert dataset.images[1] == (9, tmp_path / "b.png", 32, 24)
    assert dataset.has_masks
    assert not dataset.repairs


def test_groups_come_from_the_file_or_from_the_image_counts():
    lvis = mapping(categories=[{"id": 3, "name": "cat", "frequency": "f"}, {"id": 5, "name": "dog", "frequency": "c"}])
    assert read(lvis).groups == ("f", "c")
    assert read(mapping()).groups == ("r", "r")


def test_federated_annotations_keep_what_was_checked():
    content = mapping()
    assert read(content).verified is None
    content["images"][0].update(neg_category_ids=[5], not_exhaustive_category_ids=[3])
    verified = read(content).verified
    assert verified.negatives == [{1}, set()]
    assert verified.incomplete == [{0}, set()]


def test_a_crowd_of_run_lengths_is_kept_and_does_not_count():
    runs = {"size": [24, 32], "counts": [0, 24, 24 * 31]}
    dataset = read(changed(iscrowd=1, segmentation=runs))
    assert dataset.image_counts_C.tolist() == [2, 0]
    assert dataset.objects.crowd_A.tolist() == [False, True, False]
    mask = dataset.objects.segments.masks([1], (24, 32))[0]
    assert mask[:, 0].all()
    assert not mask[:, 1:].any()


def test_compressed_run_lengths_equal_the_list():
    mask = np.zeros((24, 32), np.uint8)
    mask[3:9, 5:30] = mask[20, 2] = 1
    rle = mask_library().encode(np.asfortranarray(mask))
    dataset = read(changed(segmentation={"size": [24, 32], "counts": rle["counts"].decode()}))
    assert np.array_equal(dataset.objects.segments.masks([1], (24, 32))[0], mask)
    assert dataset.objects.segments.rle(1, (24, 32)) == rle


def test_lvis_names_of_files(tmp_path):
    content = mapping()
    content["images"][0]["file_name"] = "COCO_val2014_000000000007.jpg"
    del content["images"][1]["file_name"]
    content["images"][1]["coco_url"] = "http://images.cocodataset.org/val2017/000000000009.jpg"
    path = write(tmp_path / "annotations", content, images=())
    write(tmp_path / "images", "{}", images=("000000000007.jpg", "val2017/000000000009.jpg"))
    files = [image.file for image in read_annotations(path).images]
    assert files == [tmp_path / "images" / "000000000007.jpg", tmp_path / "images" / "val2017/000000000009.jpg"]


def test_a_size_that_is_not_stated_is_read_from_the_file(tmp_path):
    content = mapping()
    del content["images"][0]["width"]
    assert read_annotations(write(tmp_path, content)).images[0].width == 32
    with pytest.raises(InputError, match="image id 7 has no `width`"):
        read(content)


REPAIRED = {
    "a box outside the image is clipped": ({"bbox": [-4, 20, 10, 10]}, CLIPPED, [0, 20, 6, 24]),
    "a box without area is dropped": ({"bbox": [4, 4, 0, 5]}, NO_AREA, None),
    "a box beside the image is dropped": ({"bbox": [40, 4, 5, 5]}, NO_AREA, None),
    "a polygon of two points is left out": ({"segmentation": [*SQUARE, [1, 1, 2, 2]]}, SHORT, [2, 2, 10, 10]),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_repairs_are_counted(name, caplog):
    changes, kind, box = REPAIRED[name]
    dataset = read(changed(**changes))
    assert dataset.repairs == {kind: 1}
    assert kind in caplog.text
    assert len(dataset.objects) == (2 if box is None else 3)
    if box is not None:
        assert dataset.objects.boxes_A4[1].tolist() == box


def with_image(**changes):
    content = mapping()
    content["images"][1].update(changes)
    return content


NOT_NUMBER = float("nan")
REFUSED = {
    "size mismatch": (with_image(width=30), r"b.png \(id 9\) has 32 x 24 pixels.*states 30 x 24"),
    "image missing": (with_image(file_name="c.png"), r"1 images .* do not exist.*\n.*c.png \(id 9\)"),
    "no image id": (with_image(id=None), "`id` of image 1 .* must be an integer, got None"),
    "duplicate image id": (with_image(id=7), "two entries have the image id 7"),
    "image without pixels": (with_image(height=0), r"`height` of image .*b.png \(id 9\) must be >= 1 pixel, got 0"),
    "duplicate annotation id": (changed(id=2), "two annotations have the id 2"),
    "unknown image": (changed(image_id=8), "annotation 1 belongs to the image id 8, which is not in 'images'"),
    "unknown category": (changed(category_id=4), "b.png.*annotation 1: category id 4 is not in 'categories'"),
    "no box": (changed(bbox=[1, 2, 3]), r"annotation 1: `bbox` must be \[x, y, width, height\], got \[1, 2, 3\]"),
    "negative box": (changed(bbox=[10, 10, -2, 5]), r"annotation 1: `bbox` must be .* width and height >= 0"),
    "box not finite": (changed(bbox=[NOT_NUMBER, 1, 2, 3]), "annotation 1: `bbox` must be a finite number, got nan"),
    "area not finite": (changed(area=float("inf")), "annotation 1: `area` must be a finite number, got inf"),
    "empty polygon": (changed(segmentation=[]), "annotation 1: its `segmentation` is empty, and other"),
    "polygon of two points": (changed(segmentation=[[1, 2, 3, 4]]), "annotation 1: its polygon has 2 points"),
    "odd coordinates": (changed(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 1: polygon 0 has 7 coordinates"),
    "polygon not finite": (changed(segmentation=[[1, 2, 3, 4, 5, NOT_NUMBER]]), "annotation 1: .* not finite"),
    "flat polygon": (changed(segmentation=[1, 2, 3, 4, 5, 6]), "annotation 1: .* got a list of numbers"),
    "text as polygon": (changed(segmentation="poly"), "annotation 1: `segmentation` must be a list of polygons"),
    "broken run lengths": (
        changed(segmentation={"size": [24, 32], "counts": [5, 6]}),
        "annotation 1: .* the runs cover 11 pixels, and its image has 768",
    ),
    "broken compressed run lengths": (
        changed(segmentation={"size": [24, 32], "counts": "P0\x7f"}),
        "annotation 1: its run-length mask is damaged",
    ),
    "run lengths cut off": (
        changed(segmentation={"size": [24, 32], "counts": "Po"}),
        "annotation 1: .* ends within a number",
    ),
    "run lengths of another size": (
        changed(iscrowd=1, segmentation={"size": [32, 24], "counts": [768]}),
        r"annotation 1: .* must be \[height, width\] = \[24, 32\]",
    ),
    "crowd flag": (changed(iscrowd=2), "annotation 1: `iscrowd` must be 0 or 1, got 2"),
    "no annotation": (mapping(annotations=[]), "the list 'annotations' is empty"),
    "no category": (mapping(categories=[]), "the list 'categories' is empty"),
    "category twice": (mapping(categories=[{"id": 3, "name": "a"}, {"id": 5, "name": "a"}]), "2 categories have"),
    "frequency": (mapping(categories=[{"id": 3, "name": "a", "frequency": "x"}]), "must be r, c or f, got 'x'"),
    "not a mapping": ([{"image_id": 1, "bbox": []}], "got a list, as in a file of detections"),
    "lists missing": ({"images": [{"id": 1}]}, "must hold the lists"),
    "entries of another kind": (mapping(images=["a.png"]), "entry 0 of 'images' must be a mapping"),
    "invalid JSON": ('{"images": [', "is not valid JSON: .* in line 1, column 13"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_annotations_are_refused(name, tmp_path):
    content, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as error:
        read_annotations(write(tmp_path, copy.deepcopy(content)))
    assert "annotations.json" in str(error.value) or ".png" in str(error.value)


def test_all_boxes_without_area_leave_nothing():
    content = mapping()
    for annotation in content["annotations"]:
        annotation["bbox"] = [1, 1, 0, 0]
    with pytest.raises(InputError, match="no annotation is left"):
        read(content)


def test_a_truncated_image_is_named(tmp_path):
    path = write(tmp_path, mapping())
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match=r"cannot read the image .*b.png"):
        read_annotations(path)


def test_boxes_without_masks(tmp_path):
    content = mapping()
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    dataset = read_annotations(write(tmp_path, content))
    assert not dataset.has_masks
    assert "masks" not in dataset.sample(0)[1]
