"""Features: what a backbone makes of images, cached as long as it stays the same."""

import pytest
import torch
from torch import nn

from longtail.data.dataset import Dataset, Part, Split
from longtail.data.resident import ResidentImages
from longtail.errors import InputError
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.features import FeatureImages, features_of, fingerprint
from longtail.training.log import RunLog


def part(num: int) -> Part:
    pixels = torch.randint(0, 256, (num, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(num))
    return Part(ResidentImages(pixels), torch.arange(num) % 2)


@pytest.fixture
def data() -> Dataset:
    return Dataset("x", ("a", "b"), part(7), None, part(5), Split("x", "", 7))


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(small_net(width=2), LinearHead(4, 2))


@pytest.fixture
def context(tmp_path) -> Context:
    store, log = CheckpointStore(tmp_path), RunLog(tmp_path / "log.jsonl")
    return Context(seed=0, stage=0, split="", device=torch.device("cpu"), store=store, log=log)


def test_features_are_the_embeddings_in_evaluation_mode(data, model, context):
    model.train()
    features = features_of(model, data, "train", context)
    assert model.training
    expected = model.eval().embed(data.train.images.pixels)
    torch.testing.assert_close(features.embeddings_ND, expected)
    assert torch.equal(features.targets_N, data.train.targets)


def test_a_head_can_learn_from_them(data, model, context):
    features = features_of(model, data, "train", context)
    model.head(features.embeddings_ND).sum().backward()  # inference tensors could not be saved for this
    assert model.head.weight.grad is not None


def test_they_are_kept_as_long_as_the_backbone_is_the_same(data, model, context):
    first = features_of(model, data, "train", context)
    with torch.no_grad():
        model.head.weight.add_(1)
    assert features_of(model, data, "train", context) is first
    assert features_of(model, data, "test", context) is not first
    with torch.no_grad():
        next(model.backbone.parameters()).view(-1)[0] += 1e-6
    assert features_of(model, data, "train", context) is not first


def test_the_time_they_take_is_part_of_the_cost(data, model, context):
    features_of(model, data, "train", context)
    assert context.images == 7
    seconds = context.seconds
    features_of(model, data, "train", context)
    assert (context.images, context.seconds) == (7, seconds)


def test_a_part_that_is_not_there_is_refused_with_the_way_out(data, model, context):
    with pytest.raises(InputError, match="no training images are held out for validation; set `val_share`"):
        features_of(model, data, "val", context)


def test_the_fingerprint_sees_weights_and_buffers():
    norm = nn.BatchNorm1d(3)
    first = fingerprint(norm)
    norm(torch.randn(4, 3))
    second = fingerprint(norm)
    with torch.no_grad():
        norm.weight[0] += 1e-6
    assert len({first, second, fingerprint(norm)}) == 3


def test_batches_and_subsets_are_index_picks():
    images = FeatureImages(torch.arange(10.0).view(5, 2))
    batches = list(images.subset(torch.tensor([4, 0, 2])).batches(torch.tensor([[0, 1], [2, 0]]), None))
    assert [batch.tolist() for batch in batches] == [[[8, 9], [0, 1]], [[4, 5], [8, 9]]]
    assert len(images) == 5
    with pytest.raises(InputError, match="an embedding has no picture"):
        images.thumbnail(0)
