"""Damage to bytes, texts, trees of plain values and arrays."""

import copy
import os
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import torch

ODD_TEXTS = (
    "", " ", "nan", "NA", "-1", "1e999", "1,5", "99999999999999999999", "0x10", "=1+1", '"', "'", "\t", "../../escape",
    "/etc/passwd", "[red]x[/]", "%s{0}", "ä", "a\u0308", "\u202e", "\x00", "\x1b[31m", "x" * 200_000, "a;b,c",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 2**40, 2**70, -0.5, 1e308, float("nan"), float("inf"), [], {}, [[]], [None],
    {"name": 1}, {"name": "Train", "training": None}, [1, "a"], b"bytes".decode(), *ODD_TEXTS,
)  # fmt: skip


class Code:
    """Object whose unpickling writes a file, which a reader must never do."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("written-by-a-pickle",)


def corrupt(rng: Random, data: bytes) -> bytes:
    """Return the bytes with one to three kinds of damage."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(BYTE_DAMAGES)(rng, data)
    return data


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 256)))


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20)) if data else 0):
        # headers decide more than pixels
        place = rng.randrange(min(len(data), rng.choice((64, 512, len(data)))))
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _replace(rng: Random, data: bytes, make: Callable[[int], bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + make(end - start) + data[end:]


def _repeat(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 50)) + data[end:]


BYTE_DAMAGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    lambda rng, data: data[: rng.randrange(len(data) + 1)],
    lambda rng, data: data[rng.randrange(min(64, len(data)) + 1) :],
    _flip,
    _flip,
    lambda rng, data: _replace(rng, data, bytes),
    lambda rng, data: _replace(rng, data, lambda length: b"\xff" * length),
    lambda rng, data: _replace(rng, data, rng.randbytes),
    lambda rng, data: _replace(rng, data, lambda length: b""),
    lambda rng, data: _replace(rng, data, lambda length: rng.randbytes(length + 7)),
    _repeat,
    lambda rng, data: b"",
    lambda rng, data: bytes(len(data)),
    lambda rng, data: rng.randbytes(rng.choice((1, 100, 5000))),
    lambda rng, data: data + rng.randbytes(1000),
)


def corrupt_text(rng: Random, text: str) -> bytes:
    """Return a text of lines with one to three kinds of damage, in one of several encodings."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        text = rng.choice(TEXT_DAMAGES)(rng, text)
    return rng.choice(ENCODINGS)(rng, text)


def _lines(change: Callable[[Random, list[str]], Sequence[str]]) -> Callable[[Random, str], str]:
    return lambda rng, text: "\n".join(change(rng, text.split("\n")))


def _one_line(change: Callable[[Random, str], str]) -> Callable[[Random, str], str]:
    def changed(rng: Random, lines: list[str]) -> list[str]:
        place = rng.randrange(len(lines))
        return [*lines[:place], change(rng, lines[place]), *lines[place + 1 :]]

    return _lines(changed)


def _cell(rng: Random, line: str) -> str:
    parts = re.split(r"([,;\t: ])", line)
    parts[2 * rng.randrange((len(parts) + 1) // 2)] = rng.choice(ODD_TEXTS)
    return "".join(parts)


def _drop_column(rng: Random, lines: list[str]) -> list[str]:
    place = rng.randrange(4)
    return [",".join(cell for index, cell in enumerate(line.split(",")) if index != place) for line in lines]


TEXT_DAMAGES: tuple[Callable[[Random, str], str], ...] = (
    _one_line(_cell),
    _one_line(_cell),
    _one_line(_cell),
    _one_line(lambda rng, line: line + rng.choice((",", ",x", ";", '"', " x", "\x00", ",,,,,"))),
    _one_line(lambda rng, line: rng.choice((",", '"', "#", "- ", "  ", "\t", "\x00")) + line),
    _one_line(lambda rng, line: f'"{line}"'),
    _one_line(lambda rng, line: ""),
    _one_line(lambda rng, line: line[: rng.randrange(len(line) + 1)]),
    _one_line(lambda rng, line: f"{line}\n{line}"),
    _one_line(lambda rng, line: line.upper()),
    _lines(_drop_column),
    _lines(lambda rng, lines: lines[1:]),
    _lines(lambda rng, lines: lines[:1]),
    _lines(lambda rng, lines: rng.sample(lines, len(lines))),
    _lines(lambda rng, lines: [line.replace(",", rng.choice(";\t| ")) for line in lines]),
    lambda rng, text: text.replace("\n", rng.choice(("\r\n", "\r", "\n\n", "\x0b", "\u2028"))),
    lambda rng, text: text.replace(".", ","),
    lambda rng, text: "",
)
ENCODINGS: tuple[Callable[[Random, str], bytes], ...] = (
    *[lambda rng, text: text.encode(errors="surrogatepass")] * 6,
    lambda rng, text: b"\xef\xbb\xbf" + text.encode(),
    lambda rng, text: text.encode("utf-16"),
    lambda rng, text: text.replace("e", "é").encode("latin-1", "replace"),
    lambda rng, text: corrupt(rng, text.encode()),
)


def corrupt_tree(rng: Random, tree: Any) -> Any:
    """Return a copy of nested mappings and lists with one or two values changed, removed, renamed or added."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2))):
        _corrupt_node(rng, tree)
    return tree


