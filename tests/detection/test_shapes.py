"""The synthetic data set of drawn shapes."""

import pytest
import torch

from longtail.detection import shapes_lt
from longtail.errors import InputError


def test_the_training_split_is_long_tailed_and_the_test_split_even():
    train, test = shapes_lt(), shapes_lt("test")
    assert sorted(train.image_counts_C.tolist(), reverse=True) == [240, 161, 108, 73, 49, 33, 22, 15, 10, 7, 4, 3]
    assert set(test.image_counts_C.tolist()) == {35}
    assert train.groups == test.groups
    assert [train.groups.count(group) for group in "fcr"] == [3, 5, 4]
    assert (len(train), len(test), train.categories) == (400, 200, test.categories)
    assert not train.repairs


def test_masks_and_boxes_agree_with_the_pixels():
    dataset = shapes_lt(images=24, seed=3)
    for index in range(len(dataset)):
        pixels, target = dataset.sample(index)
        assert pixels.shape == (3, 96, 96)
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            rows, columns = mask.nonzero().T
            edges = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (edges - box).abs().max() < 2.5  # a tip may be thinner than a pixel


def test_a_split_is_a_function_of_its_seed():
    first, again, other = shapes_lt(images=12), shapes_lt(images=12), shapes_lt(images=12, seed=1)
    assert torch.equal(first.sample(3)[0], again.sample(3)[0])
    assert torch.equal(first.sample(3)[1]["masks"], again.sample(3)[1]["masks"])
    assert not torch.equal(first.sample(3)[0], other.sample(3)[0])
    assert not torch.equal(first.sample(3)[0], shapes_lt("test", images=12).sample(3)[0])


@pytest.mark.parametrize(("name", "value"), [("images", 5), ("imbalance_factor", 0.5)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"`{name}` must be .*, got {value}"):
        shapes_lt(**{name: value})
