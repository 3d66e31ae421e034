import inspect

import pytest
import torch

from longtail import transfer
from longtail.component import Component, keyword_options
from longtail.errors import InputError
from longtail.transfer.base import Transfer

CLASSES = [getattr(transfer, name) for name in transfer.__all__]


@pytest.mark.parametrize("cls", CLASSES)
def test_signature(cls: type[Transfer]) -> None:
    """Run values are positional; options are keyword-only, have defaults and are documented."""
    first, second, *options = inspect.signature(cls).parameters.values()
    assert (first.name, second.name) == ("class_counts", "channels")
    assert all(option.kind is option.KEYWORD_ONLY for option in options)
    for name in keyword_options(cls):
        assert f"\n        {name}: " in f"\n{cls.__doc__}".replace("\n    ", "\n    "), f"{name} is not explained"
    assert ">>>" in (cls.__doc__ or "")


@pytest.mark.parametrize("cls", CLASSES)
def test_is_built_by_name_and_refuses_misspelt_options(cls: type[Transfer]) -> None:
    built = Component(cls.__name__).build(transfer, [200, 200, 5], 4)
    assert isinstance(built, cls)
    with pytest.raises(InputError, match=f"option of {cls.__name__} 'strenth'"):
        Component(cls.__name__, {"strenth": 1.0}).build(transfer, [200, 5], 4)


@pytest.mark.parametrize("cls", CLASSES)
def test_any_precision_and_layout_comes_out_as_it_went_in(cls: type[Transfer]) -> None:
    targets_B, second_B = torch.arange(8) % 2, torch.arange(8) % 2 == 1
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for shape in ((8, 4), (8, 4, 3, 5)):
            given = torch.randn(shape).to(dtype)
            if given.ndim == 4:
                given = given.contiguous(memory_format=torch.channels_last)
            maps, _ = cls([200, 5], 4)(given, targets_B, second_B)
            assert maps.dtype == dtype
            assert maps.shape == given.shape
            assert maps.isfinite().all()


def test_repr_shows_sizes_and_options() -> None:
    assert repr(transfer.ISDA([9, 1], 4)).startswith(
        "ISDA(\n  num_classes=2, channels=4, strength=0.5, memory_budget_gb=2.0"
    )
    assert "stream=Component(name='ClassBalancedSampler'" in repr(transfer.SemanticTransfer([200, 5], 4))


def test_the_base_changes_nothing_and_refuses_what_does_not_fit() -> None:
    base, maps = Transfer([9, 1], 2), torch.ones(3, 2, 1, 1)
    targets_B, second_B = torch.tensor([0, 1, 0]), torch.zeros(3, dtype=torch.bool)
    assert base(maps, targets_B, second_B)[0] is maps
    assert base.adjust(maps, maps, targets_B, torch.nn.Identity()) is maps
    with pytest.raises(InputError, match=r"`channels` must be an integer >= 1.*got 0"):
        Transfer([9, 1], 0)
    with pytest.raises(InputError, match="at least two classes"):
        Transfer([9], 2)
    with pytest.raises(InputError, match=r"of shape \(3,\) .*, got \(2,\)"):
        base(maps, targets_B[:2], second_B)
