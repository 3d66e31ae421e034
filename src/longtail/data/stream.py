"""Large images, read from disk in every epoch by worker processes that work ahead of the model.

Shapes: N = images, S = steps of an epoch, B = batch, P = images of a request, R = uniform random numbers per image.
"""

import functools
import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from longtail._threads import default_workers
from longtail.data.decode import PLAIN, BadImage, Decoding, read_view
from longtail.data.views import CROP_UNIFORMS
from longtail.errors import InputError

if TYPE_CHECKING:
    from longtail.data.cache import ImageCache

REQUEST = 16
"""Largest number of images that a worker reads at once. Several workers share the images of a larger batch."""
REQUESTS_AHEAD = 8
"""Requests that each worker may be ahead of the model."""


class StreamedImages:
    """Images that stay on disk.

    The worker processes start with the first batches and are kept for all epochs and for all subsets, until the last
    of these objects is deleted.

    Args:
        paths: N image files.
        size: Side of the square that every image becomes, in pixels.
        device: Device of the training.
        workers: Number of decoding processes. 0 decodes in this process; None uses one per core, at most 8.
        how: Settings to decode with.
        cache: Reduced copies of the images, which are read in their place. None reads the images.

    Raises:
        InputError: If `size` or `workers` is out of range.

    Example:
        >>> len(StreamedImages([Path("cat/1.jpg"), Path("dog/1.jpg")], 224))
        2
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        *,
        device: torch.device | str = "cpu",
        workers: int | None = None,
        how: Decoding = PLAIN,
        cache: "ImageCache | None" = None,
    ) -> None:
        if size < 1:
            raise InputError(f"`size` of the images must be >= 1 pixel, got {size}")
        if workers is not None and workers < 0:
            raise InputError(f"`workers` must be >= 0, got {workers}")
        # one block of bytes: reading a list of strings changes reference counts and copies its pages in every worker
        self._names_N = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self.size = size
        self.how = how
        self.device = torch.device(device)
        self.workers = default_workers() if workers is None else workers
        self.cache = cache
        self._pool = WorkerPool(_Reader(size, how, cache), pin_memory=self.device.type == "cuda")

    @property
    def paths(self) -> list[Path]:
        """The N image files."""
        return [Path(os.fsdecode(name)) for name in self._names_N.tolist()]

    def __len__(self) -> int:
        return len(self._names_N)

    def batches(self, order_SB: Tensor, uniforms_SBR: Tensor | None) -> Iterator[Tensor]:
        """Yield one uint8 tensor (B, 3, size, size) per row of `order_SB`, in that order.

        Args:
            order_SB: Indices of the images of each batch, int64.
            uniforms_SBR: Random numbers in [0, 1), of which the first four choose the random crop of an image. None
                gives the plain view.

        Raises:
            BadImage: If an image cannot be read.
            InputError: If there are fewer than four random numbers per image.
        """
        if uniforms_SBR is not None and uniforms_SBR.shape[-1] < CROP_UNIFORMS:
            raise InputError(
                f"a random crop needs {CROP_UNIFORMS} random numbers per image, got {uniforms_SBR.shape[-1]}"
            )
        batch_size = order_SB.shape[1]
        length = min(REQUEST, max(1, -(-order_SB.numel() // max(1, self.workers))))
        requests = len(order_SB) * -(-batch_size // length)
        workers = min(self.workers, requests) if requests > 1 else 0  # a single image needs no process
        if self.cache is not None:
            self.cache.begin()  # before the workers start, which inherit it
        pieces = self._pool.read(self._requests(order_SB, uniforms_SBR, length), workers)
        for _ in range(len(order_SB)):
            batch = torch.empty(batch_size, 3, self.size, self.size, dtype=torch.uint8, device=self.device)
            for start in range(0, batch_size, length):
                batch[start : start + length].copy_(next(pieces), non_blocking=True)
            yield batch
        next(pieces, None)  # ends the pass, so that its workers are kept
        if self.cache is not None:
            self.cache.warn_if_stopped()

    def _requests(self, order_SB: Tensor, uniforms_SBR: Tensor | None, length: int) -> Iterator["_Request"]:
        order = order_SB.cpu().numpy()
        crops = None if uniforms_SBR is None else uniforms_SBR[..., :CROP_UNIFORMS].cpu().numpy()
        for step in range(len(order)):
            for start in range(0, order.shape[1], length):
                piece = slice(start, start + length)
                yield _Request(self._names_N[order[step, piece]], None if crops is None else crops[step, piece])

    def subset(self, indices: Tensor) -> "StreamedImages":
        """Return the images at `indices`, in that order. They are read by the same workers."""
        chosen = StreamedImages([], self.size, device=self.device, workers=self.workers, how=self.how, cache=self.cache)
        chosen._names_N = self._names_N[indices.cpu().numpy()]
        chosen._pool = self._pool
        return chosen

    def resized(self, size: int) -> "StreamedImages":
        """Return the same images at another size, in pixels."""
        if size == self.size:
            return self
        return StreamedImages(self.paths, size, device=self.device, workers=self.workers, how=self.how)

    def thumbnail(self, index: int) -> Tensor:
        """Return the plain view of one image: uint8 (3, size, size) on the CPU."""
        return read_view(_path(self._names_N[index]), self.size, self.how)


@dataclass(frozen=True)
class _Request:
    """Images that a worker reads at once: P names, and the numbers (P, 4) that choose their crops or None."""

    names_P: np.typing.NDArray[np.bytes_]
    crops_PR: np.typing.NDArray[np.float32] | None


Message = Tensor | np.ndarray[Any, Any] | BadImage


class _Reader(Dataset[Message]):
    """Reads the images of a request, or returns the BadImage that stopped it.

    The error is returned and not raised, because an error crosses the process border as a traceback in a string. A
    worker returns its images in shared memory. If that is full, as with the 64 MB of a container, they are an array,
    which crosses the process border through a pipe.
    """

    def __init__(self, size: int, how: Decoding, cache: "ImageCache | None") -> None:
        self.size, self.how, self.cache = size, how, cache

    def __getitem__(self, request: _Request) -> Message:
        shape = (len(request.names_P), 3, self.size, self.size)
        pixels = torch.empty(shape, dtype=torch.uint8)
        is_shared = get_worker_info() is not None and _share(pixels)
        read = read_view if self.cache is None else self.cache.read_view
        crops: list[Any] = [None] * shape[0] if request.crops_PR is None else request.crops_PR.tolist()
        try:
            for index, (name, crop) in enumerate(zip(request.names_P, crops, strict=True)):
                pixels[index] = read(_path(name), self.size, self.how, crop)
        except BadImage as bad:
            return bad
        return pixels if is_shared or get_worker_info() is None else pixels.numpy()


def _share(pixels: Tensor) -> bool:
    """Move a tensor to shared memory here, since an error in the thread that sends it would never reach the parent."""
    try:
        pixels.share_memory_()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError):
        return False
    return True


class _Requests(Sampler[Any]):
    """Requests of the current pass, which the loader passes to its workers as if they were indices."""

    def __init__(self) -> None:
        self.current: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.current)


class WorkerPool:
    """Worker processes that are kept from one pass over images to the next.

    A pass takes an idle loader with its workers, or starts one; passes at the same time have workers of their own. What
    the workers have read ahead of a pass that is left early is dropped at the start of the next one.

    Args:
        reader: Reader of one request. It returns an `InputError` that stopped it, instead of raising it.
        pin_memory: Whether the results are copied to page-locked memory, for the copy to a GPU.
    """

    def __init__(self, reader: Dataset[Any], pin_memory: bool) -> None:
        self.reader, self.pin_memory = reader, pin_memory
        self.loaders: list[DataLoader[Any]] = []
        self.idle: list[DataLoader[Any]] = []
        # the list outlives the pool: in a reference cycle, a loader would lose the queues it needs to end its workers
        weakref.finalize(self, self.loaders.clear)

    def read(self, requests: Iterable[Any], workers: int) -> Iterator[Any]:
        """Yield what the reader makes of each request, in order. Arrays become tensors.

        Args:
            requests: Requests to read.
            workers: Number of processes. With 0, this process reads.

        Raises:
            BadImage: If an image cannot be read.
            InputError: If the reader returns one, or the system has ended a worker.
        """
        if workers == 0:
            yield from map(_checked, map(self.reader.__getitem__, requests))
            return
        loader = self._loader(workers)
        loader.sampler.current = requests  # type: ignore[attr-defined]
        try:
            yield from map(_checked, _unless_a_worker_died(loader))
        except InputError as error:
            if not isinstance(error, BadImage):
                self.loaders.remove(loader)
            raise
        finally:
            loader.sampler.current = ()  # type: ignore[attr-defined]
            self.idle += [each for each in self.loaders if each is loader]

    def _loader(self, workers: int) -> "DataLoader[Any]":
        enough = [loader for loader in self.idle if loader.num_workers >= workers]
        if enough:
            self.idle.remove(enough[0])
            return enough[0]
        import torchvision.transforms.v2.functional  # noqa: F401 - takes seconds; forked workers have it then

        self.loaders.append(
            DataLoader(
                self.reader,
                batch_size=None,
                sampler=_Requests(),
                num_workers=workers,
                prefetch_factor=REQUESTS_AHEAD,
                persistent_workers=True,
                pin_memory=self.pin_memory,
                collate_fn=_unchanged,
                worker_init_fn=_stop_signals_of(os.getpid()),
                generator=torch.Generator(),  # the default generator would change the random state of the run
            )
        )
        return self.loaders[-1]


def _checked(message: Any) -> Any:
    if isinstance(message, InputError):
        raise message
    return torch.from_numpy(message) if isinstance(message, np.ndarray) else message


def _unchanged(batch: Any) -> Any:
    """Return a batch as it is; the default of the loader would turn arrays into tensors in the worker."""
    return batch


class _StopSignals:
    """Leave the reaction to Ctrl-C and SIGTERM to the parent, also if the signal reaches the whole process group.

    When the parent exits, multiprocessing sends SIGTERM to the workers that are left and waits for their end.
    """

    def __init__(self) -> None:
        self.parent_exits = multiprocessing.Event()
        Finalize(None, self.parent_exits.set, exitpriority=0)  # runs before the signals are sent

    def __call__(self, worker: int) -> None:
        """Set the signal handlers of a worker process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end_with_the_parent)

    def _end_with_the_parent(self, number: int, frame: object) -> None:
        if self.parent_exits.is_set():
            os._exit(0)


@functools.cache
def _stop_signals_of(parent: int) -> _StopSignals:
    """Return the signal handling of the workers of a process; a forked process needs its own."""
    return _StopSignals()


def _unless_a_worker_died(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches, and raise an `InputError` if the system has ended a worker that makes them."""
    try:
        yield from batches
    except RuntimeError as error:
        if not is_worker_death(error):
            raise
        raise worker_death(error) from error


def is_worker_death(error: BaseException) -> bool:
    """Return whether an error of torch reports the end of a worker. Its signal handler may raise it anywhere."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def worker_death(error: BaseException) -> InputError:
    """Return the error for a worker that the system has ended."""
    return InputError(
        f"a process that decodes images has ended: {str(error).splitlines()[0].strip()} It may have run out of memory; "
        "set fewer `workers`, or 0"
    )


def _path(name: np.bytes_) -> Path:
    return Path(os.fsdecode(bytes(name)))
