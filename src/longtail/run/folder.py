"""Run folder: its configuration, its folds, its lock, and the checkpoint that a run starts from."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from longtail._io import write_text
from longtail.config import recipes
from longtail.config.convert import leaves, to_mapping
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.errors import InputError, naming, near_paths
from longtail.training.checkpoint import CheckpointStore

# settings that change where a run happens, not its result
FREE = ("device", "engine", "checkpoint_seconds", "data.workers", "data.root", "data.cache")
# settings in which a run may differ from the one it starts from, in addition to its later stages
FREE_FROM = (*FREE, "method", "many", "few", "groups")


def load_config(folder: Path) -> Config:
    """Return the configuration of a run.

    Raises:
        InputError: If the folder holds no run.
    """
    if not folder.exists():
        near = near_paths(folder)
        hint = f"did you mean {near[0]}?" if near else "give the folder that `longtail train` wrote"
        raise InputError(f"{folder} holds no run: there is no such folder; {hint}")
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder} holds no run (no config.yaml); give the folder that `longtail train` wrote")
    path = folder / "config.yaml"
    with naming(path):
        return recipes.typed(recipes.read_file(path))


def not_finished(folder: Path) -> InputError:
    """Return the error for a run that is not finished."""
    return InputError(f"the run in {folder} is not finished; resume it with: longtail train --resume --out {folder}")


def already_taken(folder: Path) -> InputError:
    """Return the error for a folder that holds another run."""
    return InputError(f"{folder} already holds a run; set `resume` to continue it, or choose another folder")


def is_taken(folder: Path) -> bool:
    """Return whether a run in this folder has written a checkpoint."""
    return (folder / "config.yaml").exists() and any((folder / "checkpoint").glob("*.pt"))


def new_folder(config: Config) -> Path:
    """Return a folder that does not exist yet: runs/DATA-METHOD-seedN, with a number if that is taken."""
    name = f"{Path(config.data.name).stem}-{config.method}-seed{config.seed}"
    tries = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(place for place in tries if not place.exists())


def is_cross_validation(config: Config) -> bool:
    """Return whether a configuration stands for the runs of all folds."""
    return config.data.folds is not None and config.data.fold is None


def fold_config(config: Config, fold: int) -> Config:
    """Return the configuration of the run that tests one fold."""
    return replace(config, data=replace(config.data, fold=fold))


def fold_folder(folder: Path, fold: int) -> Path:
    """Return the folder of the run that tests one fold."""
    return folder / f"fold{fold}"


def check_place(folder: Path, config: Config) -> None:
    """Check that a run folder can be written and is not part of the data, where it would be read as a class.

    Raises:
        InputError: If it cannot be used.
    """
    above = next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(each))
    if not above.is_dir():
        raise InputError(f"cannot write into {folder}: {above} is not a folder; choose another folder")
    if not os.access(above, os.W_OK):
        raise InputError(f"cannot write into {folder}: {above} is read-only; choose another folder")
    data = Path(config.data.name).expanduser()
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise InputError(f"the run folder {folder} is inside the data {data}; set `out` to a folder outside of them")


def starting_checkpoint(folder: Path, config: Config, resume: bool, start: Path | None) -> dict[str, Any] | None:
    """Return the checkpoint that a run starts from: its own, that of another run, or None.

    Args:
        folder: Run folder.
        config: Configuration of the run.
        resume: Whether to continue a run in `folder`.
        start: Finished run whose stages are the first ones of this run and need not be repeated.

    Raises:
        InputError: If the folder holds a run and `resume` is not set, or `start` is not the beginning of this run.
    """
    if is_taken(folder):
        if not resume:
            raise already_taken(folder)
        refuse_other_settings(folder, config)
        return CheckpointStore(folder / "checkpoint").load()
    return None if start is None else _end_of(start, config)


def refuse_other_data(saved: dict[str, Any] | None, data: Dataset) -> None:
    """Check that a checkpoint was trained on the training split of a data set.

    Raises:
        InputError: If the split differs.
    """
    if saved is not None and saved["split"] != data.split.sha256:
        raise InputError(
            f"the checkpoint {getattr(saved, 'path', '')} was trained on other images than the data set now has "
            "(images were added, removed or renamed); start a new run in another folder"
        )


@contextmanager
def folder_lock(folder: Path, used_for: str) -> Iterator[None]:
    """Hold the exclusive lock of a folder, which is created. The system releases it however the process ends.

    Args:
        folder: Folder to lock.
        used_for: What another process does with the folder, for the message ("training into").

    Raises:
        InputError: If the folder cannot be written, or another process holds the lock.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another process is {used_for} {folder}; wait for it, or choose another folder") from error
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove a file that is open
            (folder / ".lock").unlink(missing_ok=True)
        lock.release()


@contextmanager
def run_lock(folder: Path, config: Config, resume: bool = False) -> Iterator[None]:
    """Hold the lock of a run folder, and write its configuration.

    Args:
        folder: Run folder.
        config: Configuration of the run.
        resume: Whether a run in the folder may be continued.

    Raises:
        InputError: If the folder cannot be written, another process is training into it, or holds a run by now.
    """
    with folder_lock(folder, "training into"):
        if is_taken(folder) and not resume:  # another process has trained into it since the first check
            raise already_taken(folder)
        try:
            write_text(folder / "config.yaml", recipes.to_yaml(config))
        except OSError as error:
            raise InputError(f"cannot write into {folder}: {error.strerror or error}") from error
        yield


def refuse_other_settings(folder: Path, config: Config) -> None:
    """Check that a run in a folder has the same configuration, so that it can be resumed.

    Raises:
        InputError: With the settings that differ.
    """
    changed = _differences(to_mapping(load_config(folder)), to_mapping(config), FREE)
    _refuse(changed, folder, "resume it with the same")


def _end_of(start: Path, config: Config) -> dict[str, Any]:
    """Return the last checkpoint of the run that this one starts from."""
    first = load_config(start)
    saved = CheckpointStore(start / "checkpoint").load()
    if saved is None or saved["stage"] < len(first.stages):
        raise not_finished(start)
    beginning = {**to_mapping(config), "stages": to_mapping(config.stages[: len(first.stages)])}
    _refuse(_differences(to_mapping(first), beginning, FREE_FROM), start, "start from a run with the same first")
    return saved


def _refuse(changed: list[str], folder: Path, hint: str) -> None:
    if changed:
        raise InputError(
            f"{folder} holds a run of another configuration:\n" + "\n".join(changed[:10]) + f"\n{hint} settings, or "
            "choose another folder"
        )


def _differences(old: dict[str, Any], new: dict[str, Any], free: tuple[str, ...]) -> list[str]:
    flat_old, flat_new = leaves(old), leaves(new)
    keys = sorted((flat_old.keys() | flat_new.keys()) - set(free))
    return [
        f"  {key}: {flat_old.get(key)} -> {flat_new.get(key)}" for key in keys if flat_old.get(key) != flat_new.get(key)
    ]
