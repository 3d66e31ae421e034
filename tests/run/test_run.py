"""Whole runs: their files, resuming after every kind of interruption, and refusals."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from longtail.config import recipes
from longtail.config.schema import Config
from longtail.errors import InputError
from longtail.run.fit import choose_device, fit
from longtail.run.folder import load_config, run_lock
from longtail.run.run import Run

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["longtail.run.fit", "longtail.report", "sklearn.datasets"])


def digits(epochs: int = 2, **changes: object) -> Config:
    return recipes.compose("digits-lt", "balanced-softmax", changes=[{"training": {"epochs": epochs}}, changes])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fit(digits(), tmp_path_factory.mktemp("run"), command="longtail train")


def test_the_folder_holds_the_documented_files(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
        "config.yaml",
        "log.jsonl",
        "checkpoint",
        "predictions.npz",
        "predictions.csv",
        "result.json",
        "report.html",
    }
    assert len((finished.folder / "log.jsonl").read_text().splitlines()) == 2


def test_the_result_describes_the_run_and_its_scores(finished):
    result = json.loads((finished.folder / "result.json").read_text())
    assert result == finished.result
    assert result["split"]["images"] == 376
    assert len(result["split"]["sha256"]) == 64
    assert result["protocol"] == {"checkpoint": "last", "selected_on": None}
    assert result["backbone"]["name"] == "small_net"
    assert result["method"] == "balanced-softmax"
    assert result["command"] == "longtail train"
    assert result["cost"]["images_per_second"] > 0
    for key in ("top1", "balanced", "many", "medium", "few", "mcc", "nmi", "ece"):
        assert 0 <= result["test"][key] <= 100


def test_the_predictions_are_those_of_the_saved_model(finished):
    stored = np.load(finished.folder / "predictions.npz")
    trained = Run(finished.folder).trained(torch.device("cpu"))
    from longtail.data.load import load_data
    from longtail.training.predict import predict

    data = load_data(load_config(finished.folder).data, torch.device("cpu"))
    logits, _ = predict(trained.model, data.test.images)
    assert np.array_equal(stored["logits"], logits.numpy())
    assert trained.class_names == tuple("0123456789")


def test_the_written_configuration_runs_again_to_the_same_bits(finished, tmp_path):
    config = recipes.typed(yaml.safe_load((finished.folder / "config.yaml").read_text()))
    again = fit(config, tmp_path / "again", report=False)
    assert model_bits(again.folder) == model_bits(finished.folder)


def test_resuming_a_finished_run_changes_nothing(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "run")  # resuming writes the result again
    assert fit(digits(), folder, resume=True).scores == finished.scores
    assert model_bits(folder) == model_bits(finished.folder)


def test_a_folder_with_a_run_is_not_overwritten(finished):
    with pytest.raises(InputError, match="already holds a run; set `resume` to continue it"):
        fit(digits(), finished.folder)


def test_a_checkpoint_of_another_configuration_is_refused_by_what_differs(finished):
    with pytest.raises(InputError, match=r"(?s)another configuration.*seed: 0 -> 5"):
        fit(digits(seed=5), finished.folder, resume=True)


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    fit(digits(1), tmp_path, report=False)
    store = torch.load(tmp_path / "checkpoint" / "last.pt")
    torch.save({**store, "split": "another"}, tmp_path / "checkpoint" / "last.pt")
    with pytest.raises(InputError, match="trained on other images"):
        fit(digits(1), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("method", "change", "words"),
    [
        ("ce", {"model": {"backbone": "resnet23"}}, "resnet23"),
        ("elm", {"set": [("stages.0.embedding_loss.pairs", "memry")]}, "memry"),
        ("elm", {"set": [("stages.0.embedding_loss.weight", -1.0)]}, "-1.0"),
        ("smart", {"set": [("stages.0.transfer.covariance", "heads")]}, "heads"),
        ("ldam", {"set": [("stages.0.loss.max_margin", "wide")]}, "`max_margin` must be a number"),
    ],
)
def test_a_refused_run_leaves_nothing_behind(tmp_path, method, change, words):
    config = recipes.compose("digits-lt", method, changes=[change])
    with pytest.raises(InputError, match=words):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_repeat_the_stages_of_the_run_it_starts_from(finished, tmp_path):
    again = [finished.folder / "config.yaml"]
    twice = recipes.read_file(again[0])
    twice["stages"] = twice["stages"] * 2
    whole = fit(recipes.typed(twice), tmp_path / "whole", report=False)
    started = fit(recipes.typed(twice), tmp_path / "started", start=finished.folder, report=False)
    assert model_bits(started.folder) == model_bits(whole.folder)
    assert len(losses(started.folder)) == 2  # only the second stage was run
    assert started.result["cost"]["seconds"] > finished.result["cost"]["seconds"]


def test_starting_from_a_run_with_other_settings_is_refused(finished, tmp_path):
    with pytest.raises(InputError, match=r"(?s)another configuration.*stages\.0\.training\.epochs: 2 -> 3"):
        fit(digits(3), tmp_path / "run", start=finished.folder)
    with pytest.raises(InputError, match="holds no run"):
        fit(digits(2), tmp_path / "run", start=tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        fit(digits(1), tmp_path / "file" / "run")


def test_two_processes_do_not_train_into_one_folder(tmp_path):
    with run_lock(tmp_path / "run", digits(1)), pytest.raises(InputError, match="another process is training into"):
        fit(digits(1), tmp_path / "run")
    fit(digits(1), tmp_path / "run", report=False)


def test_an_unfinished_run_cannot_be_used(tmp_path):
    (tmp_path / "config.yaml").write_text(recipes.to_yaml(digits(1)))
    with pytest.raises(InputError, match="is not finished; resume it with"):
        Run(tmp_path).trained(torch.device("cpu"))
    with pytest.raises(InputError, match="holds no run"):
        load_config(tmp_path / "nowhere")


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match="`device` must be a device of this machine or \"auto\", got 'cuda:99'"):
        choose_device("cuda:99")


def test_the_paper_protocol_is_written_into_the_result(tmp_path):
    result = fit(digits(2, protocol="paper"), tmp_path, report=False).result
    assert result["protocol"] == {"checkpoint": "best", "selected_on": "test"}
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert result["test"]["top1"] == max(row["test"]["top1"] for row in rows)


def model_bits(folder: Path) -> bytes:
    model = torch.load(folder / "checkpoint" / "last.pt", weights_only=True)["model"]
    return b"".join(tensor.numpy().tobytes() for tensor in model.values())


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def start_fork_server() -> None:
    """Start the fork server, whose imports would otherwise count as warm-up of the first child."""
    child = FORKS.Process(target=len, args=((),))
    child.start()
    child.join()


def train_in_child(folder: Path, epochs: int) -> None:
    torch.set_num_threads(1)
    fit(digits(epochs, checkpoint_seconds=0), folder, resume=True, report=False)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    epochs, moments = 150, random.Random(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    unbroken = fit(digits(epochs), tmp_path / "unbroken", report=False)
    torch.set_num_threads(threads)
    start_fork_server()
    broken, stood_at, warm_up = tmp_path / "broken", [], 0.0
    for _ in range(20):
        child = FORKS.Process(target=train_in_child, args=(broken, epochs))
        child.start()
        if warm_up:
            time.sleep(moments.uniform(0.3, 1.6) * warm_up)
        else:  # time to the first epoch under the present load of the machine
            started = time.monotonic()
            while time.monotonic() < started + 60 and not (broken / "log.jsonl").exists():
                time.sleep(0.01)
            warm_up = time.monotonic() - started
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        stood_at.append(len(losses(broken)) if (broken / "log.jsonl").exists() else 0)
    last = FORKS.Process(target=train_in_child, args=(broken, epochs))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert len({place for place in stood_at if 0 < place < epochs}) >= 2, f"no kill fell into training: {stood_at}"
    assert model_bits(broken) == model_bits(unbroken.folder)
    assert losses(broken) == losses(unbroken.folder)
    assert np.array_equal(
        np.load(broken / "predictions.npz")["logits"], np.load(unbroken.folder / "predictions.npz")["logits"]
    )


def command_in_child(arguments: list[str], folder: Path) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    from longtail.cli import main

    main(arguments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_its_state_and_exits_with_130(tmp_path, number):
    arguments = ["train", "digits-lt", "--method", "ce", "--epochs", "400", "--out", "run"]
    arguments += ["--set", "checkpoint_seconds=0"]
    child = FORKS.Process(target=command_in_child, args=(arguments, tmp_path))
    child.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "checkpoint" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, number)
    child.join(60)
    assert child.exitcode == 130
    state = torch.load(tmp_path / "run" / "checkpoint" / "last.pt", weights_only=True)
    assert 0 < state["epoch"] < 400
