"""The text of the project is plain American English, and docstrings have one form."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "longtail"
# packages whose text is not rewritten yet
NOT_YET: set[str] = set()
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".html", ".j2", ".js", ".css"}

# Words with a plain equivalent, and what to write instead. Whole words only; case does not matter.
BANNED = {
    r"unevenly|uneven": "class-imbalanced, long-tailed",
    r"fullest|emptiest|fuller|emptier": "most frequent, least frequent",
    r"judg(e|es|ed|ing)": "evaluate",
    r"go(es|ing)? on|gone on|went on": "resume, continue",
    r"held out for choices": "validation split",
    r"taken for": "predicted as",
    r"makes of (an )?images?": "features",
    r"whole or not at all": "atomic",
    r"says|tells|knows|wishes|asks|looks (?:at|for|up|like|into)|takes note|no use for": "code is not a person",
    r"anew": "again",
    r"beside": "next to",
    r"in vain": "as a dry run",
    r"mend(s|ed)?": "fix",
    r"likewise": "also",
    r"lies": "is",
    r"so many": "the number of",
    r"of one's own": "own",
    r"can not": "cannot",
    r"learnt|spelt|misspelt": "learned, misspelled",
}
PATTERN = re.compile("|".join(rf"\b(?:{words})\b" for words in BANNED), re.IGNORECASE)


def pages() -> Iterator[Path]:
    """Yield every text file whose language is checked."""
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "mkdocs.yml"))
    for folder in ("src", "docs", "examples", ".github"):
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in TEXT)
    yield ROOT / "benchmarks" / "results.md"


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(SOURCE.rglob("*.py"))


def name(path: Path) -> str:
    """Return the identifier of a page in the test report."""
    return str(path.relative_to(ROOT))


def skip_if_not_converted(path: Path) -> None:
    """Skip the test for a package that is not rewritten yet."""
    if path.is_relative_to(SOURCE) and path.relative_to(SOURCE).parts[0] in NOT_YET:
        pytest.skip("not rewritten yet")


@pytest.mark.parametrize("path", [path for path in pages() if path.is_file()], ids=name)
def test_no_banned_words(path):
    skip_if_not_converted(path)
    found = [
        f"{name(path)}:{number}: {match.group()!r} in {line.strip()[:100]!r}"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in PATTERN.finditer(line)
    ]
    assert not found, "\n".join(found)


SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Examples?|Notes?|References?):$")


def sections(docstring: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the sections of a Google docstring: title and indented lines."""
    title, lines = "", []
    for line in docstring.splitlines():
        if match := SECTION.match(line):
            yield title, lines
            title, lines = match[1], []
        elif line and not line.startswith(" "):
            yield title, lines
            title, lines = "", []
        else:
            lines.append(line)
    yield title, lines


def entries(lines: list[str]) -> list[tuple[str, str]]:
    """Return name and text of the entries of an `Args:` section."""
    found: list[tuple[str, str]] = []
    for line in lines:
        if match := re.match(r"^    (\*{0,2}\w+)( \(.*?\))?: (.*)$", line):
            found.append((match[1], match[3]))
        elif line.strip() and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and docstring of every class and function of a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield f"{name(path)}:{node.lineno} {node.name}", text


@pytest.mark.parametrize("path", modules(), ids=name)
def test_argument_entries_are_sentences_or_noun_phrases(path):
    skip_if_not_converted(path)
    wrong = [
        f"{where}: {argument}: {text}"
        for where, docstring in docstrings(path)
        for title, lines in sections(docstring)
        if title in ("Args", "Attributes")
        for argument, text in entries(lines)
        if not re.match(r"""[A-Z0-9*`"'(\[]""", text) or not text.endswith((".", ".)", ".`", "?"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(bool(NOT_YET), reason="not rewritten yet")
def test_docstrings_start_with_a_verb_and_describe_every_argument():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "D401,D417", str(SOURCE)]
    if shutil.which("ruff") is None:
        pytest.skip('needs ruff: pip install ".[dev]"')
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(bool(NOT_YET), reason="not rewritten yet")
def test_spelling_is_american():
    if shutil.which("codespell") is None:
        pytest.skip('needs codespell: pip install ".[dev]"')
    result = subprocess.run(["codespell"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
