"""Parsing, help, messages and exit codes of the command line."""

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from longtail.cli import BELOW, COMMANDS, DATA_COMMANDS, help_text, parse
from longtail.cli._app import _build_app
from longtail.cli._errors import with_flags
from longtail.errors import InputError

from .calling import call

PATHS = [
    *((name,) for name in COMMANDS if name not in BELOW),
    *((group, name) for group, names in BELOW.items() for name in names),
]
NOT_FOR_HELP = {"torch", "matplotlib", "numpy", "yaml", "rich"}


def options_of(path):
    """Return the flags of a command."""
    command = _build_app().parse_commands(list(path))[1][-1]
    shown = [argument for argument in command.assemble_argument_collection() if argument.show]
    return [name for argument in shown for name in argument.names if name.startswith("--")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere"], "no file or folder 'nowhere'; give one of"),
        (["train", "cifr100-lt"], "no file or folder 'cifr100-lt'; did you mean cifar100-lt"),
        (["train", "digits-lt", "--method", "balanced-sofmax"], "did you mean balanced-softmax"),
        (["train", "digits-lt", "--loss", "Crossentropy"], "did you mean CrossEntropy"),
        (["train", "digits-lt", "--method", "ce", "--recipe", "ldm"], "did you mean ldam"),
        (["train", "digits-lt", "--method", "ce", "--backbone", "resnet23"], "did you mean"),
        (["train", "digits-lt", "--method", "ce", "--log", "tensorbord"], "did you mean tensorboard"),
        (["train", "digits-lt", "--methd", "ce"], "there is no option --methd; did you mean --method?"),
        (
            ["train", "digits-lt", "--epochs", "ten"],
            "`--epochs` must be an integer, got 'ten'\nsee: longtail train --help",
        ),
        (["train", "digits-lt", "--epochs", "1.5"], "`--epochs` must be an integer, got '1.5'"),
        (["train", "digits-lt", "--lr", "nan"], "`--lr` must be a finite number, got 'nan'"),
        (["train", "digits-lt", "--pretrained", "maybe"], "`--pretrained` must be one of true, false, got 'maybe'"),
        (["train", "digits-lt", "--protocol", "papr"], "one of honest, paper, got 'papr'; did you mean paper?"),
        (["train", "digits-lt", "--epoch", "3"], "did you mean --epochs"),
        (["train", "digits-lt", "--no-resume"], "there is no option --no-resume"),
        (["train", "digits-lt", "--epochs"], "`--epochs` needs a value"),
        (["train", "digits-lt", "--set"], "`--set` needs a value"),
        (["train", "digits-lt", "cifar10-lt"], "unexpected argument: cifar10-lt"),
        (["train", "digits-lt", "--epochs", "0"], "`epochs` must be >= 1, got 0 (command line: --epochs)"),
        (["train", "digits-lt", "--set", "seed"], "`--set` must be KEY=VALUE"),
        (["train", "digits-lt", "--data", "cifar100-lt"], "two data sets are given: digits-lt and --data cifar100-lt"),
        (["train", "--resume"], "`--resume` needs `--out`"),
        (["train", "digits-lt", "--device", "cuda:99"], "got 'cuda:99'"),
        (["train", "digits-lt", "--imbalance-factor", "1000"], "leaves no image for the rarest class"),
        (["train", "cifar100-lt", "--method", "ce", "--root", "nowhere"], "longtail data get cifar100"),
        (["train", "--config", "nowhere.yaml"], "read the configuration nowhere.yaml"),
        (["train", "--resume", "--out", "nowhere"], "nowhere holds no run to resume"),
        (["evaluate", "nowhere"], "nowhere"),
        (["evaluate", "nowhere.csv"], "nowhere.csv"),
        (["predict", "nowhere", "a.png"], "holds no run"),
        (["predict", "nowhere"], "`IMAGE` is missing"),
        (["report", "nowhere"], "nowhere"),
        (["data", "get", "cifar1000"], "did you mean cifar100"),
        (["data", "gte", "cifar100"], "there is no command 'gte'; did you mean get?\nsee: longtail data --help"),
        (["data"], "the command is missing; use one of get, export"),
        (["data", "export", "digits-lt"], "`--target` is missing"),
        (["figure", "toy-boundaries", "--iterations", "1", "two"], "`--iterations` must be an integer, got 'two'"),
        (["list", "loses"], "did you mean losses"),
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (["trian", "--help"], "there is no command 'trian'; did you mean train?"),
        (["--methd", "train"], "there is no option --methd before a command"),
        ([], "the command is missing; use one of train, evaluate"),
    ],
)
def test_mistakes_end_with_a_message_and_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("longtail: ") == 1
    assert "Traceback" not in message
    assert not list(tmp_path.glob("runs/*/result.json"))


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_has_examples_fits_80_columns_and_explains_every_option(path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert call(*path, "--help") == 0
    printed = capsys.readouterr().out
    assert printed == help_text(path)
    options, examples = printed.split("\nExamples:\n")
    assert f"longtail {' '.join(path)}" in examples
    assert max(map(len, options.splitlines())) <= 80
    for line, following in zip(options.splitlines(), [*options.splitlines()[1:], ""], strict=True):
        if line.startswith("  --"):
            assert len(line) > 26 or following.startswith(" " * 26), f"{line.strip()} has no description"
    for option in options_of(path):
        assert option in options


def test_the_overview_lists_every_command(capsys):
    assert call("-h") == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in COMMANDS)
    assert call("data", "--help") == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in DATA_COMMANDS)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_no_option_is_negated_by_itself(path):
    negated = [name for name in options_of(path) if name.startswith(("--no-", "--empty-"))]
    assert not set(negated) - {"--empty-classes"}


