"""The queue for an accelerator, the start-up times and the number of trainings at once, at toy size on a CPU."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.scripts import BENCHMARKS, script

TOY = {
    "data": "digits-lt",
    "methods": ["ce"],
    "seeds": 2,
    "changes": {"training": {"epochs": 150}, "set": {"model.backbone.width": 4}},
}
STEPS = [
    {"name": "check", "kind": "verify", "engines": []},
    {"name": "again", "kind": "resume", "only": ["ce"]},
    {"name": "first", "kind": "bench", "seeds": 1},
]


@pytest.fixture
def accelerator():
    return script("accelerator")


@pytest.fixture
def queue_file(tmp_path) -> Path:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY))
    steps = [{**step, "plan": str(tmp_path / "toy.yaml")} for step in STEPS]
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump({"jobs": 1, "steps": steps}))
    return tmp_path / "queue.yaml"


def queue(accelerator, tmp_path, steps=(), deadline=1e6):
    return accelerator.Queue({"steps": list(steps)}, tmp_path / "out", "cpu", deadline, "command")


@pytest.mark.slow
def test_the_queue_runs_and_continues_where_it_stopped(accelerator, queue_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("longtail.bench.runner.TICK", 0.02)  # the training is short, and must be interrupted
    options = ["--queue", str(queue_file), "--out", str(tmp_path / "out"), "--device", "cpu"]
    accelerator.main([*options, "--deadline", "1"])
    assert "out of time" in capsys.readouterr().out
    accelerator.main([*options, "--deadline", "1000"])
    assert "finished; rows" in capsys.readouterr().out
    rows = script("rows").read_rows(tmp_path / "out" / "rows.jsonl")
    assert [(row["step"], row.get("result")) for row in rows] == [("again", "same bits"), ("first", None)]
    assert rows[1]["top1"] > 0
    assert "| digits-lt | 20 | digits | ce | 1 |" in (tmp_path / "out" / "summary.md").read_text()


def test_every_queue_names_existing_plans_scripts_and_methods(accelerator):
    for name in ("accelerator", "rehearsal"):
        for step in yaml.safe_load((BENCHMARKS / "plans" / f"{name}.yaml").read_text())["steps"]:
            assert step["kind"] in accelerator.KINDS
            if step["kind"] == "script":
                assert (BENCHMARKS / step["script"]).exists()
            else:
                accelerator._plan(step, "cpu")


def test_time_is_checked_before_work(accelerator, tmp_path):
    steps = [{"name": "a", "kind": "bench", "plan": "rehearsal-toy.yaml"}]
    late = queue(accelerator, tmp_path, steps, deadline=accelerator.RESERVE_S - 1)
    assert not late.run()
    assert late.state["done"] == []
    assert queue(accelerator, tmp_path).run()


def test_the_fastest_engine_that_is_verified_for_a_method_trains_it(accelerator, tmp_path):
    ours = queue(accelerator, tmp_path)
    assert ours.engine_of("ce") == "eager"
    ours.save(verified={"captured": ["ce"], "compiled": ["ce", "smart"]})
    ours.save(speed={"eager": 1.0, "captured": 3.0, "compiled": 2.0})
    again = queue(accelerator, tmp_path)  # reads the state
    assert [again.engine_of(method) for method in ("ce", "smart", "balms")] == ["captured", "compiled", "eager"]


def test_a_state_of_other_code_does_not_count(accelerator, tmp_path, monkeypatch):
    queue(accelerator, tmp_path).save(done=["a"])
    assert queue(accelerator, tmp_path).state["done"] == ["a"]
    monkeypatch.setattr(accelerator, "code_version", lambda: "other")
    assert queue(accelerator, tmp_path).state["done"] == []


def run(folder: Path, losses: list[float], engine: str) -> Path:
    folder.mkdir()
    rows = [{"stage": 0, "epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "result.json").write_text(json.dumps({"compute": {"0": {"engine": engine}}}))
    np.savez(folder / "predictions.npz", logits=np.array([losses]))
    return folder


def test_engines_are_equal_if_the_losses_agree_and_the_engine_was_used(accelerator, tmp_path):
    eager = run(tmp_path / "eager", [2.0, 1.0], "eager")
    same = run(tmp_path / "same", [2.0, 1.001], "captured")
    far = run(tmp_path / "far", [2.0, 1.2], "captured")
    fallen_back = run(tmp_path / "fallen back", [2.0, 1.0], "eager")
    assert accelerator._difference(eager, same, "captured") == ""
    assert accelerator._difference(eager, far, "captured") == "loss 1.2000 instead of 1.0000 in epoch 1"
    assert accelerator._difference(eager, fallen_back, "captured") == "captured was not used, but eager"
    assert accelerator._difference(eager, tmp_path / "none", "captured") == "not finished"
    assert accelerator._logits(eager, fallen_back)
    assert not accelerator._logits(eager, far)


def test_without_an_accelerator_the_command_says_what_to_do(accelerator, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="there is no accelerator; use --rehearse"):
        accelerator.main(["--deadline", "1"])


def test_rows_are_appended_and_shown_as_a_table(tmp_path):
    rows = script("rows")
    rows.add_row(tmp_path / "a" / "rows.jsonl", {"name": "x|y", "value": 1.23456})
    rows.add_row(tmp_path / "a" / "rows.jsonl", {"name": "z", "note": None})
    assert (tmp_path / "a" / "rows.md").read_text() == (
        "| name | value | note |\n| --- | --- | --- |\n| x/y | 1.235 |  |\n| z |  |  |\n"
    )
    table = rows.means([{"method": "ce", "top1": 1.0}, {"method": "ce", "top1": 3.0}, {"method": "ce"}])
    assert [(row["n"], row["mean"], round(row["sd"], 3)) for row in table] == [(2, 2.0, 1.414)]


def test_start_up_times_are_written(tmp_path, capsys):
    output = tmp_path / "startup.jsonl"
    script("startup").main(["--rounds", "1", "--only", "import longtail", "--output", str(output)])
    assert "import longtail" in capsys.readouterr().out
    (row,) = script("rows").read_rows(output)
    assert row["seconds"] >= row["cpu"] / 2 > 0


@pytest.mark.slow
def test_the_first_step_is_seen_and_the_training_ended():
    wall, cpu = script("startup").first_step()
    assert wall > 0
    assert cpu > 0


@pytest.mark.slow
def test_trainings_per_minute_are_measured_for_each_number(tmp_path, capsys):
    output = tmp_path / "scale.jsonl"
    toy = ["--jobs", "2", "--trainings", "2", "--epochs", "1", "--device", "cpu", "--output", str(output)]
    script("bench_scale").main(toy)
    (row,) = script("rows").read_rows(output)
    assert row["at_once"] == 2
    assert row["per_minute"] > 0
    assert row["memory_mb"] > 50
    assert "trainings/minute" in capsys.readouterr().out
