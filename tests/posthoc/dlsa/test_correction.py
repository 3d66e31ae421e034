"""DLSA: routing, class counts of each classifier, a case where it helps, and error messages."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from longtail.component import Component
from longtail.errors import InputError
from longtail.models import CosineHead, LinearHead
from longtail.posthoc import DLSA, ClassifierSettings, DLSASettings, PostHoc
from longtail.posthoc.dlsa import FilterSettings
from longtail.posthoc.dlsa import correction as dlsa
from longtail.posthoc.dlsa.correction import cluster_priors, threshold

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [60, 25, 10, 5]
QUICK = {
    "clusters": 6,
    "flow": FilterSettings(epochs=2, batch_size=32),
    "learning": ClassifierSettings(epochs=2, batch_size=32),
}


def world() -> tuple[Tensor, Tensor]:
    """Return 100 shuffled features in four dimensions, and their labels."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))[torch.randperm(100, generator=generator)]
    return 2 * torch.eye(4)[targets] + torch.randn(100, 4, generator=generator), targets


def linear() -> LinearHead:
    torch.manual_seed(3)
    return LinearHead(4, 4)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("num", [2, 7, 100])
def test_the_threshold_takes_exactly_the_share(num, share):
    density = torch.randn(num, generator=torch.Generator().manual_seed(num))
    taken = int((density >= threshold(density, share)).sum())
    assert taken == min(max(math.ceil(share * num - 1e-6), 1), num - 1)
    assert taken == int((density > threshold(density, share)).sum())  # no example is at the threshold


def test_cluster_priors_are_the_histograms_of_a_loop():
    cluster, targets = torch.tensor([0, 0, 0, 2, 2, 3]), torch.tensor([1, 1, 0, 2, 2, 0])
    expected = torch.zeros(5, 3)
    for k in range(5):
        members = [int(y) for c, y in zip(cluster, targets, strict=True) if c == k] or targets.tolist()
        for y in range(3):
            expected[k, y] = members.count(y) / len(members)
    found = cluster_priors(cluster, targets, 5, 3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5))


def test_every_level_takes_its_share_of_what_is_left_and_sees_nothing_else(monkeypatch):
    x, y = world()
    seen: list[Tensor] = []

    def recorded(flow_filter, features, targets, *rest, **options):
        seen.append(features)
        return original(flow_filter, features, targets, *rest, **options)

    original = dlsa.train_filter
    monkeypatch.setattr(dlsa, "train_filter", recorded)
    fitted = DLSA(DLSASettings(levels=3, **QUICK))
    groups = list(fitted.groups(x, y))
    assert [(group.in_play, group.taken) for group in groups] == [(100, 30), (70, 21), (49, 15), (34, 34)]
    level = fitted.head.route(x).level_B
    assert torch.bincount(level).tolist() == [30, 21, 15, 34]
    for m in range(3):
        assert torch.equal(seen[m], x[level >= m])
    assert groups[3].history is None


def test_the_priors_of_a_level_are_of_all_training_examples_by_hard_assignment():
    x, y = world()
    head = DLSA(DLSASettings(levels=2, **QUICK)).fit(x, y).head
    for level in range(2):
        cluster = head.filters[level].cluster(x)
        torch.testing.assert_close(head.priors_MKC[level], cluster_priors(cluster, y, 6, 4))


@pytest.mark.parametrize("prior", ["subset", "mixed", "whole"])
def test_a_classifier_balances_by_the_counts_that_the_prior_names(prior, monkeypatch):
    x, y = world()
    counts: list[list[float]] = []
    original = dlsa.fit_classifier

    def recorded(classifier, inputs, targets, loss, *rest, **options):
        counts.append(loss.counts_C.tolist())
        return original(classifier, inputs, targets, loss, *rest, **options)

    monkeypatch.setattr(dlsa, "fit_classifier", recorded)
    level = DLSA(DLSASettings(prior=prior, **QUICK)).fit(x, y).head.route(x).level_B
    subsets = [torch.bincount(y[level == m], minlength=4).clamp(min=1).tolist() for m in range(2)]
    expected = {"subset": subsets, "mixed": [subsets[0], COUNTS], "whole": [COUNTS, COUNTS]}
    assert counts == expected[prior]
    assert subsets[0] != subsets[1]