def test_after_two_hyphens_a_word_is_no_option():
    assert [str(image) for image in parse(["predict", "run", "--", "--help"]).args[1]] == ["--help"]


def test_the_last_value_counts_and_lists_accumulate():
    given = parse(["train", "--epochs", "1", "--set", "a=1", "b=2", "--epochs=2", "--set=c=-3"]).keywords["run"]
    assert given.changes() == {"training": {"epochs": 2}, "set": [("a", 1), ("b", 2), ("c", -3)]}


def test_options_become_changes_of_the_configuration():
    words = "train d --lr 1e-2 --seed -1 --pretrained FALSE --backbone x --many 50 --groups quantile --val-share 0"
    parsed = parse(words.split())
    assert parsed.args == ("d",)
    assert parsed.keywords["command"] == f"longtail {words}"
    assert parsed.keywords["run"].changes() == {
        "seed": -1,
        "many": 50,
        "groups": "quantile",
        "data": {"val_share": 0.0},
        "model": {"backbone": "x", "pretrained": False},
        "training": {"optimizer": {"lr": 0.01}},
    }


def test_a_message_about_a_parameter_gets_its_flag():
    train = _build_app().parse_commands(["train"])[1][-1]
    message = "`val_share` must be at least 0 and less than 1, got 2"
    assert with_flags(message, train) == f"{message} (command line: --val-share)"
    assert with_flags("`start` and `data.workers` differ:\na", train).endswith("\n(command line: --from, --workers)")
    for other in ("`clip_norm` must be positive", "--val-share: `val_share` must be positive", "`command` is odd"):
        assert with_flags(other, train) == other


def test_the_flag_follows_the_message_of_the_library(tmp_path, capsys, monkeypatch):
    def fail(**options):
        raise InputError("`jobs` must be at least 1, got 0")

    monkeypatch.setattr("longtail.bench.budget.budget", lambda *limits: fail())
    assert call("bench", "quick", "--jobs", 0, "--out", tmp_path / "none") == 2
    assert capsys.readouterr().err == "longtail: `jobs` must be at least 1, got 0 (command line: --jobs)\n"


def test_the_version_is_printed(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("longtail 0.")


def test_messages_of_the_library_are_printed_while_a_command_runs(capsys, monkeypatch):
    def download(name, root, on_progress):
        logging.getLogger("longtail").info("note: [b]tagged[/b]")
        logging.getLogger("longtail").warning("slow")
        return root

    monkeypatch.setattr("longtail.data.download.download_data", download)
    assert call("data", "get", "cifar10", "--root", "x") == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("cifar10 -> x\n", "note: [b]tagged[/b]\nwarning: slow\n")
    logging.getLogger("longtail").warning("after the command")
    assert capsys.readouterr().err == ""


def test_a_terminal_without_utf8_gets_ascii(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    monkeypatch.setattr(
        "longtail.data.download.download_data", lambda name, root, on_progress: "B\xe4ume \u2013 \u2192 \udce4"
    )
    assert call("data", "get", "cifar10") == 0
    sys.stdout.flush()
    assert written.getvalue() == b"cifar10 -> B?ume - -> ?\n"


def test_closed_output_streams_are_no_error(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert call("list", "methods") == 0
    assert call("list", "loses") == 2


def test_interrupts_end_with_130(capsys, monkeypatch):
    from longtail.training.context import Interrupted

    for error, words in ((KeyboardInterrupt, "interrupted"), (Interrupted, "resume with --resume and the same --out")):

        def interrupt(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr("longtail.data.download.download_data", interrupt)
        assert call("data", "get", "cifar10") == 130
        assert words in capsys.readouterr().err


def test_parsing_and_help_import_no_heavy_module():
    code = f"""
import sys
from pathlib import Path
from longtail.cli import help_text, parse
for path in {[*PATHS, ()]!r}:
    help_text(path)
parse("bench quick --set a=1".split())
sys.exit(", ".join(sorted({NOT_FOR_HELP!r} & set(sys.modules))) or None)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_module_runs_and_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m longtail list | head -n 1"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "methods\n", "")


def test_a_tilde_expands_in_every_path_of_a_command_line(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    call_of = parse(["train", "~/photos", "--out=~/runs/a", "--config=~/a.yaml", "--root=~/data"])
    assert call_of.args == ("/home/me/photos",)
    run = call_of.keywords["run"]
    assert (call_of.keywords["out"], run.config, run.image.root) == (
        Path("/home/me/runs/a"), (Path("/home/me/a.yaml"),), "/home/me/data",
    )  # fmt: skip
    assert parse(["compare", "~/a", "~/b.csv", "--counts=~/c.csv"]).keywords["counts"] == "/home/me/c.csv"
