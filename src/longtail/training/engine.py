"""Ways to run a training step: launched operation by operation, compiled, or recorded once and replayed.

A recorded step covers all of a step: selecting the batch, augmentation, forward and backward pass, optimizer, averages
and statistics. It reads and writes the same tensors in every replay, so that nothing is launched from Python. Whatever
varies between steps is therefore a tensor: the position in the plan of the epoch, and the learning rate. Where a method
changes its Python branch (`Step.phase`), the step is recorded again.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.training.feed import EpochFeed, EpochPlan, Feed
from longtail.training.state import TrainState

logger = logging.getLogger("longtail")

SHORTEST = 200
"""Steps left below which recording the step, which takes about a second, is not worth it."""
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
"""Largest difference between a recorded step and the same step launched from Python."""


class Graph(Protocol):
    """Recorder of one step."""

    def record(self, step: Callable[[], None]) -> None:
        """Record the operations of a step. They may be executed or not."""

    def replay(self) -> None:
        """Execute the recorded operations on the same tensors."""


class CUDAStepGraph:
    """Recorder of a step as a CUDA graph."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, step: Callable[[], None]) -> None:
        """Record the operations of a step on the current device, without executing them."""
        first: list[Exception] = []
        try:
            # other threads may copy a checkpoint meanwhile
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                try:
                    step()
                except Exception as error:
                    first.append(error)  # leaving the context raises another error, which hides it
                    raise
        except Exception as error:
            raise (first or [error])[0] from error

    def replay(self) -> None:
        """Execute the recorded operations. Random numbers follow the present seed of the device."""
        self._graph.replay()


GRAPHS: dict[str, Callable[[], Graph]] = {"cuda": CUDAStepGraph}
"""Recorder of each type of device."""


class Engine:
    """Eager engine: every operation is launched from Python.

    Args:
        state: State of the stage.
        feed: Source of the batches.
    """

    def __init__(self, state: TrainState, feed: Feed) -> None:
        self.state, self.feed = state, feed

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        """Yield the arguments of `update` for each step of an epoch, starting with step `first`."""
        return self.feed.batches(epoch, first)

    def update(self, lr: float, *batch: Any) -> None:
        """Take one step.

        Args:
            lr: Learning rate.
            batch: Arguments from `batches`.
        """
        self.state.update(lr, *batch)


