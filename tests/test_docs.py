"""The documentation is consistent: snippets run, links resolve, commands exist, no component is missing."""

import contextlib
import functools
import importlib.util
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def blocks(path: Path, language: str) -> list[str]:
    """Return the code blocks of a language, except those marked as not run."""
    text = re.sub(r"<!-- not run: .*? -->\n```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_snippets_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), {"__name__": "snippet"})


GENERATED = ("reference/methods.md", "reference/cli.md", "explanation/results.md")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_resolve(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        if target.startswith("http"):
            continue
        found = (path.parent / target).resolve()
        generated = target.endswith(GENERATED) or found.stem in {*in_catalog("losses"), *in_catalog("samplers")}
        assert generated or found.exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_and_options_exist(path):
    shell = "\n".join(blocks(path, "sh")).replace("\\\n", " ")
    for line in re.findall(r"^longtail .*$", shell, flags=re.MULTILINE):
        words = line.split("#")[0].split()
        assert words[1] in generate.commands(), line
        page = help_of(*(words[1:3] if words[1] in ("data", "detect") else words[1:2]))
        for option in (word for word in words if word.startswith("--")):
            assert option in page, f"{path.name}: {line}"


@functools.cache
def help_of(*words: str) -> str:
    return generate.command_help(*words)


def in_catalog(package: str) -> list[str]:
    return list(generate.catalog()[package])


@pytest.mark.parametrize("package", ["losses", "samplers"])
def test_every_component_has_an_entry(package):
    assert sorted(in_catalog(package)) == sorted(generate.public_components(package))


@pytest.mark.parametrize("package", ["losses", "samplers"])
def test_every_entry_has_equation_source_and_use(package):
    for component, entry in generate.catalog()[package].items():
        assert set(entry) - {"url"} == {"title", "paper", "equation", "use"}, component


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs", reason='needs `pip install ".[docs]"`')
    pytest.importorskip("mkdocstrings", reason='needs `pip install ".[docs]"`')
    from mkdocs.__main__ import build_command

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.chdir(ROOT)
    output = io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        build_command.main(["--strict", "--quiet", "--site-dir", str(tmp_path / "site")], standalone_mode=False)
    page = (tmp_path / "site" / "reference" / "losses" / "BalancedSoftmax.html").read_text("utf-8")
    assert "class_counts" in page
    assert "power log n_y" in page
