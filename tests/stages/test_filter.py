"""DLSA as a stage: equal to the post-hoc object, logged group by group, and bit-identical after any stop."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from longtail._random import key
from longtail.component import Component
from longtail.config import recipes
from longtail.config.convert import from_mapping
from longtail.config.stage import Stage
from longtail.errors import InputError
from longtail.models import DLSAHead
from longtail.models.cifar import small_net
from longtail.models.classifier import LINEAR, Classifier
from longtail.models.heads import LinearHead
from longtail.posthoc import DLSA, ClassifierSettings
from longtail.posthoc.dlsa import FilterSettings
from longtail.posthoc.dlsa import correction as dlsa
from longtail.stages import Filter
from longtail.stages import filter as module
from longtail.training.context import Context, Interrupted
from longtail.training.log import RunLog
from longtail.training.predict import predict

SHORT = Filter(
    levels=2,
    clusters=3,
    flow=FilterSettings(epochs=2, batch_size=16),
    learning=ClassifierSettings(epochs=2, batch_size=8, lr=0.1),
)


def bits(model: Classifier) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in model.state_dict().values()]


def resumed_from(context: Context) -> tuple[Classifier, Context]:
    """Return what a new process starts from: the weights of the checkpoint and the rows before it."""
    saved = context.store.load()
    model = Classifier(small_net(width=4), LinearHead(8, 3)).eval()
    model.load_saved(saved, 3)
    log = RunLog(context.log.path, (saved["stage"], saved["epoch"]))
    return model, replace(context, saved=saved, log=log, stop=type(context.stop)(), cache={}, seconds=saved["seconds"])


def test_it_does_what_the_post_hoc_object_does(data, model, context):
    before, head = copy.deepcopy(model.backbone.state_dict()), copy.deepcopy(model.head)
    _, embeddings = predict(model, data.train.images)
    SHORT(model, data, context)
    fitted = DLSA(SHORT, seed=key(context.seed, context.stage)).fit(embeddings, data.train.targets, head)
    assert isinstance(model.head, DLSAHead)
    assert model.head_component == fitted.component == SHORT.prepare(model, data, LINEAR).head
    torch.testing.assert_close(model.head(embeddings.clone()).detach(), fitted.predict_logits(embeddings))
    assert all(map(torch.equal, model.backbone.state_dict().values(), before.values()))
    assert not model.training


def test_each_group_has_a_row_and_the_last_is_scored(data, model, context):
    SHORT(model, data, context)
    rows = [json.loads(line) for line in context.log.path.read_text().splitlines()]
    assert [(row["epoch"], row["in_play"], row["taken"]) for row in rows] == [(0, 20, 6), (1, 14, 5), (2, 9, 9)]
    for row in rows[:2]:
        course = row["filter"]
        assert len(course["balancedness"]) == len(course["good_clusters"]) == 2
        assert row["balancedness"] == course["balancedness"][course["kept"]]
    assert "filter" not in rows[2]
    assert set(rows[2]["val"]) == {"top1", "balanced"}
    embedded = 20 + 6
    assert context.images == embedded + 2 * 2 * (20 + 14) + 2 * 20  # pairs for the filters, images for the classifiers
    assert context.seconds > 0


@pytest.mark.parametrize("groups", [1, 2])
def test_stopped_by_the_user_between_two_groups_it_ends_in_the_same_bits(groups, data, model, context, monkeypatch):
    begun = copy.deepcopy(model)
    unbroken = SHORT(copy.deepcopy(model), data, replace(context, log=RunLog(context.log.path.with_name("other"))))
    original, saves = module._save, []

    def save_and_ask(*arguments):
        original(*arguments)
        saves.append(1)
        if len(saves) == groups:
            context.stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(module, "_save", save_and_ask)
        with pytest.raises(Interrupted):
            SHORT(model, data, context)
    assert bits(model) == bits(begun)  # the head is replaced at the end
    resumed, again = resumed_from(context)
    assert again.saved["epoch"] == groups
    SHORT(resumed, data, again)
    assert bits(resumed) == bits(unbroken)
    assert [row["epoch"] for row in again.log.rows] == [0, 1, 2]


@pytest.mark.parametrize("name", ["train_filter", "fit_classifier"])
def test_killed_within_a_level_it_repeats_the_level(name, data, model, context, monkeypatch):
    unbroken = SHORT(copy.deepcopy(model), data, replace(context, log=RunLog(context.log.path.with_name("other"))))
    original, calls = getattr(dlsa, name), []

    def dies(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(dlsa, name, dies)
        with pytest.raises(RuntimeError, match="killed"):
            SHORT(model, data, context)
    resumed, again = resumed_from(context)
    assert again.saved["epoch"] == 1
    SHORT(resumed, data, again)
    assert bits(resumed) == bits(unbroken)


def test_a_stop_request_interrupts_the_training_of_a_group(data, model, context):
    context.stop.set()
    with pytest.raises(Interrupted):
        SHORT(model, data, context)
    assert context.store.load() is None  # nothing is finished, so the earlier checkpoint remains
    assert context.log.rows == []


def test_kept_weights_need_a_linear_head(data, model):
    keep = replace(SHORT, initialize="keep")
    assert keep.prepare(model, data, LINEAR).head.name == "DLSAHead"
    with pytest.raises(InputError, match="can start only from a LinearHead, not from a CosineHead"):
        keep.prepare(model, data, Component("CosineHead"))
    assert SHORT.prepare(model, data, Component("CosineHead")).head.name == "DLSAHead"


def test_its_options_are_checked_as_those_of_any_stage():
    built = from_mapping(Stage, {"name": "Filter", "levels": 3, "flow": {"epochs": 4}, "loss": "CrossEntropy"})
    assert (built.levels, built.flow.epochs, built.loss) == (3, 4, Component("CrossEntropy"))
    with pytest.raises(InputError, match=r"no setting of stages\.1 'cluster'; did you mean clusters"):
        from_mapping(Stage, {"name": "Filter", "cluster": 3}, "stages.1")
    with pytest.raises(InputError, match=r"no setting of stages\.1\.flow 'epoch'; did you mean epochs"):
        from_mapping(Stage, {"name": "Filter", "flow": {"epoch": 3}}, "stages.1")


def test_the_recipes_keep_the_published_settings():
    imagenet = recipes.compose("imagenet-lt", "dlsa").stages[1]
    assert (imagenet.clusters, imagenet.share, imagenet.sigma, imagenet.levels) == (500, 0.3, 0.05, 1)
    flow = imagenet.flow
    assert (flow.lr, flow.batch_size, flow.epochs, flow.power, flow.momentum) == (0.2, 1024, 50, 2.0, 0.7)
    assert (flow.likelihood_weight, flow.balance_weight, flow.purity_weight) == (2.0, 1.0, 0.02)
    assert (imagenet.learning.lr, imagenet.learning.batch_size, imagenet.learning.epochs) == (0.02, 128, 150)
    places = recipes.compose("places-lt", "dlsa-bs").stages[1].flow
    assert (places.lr, places.batch_size, places.epochs) == (0.1, 512, 60)
    assert (places.likelihood_weight, places.balance_weight, places.purity_weight) == (1.0, 2.0, 0.03)
