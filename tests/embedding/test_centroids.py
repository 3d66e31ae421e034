import pytest
import torch

from longtail.embedding.centroids import Centroids
from longtail.errors import InputError
from tests.embedding.examples import COUNTS, DIM, NUM_CLASSES, batch, mean_of


def test_equals_a_slow_running_mean() -> None:
    centroids = Centroids(NUM_CLASSES, DIM, momentum=0.8)
    expected: dict[int, list[float]] = {}
    for seed in range(6):
        embeddings, targets = batch(seed, size=6)
        if seed % 2:  # class 0 only
            targets = torch.zeros_like(targets)
        centroids.update(embeddings, targets)
        for c in set(targets.tolist()):
            mean = mean_of(embeddings[targets == c].tolist())
            old = expected.get(c, mean)
            expected[c] = [0.8 * a + 0.2 * b for a, b in zip(old, mean, strict=True)]
    for c, mean in expected.items():
        torch.testing.assert_close(centroids.means_CD[c], torch.tensor(mean))
    assert centroids.seen_C.tolist() == [c in expected for c in range(len(COUNTS))]


def test_other_classes_stay() -> None:
    centroids = Centroids(3, 1, momentum=0.9)
    centroids.update(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 2]))
    centroids.update(torch.tensor([[11.0], [7.0]]), torch.tensor([0, -1]))
    assert centroids.means_CD.flatten().tolist() == pytest.approx([2.0, 0.0, 2.0])
    means, seen = centroids.of(torch.tensor([2, 1, -1]))
    assert means[0].tolist() == [2.0]
    assert seen.tolist() == [True, False, False]


def test_an_ignored_row_can_be_anything() -> None:
    centroids = Centroids(2, 1, momentum=0.9)
    centroids.update(torch.tensor([[1.0], [torch.nan]]), torch.tensor([1, -1]))
    assert centroids.means_CD.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_bad_momentum_is_refused(momentum: float) -> None:
    with pytest.raises(InputError, match=r"share of a centroid that is kept, in \[0, 1\)"):
        Centroids(2, 1, momentum)
