"""The contract of every correction in `longtail.posthoc.CORRECTIONS`, with its defaults and the variants below."""

import copy
import inspect
import io
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from longtail import posthoc
from longtail.component import Component
from longtail.config.convert import to_mapping
from longtail.config.schema import ModelConfig
from longtail.errors import InputError
from longtail.models.cifar import small_net
from longtail.models.classifier import LINEAR, Classifier, head_class, restore_classifier
from longtail.models.heads import LinearHead, linear_head
from longtail.posthoc import PostHoc

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "LogitAdjustment": ({"tau": 0.7},),
    "NearestClassMean": ({"metric": "l2"},),
    "TauNormalization": ({"tau": 0.7},),
}

# message for a class without an image; the other corrections accept it
REFUSES_ABSENT = {
    "LogitAdjustment": "1 classes have no training image, so their log prior is undefined",
    "NearestClassMean": "1 classes have no example, so they have no mean",
}

# why equal counts may change a prediction
EQUAL_COUNTS_MOVE = {
    "NearestClassMean": "takes the place of the classifier, whatever the counts",
    "TauNormalization": "goes by the lengths of the class vectors, never by the counts",
}

COUNTS = [400, 60, 20, 4]
NUM_CLASSES, DIM = 4, 4


@dataclass(frozen=True)
class Case:
    """A correction and its options; each call of `build` returns a new object."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> PostHoc:
        correction: PostHoc = getattr(posthoc, self.name)(**self.options)
        return correction

    def fitted(self, features: Tensor | None = None, counts: list[int] = COUNTS) -> PostHoc:
        return self.build().fit(FEATURES if features is None else features, TARGETS, HEAD, counts)


def world() -> tuple[Tensor, Tensor, LinearHead]:
    """Return shuffled features of overlapping classes, and a head biased towards frequent ones by bias and length."""
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.eye(NUM_CLASSES)
    targets = torch.arange(NUM_CLASSES).repeat_interleave(30)[torch.randperm(120, generator=generator)]
    features = means[targets] + torch.randn(120, DIM, generator=generator)
    prior = torch.tensor(COUNTS).float() / sum(COUNTS)
    return features, targets, linear_head(means * prior[:, None] ** 0.2, prior.log() / 2)


FEATURES, TARGETS, HEAD = world()
CASES = [Case(name, options) for name in posthoc.CORRECTIONS for options in ({}, *VARIANTS.get(name, ()))]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case.name, *map(str, case.options.values())]))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def test_tables_name_corrections_that_exist() -> None:
    assert {*VARIANTS, *REFUSES_ABSENT, *EQUAL_COUNTS_MOVE} <= set(posthoc.CORRECTIONS)


def test_options_are_keywords_with_defaults(case: Case) -> None:
    cls = getattr(posthoc, case.name)
    assert all(
        option.kind is option.KEYWORD_ONLY and option.default is not option.empty
        for option in inspect.signature(cls).parameters.values()
    )
    assert ">>>" in (cls.__doc__ or ""), "the docstring has no example"


def test_logits_are_finite_and_one_per_class(case: Case) -> None:
    for size in (0, 1, 7):
        logits = case.fitted().predict_logits(FEATURES[:size])
        assert logits.shape == (size, NUM_CLASSES)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        assert not logits.requires_grad
    assert case.fitted().predict_logits(torch.zeros(1, DIM)).isfinite().all()


def test_bfloat16_features_give_what_their_values_give(case: Case) -> None:
    """Autocast gives bfloat16 features; the head stays float32."""
    rounded = FEATURES.bfloat16()
    fitted, expected = case.fitted(rounded), case.fitted(rounded.float())
    logits = fitted.predict_logits(rounded)
    assert logits.isfinite().all()
    assert fitted.chosen == expected.chosen
    torch.testing.assert_close(logits, expected.predict_logits(rounded.float()))


def test_it_predicts_better_than_chance_and_is_of_use_to_rare_classes(case: Case) -> None:
    def recall_of_rare(logits: Tensor) -> float:
        rare = TARGETS >= 2
        return float((logits.argmax(dim=1) == TARGETS)[rare].float().mean())

    after = case.fitted().predict_logits(FEATURES)
    assert recall_of_rare(after) > recall_of_rare(HEAD(FEATURES)) + 0.05


def test_renaming_the_classes_renames_the_logits(case: Case) -> None:
    order = torch.tensor([2, 0, 3, 1])
    head = linear_head(HEAD.weight[order], HEAD.bias[order])
    renamed = case.build().fit(FEATURES, order.argsort()[TARGETS], head, [COUNTS[c] for c in order])
    fitted = case.fitted()
    assert renamed.chosen == fitted.chosen
    torch.testing.assert_close(renamed.predict_logits(FEATURES), fitted.predict_logits(FEATURES)[:, order])


def test_the_order_of_the_examples_does_not_matter(case: Case) -> None:
    order = torch.randperm(len(TARGETS), generator=torch.Generator().manual_seed(1))
    shuffled = case.build().fit(FEATURES[order], TARGETS[order], HEAD, COUNTS)
    assert shuffled.chosen == case.fitted().chosen
    torch.testing.assert_close(shuffled.predict_logits(FEATURES), case.fitted().predict_logits(FEATURES))


def test_fitted_twice_it_is_the_same(case: Case) -> None:
    once = case.fitted()
    twice = case.build().fit(FEATURES.flip(1), TARGETS, HEAD, COUNTS)  # with another best strength
    assert not twice.chosen or twice.chosen != once.chosen
    for _ in range(2):
        assert twice.fit(FEATURES, TARGETS, HEAD, COUNTS) is twice
        assert twice.chosen == once.chosen
        assert torch.equal(twice.predict_logits(FEATURES), once.predict_logits(FEATURES))


def test_neither_draws_random_numbers_nor_touches_what_it_is_given(case: Case) -> None:
    before = copy.deepcopy((FEATURES, TARGETS, HEAD.weight, HEAD.bias))
    state = torch.get_rng_state()
    first = case.fitted().predict_logits(FEATURES)
    torch.manual_seed(1)
    assert torch.equal(case.fitted().predict_logits(FEATURES), first)
    assert all(map(torch.equal, (FEATURES, TARGETS, HEAD.weight, HEAD.bias), before))
    torch.set_rng_state(state)


def test_the_fitted_head_is_a_copy(case: Case) -> None:
    head = copy.deepcopy(HEAD)
    fitted = case.build().fit(FEATURES, TARGETS, head, COUNTS)
    before = fitted.predict_logits(FEATURES)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    assert torch.equal(fitted.predict_logits(FEATURES), before)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_copies_and_pickles(case: Case, clone: Any) -> None:
    blank, fitted = clone(case.build()), case.fitted()
    assert blank.needs_holdout == case.build().needs_holdout
    twin = clone(fitted)
    assert (twin.chosen, twin.component, twin.needs_holdout) == (fitted.chosen, fitted.component, fitted.needs_holdout)
    assert torch.equal(twin.predict_logits(FEATURES), fitted.predict_logits(FEATURES))


def test_its_head_survives_the_run(case: Case) -> None:
    """A checkpoint contains weights and the name of the head, from which the head is rebuilt."""
    fitted = case.fitted()
    model = Classifier(small_net(width=DIM // 2), LinearHead(DIM, NUM_CLASSES)).eval()
    model.replace_head(fitted.component, fitted.head)
    assert type(model.head) is head_class(fitted.component)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "head": to_mapping(model.head_component)}, file)
    file.seek(0)
    config = ModelConfig(backbone=Component("small_net", {"width": DIM // 2}), head=LINEAR)
    restored = restore_classifier(config, NUM_CLASSES, torch.load(file, weights_only=True))
    assert restored.head_component == fitted.component
    with torch.no_grad():
        assert torch.equal(restored.head(FEATURES), fitted.predict_logits(FEATURES))


def test_its_head_moves_to_another_device(case: Case) -> None:
    """Tensors on the meta device have no values, so a tensor on another device raises an error."""
    fitted = case.fitted()
    model = Classifier(small_net(width=DIM // 2), LinearHead(DIM, NUM_CLASSES)).to("meta")
    model.replace_head(fitted.component, fitted.head)
    logits = fitted.predict_logits(FEATURES.to("meta"))
    assert logits.is_meta
    assert logits.shape == (len(FEATURES), NUM_CLASSES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_an_accelerator_it_finds_the_same(case: Case) -> None:
    """As in a run, features and head are on the accelerator, labels and counts on the CPU."""
    there = case.build().fit(FEATURES.cuda(), TARGETS, copy.deepcopy(HEAD).cuda(), COUNTS)
    assert there.chosen == case.fitted().chosen
    logits = there.predict_logits(FEATURES.cuda())
    assert logits.is_cuda
    torch.testing.assert_close(logits.cpu(), case.fitted().predict_logits(FEATURES), rtol=1e-4, atol=1e-4)


def test_a_class_without_an_image_is_left_be_or_refused(case: Case) -> None:
    kept = TARGETS != 2
    counts = [400, 60, 0, 4]
    if case.name in REFUSES_ABSENT:
        with pytest.raises(InputError, match=rf"{REFUSES_ABSENT[case.name]}:\n  2"):
            case.build().fit(FEATURES[kept], TARGETS[kept], HEAD, counts)
    else:
        fitted = case.build().fit(FEATURES[kept], TARGETS[kept], HEAD, counts)
        assert fitted.predict_logits(FEATURES).isfinite().all()


def test_a_class_trained_on_but_not_held_out_does_not_stop_a_choice(case: Case) -> None:
    if case.build().fits_on == "train":
        pytest.skip("is fitted on the training images, where such a class has some")
    kept = TARGETS != 2
    fitted = case.build().fit(FEATURES[kept], TARGETS[kept], HEAD, COUNTS)
    assert fitted.predict_logits(FEATURES).isfinite().all()


def test_equal_counts_change_no_prediction(case: Case) -> None:
    before = HEAD(FEATURES).argmax(dim=1)
    same = torch.equal(case.fitted(counts=[30] * NUM_CLASSES).predict_logits(FEATURES).argmax(dim=1), before)
    assert same == (case.name not in EQUAL_COUNTS_MOVE), EQUAL_COUNTS_MOVE.get(case.name)


def test_says_what_it_chose_exactly_where_it_needs_held_out_images(case: Case) -> None:
    correction = case.build()
    assert correction.chosen == {}
    needed = correction.needs_holdout
    fitted = case.fitted()
    assert fitted.needs_holdout == needed
    assert bool(fitted.chosen) == needed
    assert all(type(value) is float for value in fitted.chosen.values())
