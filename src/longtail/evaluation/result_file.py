"""What a finished run says of itself in `result.json`."""

import json
from pathlib import Path
from typing import Any

from longtail.errors import InputError


def read_result(path: Path) -> dict[str, Any]:
    """The content of a run's `result.json`.

    Raises:
        InputError: where there is none, or it cannot be read.

    Example:
        >>> read_result(Path("runs/none/result.json"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no result at runs/none/result.json; give the folder of a finished run
    """
    if not path.is_file():
        raise InputError(f"no result at {path}; give the folder of a finished run")
    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {path}: {error}; remove it, and write it anew with: "
            f"longtail train --resume --out {path.parent}"
        ) from error
    if not isinstance(result, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(result).__name__}")
    return result


def group_options(groups: Any) -> dict[str, Any]:
    """The options of `evaluate_logits` from "class_groups" of a result; none where there is nothing.

    Raises:
        InputError: if something is missing.

    Example:
        >>> group_options({"kind": "fixed", "many": 100, "few": 20})
        {'many': 100, 'few': 20, 'groups': 'fixed'}
    """
    groups = groups or {}
    try:
        return {"many": int(groups["many"]), "few": int(groups["few"]), "groups": groups["kind"]} if groups else {}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'"class_groups" of a result must hold kind, many and few, not {groups!r}') from error
