"""The step: what it runs, in which mode, and what it tells the loss."""

import pytest
import torch
from torch.nn import functional as F

from longtail.losses import CrossEntropy, InfluenceBalancedLoss, LDAMLoss
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.models.small import small_net
from longtail.training.predict import predict
from longtail.training.step import Step


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(small_net(width=2), LinearHead(4, 3))


IMAGES, TARGETS = torch.arange(5 * 192).remainder(251).byte().view(5, 3, 8, 8), torch.arange(5) % 3


def test_a_step_is_the_loss_of_the_model(model):
    step = Step(model, CrossEntropy([2, 2, 1])).eval()
    torch.testing.assert_close(step(IMAGES, TARGETS), F.cross_entropy(model(IMAGES), TARGETS))


def test_a_step_on_embeddings_runs_the_head_alone(model):
    embeddings = torch.randn(5, 4)
    step = Step(model, CrossEntropy([2, 2, 1]), "skip")
    torch.testing.assert_close(step(embeddings, TARGETS), F.cross_entropy(model.head(embeddings), TARGETS))


def test_a_loss_that_uses_the_embeddings_is_given_them(model):
    embeddings, loss = torch.randn(5, 4), InfluenceBalancedLoss([2, 2, 1])
    step = Step(model, loss, "skip")
    torch.testing.assert_close(step(embeddings, TARGETS), loss(model.head(embeddings), TARGETS, embeddings))


@pytest.mark.parametrize(("backbone", "trains"), [("train", True), ("freeze", False), ("skip", False)])
def test_a_frozen_backbone_stays_in_evaluation_mode_also_after_a_look_at_the_scores(model, backbone, trains):
    step = Step(model, CrossEntropy([2, 2, 1]), backbone).train()
    for _ in range(2):
        assert {module.training for module in model.backbone.modules()} == {trains}
        assert model.head.training
        predict(model, _Images())
    assert not any(module.training for module in step.eval().modules())


class _Images:
    size = 8

    def __len__(self) -> int:
        return 5

    def batches(self, order_SB, uniforms_SBR):
        del uniforms_SBR
        return (IMAGES[picked] for picked in order_SB)


def test_the_loss_hears_of_the_progress_if_it_is_one_that_listens(model):
    loss = LDAMLoss([2, 2, 1], reweight_beta=0.9, reweight_from=0.5)
    step = Step(model, loss)
    step.set_progress(0.4)
    assert not loss.reweights
    step.set_progress(0.5)
    assert loss.reweights
    Step(model, torch.nn.CrossEntropyLoss()).set_progress(0.5)  # any other module is left alone
