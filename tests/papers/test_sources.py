"""The page of sources lists every published table, and names only existing plans, figures and scripts."""

import re
from importlib.resources import files
from pathlib import Path

from longtail.bench.plan import read_plan
from longtail.papers import FIGURES
from longtail.papers.published import everything

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "explanation" / "sources.md").read_text("utf-8")


def test_every_published_table_of_the_sources_has_a_row() -> None:
    for table in {row.table for row in everything()}:
        if re.match("[BDSE]-", table):
            assert re.search(rf"^\| {table.split()[0]}", TEXT, re.MULTILINE), table


def test_every_row_of_the_sources_has_its_data() -> None:
    tables = {row.table for row in everything()}
    assert set(re.findall(r"^\| ([BDSE]-Tab\d|S-Txt)", TEXT, re.MULTILINE)) - tables == {
        "B-Tab1",  # sizes of data sets
        "E-Tab1",  # a taxonomy
        "E-Tab3",  # hyper-parameters
    }


def test_plans_figures_and_scripts_exist() -> None:
    plans = {file.name.removesuffix(".yaml") for file in (files("longtail.config") / "recipes" / "plans").iterdir()}
    named = set(re.findall(r"longtail bench ([a-z][\w/.-]+)", TEXT))
    own = {name for name in named if name.endswith(".yaml")}
    assert named - own <= plans
    assert {read_plan(str(ROOT / path)).name for path in own} == {"dlsa-features", "dlsa-digits", "elm-sweep-digits"}
    assert {"cifar100-ldam", "cifar100-balms", "elm", "smart-ablation", "dlsa-ablation", "inat18"} <= named
    figures = set(re.findall(r"longtail figure ([a-z][\w-]+)", TEXT))
    assert figures == set(FIGURES)
    for script in re.findall(r"python (benchmarks/\w+\.py)", TEXT):
        assert (ROOT / script).exists(), script


def test_every_table_has_cells_for_its_head() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block
