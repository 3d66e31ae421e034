"""The nearest class mean against scikit-learn and a slow implementation."""

import pytest
import torch
from sklearn.neighbors import NearestCentroid

from longtail.component import Component
from longtail.errors import InputError
from longtail.posthoc import NearestClassMean
from longtail.posthoc.nearest_class_mean import class_means


def test_the_means_are_those_of_a_loop(world):
    means = class_means(world.features, world.targets, 4)
    for label in range(3):
        torch.testing.assert_close(means[label], world.features[world.targets == label].mean(dim=0))
    assert means[3].tolist() == [0, 0, 0]


def test_l2_predicts_as_scikit_learn_does(world):
    fitted = NearestClassMean(metric="l2").fit(world.features, world.targets)
    reference = NearestCentroid().fit(world.features.numpy(), world.targets.numpy())
    queries = 3 * torch.randn(200, 3, generator=torch.Generator().manual_seed(3))
    assert fitted.predict_logits(queries).argmax(dim=1).tolist() == reference.predict(queries.numpy()).tolist()
    assert fitted.component == Component("LinearHead")


def test_cosine_predicts_the_mean_at_the_smallest_angle(world):
    fitted = NearestClassMean(metric="cosine").fit(world.features, world.targets)
    means = class_means(world.features, world.targets, 3).double()
    queries = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(3))
    expected = []
    for query in queries.double():
        cosines = [float(query @ mean / (query.norm() * mean.norm())) for mean in means]
        expected.append(cosines.index(max(cosines)))
    assert fitted.predict_logits(queries).argmax(dim=1).tolist() == expected
    assert fitted.component == Component("CosineHead", {"scale": 16.0})


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_number_of_images_of_a_class_has_no_say(world, metric):
    copies = torch.cat([torch.arange(180), torch.arange(60).repeat(9)])  # class 0 ten times
    once = NearestClassMean(metric=metric).fit(world.features, world.targets)
    often = NearestClassMean(metric=metric).fit(world.features[copies], world.targets[copies])
    torch.testing.assert_close(
        often.predict_logits(world.features), once.predict_logits(world.features), atol=1e-4, rtol=1e-4
    )


def test_nothing_is_chosen():
    assert (NearestClassMean().needs_holdout, NearestClassMean().chosen) == (False, {})


def test_a_class_without_a_mean_is_refused(world):
    with pytest.raises(InputError, match=r"(?s)1 classes have no example, so they have no mean:\n  3"):
        NearestClassMean().fit(world.features, world.targets, class_counts=[60, 60, 60, 0])
    with pytest.raises(InputError, match="no metric of the nearest class mean 'cosin'; did you mean cosine"):
        NearestClassMean(metric="cosin")


def test_cl2n_is_that_of_the_authors(world):
    """Features minus their mean, scaled to length 1; class means of these; negative squared distance."""
    fitted = NearestClassMean(metric="cl2n").fit(world.features, world.targets)
    center = world.features.mean(dim=0)
    normed = (world.features - center) / (world.features - center).norm(dim=1, keepdim=True)
    means = class_means(normed, world.targets, 3)
    queries = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(3)) - center
    moved = (queries - center) / (queries - center).norm(dim=1, keepdim=True)
    distances = torch.cdist(moved, means).square()
    logits = fitted.predict_logits(queries)
    torch.testing.assert_close(logits - logits[:, :1], distances[:, :1] - distances, atol=1e-5, rtol=1e-5)
    assert fitted.component == Component("CenteredHead")
