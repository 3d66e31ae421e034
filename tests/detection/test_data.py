"""Images and targets, and their views in batches."""

import pickle

import pytest
import torch

from longtail.detection import View, read_annotations, shapes_lt
from longtail.detection.augment import view_uniforms
from longtail.errors import InputError

from .making import changed, mapping, write

PLAIN = View(short_sides=(24,), test_side=24, flip=0.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return read_annotations(write(tmp_path_factory.mktemp("coco"), mapping()))


def test_a_sample_has_the_layout_of_torchvision(dataset):
    pixels, target = dataset.sample(1)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 24, 32))
    assert target["boxes"].tolist() == [[2, 2, 10, 10]] * 2
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [2, 1]
    assert (target["image_id"].item(), target["size"].tolist()) == (9, [24, 32])
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].shape == (2, 24, 32)
    assert target["masks"][0, 2:10, 2:10].all()
    assert target["masks"].sum() == 2 * 64


def test_a_plain_view_of_the_same_size_is_the_sample(dataset):
    [batch] = dataset.batches(torch.tensor([[1, 0]]), view=PLAIN, workers=0)
    for (pixels, target), index in zip(batch, (1, 0), strict=True):
        expected, own = dataset.sample(index)
        assert torch.equal(pixels, expected)
        assert all(torch.equal(target[name], own[name]) for name in own)


def test_a_flip_mirrors_pixels_boxes_and_masks(dataset):
    view = View(short_sides=(24,), flip=1.0)
    [[(pixels, target)]] = dataset.batches(torch.tensor([[0]]), torch.zeros(1, 1, 2), view=view, workers=0)
    expected, own = dataset.sample(0)
    assert torch.equal(pixels, expected.flip(-1))
    assert target["boxes"].tolist() == [[22, 2, 30, 10]]
    assert torch.equal(target["masks"], own["masks"].flip(-1))


def test_a_resize_scales_boxes_and_masks(dataset):
    view = View(short_sides=(48, 72), flip=0.0)
    [[(pixels, target)]] = dataset.batches(torch.tensor([[0]]), torch.tensor([[[0.6, 0.0]]]), view=view, workers=0)
    assert pixels.shape == (3, 72, 96)
    assert target["boxes"].tolist() == [[6, 6, 30, 30]]
    assert target["masks"].shape == (1, 72, 96)
    assert target["masks"][0, 6:30, 6:30].all()
    assert target["masks"].sum() == 24 * 24
    assert target["size"].tolist() == [24, 32]


def test_masks_of_run_lengths_follow_the_view(tmp_path):
    runs = {"size": [24, 32], "counts": [24 * 4, 24 * 2, 24 * 26]}  # columns 4 and 5
    dataset = read_annotations(write(tmp_path, changed(segmentation=runs)))
    view = View(short_sides=(48,), flip=1.0)
    [[(_, target)]] = dataset.batches(torch.tensor([[1]]), torch.zeros(1, 1, 2), view=view, workers=0)
    columns = target["masks"][0].all(0).nonzero().flatten().tolist()
    assert columns == [64 - 1 - x for x in (11, 10, 9, 8)]


def test_crowds_are_left_out_of_batches_only(tmp_path):
    runs = {"size": [24, 32], "counts": [768]}
    dataset = read_annotations(write(tmp_path, changed(iscrowd=1, segmentation=runs)))
    [[(_, target)]] = dataset.batches(torch.tensor([[1]]), view=PLAIN, workers=0)
    assert target["labels"].tolist() == [1]
    assert dataset.sample(1)[1]["iscrowd"].tolist() == [1, 0]


def test_workers_return_the_same_batches_in_every_pass():
    dataset = shapes_lt(images=20)
    order, uniforms = torch.arange(20).reshape(5, 4), view_uniforms(5, 4, seed=1, epoch=2)
    view = View(short_sides=(64, 96))
    alone = list(dataset.batches(order, uniforms, view=view, workers=0))
    for _ in range(2):
        for batch, expected in zip(dataset.batches(order, uniforms, view=view, workers=2), alone, strict=True):
            for (pixels, target), (own_pixels, own) in zip(batch, expected, strict=True):
                assert torch.equal(pixels, own_pixels)
                assert all(torch.equal(target[name], own[name]) for name in own)


def test_a_file_that_changes_later_is_named_by_the_worker(tmp_path):
    dataset = read_annotations(write(tmp_path, mapping()))
    (tmp_path / "b.png").write_bytes(b"")
    for workers in (0, 1):
        with pytest.raises(InputError, match=r"cannot read the image .*b.png: the file is empty"):
            list(dataset.batches(torch.tensor([[0, 1]]), workers=workers))


def test_the_view_is_a_function_of_seed_and_epoch():
    assert torch.equal(view_uniforms(2, 3, 0, 1), view_uniforms(2, 3, 0, 1))
    assert not torch.equal(view_uniforms(2, 3, 0, 1), view_uniforms(2, 3, 0, 2))


def test_too_few_random_numbers_are_refused(dataset):
    with pytest.raises(InputError, match="a view needs 2 random numbers per image, got 1"):
        next(dataset.batches(torch.tensor([[0]]), torch.zeros(1, 1, 1)))


def test_a_data_set_survives_pickling(dataset):
    copied = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copied.sample(1)[0], dataset.sample(1)[0])
