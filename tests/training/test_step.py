"""The training step: its parts, their modes, and the progress they receive."""

import pytest
import torch
from torch.nn import functional as F

from longtail.component import Component
from longtail.embedding.base import EmbeddingLoss
from longtail.errors import InputError
from longtail.losses import CrossEntropy, InfluenceBalancedLoss, LDAMLoss
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.training.predict import predict
from longtail.training.step import Step
from longtail.transfer.base import Transfer


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
def test_a_frozen_backbone_stays_in_evaluation_mode_after_scoring_too(model, backbone, trains):
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


def test_the_loss_receives_the_progress_if_it_uses_it(model):
    loss = LDAMLoss([2, 2, 1], reweight_beta=0.9, reweight_from=0.5)
    step = Step(model, loss)
    step.set_progress(0.4)
    assert not loss.reweights
    step.set_progress(0.5)
    assert loss.reweights
    Step(model, torch.nn.CrossEntropyLoss()).set_progress(0.5)  # any other module is ignored


class Distance(EmbeddingLoss):
    """Stand-in that returns the mean of the squared embeddings and records its arguments."""

    def __init__(self, class_counts, embedding_dim=None, *, stream=None, uses_logits=False):
        super().__init__(class_counts, embedding_dim)
        self.stream, self.uses_logits, self.given = stream, uses_logits, ()

    def per_example(self, embeddings_BD, targets_B, *extra):
        self.given = (embeddings_BD, targets_B, *extra)
        return embeddings_BD.square().mean(dim=1)


class Doubling(Transfer):
    """Stand-in that doubles the maps of the second stream, halves its weight, and adds 1 to the first logit."""

    def __init__(self, class_counts, channels, *, stream=None, at=None):
        super().__init__(class_counts, channels)
        self.stream, self.at, self.progress = stream, at, None

    def set_progress(self, progress):
        self.progress = progress

    def forward(self, maps, targets_B, second_B):
        if not self.training:
            return maps, None
        self.rows = second_B
        factor_B = torch.where(second_B, 2.0, 1.0)
        return maps * factor_B[:, None, None, None], 1 / factor_B

    def adjust(self, logits_BC, embeddings_BD, targets_B, head):
        self.head = head
        return logits_BC + F.one_hot(torch.tensor(0), logits_BC.shape[1])


def test_an_embedding_loss_is_added_and_receives_the_logits_if_it_uses_them(model):
    loss = CrossEntropy([2, 2, 1])
    for uses_logits in (False, True):
        other = Distance([2, 2, 1], 4, uses_logits=uses_logits)
        step = Step(model, loss, embedding_loss=other).eval()
        embeddings = model.embed(IMAGES)
        extra = (model.head(embeddings),) if uses_logits else ()
        expected = loss(model.head(embeddings), TARGETS) + other(embeddings, TARGETS, *extra)
        torch.testing.assert_close(step(IMAGES, TARGETS), expected)
        assert len(other.given) == (3 if uses_logits else 2)


def test_the_odd_rows_belong_to_an_embedding_loss_with_its_own_stream(model):
    loss, other = CrossEntropy([2, 2, 1]), Distance([2, 2, 1], 4, stream=Component("InstanceSampler"))
    step = Step(model, loss, embedding_loss=other).eval()
    embeddings = model.embed(IMAGES)
    expected = loss(model.head(embeddings[0::2]), TARGETS[0::2]) + other(embeddings[1::2], TARGETS[1::2])
    torch.testing.assert_close(step(IMAGES, TARGETS), expected)
    assert torch.equal(other.given[1], TARGETS[1::2])


def test_a_transfer_changes_the_maps_the_weights_and_the_logits_in_training(model):
    transfer = Doubling([2, 2, 1], 4, stream=Component("InstanceSampler"))
    step = Step(model, CrossEntropy([2, 2, 1]), "freeze", transfer=transfer).train()  # batch norm does not change
    weights = torch.tensor([1.0, 0.5, 1.0, 0.5, 1.0])
    logits = model.head(model.embed(IMAGES) / weights[:, None]) + torch.tensor([1.0, 0.0, 0.0])
    expected = (F.cross_entropy(logits, TARGETS, reduction="none") * weights).mean()
    torch.testing.assert_close(step(IMAGES, TARGETS), expected)
    assert transfer.rows.tolist() == [False, True, False, True, False]
    assert transfer.head is model.head


def test_without_a_second_stream_no_row_belongs_to_it(model):
    transfer = Doubling([2, 2, 1], 4)
    Step(model, CrossEntropy([2, 2, 1]), transfer=transfer).train()(IMAGES, TARGETS)
    assert not transfer.rows.any()


def test_a_transfer_leaves_nothing_behind_in_the_model(model):
    before = model.eval()(IMAGES)
    step = Step(model, CrossEntropy([2, 2, 1]), "freeze", transfer=Doubling([2, 2, 1], 4)).train()
    step(IMAGES, TARGETS)
    torch.testing.assert_close(model.eval()(IMAGES), before, atol=0, rtol=0)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_transfer_may_sit_at_any_part_of_the_backbone_and_receives_the_progress(model):
    transfer = Doubling([2, 2, 1], 2, at="layers.0", stream=Component("InstanceSampler"))
    step = Step(model, CrossEntropy([2, 2, 1]), "freeze", transfer=transfer).train()
    assert step(IMAGES, TARGETS).isfinite()
    step.set_progress(0.25)
    assert transfer.progress == 0.25
    with pytest.raises(InputError, match="there is no submodule of the backbone 'layer9'"):
        Step(model, CrossEntropy([2, 2, 1]), transfer=Doubling([2, 2, 1], 2, at="layer9"))


def test_a_transfer_needs_a_loss_with_one_value_per_example(model):
    with pytest.raises(InputError, match="weights single examples, which CrossEntropyLoss does not support"):
        Step(model, torch.nn.CrossEntropyLoss(), transfer=Doubling([2, 2, 1], 4))


def test_auxiliary_modules_are_those_with_a_state(model):
    step = Step(model, CrossEntropy([2, 2, 1]), transfer=Doubling([2, 2, 1], 4))
    assert list(step.auxiliary_modules()) == ["loss", "transfer"]


def test_a_transfer_that_uses_no_maps_needs_no_part_of_the_backbone(model):
    transfer = Doubling([2, 2, 1], 4, at="nowhere")
    transfer.uses_maps = False
    step = Step(model, CrossEntropy([2, 2, 1]), "freeze", transfer=transfer).train()
    expected = F.cross_entropy(model(IMAGES) + torch.tensor([1.0, 0.0, 0.0]), TARGETS)
    torch.testing.assert_close(step(IMAGES, TARGETS), expected)
