"""Tiny data set, tiny model, and the context of a run."""

import pytest
import torch

from longtail.data.dataset import Dataset, Part, Split
from longtail.data.resident import ResidentImages
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.log import RunLog


def part(num: int, seed: int) -> Part:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (num, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Part(ResidentImages(pixels), torch.arange(num) % 3)


@pytest.fixture
def data() -> Dataset:
    return Dataset("x", ("a", "b", "c"), part(20, 0), part(6, 1), part(6, 2), Split("x", "", 20))


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(small_net(width=4), LinearHead(8, 3)).eval()


@pytest.fixture
def context(tmp_path) -> Context:
    store, log = CheckpointStore(tmp_path / "checkpoint"), RunLog(tmp_path / "log.jsonl")
    return Context(seed=1, stage=1, split="", device=torch.device("cpu"), store=store, log=log, watch="val")
