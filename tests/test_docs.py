"""README and guide: their Python runs, their links lead somewhere, their commands exist."""

import re
from pathlib import Path

import pytest

from longtail.arguments import COMMANDS
from longtail.cli import build_parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("path", [page for page in PAGES if blocks(page, "python")], ids=lambda path: path.name)
def test_the_python_of_a_page_runs(path):
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), {})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_options_exist(path):
    helps = {}
    for line in re.findall(r"^longtail .*$", "\n".join(blocks(path, "sh")), flags=re.MULTILINE):
        words = line.split("#")[0].split()
        assert words[1] in [command.name for command in COMMANDS], line
        for option in (word for word in words if word.startswith("--")):
            helps.setdefault(words[1], help_of(words[1:3] if words[1] == "data" else words[1:2]))
            assert option in helps[words[1]], f"{path.name}: {line}"


def help_of(command: list[str]) -> str:
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        build_parser().parse_args([*command, "--help"])
    return text.getvalue()
