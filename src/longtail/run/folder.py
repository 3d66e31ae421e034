"""The folder of a run: whose it is, and from which checkpoint to go on."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longtail._io import write_text
from longtail.config import recipes
from longtail.config.convert import leaves, to_mapping
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.training.checkpoint import CheckpointStore

# settings that change where a run happens, not what comes of it
FREE = ("device", "data.workers", "data.root")
# settings in which a run may differ from the one it starts from, beside its later stages
FREE_FROM = (*FREE, "method", "many", "few", "groups")


def load_config(folder: Path) -> Config:
    """The configuration of a run.

    Raises:
        InputError: if the folder holds no run.
    """
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder} holds no run (no config.yaml); give the folder that `longtail train` wrote")
    return recipes.typed(recipes.read_file(folder / "config.yaml"))


def not_finished(folder: Path) -> InputError:
    """What to tell someone who takes a run for finished that is not."""
    return InputError(f"the run in {folder} is not finished; go on with: longtail train --resume --out {folder}")


def is_taken(folder: Path) -> bool:
    """Whether a run in this folder has got as far as a checkpoint."""
    return (folder / "config.yaml").exists() and any((folder / "checkpoint").glob("*.pt"))


def checkpoint_to_go_on_from(folder: Path, config: Config, resume: bool, start: Path | None) -> dict[str, Any] | None:
    """The state with which a run begins: its own, that of the run it starts from, or none.

    Args:
        folder: of the run.
        config: of the run.
        resume: whether a run in `folder` is to be gone on with.
        start: a finished run whose stages are the first ones of this run, and need not be run again.

    Raises:
        InputError: if the folder holds a run and `resume` is not set, or `start` is not the beginning of this run.
    """
    if is_taken(folder):
        if not resume:
            raise InputError(f"{folder} already holds a run; go on with --resume, or choose another --out")
        _refuse(_differences(to_mapping(load_config(folder)), to_mapping(config), FREE), folder, "resume it with the")
        return CheckpointStore(folder / "checkpoint").load()
    return None if start is None else _end_of(start, config)


def refuse_other_data(saved: dict[str, Any] | None, data: Dataset) -> None:
    """A checkpoint knows the split it was trained on.

    Raises:
        InputError: if the data are not those.
    """
    if saved is not None and saved["split"] != data.split.sha256:
        raise InputError(
            "the checkpoint was trained on other images than the data set now has (they have been added, removed or "
            "renamed); start again in another folder"
        )


@contextmanager
def claimed(folder: Path, config: Config) -> Iterator[None]:
    """Within, the folder is this run's alone; the system gives it free however the process ends.

    Raises:
        InputError: if it can not be written, or another process is training into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"can not write into {folder}: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another process is training into {folder}; wait for it, or choose another --out"
            ) from error
        try:
            write_text(folder / "config.yaml", recipes.to_yaml(config))
        except OSError as error:
            raise InputError(f"can not write into {folder}: {error.strerror or error}") from error
        yield
        (folder / ".lock").unlink(missing_ok=True)


def _end_of(start: Path, config: Config) -> dict[str, Any]:
    """The last state of the run that this one starts from."""
    begun = load_config(start)
    saved = CheckpointStore(start / "checkpoint").load()
    if saved is None or saved["stage"] < len(begun.stages):
        raise not_finished(start)
    beginning = {**to_mapping(config), "stages": to_mapping(config.stages[: len(begun.stages)])}
    _refuse(_differences(to_mapping(begun), beginning, FREE_FROM), start, "start from a run with the same first")
    return saved


def _refuse(changed: list[str], folder: Path, hint: str) -> None:
    if changed:
        raise InputError(
            f"{folder} holds a run of another configuration:\n"
            + "\n".join(changed[:10])
            + f"\n{hint} settings, or leave "
            "it and choose another --out"
        )


def _differences(old: dict[str, Any], new: dict[str, Any], free: tuple[str, ...]) -> list[str]:
    flat_old, flat_new = leaves(old), leaves(new)
    keys = sorted((flat_old.keys() | flat_new.keys()) - set(free))
    return [
        f"  {key}: {flat_old.get(key)} -> {flat_new.get(key)}" for key in keys if flat_old.get(key) != flat_new.get(key)
    ]
