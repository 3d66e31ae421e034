"""Stochastic gradient descent that does not import the compiler of torch, which takes as long as torch itself.

The optimizers of torch import `torch._dynamo` on their first call, only to exclude parts of themselves from it.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch

MARKER = "__dynamo_disable"
"""Attribute in which torch keeps the version of a function that its compiler leaves alone."""
DECORATED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods that are excluded from compilation. No compiled function of this package calls them."""

_plain_step: Callable[..., Any] = inspect.unwrap(torch.optim.SGD.step)


class SGD(torch.optim.SGD):
    """The optimizer of torch, with the same results and the same state.

    If a version of torch is built otherwise, the import takes place as before.

    Example:
        >>> optimizer = SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
        >>> len(optimizer.param_groups)
        1
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        for name in DECORATED:
            plain = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
            if plain is not None and not hasattr(plain, MARKER):
                setattr(plain, MARKER, plain)
        super().__init__(*arguments, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Perform one step.

        Args:
            closure: Function that evaluates the model again, as for the optimizer of torch.
        """
        return _plain_step(self, closure)
