"""Every command line in the README, the guide and the help is valid."""

import re
import shlex
from pathlib import Path

import pytest

from longtail.cli import BELOW, COMMANDS, help_text, parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PATHS = [(), *((name,) for name in COMMANDS), *((group, name) for group, names in BELOW.items() for name in names)]


def lines_of(text: str) -> list[str]:
    """Return the command lines of a text, without comments, redirections and pipes."""
    commands = text.replace("\\\n", " ").replace(" && ", "\n").splitlines()
    lines = (re.split(r"\s[#>|]", command)[0] for command in commands)
    return [line.strip() for line in lines if re.match(r"\s*longtail\b", line)]


def of_page(path: Path) -> list[str]:
    """Return the command lines of a page: in blocks of code, and in the text unless they are shortened."""
    text = path.read_text()
    fence = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in fence.findall(text) if language in ("sh", "bash", "console", "")]
    spans = re.findall(r"`(longtail [^`]+)`", fence.sub("", text))
    return [*lines_of("\n".join(blocks)), *(" ".join(span.split()) for span in spans if is_whole(span))]


def is_whole(span: str) -> bool:
    """Return whether a command in the text is a full command line, not the mention of a command or option."""
    words = span.split()
    return tuple(words[1:]) not in PATHS and "..." not in span and not words[-1].startswith("--")


EXAMPLES = {
    **{str(page.relative_to(ROOT)): of_page(page) for page in PAGES},
    **{f"longtail {' '.join(path)} --help": lines_of(help_text(path).partition("Examples:")[2]) for path in PATHS},
}


@pytest.mark.parametrize("source", [source for source, lines in EXAMPLES.items() if lines])
def test_examples_parse(source):
    for line in EXAMPLES[source]:
        parse([word.strip("[]") for word in shlex.split(line)[1:]])  # as in `longtail train [DATA]`


def test_examples_were_found():
    assert sum(map(len, EXAMPLES.values())) > 80
    assert EXAMPLES["README.md"]
    assert all(EXAMPLES[f"longtail {name} --help"] for name in COMMANDS if name not in BELOW)