def test_without_levels_it_is_one_regular_classifier():
    x, y = world()
    fitted = DLSA(DLSASettings(levels=0, **QUICK)).fit(x, y)
    with torch.no_grad():
        assert torch.equal(fitted.predict_logits(x), fitted.head.rest(x))
    plain = LinearHead(4, 4)
    plain.load_state_dict(DLSA(DLSASettings(levels=0, **{**QUICK, "learning": STILL})).fit(x, y).head.rest.state_dict())
    loss = torch.nn.CrossEntropyLoss()
    log_prior = torch.tensor(COUNTS).float().log()
    assert loss(fitted.predict_logits(x) + log_prior, y) < loss(plain(x) + log_prior, y)


STILL = ClassifierSettings(epochs=1, lr=1e-12)


def test_kept_classifiers_start_as_the_present_head_at_every_level():
    x, y = world()
    head = linear()
    fitted = DLSA(DLSASettings(levels=2, initialize="keep", **{**QUICK, "learning": STILL})).fit(x, y, head, COUNTS)
    torch.testing.assert_close(fitted.predict_logits(x), head(x).detach())
    before = fitted.predict_logits(x)
    with torch.no_grad():
        head.weight.zero_()  # the fitted head is a copy
    assert torch.equal(fitted.predict_logits(x), before)


