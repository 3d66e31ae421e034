"""Every numeric option of every public component has a range that is checked when the component is built."""

import dataclasses
import inspect
import math
import re

import pytest

from longtail import augment, embedding, losses, posthoc, samplers, transfer
from longtail.errors import InputError
from longtail.models import heads
from longtail.ranges import Range, check_number

COUNTS = [5000, 600, 70, 8, 1]
LABELS = [0] * 90 + [1] * 10

PACKAGES = [
    (losses, losses.__all__, (COUNTS,)),
    (samplers, samplers.__all__, (LABELS,)),
    (embedding, embedding.__all__, (COUNTS, 4)),
    (transfer, transfer.__all__, (COUNTS, 4)),
    (augment, augment.MIXINGS, (COUNTS,)),
    (posthoc, (*posthoc.CORRECTIONS, "DLSA", "DLSASettings", "FilterSettings", "ClassifierSettings"), ()),
    (heads, ("CosineHead", "LWSHead", "MaxNormHead"), (4, 5)),
]
UNBOUNDED = ("ignore_index", "seed")  # any integer
INFINITE = ("max_norm",)  # infinity disables the clipping


def numeric_options():
    found = []
    for package, names, arguments in PACKAGES:
        for name in names:
            cls = getattr(package, name)
            for option in inspect.signature(cls).parameters.values():
                kinds = re.findall(r"\w+", str(option.annotation).replace("<class '", ""))
                numeric = {"int", "float", "Sigma"} & set(kinds)
                if numeric and (option.kind is option.KEYWORD_ONLY or dataclasses.is_dataclass(cls)):
                    found.append(pytest.param(cls, arguments, option.name, id=f"{name}-{option.name}"))
    return found


def test_the_walk_finds_the_options():
    found = {option.id for option in numeric_options()}
    assert len(found) > 100
    assert {"LDAMLoss-reweight_beta", "MetaSampler-lr", "PullLoss-momentum", "SemanticTransfer-clamp"} <= found
    assert {"CMO-off_first", "TauNormalization-tau", "FilterSettings-max_norm", "DLSASettings-sigma"} <= found


@pytest.mark.parametrize(("cls", "arguments", "option"), numeric_options())
def test_values_outside_the_range_are_refused_by_name(cls, arguments, option):
    too_low = 0.5 if option in UNBOUNDED else -1
    for value in (math.nan, too_low, "much", *([] if option in INFINITE else [math.inf])):
        with pytest.raises(InputError, match=rf"`{option}`"):
            cls(*arguments, **{option: value})


def test_the_message_of_a_number():
    for value, options, rule in (
        (-1, {"at_least": 0}, ">= 0"),
        (1.0, {"at_least": 0, "below": 1}, ">= 0 and < 1"),
        (2.0, {"integer": True, "at_least": 1}, "an integer >= 1"),
        (True, {"at_least": 0}, "a number >= 0"),
        ("1", {"at_least": 0, "optional": True}, "a number >= 0 or None"),
        (math.inf, {}, "finite"),
    ):
        with pytest.raises(InputError) as caught:
            check_number("tau", value, **options)
        assert str(caught.value) == f"`tau` must be {rule}, got {value!r}"
    check_number("tau", None, optional=True)
    check_number("tau", math.inf, above=0, infinite=True)
    assert math.inf not in Range()
