"""Options without effect, empty values, odd numbers and exchanged arguments are refused before work starts."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from longtail.cli import COMMANDS, DATA_COMMANDS
from longtail.cli._app import _build_app
from longtail.cli._options import DataOptions
from longtail.data.load import APPLIES_TO

from .calling import call

PATHS = [(name,) for name in COMMANDS if name != "data"] + [("data", name) for name in DATA_COMMANDS]
ODD_NUMBERS = ("\xb2", "\u0661", "1_000", "nan", "inf", "0x10", "1e400", " 1", "1,5", "")
HOLD_FOR_ALL = {"imbalance_factor", "val_share", "on_bad_image", "workers", "max_pixels", "cache"}
"""Data options with an effect on every kind of data, or limits that hold for any."""


def arguments_of(path):
    command = _build_app().parse_commands(list(path))[1][-1]
    return [argument for argument in command.assemble_argument_collection() if argument.show]


def values_of():
    """Every option of every command that takes a value, with its kind."""
    for path in PATHS:
        for argument in arguments_of(path):
            if argument.name.startswith("--") and not argument.is_flag():
                yield pytest.param(path, argument, id=f"{' '.join(path)} {argument.name}")


@pytest.mark.parametrize(("path", "argument"), values_of())
def test_empty_values_and_odd_numbers_are_refused(path, argument, capsys):
    needed = {
        ("data", "export"): ["x", "--target", "t"],
        ("data", "prepare"): ["x", "--output", "t"],
        ("predict",): ["x", "y"],
    }.get(path, ["x"])
    numeric = argument.parameter.metavar in ("N", "X")
    for odd in ODD_NUMBERS if numeric else ("", " "):
        for words in ([argument.name, odd], [f"{argument.name}={odd}"]):
            assert call(*path, *needed, *words) == 2
            message = capsys.readouterr().err
            assert argument.name in message
            assert "Traceback" not in message


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_an_empty_argument_is_refused(path, capsys):
    assert call(*path, "") == 2
    assert "an argument must not be empty, got ''" in capsys.readouterr().err


def test_every_data_option_has_an_effect_or_is_refused():
    names = {each.name for each in dataclasses.fields(DataOptions)}
    assert names <= APPLIES_TO.keys() | HOLD_FOR_ALL
    assert not APPLIES_TO.keys() & HOLD_FOR_ALL


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digits-lt", "--include", "*.png"], "`include` has no effect on 'digits-lt'"),
        (["inspect", "digits-lt", "--path-column", "p"], "`path_column` has no effect on 'digits-lt'"),
        (["data", "export", "digits-lt", "--target", "t", "--image-size", "9"], "`image_size` has no effect"),
        (["train", "digits-lt", "--many", "9", "--groups", "quantile"], "`many` 9 has no effect"),
        (["bench", "--jobs", "2"], "the plan is missing"),
        (["bench", "quick", "--format", "pdf"], "there is no format 'pdf'"),
        (["figure", "--seeds", "2"], "the name of the figure is missing"),
        (["features", "resnet18", "--seed", "-1"], "`seed` must be >= 0, got -1"),
        (["features", "resnet18", "--seed", "1"], "`seed` 1 has no effect"),
        (["features", "resnet18", "--policy", "crop"], "`policy` crop has no effect"),
        (["train", "digits-lt", "--method", "ce", "--against", "ce"], "differ from each other and from ce, got ce"),
        (["train", "digits-lt", "--method", "ce", "--against", "lws", "--from", "no"], "holds no run"),
        (["train", "--config", "nope.yaml"], "cannot read the configuration nope.yaml: No such file or directory"),
        (["train", "digits-lt", "--set", "seed=0x10"], "`seed` must be an integer, got '0x10'"),
        (["train", "digits-lt", "--set", "data.val_share=1_0"], "`data.val_share` must be a number, got '1_0'"),
        (["train", "link"], "'link' is a symbolic link that leads nowhere"),
        (["train", "shpaes"], "did you mean shapes?"),
        (["train", "digits-lt", "--method", "ce", "--out", "file/run"], "file is not a folder"),
        (["train", "shapes", "--method", "ce", "--out", "shapes/run"], "is inside the data"),
        (["figure", "nope"], "there is no figure 'nope'; there are:"),
    ],
)
def test_what_has_no_effect_is_refused_before_a_header(words, message, tmp_path, monkeypatch, capsys, exported):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("link")
    Path("file").touch()
    if "shapes" in words:
        shutil.copytree(exported, "shapes")
    else:
        Path("shapes").mkdir()
    before = sorted(Path().rglob("*"))
    assert call(*words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "training " not in printed.err.partition("longtail:")[0]
    assert "chosen:" not in printed.err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "RUN", "--method", "ce"], "`method` ce has no effect with"),
        (["show", "RUN", "--recipe", "ldam"], "`recipe` ldam has no effect with"),
        (["train", "--resume", "--out", "RUN", "--recipe", "ldam"], "`recipe` ldam has no effect on the run"),
        (["report", "RUN", "--many", "9", "--groups", "quantile"], "`many` 9 has no effect"),
        (["evaluate", "RUN", "--few", "9", "--groups", "quantile"], "`few` 9 has no effect"),
        (["evaluate", "RUN", "--test-prior", "forward-\xb2"], "`test_prior` must be"),
        (["train", "RUN"], "is the folder of a run, not a data set"),
        (["predict", ".", "RUN"], "the run comes first"),
    ],
)
def test_runs_in_the_wrong_place_are_named(words, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*(str(run) if word == "RUN" else word for word in words)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_report_of_a_run_takes_groups_and_counts(run, tmp_path):
    counts = tmp_path / "counts.csv"
    counts.write_text("class,count\n" + "".join(f"{label},{900 + label}\n" for label in range(10)))
    pages = [tmp_path / f"{name}.html" for name in ("own", "groups", "counts")]
    assert call("report", run, "--output", pages[0]) == 0
    assert call("report", run, "--output", pages[1], "--many", "70", "--few", "10") == 0
    assert call("report", run, "--output", pages[2], "--counts", counts) == 0
    own, groups, counted = (page.read_text() for page in pages)
    assert own != groups
    assert "909" in counted
    assert "909" not in own


def test_a_forward_prior_takes_an_exponent(run, capsys):
    assert call("evaluate", run, "--test-prior", "forward-1e2") == 0


def test_a_flag_is_named_only_if_it_was_given(capsys):
    words = ["show", "digits-lt", "--method", "crt", "--set", "stages.1.training.epochs=0"]
    assert call(*words) == 2
    assert "command line" not in capsys.readouterr().err
    assert call("show", "digits-lt", "--epochs", "0") == 2
    assert "(command line: --epochs)" in capsys.readouterr().err


def test_training_options_need_a_stage_that_trains(capsys):
    assert call("show", "digits-lt", "--method", "ce-solved", "--epochs", "3") == 2
    assert "`epochs` has no effect, because no stage is named Train" in capsys.readouterr().err
