"""Experiment trackers that receive the log of a run: TensorBoard, Weights & Biases, MLflow and trackio.

A tracker is a `Sink`. Its package is imported when the tracker is used.
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

from longtail._imports import import_optional
from longtail.errors import InputError, unknown_name

PROJECT = "longtail"
MLFLOW_BATCH = 100
"""Largest number of parameters that MLflow accepts in one request."""
MLFLOW_LENGTH = 500
"""Largest length of a parameter that all versions of MLflow accept."""


@runtime_checkable
class Sink(Protocol):
    """Additional destination of the log of a run, such as an experiment tracker.

    A sink that raises an error is dropped with a warning. The training continues.

    Example:
        >>> class Printer:
        ...     def start(self, config, folder): print(config["method"])
        ...     def log(self, row, step): print(step, sorted(row))
        ...     def finish(self, result, report): print("finished" if result else "interrupted")
        >>> isinstance(Printer(), Sink)
        True
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run.

        Args:
            config: Configuration of the run, nested as in `config.yaml`.
            folder: Run folder.
        """

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Record the metrics of one epoch.

        Args:
            row: Value of each metric. Nested metrics have names such as "val/top1".
            step: Number of epochs so far, over all stages, from 1.
        """

    def finish(self, result: Mapping[str, Any] | None, report: Path | None) -> None:
        """End the run.

        Args:
            result: Content of `result.json`, or None if the run was interrupted or failed.
            report: Path of `report.html`, or None if it was not written.
        """


class TensorBoard:
    """Events in the folder `tensorboard` of the run. Text fields hold the configuration and the path of the report."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Open the event file and write the configuration."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", _code(config))

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Write a scalar for each metric."""
        for key, value in row.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def finish(self, result: Mapping[str, Any] | None, report: Path | None) -> None:
        """Write the scores of the test split and close the file."""
        for key, value in scores_of(result).items():
            self._writer.add_scalar(key, value)
        if report is not None:
            self._writer.add_text("report", str(report.resolve()))
        self._writer.close()


class WandB:
    """Run in the project `longtail` of Weights & Biases, or in `$WANDB_PROJECT`."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run with the name of the folder."""
        self._wandb: Any = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = self._wandb.init(project=project, name=folder.name, dir=str(folder), config=dict(config))

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Send the metrics."""
        self._run.log(dict(row), step=step)

    def finish(self, result: Mapping[str, Any] | None, report: Path | None) -> None:
        """Send the scores as the summary and the report as an artifact."""
        self._run.summary.update(scores_of(result))
        if report is not None:
            artifact = self._wandb.Artifact(f"report-{self._run.id}", type="report")
            artifact.add_file(str(report))
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=0 if result is not None else 1)


class MLflow:
    """Run in the experiment `longtail` of MLflow, or in `$MLFLOW_EXPERIMENT_NAME`, at `$MLFLOW_TRACKING_URI`.

    It does not become the active run of the process, so a run that the caller has started is left alone.
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run with the name of the folder, and send the configuration as parameters and as a file."""
        self._mlflow: Any = importlib.import_module("mlflow")
        self._client = self._mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self._run_id = self._client.create_run(experiment, run_name=folder.name).info.run_id
        params = [self._mlflow.entities.Param(key, str(value)[:MLFLOW_LENGTH]) for key, value in _leaves(config)]
        for first in range(0, len(params), MLFLOW_BATCH):
            self._client.log_batch(self._run_id, params=params[first : first + MLFLOW_BATCH])
        self._client.log_dict(self._run_id, dict(config), "config.yaml")

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Send the metrics."""
        for key, value in row.items():
            self._client.log_metric(self._run_id, key, value, step=step)

    def finish(self, result: Mapping[str, Any] | None, report: Path | None) -> None:
        """Send the scores as metrics, and the result and the report as artifacts."""
        for key, value in scores_of(result).items():
            self._client.log_metric(self._run_id, key, value)
        if result is not None:
            self._client.log_dict(self._run_id, dict(result), "result.json")
        if report is not None:
            self._client.log_artifact(self._run_id, str(report))
        self._client.set_terminated(self._run_id, "FINISHED" if result is not None else "FAILED")


class Trackio:
    """Run in the project `longtail` of trackio, which is stored on this machine unless `$TRACKIO_SPACE_ID` is set."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run with the name of the folder."""
        trackio: Any = importlib.import_module("trackio")
        space = os.environ.get("TRACKIO_SPACE_ID")
        self._run = trackio.init(project=PROJECT, name=folder.name, space_id=space, config=dict(config))

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Send the metrics."""
        self._run.log(dict(row), step=step)

    def finish(self, result: Mapping[str, Any] | None, report: Path | None) -> None:
        """Send the scores as metrics and the report as an artifact."""
        if result is not None:
            self._run.log(scores_of(result))
        if report is not None:
            self._run.log_artifact(str(report), type="report")
        self._run.finish()


TRACKERS: dict[str, type[Sink]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "trackio": Trackio}
LOGGERS = tuple(TRACKERS)


def check_loggers(loggers: Sequence[str | Sink]) -> None:
    """Check that every logger can be used.

    Args:
        loggers: Names of trackers, or objects with the methods of a `Sink`.

    Raises:
        InputError: For an unknown logger (with the nearest one), one that is not installed, or an object that is not a
            `Sink`.
    """
    for logger in loggers:
        if not isinstance(logger, str):
            _check_sink(logger)
            continue
        if logger not in TRACKERS:
            raise unknown_name("logger", logger, LOGGERS)
        import_optional(logger, f"{logger} is not installed; install it with: pip install 'longtail[{logger}]'")


def _check_sink(logger: object) -> None:
    if isinstance(logger, type) or not isinstance(logger, Sink):
        raise InputError(
            f"`loggers` must hold names ({', '.join(LOGGERS)}) or objects with the methods `start`, `log` and "
            f"`finish`, got {logger!r}"
        )


def make_sink(logger: str | Sink) -> Sink:
    """Return the sink of a name that `check_loggers` accepts. A sink is returned as it is."""
    return TRACKERS[logger]() if isinstance(logger, str) else logger


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a nested mapping with joined names. Other values are left out.

    Example:
        >>> flat({"loss": 1.5, "val": {"top1": 50.0, "per_class": [1, 2]}})
        {'loss': 1.5, 'val/top1': 50.0}
    """
    numbers: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            numbers |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            numbers[prefix + key] = value
    return numbers


def scores_of(result: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the scores of the test split with names such as "test/top1"; none for an interrupted run."""
    return flat((result or {}).get("test", {}), "test/")


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return the values of a nested configuration with their dotted names, such as "stages.0.training.epochs"."""
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return [(name, value)]
    return [leaf for key, item in items for leaf in _leaves(item, f"{name}.{key}" if name else key)]


def _code(config: Mapping[str, Any]) -> str:
    """Return the configuration as an indented Markdown block."""
    return "".join(f"    {line}\n" for line in yaml.safe_dump(dict(config), sort_keys=False).splitlines())
