"""RandAugment against single operations, and the policy for photographs."""

import pytest
import torch

from longtail.augment.autoaugment import apply_operations, magnitude_of, operation
from longtail.augment.policies import policy
from longtail.augment.randaugment import OPERATIONS, RandAugment
from longtail.errors import InputError

IMAGES = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("index", "name"), list(enumerate(OPERATIONS, 1)))
def test_each_image_gets_its_operation_with_its_sign(index, name):
    augment = RandAugment(operations=1, magnitude=5)
    choice = (index + 0.5) / (len(OPERATIONS) + 1)
    uniforms = torch.tensor([[0.0, 0.0], [choice, 0.2], [choice, 0.7], [0.0, 0.9]])
    found = augment(IMAGES, uniforms)
    magnitude, signed = magnitude_of(name, 5)
    ops = torch.tensor([operation(name, -magnitude if signed else magnitude), operation(name, magnitude)])
    assert torch.equal(found[[0, 3]], IMAGES[[0, 3]])
    assert torch.equal(found[1:3], apply_operations(IMAGES[1:3], ops, fill=128))


def test_the_policy_for_photographs_leaves_the_crop_to_the_reader():
    augment = policy("photo")
    assert augment.reader_uniforms == 4
    uniforms = torch.rand(4, augment.num_uniforms, generator=torch.Generator().manual_seed(1))
    found = augment(IMAGES, uniforms)
    assert torch.equal(augment(IMAGES[2:3], uniforms[2:3]), found[2:3])
    assert not torch.equal(found, IMAGES)


def test_options_out_of_range_are_refused():
    for options in ({"operations": 0}, {"magnitude": 10}, {"fill": 256}):
        with pytest.raises(InputError):
            RandAugment(**options)
