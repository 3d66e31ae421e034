from collections import deque

import pytest
import torch

from longtail.embedding.memory import Centroids, Memory
from longtail.errors import InputError
from tests.embedding.examples import COUNTS, DIM, NUM_CLASSES, batch, mean_of


@pytest.mark.parametrize("size", [1, 3, 100])
def test_equals_a_queue_per_class(size: int) -> None:
    """Stored are the newest min(n - 1, size) of every class, also with more rows than slots or ignored rows."""
    memory = Memory(torch.tensor(COUNTS), DIM, size)
    queues = [deque[list[float]](maxlen=min(count - 1, size)) for count in COUNTS]
    for seed in range(8):
        embeddings, targets = batch(seed, size=5 + 6 * (seed % 3))
        targets = torch.where(torch.arange(len(targets)) % 7 == 3, -1, targets)
        memory.write(embeddings, targets)
        for row, label in zip(embeddings.tolist(), targets.tolist(), strict=True):
            if label >= 0:
                queues[label].appendleft(row)
        keys, valid = memory.read(torch.arange(NUM_CLASSES), torch.zeros(NUM_CLASSES, dtype=torch.long))
        for c, queue in enumerate(queues):
            assert keys[c][valid[c]].tolist() == list(queue)


def test_partners_take_the_place_of_the_oldest() -> None:
    memory = Memory(torch.tensor([5, 9]), 1, size=8)
    memory.write(torch.arange(6.0)[:, None], torch.zeros(6, dtype=torch.long))
    memory.write(torch.tensor([[70.0]]), torch.tensor([1]))
    keys, valid = memory.read(torch.tensor([0, 0, 0, 1, 1, -1]), torch.tensor([0, 1, 9, 0, 8, 0]))
    found = [row[mask].flatten().tolist() for row, mask in zip(keys, valid, strict=True)]
    assert found == [[5.0, 4.0, 3.0, 2.0], [5.0, 4.0, 3.0], [], [70.0], [], []]


def test_same_bits_whatever_the_order_of_equal_slots() -> None:
    """Two more rows than slots in one batch: the state is that of the last rows for any order of writes."""
    memory = Memory(torch.tensor([3, 2]), 1, size=8)
    memory.write(torch.arange(1.0, 8.0)[:, None], torch.tensor([0, 0, 0, 0, 0, -1, -1]))
    assert sorted(memory.embeddings_GSD[0].flatten().tolist()) == [4.0, 5.0]
    assert memory.written_G.tolist() == [5, 0, 2]


def test_a_class_of_one_image_keeps_nothing() -> None:
    memory = Memory(torch.tensor([1, 1]), 2, size=4)
    memory.write(torch.ones(2, 2), torch.tensor([0, 1]))
    assert not memory.read(torch.tensor([0, 1]), torch.tensor([0, 0]))[1].any()


def test_no_gradient_is_kept() -> None:
    memory = Memory(torch.tensor([3, 3]), 1, size=4)
    memory.write(torch.ones(1, 1, requires_grad=True), torch.tensor([0]))
    assert not memory.embeddings_GSD.requires_grad


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
    with pytest.raises(InputError, match=r"`momentum` must be >= 0 and < 1"):
        Centroids(2, 1, momentum)
