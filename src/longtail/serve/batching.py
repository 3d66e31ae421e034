"""Answer concurrent requests in common batches.

Shapes: B = batch, S = side of the images, C = classes.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class _Waiting:
    pixels: Tensor
    answer: "asyncio.Future[Tensor]"


class Batcher:
    """A queue of images in front of a model. One thread runs the model.

    There is no delay to fill a batch: images that arrive while the model runs form the next batch.

    Args:
        graph: Module from uint8 images (B, 3, S, S) to logits and probabilities (B, C), such as
            `longtail.export.ExportedGraph`.
        device: Device of the module.
        max_batch: Largest number of images in a batch.

    Attributes:
        largest: Number of images in the largest batch so far.
    """

    def __init__(self, graph: nn.Module, device: torch.device, max_batch: int) -> None:
        self.graph, self.device, self.max_batch = graph, device, max_batch
        self.largest = 0
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "model")
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start to answer, within a running event loop."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop. Images in the queue are not answered."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown(wait=True)

    async def probabilities(self, pixels: Tensor) -> Tensor:
        """Return the probabilities of one image, float32, shape (C,), on the CPU.

        Args:
            pixels: Image, uint8, shape (3, S, S).
        """
        waiting = _Waiting(pixels, asyncio.get_running_loop().create_future())
        await self._queue.put(waiting)
        return await waiting.answer

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self.max_batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            self.largest = max(self.largest, len(batch))
            await self._answer(batch)

    async def _answer(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers_BC = await loop.run_in_executor(self._thread, self._compute, [each.pixels for each in batch])
        except Exception as error:  # a batch that fails must not end the service
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, answer_C in zip(batch, answers_BC, strict=True):
            if not each.answer.done():  # the client may be gone
                each.answer.set_result(answer_C)

    @torch.inference_mode()
    def _compute(self, pixels: list[Tensor]) -> Tensor:
        _, probabilities_BC = self.graph(torch.stack(pixels).to(self.device))
        answers_BC: Tensor = probabilities_BC.cpu()
        return answers_BC
