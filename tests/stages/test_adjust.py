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


def test_what_is_chosen_is_chosen_on_the_held_out_part_and_noted(data, model, context):
    Adjust(Component("TauNormalization"))(model, data, context)
    assert 0 <= context.chosen["TauNormalization"]["tau"] <= 2
    assert "features of val" in context.cache
    assert "features of test" not in context.cache
    assert context.place()["chosen"] == context.chosen  # every checkpoint from now on knows


def test_a_given_strength_needs_no_features(data, model, context):
    bare = replace(data, val=None)
    stage = Adjust(Component("TauNormalization", {"tau": 1.0}))
    assert stage.check(bare, LINEAR) == LINEAR
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
    assert (
        model.head_component == stage.check(data, Component("CosineHead")) == Component("CosineHead", {"scale": 16.0})
    )


@pytest.mark.parametrize("name", ["LogitAdjustment", "TauNormalization"])
def test_without_a_held_out_part_there_is_nothing_to_choose_on(data, name):
    with pytest.raises(InputError, match=f"{name} chooses its strength on held-out .* --val-share 0.1, or a fixed one"):
        Adjust(Component(name)).check(replace(data, val=None), LINEAR)


@pytest.mark.parametrize("name", ["LogitAdjustment", "TauNormalization"])
def test_only_a_linear_head_can_be_corrected(data, name):
    with pytest.raises(InputError, match=f"{name} corrects the weights of a LinearHead, .* will have a CosineHead"):
        Adjust(Component(name, {"tau": 1.0})).check(data, Component("CosineHead"))


def test_an_unknown_correction_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no post-hoc correction 'TauNormalisation'; did you mean TauNormalization"):
        Adjust(Component("TauNormalisation"))
    with pytest.raises(InputError, match="no option of LogitAdjustment 'strength'"):
        Adjust(Component("LogitAdjustment", {"strength": 1.0}))


def test_every_listed_correction_is_one(data, model, context):
    for name in CORRECTIONS:
        Adjust(Component(name)).check(data, LINEAR)
