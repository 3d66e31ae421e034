"""Number and waiting of threads: quotas of containers, the choice of the user, and the environment torch reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from longtail import _threads
from longtail._threads import Threads, available_cores, cgroup_quota, environment, follow, prepare
from longtail.errors import InputError

SCRIPT = """
from longtail._threads import prepare
print(prepare({given}))
import os
assert "torch" not in __import__("sys").modules
print(os.environ["OMP_NUM_THREADS"], os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    for name in ("_chosen", "_users_limit", "_ours"):
        monkeypatch.setattr(_threads, name, None)


def group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def membership(tmp_path: Path, text: str) -> Path:
    (tmp_path / "member").write_text(text)
    return tmp_path / "member"


def test_quota_of_version_2_is_the_smallest_up_to_the_root(tmp_path):
    group(tmp_path, "a/b", cpu__max="max 100000\n")
    group(tmp_path, "a", cpu__max="250000 100000\n")
    assert cgroup_quota(tmp_path, membership(tmp_path, "0::/a/b\n")) == 2.5
    group(tmp_path, "a/b", cpu__max="50000 100000\n")
    assert cgroup_quota(tmp_path, membership(tmp_path, "0::/a/b\n")) == 0.5


def test_quota_of_version_1_is_found_also_where_a_container_hides_its_group(tmp_path):
    line = "7:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n"
    group(tmp_path, "cpu,cpuacct", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert cgroup_quota(tmp_path, membership(tmp_path, line)) == 2.0
    group(tmp_path, "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cgroup_quota(tmp_path, membership(tmp_path, line)) is None
    assert cgroup_quota(tmp_path, tmp_path / "missing") is None


def test_a_container_with_two_cpus_on_a_large_host_has_two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(_threads, "cgroup_quota", lambda: 1.5)
    assert available_cores() == 2
    monkeypatch.setenv(_threads.SHARE, "1")
    assert available_cores() == 1


@pytest.mark.parametrize(
    ("cores", "busy", "count"), [(2, 0.4, 2), (2, 1.0, 1), (2, 6.0, 1), (64, 0.0, 64), (64, 8.0, 57), (64, 64.0, 32)]
)
def test_busy_cores_are_left_out_down_to_a_fair_share(monkeypatch, cores, busy, count):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(_threads, "_busy_cores", lambda: busy)
    assert _threads._automatic(cores).count == count


def test_load_counts_only_while_processes_still_run(tmp_path):
    (tmp_path / "load").write_text("5.60 3.34 2.43 2/240 1234\n")
    assert _threads._busy_cores(tmp_path / "load") == 1
    assert _threads._busy_cores(tmp_path / "missing") == 0


def run(given: str, **variables: str) -> list[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(given=given)], env={**kept, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_threads_sleep_while_they_wait_and_torch_reads_the_number():
    chosen, variables = run("")
    assert chosen.startswith("threads: ")
    assert variables == f"{chosen.split()[1]} PASSIVE None"


def test_the_user_comes_before_the_choice_and_the_option_before_the_variable():
    assert run("", OMP_NUM_THREADS="3")[0].endswith("(OMP_NUM_THREADS)")
    assert run("", OMP_NUM_THREADS="3")[1] == "3 PASSIVE None"
    assert run("5", OMP_NUM_THREADS="3")[1] == "5 PASSIVE None"
    assert run("", GOMP_SPINCOUNT="7")[1].endswith("None 7")


def test_with_torch_loaded_only_an_explicit_number_counts(monkeypatch):
    before = torch.get_num_threads()
    try:
        assert prepare().count == before
        prepare(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(InputError, match="`threads` must be an integer >= 1, got 0"):
        prepare(0)


def test_a_resumed_run_keeps_its_number_of_threads_unless_the_user_gives_one(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert follow(None) is None
        assert follow(1) == 2  # the process has set its threads itself
        monkeypatch.setattr(_threads, "_chosen", Threads(2, 2))
        assert follow(1) is None
        assert torch.get_num_threads() == 1
        assert follow(10_000) == 1  # more than this machine has
    finally:
        torch.set_num_threads(before)


def test_workers_share_the_cores_and_keep_the_waiting_that_the_user_sets():
    assert environment(1, 2, {"A": "b"}) == {
        "A": "b",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LONGTAIL_CORES": "2",
    }
    assert "OMP_WAIT_POLICY" not in environment(1, 2, {"GOMP_SPINCOUNT": "9"})
