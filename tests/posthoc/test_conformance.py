"""What every correction of `longtail.posthoc.CORRECTIONS` promises, checked by its being listed.

Each is held to it with its defaults and with each of the variants below.
"""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from longtail import posthoc
from longtail.config import Component, ModelConfig, to_mapping
from longtail.errors import InputError
from longtail.models.classifier import LINEAR, Classifier, head_class, restore_classifier
from longtail.models.heads import LinearHead, linear_head
from longtail.models.small import small_net
from longtail.posthoc import PostHoc
from tests.posthoc.conftest import COUNTS, World

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "LogitAdjustment": ({"tau": 0.7},),
    "NearestClassMean": ({"metric": "l2"},),
    "TauNormalization": ({"tau": 0.7},),
}

# what is to happen where a class has neither a training image nor a held-out one
REFUSES_ABSENT = {
    "LogitAdjustment": "their prior has no logarithm",
    "NearestClassMean": "they have no mean",
}

# where equal counts may change a prediction all the same
EQUAL_COUNTS_MOVE = {
    "NearestClassMean": "replaces the classifier, whatever the counts",
    "TauNormalization": "goes by the lengths of the class vectors, never by counts",
}

CASES = [
    pytest.param(name, options, id="-".join([name, *map(str, options.values())]))
    for name in posthoc.CORRECTIONS
    for options in ({}, *VARIANTS.get(name, ()))
]


@pytest.fixture(params=CASES)
def build(request: pytest.FixtureRequest) -> Callable[[], PostHoc]:
    name, options = request.param.values if hasattr(request.param, "values") else request.param
    return lambda: getattr(posthoc, name)(**options)
