import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from longtail._threads import default_workers
from longtail.data import stream
from longtail.data.decode import BadImage, decode_image
from longtail.data.stream import StreamedImages, _unless_a_worker_died
from longtail.data.views import crop_box, fit_image, random_resized_crop
from longtail.errors import InputError
from tests.data.helpers import noise, save


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    names = ["a.png", "b.jpg", "näher.png", "d.webp", "e.png", "f.png"]
    return [save(tmp_path / name, noise(k, 20 + 3 * k, 30)) for k, name in enumerate(names)]


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_views_in_the_order_asked_for(paths: list[Path], workers: int) -> None:
    images = StreamedImages(paths, 16, workers=workers)
    order_SB = torch.tensor([[5, 0], [3, 3], [1, 2], [4, 5]])
    batches = list(images.batches(order_SB, None))
    assert len(batches) == 4
    for batch, row in zip(batches, order_SB.tolist(), strict=True):
        assert (batch.dtype, batch.shape) == (torch.uint8, (2, 3, 16, 16))
        assert torch.equal(batch, torch.stack([fit_image(decode_image(paths[index]), 16) for index in row]))


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_follow_the_numbers_of_each_image(paths: list[Path], workers: int) -> None:
    order_SB = torch.tensor([[0, 1, 2], [2, 1, 0]])
    uniforms_SBR = torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(0))
    batches = torch.stack(list(StreamedImages(paths, 16, workers=workers).batches(order_SB, uniforms_SBR)))
    for step in range(2):
        for b in range(3):
            expected = random_resized_crop(decode_image(paths[order_SB[step, b]]), uniforms_SBR[step, b], 16)
            assert torch.equal(batches[step, b], expected)
    assert not torch.equal(batches[0, 0], batches[1, 2])  # image 0 twice, with different numbers


def test_a_crop_shows_its_box_as_pillow_would(tmp_path: Path) -> None:
    image = noise(3, 60, 40)
    path = save(tmp_path / "a.png", image)
    uniforms = [0.4, 0.3, 0.8, 0.6]
    top, left, rows, columns = crop_box(40, 60, uniforms)
    box = image.crop((left, top, left + columns, top + rows)).resize((16, 16), Image.Resampling.BILINEAR)
    (batch,) = StreamedImages([path], 16, workers=0).batches(torch.tensor([[0]]), torch.tensor([[uniforms]]))
    assert np.abs(batch[0].permute(1, 2, 0).numpy().astype(int) - np.array(box).astype(int)).max() <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_raised_here_by_name(paths: list[Path], workers: int) -> None:
    paths[3].write_bytes(b"")
    batches = StreamedImages(paths, 16, workers=workers).batches(torch.tensor([[0, 1], [2, 3], [4, 5]]), None)
    assert next(batches).shape == (2, 3, 16, 16)
    with pytest.raises(BadImage) as caught:
        next(batches)
    assert caught.value.path == paths[3]
    assert "Traceback" not in str(caught.value)