def test_the_seed_is_all_its_randomness():
    x, y = world()
    state = torch.get_rng_state()
    first = DLSA(DLSASettings(**QUICK), seed=1).fit(x, y).predict_logits(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(DLSA(DLSASettings(**QUICK), seed=1).fit(x, y).predict_logits(x), first)
    assert not torch.equal(DLSA(DLSASettings(**QUICK), seed=2).fit(x, y).predict_logits(x), first)
    torch.set_rng_state(state)


@pytest.mark.parametrize("done", [1, 2])
def test_gone_on_with_from_any_group_the_bits_are_the_same(done):
    x, y = world()
    settings = DLSASettings(levels=2, **QUICK)
    unbroken = DLSA(settings).fit(x, y)
    broken = DLSA(settings)
    iterator = broken.groups(x, y)
    for _ in range(done):
        next(iterator)
    saved = copy.deepcopy(broken.head.state_dict())
    resumed = DLSA(settings)
    assert [group.level for group in resumed.groups(x, y, saved=saved, done=done)] == list(range(done, 3))
    assert all(map(torch.equal, resumed.head.state_dict().values(), unbroken.head.state_dict().values()))


def test_it_keeps_the_contract_of_a_post_hoc_correction():
    x, y = world()
    before = copy.deepcopy((x, y))
    fitted: PostHoc = DLSA(DLSASettings(**QUICK)).fit(x.bfloat16(), y, linear(), COUNTS)
    assert (fitted.fits_on, fitted.needs_holdout, fitted.chosen) == ("train", False, {})
    logits = fitted.predict_logits(x.bfloat16())
    assert (logits.dtype, logits.shape, logits.requires_grad) == (torch.float32, (100, 4), False)
    assert all(map(torch.equal, (x, y), before))
    for twin in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert torch.equal(twin.predict_logits(x), fitted.predict_logits(x))
        assert twin.component == Component("DLSAHead", DLSASettings(**QUICK).head_options)


def test_a_class_without_an_example_is_left_be():
    x, y = world()
    fitted = DLSA(DLSASettings(**QUICK)).fit(x[y != 2], y[y != 2], class_counts=[60, 25, 0, 5])
    logits = fitted.predict_logits(x)
    assert logits.shape == (100, 4)
    assert logits.isfinite().all()


def planted(per_class: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """Return two frequent classes on the halves of a wide ring, and two rare classes inside it."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(4).repeat_interleave(torch.tensor(per_class))
    angle = math.pi * (torch.rand(len(targets), generator=generator) - 0.5) + math.pi * (targets % 2)
    ring = 2.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    hole = torch.stack([0.5 - 1.0 * (targets % 2), torch.zeros(len(targets))], dim=1)
    noise = torch.randn(len(targets), 2, generator=generator)
    return torch.where((targets < 2)[:, None], ring + 0.3 * noise, hole + 0.2 * noise), targets


def test_where_head_surrounds_tail_the_split_does_what_no_linear_classifier_can():
    (x, y), (x_test, y_test) = planted([200, 200, 20, 20], 0), planted([50] * 4, 1)
    options = {"flow": FilterSettings(epochs=10, batch_size=64), "learning": ClassifierSettings(epochs=40, lr=0.2)}
    fitted = DLSA(DLSASettings(clusters=10, **options)).fit(x, y)
    single = DLSA(DLSASettings(clusters=10, levels=0, **options)).fit(x, y)
    level = fitted.head.route(x_test).level_B
    assert (level[y_test >= 2] == 0).float().mean() > 0.9  # the filter gives the tail a high density

    def accuracy(each: DLSA) -> float:
        return float((each.predict_logits(x_test).argmax(dim=1) == y_test).float().mean())

    assert accuracy(fitted) > accuracy(single) + 0.05


def test_what_it_can_not_predict_from_is_refused():
    x, y = world()
    with pytest.raises(InputError, match="this DLSA is not fitted; call `fit` first"):
        DLSA(DLSASettings(**QUICK)).predict_logits(x)
    for given, words in ((x.numpy(), "got a ndarray; .* torch.from_numpy"), (x[0], r"got torch.float32 \(4,\)")):
        with pytest.raises(InputError, match=words):
            DLSA(DLSASettings(**QUICK)).fit(given, y)
        with pytest.raises(InputError, match=words):
            DLSA(DLSASettings(**QUICK)).fit(x, y).predict_logits(given)
    with pytest.raises(InputError, match="labels must be integers >= 0; pass an int64 tensor"):
        DLSA(DLSASettings(**QUICK)).fit(x, y.numpy())
    with pytest.raises(InputError, match=r"features must have shape \(B, 4\), as in `fit`, got \(100, 3\)"):
        DLSA(DLSASettings(**QUICK)).fit(x, y).predict_logits(x[:, :3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0.0}, "`share` must be > 0 and < 1, got 0.0"),
        ({"share": 1.0}, "got 1.0"),
        ({"levels": -1}, "`levels` must be >= 0"),
        ({"clusters": 0}, "`clusters` must be >= 1, got 0"),
        ({"blocks": 0}, "`blocks` must be >= 1, got 0"),
        ({"prior": "subsets"}, "no prior of DLSA 'subsets'; did you mean subset"),
        ({"classifier": "lineer"}, "no classifier of a DLSAHead 'lineer'; did you mean linear"),
        ({"initialize": "keep", "classifier": "cosine"}, "a cosine classifier cannot start from a linear head"),
        (
            {"loss": Component("LDAMLoss")},
            "LDAMLoss needs cosines or embeddings, but the classifiers of DLSA pass only logits",
        ),
        ({"loss": Component("BalancedSoftmx")}, "no loss 'BalancedSoftmx'; did you mean BalancedSoftmax"),
    ],
)
def test_settings_that_can_not_work_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        DLSASettings(**options)


def test_what_it_can_not_be_fitted_on_is_refused():
    x, y = world()
    with pytest.raises(InputError, match=r"one label for each of N >= 1 rows, got \(100, 4\) and 99 labels"):
        DLSA(DLSASettings(**QUICK)).fit(x, y[1:])
    with pytest.raises(InputError, match="features must be finite, got NaN or infinity"):
        DLSA(DLSASettings(**QUICK)).fit(torch.where(x > 2, torch.nan, x), y)
    with pytest.raises(
        InputError, match=r"level 1 of 1 has 9 remaining examples of fewer than two classes; use fewer levels"
    ):
        DLSA(DLSASettings(**QUICK)).fit(x[:9], torch.ones(9, dtype=torch.long))
    for labels in (y - 1, y.float()):
        with pytest.raises(InputError, match="labels must be integers >= 0"):
            DLSA(DLSASettings(**QUICK)).fit(x, labels)
    with pytest.raises(InputError, match="level 1 gives all 100 remaining examples the same density"):
        DLSA(DLSASettings(**QUICK)).fit(torch.zeros_like(x), y)
    with pytest.raises(InputError, match="labels must be below the number of classes, 3"):
        DLSA(DLSASettings(**QUICK)).fit(x, y, class_counts=[1, 2, 3])


@pytest.mark.parametrize(
    ("head", "words"),
    [(None, "of 4 classes, got None"), (CosineHead(4, 4), "got a CosineHead"), (LinearHead(4, 3), "of 4 classes")],
)
def test_kept_classifiers_need_a_linear_head_that_fits(head, words):
    x, y = world()
    with pytest.raises(InputError, match=words):
        DLSA(DLSASettings(initialize="keep", **QUICK)).fit(x, y, head)
