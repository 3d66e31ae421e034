"""Training of the head alone: what changes and what does not, cached features against images, initial weights."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from longtail import _random as randomness
from longtail.component import Component
from longtail.config.schema import OptimizerConfig, ScheduleConfig, TrainingConfig
from longtail.errors import InputError
from longtail.models.classifier import LINEAR, Classifier
from longtail.models.heads import LinearHead
from longtail.samplers import ClassBalancedSampler
from longtail.stages.retrain import Retrain
from longtail.training.predict import embed, predict

PLAIN = TrainingConfig(
    epochs=2,
    batch_size=10,
    optimizer=OptimizerConfig(lr=0.05, weight_decay=1e-3),
    schedule=ScheduleConfig(kind="constant"),
)
BALANCED = Component("ClassBalancedSampler")


def backbone_state(model: Classifier) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.backbone.state_dict().values()]


def test_cached_features_train_the_head_as_a_plain_loop_does(data, model, context):
    reference = copy.deepcopy(model)
    before = backbone_state(model)
    Retrain(sampler=BALANCED, training=PLAIN, initialize="keep")(model, data, context)
    _, features = predict(reference, data.train.images)
    features, head = features.clone(), reference.head
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    stream = randomness.key("stream", context.seed, context.stage)
    for epoch in range(2):
        for indices in ClassBalancedSampler(data.train.targets).order(stream, epoch, epoch / 2).view(2, 10):
            optimizer.zero_grad()
            F.cross_entropy(head(features[indices]), data.train.targets[indices]).backward()
            optimizer.step()
    torch.testing.assert_close(model.head.weight, head.weight)
    torch.testing.assert_close(model.head.bias, head.bias)
    assert all(torch.equal(a, b) for a, b in zip(before, backbone_state(model), strict=True))


def test_images_through_a_frozen_backbone_train_the_head_as_cached_features_do(data, model, context, monkeypatch):
    other = copy.deepcopy(model)
    Retrain(training=PLAIN)(model, data, context)
    # an augmentation that does nothing, under another name, makes the stage use the images
    monkeypatch.setitem(__import__("longtail.augment.policies").augment.policies._POLICIES, "nothing", list)
    Retrain(training=replace(PLAIN, augment="nothing"), batch_norm="freeze")(other, data, context)
    torch.testing.assert_close(other.head.weight, model.head.weight)
    assert all(torch.equal(a, b) for a, b in zip(backbone_state(other), backbone_state(model), strict=True))


def test_batch_norm_update_moves_the_running_statistics_and_no_weight(data, model, context):
    before = copy.deepcopy(model.backbone)
    Retrain(training=PLAIN, batch_norm="update")(model, data, context)
    moved = {
        name.rpartition(".")[2]
        for name, tensor in model.backbone.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[name])
    }
    assert moved == {"running_mean", "running_var", "num_batches_tracked"}


def test_afterwards_the_backbone_can_learn_again_and_the_model_is_in_evaluation_mode(data, model, context):
    Retrain(training=PLAIN)(model, data, context)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_features_are_computed_once_for_each_state_of_the_backbone(data, model, context, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments[1])
        return embed(*arguments)

    monkeypatch.setattr("longtail.training.features.embed", counted)
    Retrain(training=PLAIN)(model, data, context)
    Retrain(training=PLAIN, sampler=BALANCED)(model, data, context)
    assert calls == [data.train.images, data.val.images]
    Retrain(training=PLAIN, batch_norm="update")(model, data, context)
    Retrain(training=PLAIN)(model, data, context)
    assert len(calls) == 4


def test_a_new_head_starts_from_random_weights_and_a_kept_one_from_its_own(data, model, context):
    still = replace(PLAIN, epochs=1, optimizer=OptimizerConfig(lr=1e-12, weight_decay=0.0))
    before = model.head.weight.detach().clone()
    kept, new = copy.deepcopy(model), copy.deepcopy(model)
    Retrain(training=still, initialize="keep")(kept, data, context)
    torch.testing.assert_close(kept.head.weight, before)
    Retrain(training=still, initialize="new")(new, data, context)
    assert not torch.allclose(new.head.weight, before, atol=1e-2)


@pytest.mark.parametrize("name", ["LWSHead", "MaxNormHead"])
def test_heads_for_training_are_folded_into_a_linear_one(data, model, context, name):
    stage = Retrain(training=PLAIN, head=Component(name), initialize="keep", sampler=BALANCED)
    assert stage.prepare(model, data, LINEAR).head == LINEAR
    before = model.head.weight.detach().clone()
    stage(model, data, context)
    assert (type(model.head), model.head_component) == (LinearHead, LINEAR)
    assert not torch.equal(model.head.weight, before)
    if name == "LWSHead":  # each vector keeps its direction
        torch.testing.assert_close(F.cosine_similarity(model.head.weight, before).abs(), torch.ones(3))


def test_disalign_keeps_the_layer_and_remains_a_head_of_its_kind(data, model, context):
    before = model.head.weight.detach().clone()
    stage = Retrain(training=PLAIN, head=Component("DisAlignHead"), initialize="keep")
    stage(model, data, context)
    assert model.head_component == stage.prepare(model, data, LINEAR).head == Component("DisAlignHead")
    assert torch.equal(model.head.weight, before)
    assert not torch.equal(model.head.scale_C, torch.ones(3))


def test_another_kind_of_head_can_be_requested(data, model, context):
    cosine = Component("CosineHead", {"scale": 4.0})
    Retrain(training=PLAIN, head=cosine)(model, data, context)
    assert model.head_component == cosine
    assert model.head.scale == 4.0


def test_the_log_scores_the_watched_part_as_the_images_themselves_would(data, model, context):
    Retrain(training=PLAIN)(model, data, context)
    logits, _ = predict(model, data.val.images)
    top1 = 100 * float((logits.argmax(dim=1) == data.val.targets).float().mean())
    assert context.log.rows[-1]["val"]["top1"] == pytest.approx(top1)
    assert [row["stage"] for row in context.log.rows] == [1, 1]


def test_the_paper_protocol_scores_the_test_part(data, model, context):
    Retrain(training=PLAIN)(model, data, replace(context, watch="test"))
    assert set(context.log.rows[-1]) >= {"test"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"head": Component("LWSHead")},
            '`initialize` must be "keep" for a LWSHead, got "new": it corrects the layer of an earlier',
        ),
        ({"head": Component("DisAlignHead")}, 'must be "keep" for a DisAlignHead'),
        ({"head": Component("LWSHed")}, "no head 'LWSHed'; did you mean LWSHead"),
        ({"head": Component("small_net")}, "no head 'small_net'"),
        ({"loss": Component("CrosEntropy")}, "did you mean CrossEntropy"),
        ({"sampler": Component("ClassBalanced")}, "did you mean ClassBalancedSampler"),
    ],
)
def test_invalid_options_are_refused_at_construction(options, words):
    with pytest.raises(InputError, match=words):
        Retrain(**options)


def test_a_head_that_cannot_be_kept_is_refused(data, model):
    stage = Retrain(head=Component("LWSHead"), initialize="keep")
    with pytest.raises(
        InputError, match="a LWSHead can start only from the weights of a LinearHead, not from those of a CosineHead"
    ):
        stage.prepare(model, data, Component("CosineHead"))


def test_mixing_trains_the_head_on_mixed_images_and_leaves_the_backbone(data, model, context):
    before, twin = [tensor.clone() for tensor in backbone_state(model)], copy.deepcopy(model)
    mixed = Retrain(training=PLAIN, mixing=Component("Mixup"))
    assert mixed.image_settings() == {"mixing": "mixes images"}
    mixed(model, data, context)
    Retrain(training=PLAIN)(twin, data, context)
    assert all(map(torch.equal, backbone_state(model), before))
    assert not torch.equal(model.head.weight, twin.head.weight)
    with pytest.raises(InputError, match="Mixupp"):
        Retrain(mixing=Component("Mixupp"))
