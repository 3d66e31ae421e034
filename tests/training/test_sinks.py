"""Experiment trackers: what each one receives. Packages that are not installed are replaced by stand-ins."""

import json
import sys
import types
from pathlib import Path

import pytest

import longtail as lt
from longtail.errors import InputError
from longtail.training.sinks import LOGGERS, check_loggers, make_sink

CONFIG = {"method": "ce", "stages": [{"epochs": 2}, {"epochs": 1}]}
ROWS = [{"loss": 1.0, "val/top1": 50.0}, {"loss": 0.5, "val/top1": 75.0}]
RESULT = {"test": {"top1": 80.0, "groups": {"few": 60.0}, "per_class": [80.0, 60.0]}}


def send(name: str, folder: Path, result: dict | None = RESULT) -> None:
    """Send a short run to a tracker."""
    folder.mkdir()
    (folder / "report.html").write_text("<p>report</p>")
    sink = make_sink(name)
    sink.start(CONFIG, folder)
    for step, row in enumerate(ROWS, 1):
        sink.log(row, step)
    sink.finish(result, folder / "report.html" if result else None)


class StandIn:
    """Stand-in for the packages wandb and trackio, and for their runs and artifacts, that records its calls."""

    def __init__(self) -> None:
        self.id, self.calls = "r1", []
        self.summary = types.SimpleNamespace(update=lambda scores: self.calls.append(("summary", scores)))

    def init(self, **settings):
        self.calls.append(("init", settings))
        return self

    def log(self, numbers, step=None):
        self.calls.append(("log", numbers, step))

    def Artifact(self, name, **options):  # noqa: N802 - the name in wandb
        self.calls.append(("artifact", name, options))
        return self

    def add_file(self, path):
        self.calls.append(("file", Path(path).name))

    def log_artifact(self, artifact, **options):
        self.calls.append(("log_artifact", artifact if artifact is self else Path(artifact).name, options))

    def finish(self, exit_code=None):
        self.calls.append(("finish", exit_code))


SCORES = {"test/top1": 80.0, "test/groups/few": 60.0}


def test_wandb_gets_rows_summary_and_report(tmp_path, monkeypatch):
    fake = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    send("wandb", tmp_path / "first")
    settings = {"project": "longtail", "name": "first", "dir": str(tmp_path / "first"), "config": CONFIG}
    assert fake.calls == [
        ("init", settings),
        ("log", ROWS[0], 1),
        ("log", ROWS[1], 2),
        ("summary", SCORES),
        ("artifact", "report-r1", {"type": "report"}),
        ("file", "report.html"),
        ("log_artifact", fake, {}),
        ("finish", 0),
    ]


def test_wandb_marks_an_interrupted_run_as_failed(tmp_path, monkeypatch):
    fake = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    send("wandb", tmp_path / "first", result=None)
    assert fake.calls[-2:] == [("summary", {}), ("finish", 1)]


def test_trackio_gets_rows_scores_and_report(tmp_path, monkeypatch):
    fake = StandIn()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    monkeypatch.delenv("TRACKIO_SPACE_ID", raising=False)
    send("trackio", tmp_path / "first")
    assert fake.calls == [
        ("init", {"project": "longtail", "name": "first", "space_id": None, "config": CONFIG}),
        ("log", ROWS[0], 1),
        ("log", ROWS[1], 2),
        ("log", SCORES, None),
        ("log_artifact", "report.html", {"type": "report"}),
        ("finish", None),
    ]


def test_tensorboard_gets_rows_scores_and_texts(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    send("tensorboard", tmp_path / "first")
    events = accumulator.EventAccumulator(str(tmp_path / "first" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("val/top1")] == [(1, 50.0), (2, 75.0)]
    assert [event.value for event in events.Scalars("test/groups/few")] == [60.0]
    assert {"config/text_summary", "report/text_summary"} <= set(events.Tags()["tensors"])


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """Return the real client of a store in a folder."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    mlflow = pytest.importorskip("mlflow", reason="needs `pip install mlflow-skinny`")
    return mlflow.MlflowClient()


def mlflow_run(client):
    return client.search_runs([client.get_experiment_by_name("longtail").experiment_id])[0]


def test_mlflow_gets_parameters_rows_scores_and_report(tmp_path, mlflow):
    send("mlflow", tmp_path / "first")
    run = mlflow_run(mlflow)
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"method": "ce", "stages.0.epochs": "2", "stages.1.epochs": "1"}
    assert run.data.metrics == {**ROWS[1], **SCORES}
    history = mlflow.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    assert {file.path for file in mlflow.list_artifacts(run.info.run_id)} == {
        "config.yaml",
        "report.html",
        "result.json",
    }


def test_mlflow_marks_an_interrupted_run_as_failed(tmp_path, mlflow):
    send("mlflow", tmp_path / "first", result=None)
    assert mlflow_run(mlflow).info.status == "FAILED"


def test_a_training_sends_its_log_to_mlflow_and_to_an_own_sink(tmp_path, mlflow):
    class Printer:
        def start(self, config, folder):
            self.lines = [config["method"]]

        def log(self, row, step):
            self.lines.append(step)

        def finish(self, result, report):
            self.lines += [result["method"], report]

    printer = Printer()
    lt.train("digits-lt", "ce", epochs=1, out=tmp_path / "run", loggers=["mlflow", printer])
    assert printer.lines == ["ce", 1, "ce", tmp_path / "run" / "report.html"]
    run = mlflow_run(mlflow)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert run.data.metrics["test/top1"] == pytest.approx(result["test"]["top1"])
    assert run.data.params["method"] == "ce"


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_that_is_not_installed_is_refused_with_the_command(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"pip install 'longtail\[{name}\]'"):
        check_loggers([name])


def test_every_logger_has_an_extra():
    import tomllib

    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(LOGGERS) <= set(extras)


def test_an_unknown_logger_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean mlflow"):
        check_loggers(["mlfow"])


@pytest.mark.parametrize("logger", [object(), dict, make_sink])
def test_an_object_without_the_methods_of_a_sink_is_refused(logger):
    with pytest.raises(InputError, match="`start`, `log` and `finish`"):
        check_loggers([logger])
