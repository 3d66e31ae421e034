from collections import deque

import pytest
import torch

from longtail.embedding.memory import Memory
from tests.embedding.examples import COUNTS, DIM, NUM_CLASSES, batch


@pytest.mark.parametrize("size", [1, 3, 100])
def test_equals_a_queue_per_class(size: int) -> None:
    """Of every class the newest min(n - 1, size), whatever the batches bring: more rows than slots, or ignored ones."""
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
    """Two more rows than slots in one batch: the state is that of the last rows, and of no race between writes."""
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