class CapturedEngine(Engine):
    """Engine that records the whole step and replays it.

    The first step of a stage is not replayed, since it creates the momenta. If a step cannot be recorded, or the
    recorded step gives other values, all further steps are launched from Python after a warning.

    Args:
        state: State of the stage.
        feed: Source of the batches, with resident images.
        make_graph: Recorder of the device.
    """

    feed: EpochFeed

    def __init__(self, state: TrainState, feed: EpochFeed, make_graph: Callable[[], Graph]) -> None:
        super().__init__(state, feed)
        device = state.context.device
        self._make_graph = make_graph
        # the optimizer reads it in single precision on CUDA, and in double precision on the CPU
        self._lr = torch.zeros((), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._plan: EpochPlan | None = None
        self._phase: object = None
        self._graph: Graph | None = None
        self._failed = False

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        """Move the plan of an epoch into the tensors that the recorded step reads; yield an empty batch per step."""
        plan = self.feed.plan(epoch).to(self.state.context.device)
        phase = (plan.mix is None, self.state.task.phase())
        if self._plan is None or phase != self._phase:
            self._plan, self._phase, self._graph = plan, phase, None  # the plan is kept: a graph holds no references
        else:
            self._plan.copy_(plan)
        self._position.fill_(first)
        for _ in range(first, self.feed.steps):
            yield ()

    def update(self, lr: float, *batch: Any) -> None:
        """Take the next step of the epoch."""
        del batch
        state = self.state
        self._lr.fill_(lr)
        state.set_lr(self._lr)
        if self._failed or (state.epoch == 0 and state.step == 0):
            self._step()
        else:
            self._graph = self._graph or self._recorded()
            self._graph.replay()
        state.step += 1

    def _step(self) -> None:
        """Take a step that reads and writes only tensors that stay in place."""
        assert self._plan is not None
        self.state.descend(*self.feed.batch(self._plan.at(self._position)))
        self._position += 1

    def _recorded(self) -> Graph:
        """Return the recorded step, or one that launches its operations from Python if recording fails."""
        with torch.no_grad():  # a clone with a gradient would tie the parameters to the present stream
            values = [tensor.clone() for tensor in self._tensors()]
        random_state = _random_state(self.state.context.device)

        def rewind() -> None:
            _restore(self._tensors(), values)
            _set_random_state(self.state.context.device, random_state)

        try:
            graph = self._record_and_check(rewind)
        except Exception as error:
            self._failed = True
            logger.warning("the step cannot be recorded (%s); the training continues with the eager engine", error)
            logger.debug("recording", exc_info=True)
            graph = _Launched(self._step)
        rewind()
        return graph

    def _record_and_check(self, rewind: Callable[[], None]) -> Graph:
        """Return the recorded step after comparing it with the same step launched from Python."""
        before = self._tensors()
        for _ in range(2):  # the first pass may create workspaces, which a recorded step must not
            rewind()
            _beside_the_main_stream(self.state.context.device, self._step)
        if [id(tensor) for tensor in self._tensors()] != [id(tensor) for tensor in before]:
            raise RuntimeError("it replaces tensors of the model or the loss rather than writing to them")
        with torch.no_grad():
            expected = [tensor.clone() for tensor in before]
        rewind()
        graph = self._make_graph()
        graph.record(self._step)
        rewind()
        graph.replay()
        if not all(torch.allclose(a, b, **TOLERANCE, equal_nan=True) for a, b in zip(before, expected, strict=True)):
            raise RuntimeError("the recorded step gives other values")
        return graph

    def _tensors(self) -> list[Tensor]:
        return [*self.state.tensors(), self._position]


class _Launched:
    """Stand-in for a recorded step that launches its operations from Python."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.replay = step

    def record(self, step: Callable[[], None]) -> None:
        """Do nothing: there is nothing to record."""


def check_engine(name: str, device: torch.device) -> None:
    """Check that a device has an engine.

    Raises:
        InputError: If the engine records steps and the device cannot.
    """
    if "captured" in name and device.type not in GRAPHS:
        raise InputError(f"`engine` must be auto, eager or compiled on the device {device}, got {name!r}")


def make_engine(state: TrainState, feed: Feed) -> Engine:
    """Return the engine that the context requests, record its name, and log it.

    "auto" records the step on a device that can, for images that are resident there, if enough steps are left. It does
    not compile: compiled operations round differently, and their use would depend on a measured time.

    Args:
        state: State of the stage.
        feed: Source of the batches.
    """
    context = state.context
    wanted, graph = context.engine, GRAPHS.get(context.device.type)
    steps_left = (state.settings.epochs - state.epoch) * feed.steps - state.step
    recordable = graph is not None and isinstance(feed, EpochFeed) and feed.is_resident and type(state) is TrainState
    captures = recordable and ("captured" in wanted or (wanted == "auto" and steps_left >= SHORTEST))
    compiles = "compiled" in wanted and type(state) is TrainState
    if compiles:
        state.compile_forward()
    name = "+".join(filter(None, ["captured" if captures else "", "compiled" if compiles else ""])) or "eager"
    context.compute.setdefault(str(context.stage), {})["engine"] = name
    if wanted not in ("auto", name):
        logger.warning("engine: %s; this stage cannot use the engine %s", name, wanted)
    elif wanted != "auto" or captures:
        logger.info("engine: %s", name)
    if not captures:
        return Engine(state, feed)
    assert isinstance(feed, EpochFeed)
    assert graph is not None
    return CapturedEngine(state, feed, graph)


@torch.no_grad()
def _restore(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _beside_the_main_stream(device: torch.device, step: Callable[[], None]) -> None:
    """Take a step on a stream of its own, as a step must be warmed up before it is recorded."""
    if device.type != "cuda":
        step()
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream(device).wait_stream(stream)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    """Set the state of the default generator. After a failed recording, the generator of CUDA needs a new state."""
    if device.type != "cuda":
        torch.set_rng_state(state)
        return
    try:
        torch.cuda.set_rng_state(state, device)
        torch.rand(1, device=device)
    except RuntimeError:
        default = torch.cuda.default_generators[device.index or 0]
        default.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
    torch.cuda.set_rng_state(state, device)
