"""The stage that corrects a head without training."""

from dataclasses import replace

import pytest
import torch

from longtail.component import Component
from longtail.errors import InputError
from longtail.models.classifier import LINEAR
from longtail.models.heads import LinearHead
from longtail.posthoc import CORRECTIONS, adjust_logits
from longtail.stages import Adjust
from longtail.training.predict import predict


def test_logit_adjustment_is_folded_into_the_bias(data, model, context):
    before, _ = predict(model, data.test.images)
    Adjust(Component("LogitAdjustment", {"tau": 0.5}))(model, data, context)
    after, _ = predict(model, data.test.images)
    torch.testing.assert_close(after, adjust_logits(before, data.class_counts, 0.5))
    assert (type(model.head), context.chosen) == (LinearHead, {})


def test_the_strength_is_chosen_on_the_held_out_part_and_recorded(data, model, context):
    Adjust(Component("TauNormalization"))(model, data, context)
    assert 0 <= context.chosen["TauNormalization"]["tau"] <= 2
    assert "features of val" in context.cache
    assert "features of test" not in context.cache
    assert context.place()["chosen"] == context.chosen  # and is part of every later checkpoint


def test_a_given_strength_needs_no_features(data, model, context):
    bare = replace(data, val=None)
    stage = Adjust(Component("TauNormalization", {"tau": 1.0}))
    assert stage.prepare(model, bare, LINEAR).head == LINEAR
    stage(model, bare, context)
    torch.testing.assert_close(model.head.weight.norm(dim=1), torch.ones(3))
    assert context.cache == {}


def test_the_nearest_class_mean_is_that_of_the_training_features(data, model, context):
    _, embeddings = predict(model, data.train.images)
    stage = Adjust(Component("NearestClassMean"))
    stage(model, data, context)
    for label in range(3):
        mean = embeddings[data.train.targets == label].mean(dim=0)
        torch.testing.assert_close(model.head.weight[label].detach(), mean)
    assert model.head_component == Component("CosineHead", {"scale": 16.0})
    assert stage.prepare(model, data, Component("CosineHead")).head == model.head_component


@pytest.mark.parametrize("name", ["LogitAdjustment", "TauNormalization"])
def test_a_choice_without_a_held_out_part_is_refused(data, model, name):
    with pytest.raises(InputError, match=f"{name} chooses its strength on held-out .* `val_share` to 0.1, or a fixed"):
        Adjust(Component(name)).prepare(model, replace(data, val=None), LINEAR)


@pytest.mark.parametrize("name", ["LogitAdjustment", "TauNormalization"])
def test_only_a_linear_head_can_be_corrected(data, model, name):
    with pytest.raises(InputError, match=f"{name} corrects the weights of a LinearHead, .* will have a CosineHead"):
        Adjust(Component(name, {"tau": 1.0})).prepare(model, data, Component("CosineHead"))


def test_an_unknown_correction_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no post-hoc correction 'TauNormalisation'; did you mean TauNormalization"):
        Adjust(Component("TauNormalisation"))
    with pytest.raises(InputError, match="no option of LogitAdjustment 'strength'"):
        Adjust(Component("LogitAdjustment", {"strength": 1.0}))


@pytest.mark.parametrize("name", CORRECTIONS)
def test_every_listed_correction_can_be_prepared(data, model, name):
    Adjust(Component(name)).prepare(model, data, LINEAR)
