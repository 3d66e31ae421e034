"""Large images, read from disk in every epoch by worker processes that work ahead of the model.

Shapes: N = images, S = steps of an epoch, B = batch, R = uniform random numbers per image.
"""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from longtail._threads import available_cores
from longtail.data.decode import (
    CROP_UNIFORMS,
    PLAIN,
    BadImage,
    Decoding,
    decode_image,
    fit_image,
    random_resized_crop,
)
from longtail.errors import InputError

MAX_DEFAULT_WORKERS = 8


def default_workers() -> int:
    """Return the default number of processes or threads that read images: one per available core, at most 8."""
    return min(MAX_DEFAULT_WORKERS, available_cores())


class StreamedImages:
    """Images that stay on disk.

    Args:
        paths: N image files.
        size: Side of the square that every image becomes, in pixels.
        device: Device of the training.
        workers: Number of decoding processes. 0 decodes in this process; None uses one per core, at most 8.
        how: Settings to decode with.

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
        order_SB = order_SB.cpu()
        crops_SBR = None if uniforms_SBR is None else uniforms_SBR[..., :CROP_UNIFORMS].cpu().contiguous()
        workers = min(self.workers, len(order_SB))
        loader = DataLoader(
            _Batches(self._names_N, self.size, order_SB, crops_SBR, self.how),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            pin_memory=self.device.type == "cuda",
            collate_fn=_unchanged,
            worker_init_fn=_ignore_stop_signals,
            generator=torch.Generator(),  # the default generator would change the random state of the run
        )
        for batch in _unless_a_worker_died(loader):
            if isinstance(batch, BadImage):
                raise batch
            pixels = torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch
            yield pixels.to(self.device, non_blocking=True)

    def subset(self, indices: Tensor) -> "StreamedImages":
        """Return the images at `indices`, in that order."""
        chosen = StreamedImages([], self.size, device=self.device, workers=self.workers, how=self.how)
        chosen._names_N = self._names_N[indices.cpu().numpy()]
        return chosen

    def thumbnail(self, index: int) -> Tensor:
        """Return the plain view of one image: uint8 (3, size, size) on the CPU."""
        return fit_image(decode_image(_path(self._names_N, index), self.how), self.size)


Message = Tensor | np.ndarray[Any, Any] | BadImage


class _Batches(Dataset[Message]):
    """Batches of one epoch, made in a worker process, or the BadImage that stopped one.

    The error is returned and not raised, because an error crosses the process border as a traceback in a string. A
    worker returns its batch in shared memory. If that is full, as with the 64 MB of a container, the batch is an array,
    which crosses the process border through a pipe.
    """

    def __init__(
        self,
        names_N: np.typing.NDArray[np.bytes_],
        size: int,
        order_SB: Tensor,
        crops_SBR: Tensor | None,
        how: Decoding = PLAIN,
    ) -> None:
        self.names_N, self.size, self.order_SB, self.crops_SBR, self.how = names_N, size, order_SB, crops_SBR, how

    def __len__(self) -> int:
        return len(self.order_SB)

    def __getitem__(self, step: int) -> Message:
        try:
            pixels = torch.stack([self._view(step, b, index) for b, index in enumerate(self.order_SB[step].tolist())])
        except BadImage as bad:
            return bad
        return pixels if get_worker_info() is None else _to_send(pixels)

    def _view(self, step: int, b: int, index: int) -> Tensor:
        pixels = decode_image(_path(self.names_N, index), self.how)
        if self.crops_SBR is None:
            return fit_image(pixels, self.size)
        return random_resized_crop(pixels, self.crops_SBR[step, b], self.size)


def _to_send(pixels: Tensor) -> Message:
    """Move a batch to shared memory here, since an error in the thread that sends it would never reach the parent."""
    try:
        pixels.share_memory_()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError):
        return pixels.numpy()
    return pixels


def _unchanged(batch: Any) -> Any:
    """Return a batch as it is; the default of the loader would turn arrays into tensors in the worker."""
    return batch


def _ignore_stop_signals(worker: int) -> None:
    """Leave the reaction to Ctrl-C and SIGTERM to the parent, also if the signal reaches the whole process group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _unless_a_worker_died(batches: Iterable[Message]) -> Iterator[Message]:
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


def _path(names_N: np.typing.NDArray[np.bytes_], index: int) -> Path:
    return Path(os.fsdecode(bytes(names_N[index])))
