"""Load a model that `longtail export` wrote as safetensors or as a Hugging Face folder, without its run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtail.config.convert import from_mapping
from longtail.config.schema import ModelConfig
from longtail.errors import InputError, naming
from longtail.export.metadata import FORMAT, VERSION
from longtail.models.classifier import restore_classifier
from longtail.run.trained import Trained

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def load_exported(path: str | Path) -> Trained:
    """Return the model of a safetensors file or of a Hugging Face folder. The run is not needed.

    The code of the network is not in the file: a backbone of your own package must be importable.

    Args:
        path: File, or folder with `model.safetensors` and `config.json`.

    Raises:
        InputError: If the file cannot be read, or `longtail export` did not write it.

    Example:
        >>> load_exported("nowhere.safetensors")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no exported model at nowhere.safetensors; give the file or folder that ...
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path).expanduser()
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"there is no exported model at {path}; give the file or folder that `longtail export --to safetensors` "
            "or `--to hf` wrote"
        )
    try:
        with safe_open(file, framework="pt") as content:
            stated = json.loads((content.metadata() or {}).get("longtail", "{}"))
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {error}; export the run again") from error
    with naming(file):
        return _restored(stated, tensors)


def _restored(stated: Any, tensors: Mapping[str, Any]) -> Trained:
    if not isinstance(stated, dict) or stated.get("format") != FORMAT:
        raise InputError("holds weights without the metadata of `longtail export`; export the run again")
    if stated.get("version") != VERSION:
        raise InputError(
            f"has version {stated.get('version')!r}, this longtail reads {VERSION}; install a newer longtail"
        )
    built, names = stated["structure"], tuple(stated["class_names"])
    config = from_mapping(ModelConfig, built["config"], "model")
    try:
        model = restore_classifier(config, len(names), {**built["parts"], "model": dict(tensors)})
    except (RuntimeError, KeyError) as error:
        raise InputError(f"does not fit its network: {str(error).splitlines()[0]}; export the run again") from error
    return Trained(model, names, built["image_size"], built["bits"], built["resize"])
