"""Logits and embeddings in batches, and the features of whole data sets: plain and augmented views."""

import dataclasses

import numpy as np
import pytest
import torch

from longtail import _random as randomness
from longtail.augment.policies import policy
from longtail.component import Component
from longtail.config.schema import DataConfig, ModelConfig
from longtail.data.dataset import Part
from longtail.data.formats.digits import load_digits_lt
from longtail.data.resident import ResidentImages
from longtail.errors import InputError
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier, build_classifier
from longtail.models.heads import LinearHead
from longtail.training.predict import embed, feature_blocks, feature_rows, plain_order, predict, views_of

DIGITS = load_digits_lt(DataConfig(imbalance_factor=20, val_share=0.1), torch.device("cpu"))
MODEL = build_classifier(ModelConfig(backbone=Component("small_net")), DIGITS, seed=0)


def test_batches_are_limited_in_images_and_bytes():
    for size, batch in ((28, 500), (32, 500), (105, 500), (224, 111), (3000, 1)):
        order_SB, sizes = plain_order(1200, size)
        assert order_SB.shape[1] == batch
        assert sum(sizes) == 1200
        assert order_SB.flatten()[:1200].tolist() == list(range(1200))


def test_batches_of_any_size_give_the_same_and_the_mode_is_restored(monkeypatch):
    torch.manual_seed(0)
    model = Classifier(small_net(width=4), LinearHead(8, 3)).train()
    pixels = torch.randint(0, 256, (13, 3, 8, 8), dtype=torch.uint8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole, embeddings = predict(model, ResidentImages(pixels))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    monkeypatch.setattr("longtail.training.predict.BATCH", 5)
    counts = []
    parts, _ = predict(model, ResidentImages(pixels), counts.append)
    assert (whole.shape, embeddings.shape, counts) == ((13, 3), (13, 8), [5, 5, 3])
    assert torch.equal(embed(model, ResidentImages(pixels)), predict(model, ResidentImages(pixels))[1])
    model.eval()
    alone = torch.cat([model(image.unsqueeze(0)) for image in pixels]).detach()
    assert torch.allclose(whole, alone, atol=1e-5)
    assert torch.allclose(parts, alone, atol=1e-5)


def compute(views, *, data=DIGITS, augment="none", seed=0, with_logits=True):
    blocks = list(feature_blocks(MODEL, data, views, policy(augment), seed, with_logits=with_logits))
    logits = np.concatenate([block[1] for block in blocks]) if with_logits else None
    return np.concatenate([block[0] for block in blocks]), logits


def test_plain_views_give_the_bits_of_predict():
    views = views_of(DIGITS, ("test", "train", "val"), 0)
    assert views == [("train", 0), ("val", 0), ("test", 0)]
    embeddings, logits = compute(views)
    rows = feature_rows(DIGITS, views, {})
    for name, part in (("train", DIGITS.train), ("val", DIGITS.val), ("test", DIGITS.test)):
        expected_logits, expected = predict(MODEL, part.images)
        assert np.array_equal(embeddings[rows.parts_N == name], expected)
        assert np.array_equal(logits[rows.parts_N == name], expected_logits)
        assert torch.equal(rows.labels_N[torch.from_numpy(rows.parts_N == name)], part.targets)


def test_rows_hold_label_part_and_view():
    rows = feature_rows(DIGITS, views_of(DIGITS, ("train", "test"), 2), {"run": "x"})
    n, test = len(DIGITS.train), len(DIGITS.test)
    assert rows.views_N.tolist() == [0] * n + [1] * n + [2] * n + [0] * test
    assert rows.parts_N.tolist() == ["train"] * (3 * n) + ["test"] * test
    assert torch.equal(rows.class_counts.counts, DIGITS.class_counts.counts)
    assert (rows.class_names, rows.about) == (DIGITS.class_names, {"run": "x"})


def test_augmented_views_are_reproducible_and_differ_by_view_and_seed():
    first, _ = compute([("train", 1)], augment="crop", seed=3)
    again, _ = compute([("train", 0), ("train", 1)], augment="crop", seed=3)
    assert np.array_equal(first, again[len(first) :])
    plain, other_view, other_seed = (
        again[: len(first)],
        *(compute([("train", view)], augment="crop", seed=seed)[0] for view, seed in ((2, 3), (1, 4))),
    )
    for other in (plain, other_view, other_seed):
        assert (first != other).any(axis=1).mean() > 0.5


def test_a_view_does_not_depend_on_how_images_are_batched(monkeypatch):
    whole, _ = compute([("train", 1)], augment="crop")
    monkeypatch.setattr("longtail.training.predict.BATCH", 7)
    batched, _ = compute([("train", 1)], augment="crop")
    assert np.allclose(whole, batched, atol=1e-5)


class Reader(ResidentImages):
    """Images whose reader uses random numbers, as those read from disk do."""

    def batches(self, order_SB, uniforms_SBR):
        for index, images_BCHW in enumerate(super().batches(order_SB, None)):
            shift = (
                0 if uniforms_SBR is None else (uniforms_SBR[index, :, 0] * 100).to(torch.uint8)[:, None, None, None]
            )
            yield images_BCHW + shift


def test_the_reader_of_images_receives_its_random_numbers():
    pixels = DIGITS.train.images.pixels[:20] // 2
    part = Part(Reader(pixels), DIGITS.train.targets[:20])
    data = dataclasses.replace(DIGITS, train=part)
    augment = policy("imagenet")
    augment.transforms = ()
    blocks = list(feature_blocks(MODEL, data, [("train", 1)], augment, 0, with_logits=False))
    drawn = randomness.uniforms((20, augment.num_uniforms), "features", 0, 1)
    shifted = pixels + (drawn[:, 0] * 100).to(torch.uint8)[:, None, None, None]
    with torch.no_grad():
        assert np.allclose(blocks[0][0], MODEL.embed(shifted), atol=1e-5)


def test_logits_are_left_out_if_not_requested_and_progress_is_reported():
    counts = []
    blocks = feature_blocks(MODEL, DIGITS, [("test", 0)], policy("none"), 0, with_logits=False, on_batch=counts.append)
    assert all(logits is None for _, logits in blocks)
    assert sum(counts) == len(DIGITS.test)


def test_blocks_are_computed_one_at_a_time(monkeypatch):
    monkeypatch.setattr("longtail.training.predict.BATCH", 50)
    counts = []
    blocks = feature_blocks(MODEL, DIGITS, [("test", 0)], policy("none"), 0, with_logits=True, on_batch=counts.append)
    embeddings_BD, logits_BC = next(blocks)
    assert (embeddings_BD.shape, logits_BC.shape, counts) == ((50, MODEL.backbone.embedding_dim), (50, 10), [])


def test_missing_parts_and_impossible_views_are_refused():
    with pytest.raises(InputError, match="there is no val part; set `val_share`"):
        views_of(dataclasses.replace(DIGITS, val=None), ("val",), 0)
    with pytest.raises(
        InputError, match="augmented views are made of the training images: the parts must include train"
    ):
        views_of(DIGITS, ("test",), 2)
    with pytest.raises(InputError, match="must be >= 0, got -1"):
        views_of(DIGITS, ("train",), -1)
