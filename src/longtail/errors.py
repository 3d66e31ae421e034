"""The error for invalid input. The command line prints its message and exits with code 2."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

LISTED = 30
"""Largest number of names that a message lists."""


class InputError(ValueError):
    """Invalid input. The message names the value, the rule and the remedy.

    Example:
        >>> raise InputError("no folder at 'photos'; give the folder that holds one folder per class")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no folder at 'photos'; give the folder that holds one folder per class
    """


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Name a file in the errors of a block that reads it.

    Args:
        source: File, or files, that the message must name.

    Raises:
        InputError: If the block raises one. A message that names the source already is kept.

    Example:
        >>> with naming("mine.yaml"):
        ...     raise InputError("there is no setting 'sed'")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: mine.yaml: there is no setting 'sed'
    """
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        raise InputError(f"{source}: {error}") from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name, with the most similar known names.

    Args:
        kind: Kind of thing that is named, such as "loss" or "data set".
        name: Unknown name.
        known: All known names.

    Example:
        >>> print(unknown_name("loss", "BalancedSoftmx", ["BalancedSoftmax", "CrossEntropy"]))
        there is no loss 'BalancedSoftmx'; did you mean BalancedSoftmax?
    """
    choices = list(known)
    near = nearest(name, choices)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(choices)[:LISTED])}"
    more = f", ... ({len(choices)} in all)" if not near and len(choices) > LISTED else ""
    return InputError(f"there is no {kind} {name!r}; {hint}{more}")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that are similar to a name, the most similar first.

    Example:
        >>> nearest("cifr100-lt", ["cifar100-lt", "digits-lt"])
        ['cifar100-lt']
    """
    by_lower = {choice.lower(): choice for choice in sorted(known)}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3)]


def near_paths(path: Path) -> list[str]:
    """Return up to three existing paths next to a missing one that have a similar name, the most similar first.

    Args:
        path: Path that does not exist. Of a large folder, the first 1,000 entries are compared.
    """
    try:
        siblings = [entry.name for entry in islice(path.parent.iterdir(), 1_000) if not entry.name.startswith(".")]
        siblings = [name for name in siblings if name != path.name]  # a link that leads nowhere
    except OSError:
        return []
    return [str(path.parent / name) for name in nearest(path.name, siblings)]


def first_line(error: BaseException) -> str:
    r"""Return the first line of the message of an error, or the name of its type if it has none.

    Example:
        >>> first_line(OSError("no network\n(try again)")), first_line(EOFError())
        ('no network', 'EOFError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_ten(items: Iterable[object]) -> str:
    """Return a list for an error message: the first ten items, one per line, and the number of the others.

    Example:
        >>> print(first_ten(["a.png", "b.png"]))
          a.png
          b.png
    """
    lines = [f"  {item}" for item in items]
    more = [f"  ... and {len(lines) - 10} more"] if len(lines) > 10 else []
    return "\n".join(lines[:10] + more)