def _corrupt_node(rng: Random, tree: Any) -> None:
    node, keys = rng.choice(_places(tree))
    key = rng.choice(keys)
    match rng.randrange(8):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[rng.choice(("unknown", 7, f"{key}s", None))] = node.pop(key)
        case 2 if isinstance(node, dict):
            node[rng.choice(("unknown", "name", "training"))] = rng.choice(ODD_VALUES)
        case 3:
            node[key] = [node[key]]
        case 4 if isinstance(node[key], (int, float)):
            node[key] = -node[key] if rng.random() < 0.5 else str(node[key])
        case 5 if isinstance(node, list):
            node.append(rng.choice(ODD_VALUES))
        case _:
            value = node[key]
            node[key] = corrupt_tensor(rng, value) if isinstance(value, torch.Tensor) else rng.choice(ODD_VALUES)


def _places(tree: Any) -> list[tuple[Any, list[Any]]]:
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        if keys:
            found.append((node, keys))
            waiting += [node[key] for key in keys]
    return found


def corrupt_tensor(rng: Random, values: torch.Tensor) -> Any:
    """Return a tensor of another shape, type or content, or another kind of object."""
    return rng.choice(
        (
            lambda: values.flatten()[:0],
            lambda: values[None],
            lambda: torch.cat([values.flatten(), values.flatten()]),
            lambda: values.to(torch.int64),
            lambda: values.to(torch.complex64),
            lambda: torch.full_like(values, -1),
            lambda: values.double() * float("nan"),
            lambda: values.to_sparse() if values.ndim else values,
            lambda: values.tolist(),
            lambda: torch.empty(values.shape, device="meta"),
        )
    )()


def corrupt_array(rng: Random, values: np.ndarray[Any, Any]) -> Any:
    """Return an array of another shape, type or content, or of Python objects."""
    values = np.atleast_1d(values)
    return rng.choice(
        (
            lambda: values[:0],
            lambda: values[:-1],
            lambda: values[None],
            lambda: values.ravel(),
            lambda: np.array(7),
            lambda: np.array(values.tolist(), dtype=object),
            lambda: np.array([Code()], dtype=object),
            lambda: values.astype("U9"),
            lambda: values.astype("S9"),
            lambda: np.zeros(values.shape, "M8[s]"),
            lambda: np.zeros(values.shape, "c16"),
            lambda: np.zeros(values.shape, "?"),
            lambda: np.zeros(values.shape, [("a", "f4"), ("b", "i8")]),
            lambda: np.full(values.shape, np.nan, "f4"),
            lambda: np.full(values.shape, np.inf, "f8"),
            lambda: np.full(values.shape, -5),
            lambda: np.full(values.shape, 2**63, "u8"),
            lambda: np.full(values.shape, 1e300),
            lambda: np.asfortranarray(values),
            lambda: values.astype(values.dtype.newbyteorder()) if values.dtype.kind in "fiu" else values[::-1],
            lambda: np.array([rng.choice(ODD_TEXTS) for _ in range(values.size)]).reshape(values.shape),
        )
    )()