def test_full_shared_memory_slows_the_workers_but_changes_nothing(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has 64 MB of /dev/shm. An error in the thread that sends a batch would leave the parent waiting."""
    order_SB = torch.tensor([[5, 0], [3, 3], [1, 2]])
    expected = list(StreamedImages(paths, 16, workers=0).batches(order_SB, None))

    def full(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    batches = list(StreamedImages(paths, 16, workers=2).batches(order_SB, None))
    assert all(torch.equal(batch, right) for batch, right in zip(batches, expected, strict=True))


def children() -> list[psutil.Process]:
    return psutil.Process().children()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_leave_a_stop_signal_to_the_parent(paths: list[Path], number: int) -> None:
    before = children()
    batches = StreamedImages(paths, 16, workers=2).batches(torch.zeros(40, 1, dtype=torch.int64), None)
    next(batches), next(batches), next(batches)  # both workers have started
    workers = [child for child in children() if child not in before]
    assert len(workers) == 2
    for worker in workers:
        worker.send_signal(number)
    assert len(list(batches)) == 37


def test_a_worker_that_was_killed_gives_a_message() -> None:
    """No worker is killed here: the signal handler of torch may raise the error anywhere, also within pytest."""

    def batches() -> Iterator[torch.Tensor]:
        yield torch.zeros(1)
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")

    found = _unless_a_worker_died(batches())
    next(found)
    with pytest.raises(InputError, match=r"a process that decodes images has ended: .*Killed.*fewer `workers`, or 0"):
        next(found)


def test_workers_are_kept_for_all_epochs_and_subsets(paths: list[Path]) -> None:
    before = children()
    images = StreamedImages(paths, 16, workers=2)
    order_SB = torch.tensor([[5, 0], [3, 3], [1, 2]])
    first = list(images.batches(order_SB, None))
    workers = set(children()) - set(before)
    assert len(workers) == 2
    assert all(map(torch.equal, images.batches(order_SB, None), first))
    part = images.subset(torch.tensor([3, 0]))
    assert torch.equal(torch.cat(list(part.batches(torch.tensor([[1, 0], [0, 1]]), None)))[0], first[0][1])
    assert set(children()) - set(before) == workers
    del images, part
    assert not workers & set(children())


def test_two_passes_at_once(paths: list[Path]) -> None:
    """Bilevel training reads two sets of batches in turn."""
    images = StreamedImages(paths, 16, workers=2)
    order_SB = torch.arange(6).view(3, 2)
    expected = list(StreamedImages(paths, 16, workers=0).batches(order_SB, None))
    pairs = zip(images.batches(order_SB, None), images.batches(order_SB.flip(0), None), strict=True)
    for index, (one, other) in enumerate(pairs):
        assert torch.equal(one, expected[index])
        assert torch.equal(other, expected[2 - index])


def test_workers_share_the_images_of_a_large_batch(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "REQUEST", 4)
    order_SB = torch.arange(22).view(2, 11) % 6
    uniforms_SBR = torch.rand(2, 11, 4, generator=torch.Generator().manual_seed(0))
    expected = list(StreamedImages(paths, 16, workers=0).batches(order_SB, uniforms_SBR))
    batches = list(StreamedImages(paths, 16, workers=2).batches(order_SB, uniforms_SBR))
    assert [len(batch) for batch in batches] == [11, 11]
    assert all(map(torch.equal, batches, expected))


def leave_workers_behind(paths: list[Path]) -> None:
    order_SB = torch.zeros(40, 4, dtype=torch.int64)
    idle = StreamedImages(paths, 8, workers=2)
    list(idle.batches(order_SB, None))
    busy = StreamedImages(paths, 8, workers=2).batches(order_SB, None)
    next(busy)
    globals()["kept_until_the_process_exits"] = idle, busy


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot fork")
def test_the_workers_end_with_the_process(paths: list[Path]) -> None:
    process = multiprocessing.get_context("fork").Process(target=leave_workers_behind, args=(paths,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == 0


def test_an_epoch_may_be_left_early(paths: list[Path]) -> None:
    images = StreamedImages(paths, 16, workers=2)
    for _ in images.batches(torch.zeros(50, 1, dtype=torch.int64), None):
        break
    order_SB = torch.tensor([[1, 2], [4, 5]])
    expected = list(StreamedImages(paths, 16, workers=0).batches(order_SB, None))
    assert all(map(torch.equal, images.batches(order_SB, None), expected))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_random_state_of_the_run_is_left_alone(paths: list[Path], workers: int) -> None:
    before = torch.get_rng_state()
    images = StreamedImages(paths, 16, workers=workers)
    list(images.batches(torch.tensor([[0], [1]]), torch.zeros(2, 1, 4)))
    list(images.batches(torch.tensor([[0], [1]]), None))
    assert torch.equal(torch.get_rng_state(), before)


def test_subset_and_thumbnail(paths: list[Path]) -> None:
    images = StreamedImages(paths, 16, workers=0)
    part = images.subset(torch.tensor([4, 2, 2]))
    assert part.paths == [paths[4], paths[2], paths[2]]
    assert (len(part), part.size, part.workers) == (3, 16, 0)
    assert torch.equal(part.thumbnail(1), fit_image(decode_image(paths[2]), 16))
    assert len(images) == 6


def test_no_batches_of_an_empty_order(paths: list[Path]) -> None:
    assert list(StreamedImages(paths, 16).batches(torch.zeros(0, 4, dtype=torch.int64), None)) == []


def test_refusals(paths: list[Path]) -> None:
    with pytest.raises(InputError, match="`size` of the images must be >= 1 pixel, got 0"):
        StreamedImages(paths, 0)
    with pytest.raises(InputError, match="`workers` must be >= 0, got -1"):
        StreamedImages(paths, 8, workers=-1)
    with pytest.raises(InputError, match="a random crop needs 4 random numbers per image, got 3"):
        list(StreamedImages(paths, 8, workers=0).batches(torch.tensor([[0]]), torch.rand(1, 1, 3)))


def test_workers_by_default() -> None:
    assert 1 <= default_workers() <= 8
    assert StreamedImages([], 8).workers == default_workers()
