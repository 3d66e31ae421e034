"""Stand-in for a CUDA graph on the CPU: it records the operations of a step and replays them on the same tensors."""

import inspect
import linecache
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# operations that read a value back, or whose result has a shape that depends on values: a CUDA graph cannot hold them
FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default", "item")


class RecordingGraph(TorchDispatchMode):
    """Record of the operations of a step, below autograd.

    As in a CUDA graph, tensors that were made outside of the step are used as they are, those made within are made
    again, and nothing of Python is repeated: neither branches, nor numbers, nor attributes.
    """

    made: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor | None]]] = []
        self.kept: list[Tensor] = []  # so that no other tensor takes the place of one in `within`
        self.within: set[int] = set()
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = str(func)
        if any(word in name for word in FORBIDDEN):
            if _checks_labels():
                return func(*args, **(kwargs or {}))
            raise RuntimeError(f"{name} waits for the device")
        kwargs = kwargs or {}
        if name.startswith("aten.index.Tensor") and any(i is not None and i.dtype == torch.bool for i in args[1]):
            raise RuntimeError("an index by a mask waits for the device")
        result = func(*args, **kwargs)
        outputs = [each if isinstance(each, Tensor) else None for each in _flat(result)]
        given = {id(each) for each in _flat((args, kwargs)) if isinstance(each, Tensor)}
        self.operations.append((func, args, kwargs, outputs))
        for each in outputs:
            if each is not None:
                self.kept.append(each)
                if id(each) not in given:
                    self.within.add(id(each))
        return result

    def record(self, step: Callable[[], None]) -> None:
        RecordingGraph.made += 1
        with self:
            step()

    def replay(self) -> None:
        self.replays += 1
        present: dict[int, Any] = {}

        def now(value: Any) -> Any:
            if not isinstance(value, Tensor) or id(value) not in self.within:
                return value
            return present[id(value)]

        with torch.no_grad():
            for func, args, kwargs, outputs in self.operations:
                result = func(*tree_map(now, args), **tree_map(now, kwargs))
                for before, after in zip(outputs, _flat(result), strict=True):
                    if before is not None and id(before) in self.within:
                        present[id(before)] = after


def _checks_labels() -> bool:
    """Return whether `checked_targets` or `one_hot` check labels, for which CUDA does not wait."""
    frame: Any = inspect.currentframe()
    while frame is not None:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if frame.f_code.co_name == "checked_targets" or "F.one_hot(" in line:
            return True
        frame = frame.f_back
    return False


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _flat(item)]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _flat(item)]
    return [value]
