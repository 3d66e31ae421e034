"""Checkpoints: atomic writes, detection of damaged files, and the last good state."""

import os
import resource
import signal
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch

from longtail._io import atomic_write, write_json
from longtail.errors import InputError
from longtail.training.checkpoint import CheckpointStore


def test_what_is_saved_is_loaded_without_unpickling_code(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoint")
    store.save({"stage": 1, "weight": torch.arange(3.0), "nested": {"a": [1, 2.5, None]}})
    assert torch.equal(store.load()["weight"], torch.arange(3.0))
    assert torch.load(store.last, weights_only=True)["nested"] == {"a": [1, 2.5, None]}


def test_nothing_saved_is_none(tmp_path):
    assert CheckpointStore(tmp_path).load() is None


def test_a_truncated_last_checkpoint_falls_back_to_the_previous_one(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save({"epoch": 1})
    store.save({"epoch": 2})
    store.last.write_bytes(store.last.read_bytes()[:100])
    assert store.load() == {"epoch": 1}


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save({"epoch": 1})
    os.replace(store.last, store.previous)
    assert store.load() == {"epoch": 1}


def test_when_no_checkpoint_can_be_read_each_is_named(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save({"epoch": 1})
    store.save({"epoch": 2})
    for path in (store.last, store.previous):
        path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"(?s)no checkpoint .*last\.pt.*previous\.pt.*another folder"):
        store.load()


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bad:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save(Bad(), tmp_path / "last.pt")
    with pytest.raises(InputError, match="no checkpoint of this run can be read"):
        CheckpointStore(tmp_path).load()
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def small_files():
    """Limit files to 20 kB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_gives_a_message_and_keeps_the_last_good_state(tmp_path, small_files):
    store = CheckpointStore(tmp_path)
    store.save({"epoch": 1})
    with pytest.raises(InputError, match=r"cannot write the checkpoint .*last good checkpoint is kept.*resume the run"):
        store.save({"epoch": 2, "weight": torch.zeros(100_000)})
    assert store.load() == {"epoch": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt"]


def test_a_folder_that_cannot_be_created_gives_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="there is no earlier checkpoint"):
        CheckpointStore(tmp_path / "file" / "checkpoint").save({})


def test_an_error_while_writing_keeps_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})

    def interrupted():
        with atomic_write(path) as file:
            file.write(b"{")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_a_checkpoint_in_the_background_holds_the_state_at_the_call(tmp_path):
    store, weight = CheckpointStore(tmp_path), torch.zeros(3)
    state = {"epoch": 1, "model": OrderedDict(weight=weight), "nested": {"a": [weight]}}
    store.save_in_background(state)
    weight.fill_(1.0)
    state["nested"]["a"].append(2)
    store.wait()
    found = store.load()
    assert torch.equal(found["model"]["weight"], torch.zeros(3))
    assert len(found["nested"]["a"]) == 1


def test_a_failed_write_in_the_background_is_raised_at_the_next_checkpoint(tmp_path, small_files):
    store = CheckpointStore(tmp_path)
    store.save({"epoch": 1})
    store.save_in_background({"epoch": 2, "weight": torch.zeros(100_000)})
    with pytest.raises(InputError, match=r"cannot write the checkpoint .*last good checkpoint is kept"):
        store.save_in_background({"epoch": 3})
    assert store.load() == {"epoch": 1}


def test_a_process_ends_after_its_last_checkpoint_is_written(tmp_path):
    code = (
        "import sys, time, torch; from pathlib import Path; from longtail.training import checkpoint\n"
        "write = checkpoint.CheckpointStore._write\n"
        "checkpoint.CheckpointStore._write = lambda *arguments: (time.sleep(0.3), write(*arguments))\n"
        "checkpoint.CheckpointStore(Path(sys.argv[1])).save_in_background({'epoch': 7})\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert CheckpointStore(tmp_path).load() == {"epoch": 7}
