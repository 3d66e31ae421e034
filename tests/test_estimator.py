"""`lt.LongTailClassifier` under the rules of scikit-learn, with every component, and in other people's tools."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import longtail as lt
from longtail import losses, posthoc, samplers
from longtail.evaluation.calibration import fit_temperature
from longtail.models import HEADS

COSINES = {name for name in losses.__all__ if getattr(losses, name).expects_cosines}


def draw(counts: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return overlapping clusters in eight dimensions, off center and of different scales."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = rng.standard_normal((len(labels), 8)) + 2.2 * np.eye(8)[labels]
    return features * np.logspace(-1, 1, 8) + 5, np.array(["ant", "bee", "cat"])[labels]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return draw([200, 40, 12], 0)


@pytest.fixture(scope="module")
def test() -> tuple[np.ndarray, np.ndarray]:
    return draw([200, 200, 200], 1)


def balanced(classifier: lt.LongTailClassifier, part: tuple[np.ndarray, np.ndarray]) -> float:
    return 100 * balanced_accuracy_score(part[1], classifier.predict(part[0]))


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["auto", "sgd"])
def test_the_checks_of_scikit_learn_pass(solver):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(lt.LongTailClassifier(solver=solver, epochs=20), on_fail=None)
    failed = [(result["check_name"], result["exception"]) for result in results if result["status"] == "failed"]
    assert failed == []
    assert len(results) > 40


def test_names_of_classes_probabilities_and_scores_fit_together(data, test):
    classifier = lt.LongTailClassifier().fit(*data)
    assert classifier.classes_.tolist() == ["ant", "bee", "cat"]
    proba, logits = classifier.predict_proba(test[0]), classifier.decision_function(test[0])
    assert np.allclose(proba.sum(axis=1), 1)
    assert (classifier.classes_[proba.argmax(axis=1)] == classifier.predict(test[0])).all()
    assert (classifier.classes_[logits.argmax(axis=1)] == classifier.predict(test[0])).all()
    assert classifier.score(*test) == np.mean(classifier.predict(test[0]) == test[1]) > 0.75


def test_a_balanced_loss_beats_cross_entropy_on_balanced_data(data, test):
    plain = balanced(lt.LongTailClassifier("CrossEntropy").fit(*data), test)
    assert balanced(lt.LongTailClassifier().fit(*data), test) > plain + 3
    for options in ({"class_weights": "auto"}, {"posthoc": {"name": "LogitAdjustment", "tau": 1.0}}):
        assert balanced(lt.LongTailClassifier("CrossEntropy", **options).fit(*data), test) > plain + 3
    sampled = lt.LongTailClassifier("CrossEntropy", sampler="ClassBalancedSampler", epochs=10)
    assert balanced(sampled.fit(*data), test) > plain + 2


def test_the_temperature_lowers_the_balanced_log_loss_of_an_overfitted_head():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    noisy = rng.standard_normal((300, 60)) + np.eye(60)[labels]
    fit = [lt.LongTailClassifier(l2=1e-5, calibrate=calibrate).fit(noisy[:150], labels[:150]) for calibrate in (0, 1)]
    before, after = (log_loss(labels[150:], each.predict_proba(noisy[150:])) for each in fit)
    assert fit[0].temperature_ == 1 < fit[1].temperature_
    assert after < 0.7 * before


def test_the_temperature_of_one_group_of_logits_is_known():
    logits, targets = torch.tensor([[4.0, 0.0]]).repeat(4, 1), torch.tensor([0, 0, 0, 1])
    assert fit_temperature(logits, targets, balanced=False) == pytest.approx(4 / np.log(3), rel=1e-3)
    assert fit_temperature(logits, targets, balanced=True) == pytest.approx(20, rel=1e-2)  # as likely as not


@pytest.mark.parametrize("name", losses.__all__)
def test_every_loss_by_name(name, data):
    head = {"name": "CosineHead", "scale": 1.0} if name in COSINES else "LinearHead"
    classifier = lt.LongTailClassifier(name, head=head, epochs=2, l2=0.01).fit(*data)
    assert np.isfinite(classifier.decision_function(data[0])).all()


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"DLSAHead"}))
def test_every_head_by_name(name, data, test):
    classifier = lt.LongTailClassifier(head=name, epochs=5).fit(*data)
    assert balanced(classifier, test) > 60


@pytest.mark.parametrize("name", samplers.__all__)
def test_every_sampler_by_name(name, data):
    if name == "Sampler":
        return
    classifier = lt.LongTailClassifier("CrossEntropy", sampler=name, epochs=2).fit(*data)
    assert set(classifier.predict(data[0])) <= set(data[1])


@pytest.mark.parametrize("name", posthoc.CORRECTIONS)
def test_every_correction_by_name(name, data, test):
    classifier = lt.LongTailClassifier("CrossEntropy", posthoc=name).fit(*data)
    assert balanced(classifier, test) > 70


def test_class_weights_by_label(data, test):
    plain = lt.LongTailClassifier("CrossEntropy", l2=0.01).fit(*data)
    heavy = lt.LongTailClassifier("CrossEntropy", l2=0.01, class_weights={"cat": 50.0}).fit(*data)
    assert (heavy.predict(test[0]) == "cat").sum() > (plain.predict(test[0]) == "cat").sum()
    auto = lt.LongTailClassifier("CrossEntropy", l2=0.01, class_weights="auto").fit(*data)
    weighted = lt.LongTailClassifier("WeightedCrossEntropy", l2=0.01).fit(*data)
    assert np.allclose(auto.decision_function(test[0]), weighted.decision_function(test[0]), atol=1e-2)
    by_sgd = lt.LongTailClassifier("CrossEntropy", solver="sgd", epochs=5, class_weights={"cat": 50.0}).fit(*data)
    assert (by_sgd.predict(test[0]) == "cat").sum() > (plain.predict(test[0]) == "cat").sum()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_types_give_nearly_the_same_classifier(dtype, data, test):
    expected = lt.LongTailClassifier(l2=0.01).fit(*data).predict(test[0])
    found = lt.LongTailClassifier(l2=0.01).fit(data[0].astype(dtype), data[1]).predict(test[0].astype(dtype))
    assert (found == expected).mean() > 0.97


def test_sgd_comes_close_to_the_solution(data, test):
    solved = lt.LongTailClassifier(l2=0.01, solver="lbfgs").fit(*data)
    trained = lt.LongTailClassifier(l2=0.01, solver="sgd").fit(*data)
    assert (solved.predict(test[0]) == trained.predict(test[0])).mean() > 0.95


def test_partial_fit_learns_from_batches_in_which_classes_are_missing(data, test):
    order = np.random.default_rng(0).permutation(len(data[1]))
    classifier = lt.LongTailClassifier(batch_size=16, lr=0.02)
    with pytest.raises(lt.InputError, match="`classes` must be given in the first call"):
        classifier.partial_fit(*data)
    for _ in range(3):
        for rows in np.array_split(order, 4):
            classifier.partial_fit(data[0][rows], data[1][rows], classes=["ant", "bee", "cat"])
    assert balanced(classifier, test) > 75
    with pytest.raises(lt.InputError, match="must be those of the first call"):
        classifier.partial_fit(*data, classes=["ant", "bee"])


def test_partial_fit_continues_a_fitted_head(data, test):
    classifier = lt.LongTailClassifier().fit(*data)
    before = classifier.decision_function(test[0])
    after = clone(classifier).fit(*data).set_params(lr=1e-9).partial_fit(*data).decision_function(test[0])
    assert np.allclose(before, after, atol=1e-2)


def test_a_copy_by_pickle_and_two_fits_are_equal(data, test):
    for options in ({}, {"head": "CosineHead", "epochs": 2}):
        classifier = lt.LongTailClassifier(**options).fit(*data)
        expected = classifier.decision_function(test[0])
        assert np.array_equal(expected, pickle.loads(pickle.dumps(classifier)).decision_function(test[0]))
        assert np.array_equal(expected, clone(classifier).fit(*data).decision_function(test[0]))


def test_pipeline_and_grid_search(data, test):
    pipeline = make_pipeline(StandardScaler(), lt.LongTailClassifier(calibrate=False))
    grid = {"longtailclassifier__loss": ["CrossEntropy", "BalancedSoftmax"], "longtailclassifier__l2": [0.1, 0.01]}
    search = GridSearchCV(pipeline, grid, scoring="balanced_accuracy", cv=2).fit(*data)
    assert search.best_params_["longtailclassifier__loss"] == "BalancedSoftmax"
    assert search.score(*test) > 0.75


def test_samplers_of_imbalanced_learn(data, test):
    over_sampling = pytest.importorskip("imblearn.over_sampling", reason="imbalanced-learn is not installed")
    from imblearn.pipeline import make_pipeline as make_imblearn_pipeline

    sampler = over_sampling.RandomOverSampler(random_state=0)
    pipeline = make_imblearn_pipeline(sampler, lt.LongTailClassifier("CrossEntropy")).fit(*data)
    assert balanced(pipeline, test) > 75


def test_classes_of_a_single_example_are_fitted_without_a_held_out_part():
    classifier = lt.LongTailClassifier().fit(np.eye(3), ["a", "b", "c"])
    assert classifier.predict(np.eye(3)).tolist() == ["a", "b", "c"]
    assert classifier.temperature_ == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "BalancedSoftmx"}, "no loss 'BalancedSoftmx'; did you mean BalancedSoftmax"),
        ({"loss": "LDAMLoss"}, "LDAMLoss expects cosine similarities"),
        ({"loss": "FocalLoss", "solver": "lbfgs"}, "must be convex in the logits"),
        ({"head": "CosineHead", "solver": "lbfgs"}, "requires a LinearHead and the InstanceSampler"),
        ({"head": "CosineHead", "posthoc": "LogitAdjustment"}, "corrects a LinearHead, got CosineHead"),
        ({"head": "DLSAHead"}, "must not be a DLSAHead"),
        ({"solver": "newton"}, "no solver 'newton'"),
        ({"class_weights": "balanced"}, '`class_weights` must be None, "auto" or a mapping'),
        ({"class_weights": {"dog": 2.0}}, "must have labels of `y` as keys, got 'dog'"),
        ({"class_weights": {"cat": -1.0}}, "must be >= 0, got -1.0"),
        ({"l2": 0.0}, "`l2` must be > 0"),
        ({"validation_fraction": 1.0}, "`validation_fraction` must be > 0 and < 1"),
        ({"lr": 1e9, "solver": "sgd"}, "must stay finite"),
    ],
)
def test_invalid_parameters_are_refused_in_words(options, message, data):
    with pytest.raises(lt.InputError, match=message):
        lt.LongTailClassifier(**options).fit(*data)


def test_a_loss_and_a_sampler_that_both_balance_give_a_warning(data):
    with pytest.warns(UserWarning, match="balances twice"):
        lt.LongTailClassifier(sampler="ClassBalancedSampler", epochs=1).fit(*data)


def test_invalid_data_are_refused_as_by_scikit_learn(data):
    with pytest.raises(TypeError, match=r"(?i)sparse"):
        lt.LongTailClassifier().fit(sparse.csr_matrix(data[0]), data[1])
    with pytest.raises(ValueError, match="NaN"):
        lt.LongTailClassifier().fit(np.where(np.arange(8) == 3, np.nan, data[0]), data[1])
    with pytest.raises(ValueError, match=r"one class|1 class"):
        lt.LongTailClassifier().fit(data[0], ["ant"] * len(data[1]))
