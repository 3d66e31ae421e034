"""The example plug-in adds its recipes and its loss to the command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from longtail.config import recipes

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "examples" / "longtail_example_plugin"

pytestmark = pytest.mark.skipif(not hasattr(recipes, "plugins"), reason="needs the discovery of plug-ins")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the environment of a process in which the plug-in is installed."""
    target = tmp_path_factory.mktemp("site")
    shutil.copytree(PLUGIN / "src" / "longtail_example_plugin", target / "longtail_example_plugin")
    metadata = target / "longtail_example_plugin-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: longtail-example-plugin\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[longtail]\nexample = longtail_example_plugin\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT / "src")]), "NO_COLOR": "1"}


def longtail(*arguments, env, cwd):
    program = "from longtail.cli import main; main()"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)


def test_entry_point_is_the_one_of_the_package():
    text = (PLUGIN / "pyproject.toml").read_text("utf-8")
    assert '[project.entry-points.longtail]\nexample = "longtail_example_plugin"' in text


def test_recipes_are_listed(installed, tmp_path):
    methods = longtail("list", "methods", env=installed, cwd=tmp_path)
    assert "sqrt-balanced" in methods.stdout, methods.stderr
    assert "digits-mild" in longtail("list", "data", env=installed, cwd=tmp_path).stdout
    assert "plugin-demo" in longtail("bench", env=installed, cwd=tmp_path).stdout


def test_method_trains_on_the_data_recipe(installed, tmp_path):
    arguments = ("train", "digits-mild", "--method", "sqrt-balanced", "--epochs", "1", "--out", "run")
    result = longtail(*arguments, env=installed, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "longtail_example_plugin.SqrtBalancedSoftmax" in (tmp_path / "run" / "config.yaml").read_text("utf-8")


def test_data_set_with_its_own_reader_trains(installed, tmp_path):
    arguments = ("train", "stripes", "--method", "balanced-softmax", "--epochs", "1", "--out", "run")
    result = longtail(*arguments, env=installed, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "stripes" in (tmp_path / "run" / "result.json").read_text("utf-8")


def test_without_the_plugin_the_method_is_unknown(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = longtail("train", "digits-lt", "--method", "sqrt-balanced", env=env, cwd=tmp_path)
    assert result.returncode == 2
    assert "sqrt-balanced" in result.stderr
