"""MkDocs hook that writes the reference pages of losses, samplers, methods and the command line."""

import contextlib
import importlib
import io
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

CATALOG = Path(__file__).with_name("catalog.yaml")
TITLES = {"losses": "Losses", "samplers": "Samplers"}


def catalog() -> dict[str, dict[str, dict[str, str]]]:
    """Return title, source, equation and use of each loss and sampler, by package and class name."""
    content: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(CATALOG.read_text("utf-8"))
    return content


def method_recipes() -> dict[str, str]:
    """Return the text of each method recipe by name."""
    folder = files("longtail.config") / "recipes" / "methods"
    recipes = {file.name.removesuffix(".yaml"): file.read_text("utf-8") for file in folder.iterdir()}
    return dict(sorted(recipes.items()))


def component_page(package: str, name: str, entry: dict[str, str]) -> str:
    """Return the page of one loss or sampler."""
    source = f"[{entry['paper']}]({entry['url']})" if "url" in entry else entry["paper"]
    used = [method for method, text in method_recipes().items() if re.search(rf"\b{name}\b", text)]
    methods = ", ".join(f"[`{method}`](../methods.md#{method})" for method in used)
    return "\n".join(
        [
            f"# {entry['title']}\n",
            f"**Source:** {source}\n",
            f"```text\n{entry['equation'].rstrip()}\n```\n",
            "[Notation](index.md#notation)\n",
            f"**When to use it.** {entry['use']}\n",
            f"**Methods that use it:** {methods}\n" if methods else "",
            f"::: longtail.{package}.{name}\n",
        ]
    )


def methods_page() -> str:
    """Return the table of all method recipes with their stages."""
    lines = [
        "# Methods\n",
        "Every method is a recipe: a list of stages, each with its components. The numbers are those published by the",
        "source; ours are listed under [results](../explanation/results.md). Print the resolved settings",
        "with `longtail show DATA --method NAME`.\n",
    ]
    for name, text in method_recipes().items():
        comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
        body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        summary = " ".join(comments)
        lines += [f"## {name}\n", f"{summary[0].upper()}{summary[1:].rstrip('.')}.\n", f"```yaml\n{body}\n```\n"]
    return "\n".join(lines)


def command_help(*words: str) -> str:
    """Return what `longtail WORDS --help` prints on a terminal of 100 columns."""
    from longtail.cli import main

    text = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        main([*words, "--help"])
    return text.getvalue().rstrip()


def commands(*words: str) -> list[str]:
    """Return the names of the commands below a command, in the order of its help page."""
    section = command_help(*words).partition("\nCommands:\n")[2].partition("\n\n")[0]
    return re.findall(r"^ +([a-z]+)  +\S", section, flags=re.MULTILINE)


def command_line_page() -> str:
    """Return the help of every command."""
    lines = [
        "# Command line\n",
        "Exit codes: 0 success, 1 internal error (with a traceback: please report it), 2 invalid input (with a",
        "message), 130 interrupted.\n",
    ]
    leaves = [[name, *below] for name in commands() for below in ([[sub] for sub in commands(name)] or [[]])]
    for words in leaves:
        lines += [f"## longtail {' '.join(words)}\n", f"```text\n{command_help(*words)}\n```\n"]
    return "\n".join(lines)


def generated_pages() -> dict[str, str]:
    """Return the text of every generated page by its path in the site."""
    pages = {"reference/methods.md": methods_page(), "reference/cli.md": command_line_page()}
    for package, entries in catalog().items():
        for name, entry in entries.items():
            pages[f"reference/{package}/{name}.md"] = component_page(package, name, entry)
    return pages


def public_components(package: str) -> list[str]:
    """Return the public losses or samplers: the classes of a package that derive from its base class."""
    module = importlib.import_module(f"longtail.{package}")
    base = importlib.import_module(f"longtail.{package}.base")
    root = {"losses": "Loss", "samplers": "Sampler"}[package]
    candidates = {name: getattr(module, name) for name in module.__all__}
    return [
        name
        for name, member in candidates.items()
        if isinstance(member, type) and issubclass(member, getattr(base, root)) and name != root
    ]


def on_config(config: Any) -> Any:
    """List the generated pages under their section of the navigation."""
    for section in config.nav:
        for item in section.get("Reference", ()) if isinstance(section, dict) else ():
            for package, title in TITLES.items():
                if title in item:
                    entries = catalog()[package]
                    pages = [{entry["title"]: f"reference/{package}/{name}.md"} for name, entry in entries.items()]
                    item[title] = [f"reference/{package}/index.md", *pages]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and the results of the benchmarks, to the site."""
    from mkdocs.structure.files import File

    results = Path(config.config_file_path).with_name("benchmarks") / "results.md"
    pages = {**generated_pages(), "explanation/results.md": results.read_text("utf-8")}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Point links to benchmarks/results.md, which are valid in the repository, to its page of the site."""
    return markdown.replace("../../benchmarks/results.md", "../explanation/results.md")
