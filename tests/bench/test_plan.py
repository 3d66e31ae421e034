"""Plans: the shipped ones are complete, and errors name the wrong entry."""

import re
from pathlib import Path

import pytest
import yaml

from longtail.bench.cells import configs_of
from longtail.bench.plan import names, narrowed, parse_plan, read_plan
from longtail.component import Component
from longtail.config import recipes
from longtail.errors import InputError

WANTED = (
    "quick",
    "cifar100-ldam",
    "cifar100-balms",
    "cifar10-ldam",
    "elm",
    "smart-ablation",
    "balms-decoupled",
    "dlsa-ablation",
    "imagenet-lt",
    "places-lt",
    "inat18",
)


def parse(**content):
    return parse_plan("mine", {"data": "digits-lt", "methods": ["ce", "crt"], **content})


def test_all_the_plans_of_the_sources_ship():
    assert set(WANTED) <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_plan_has_a_description_and_its_reference_is_one_of_its_rows(name):
    plan = read_plan(name)
    assert plan.about
    assert plan.reference in [entry.name for entry in plan.methods]


def test_quick_has_every_method_and_three_seeds():
    plan = read_plan("quick")
    assert [entry.name for entry in plan.methods] == recipes.names("methods")
    assert plan.seeds == (0, 1, 2)


def test_data_come_as_a_name_a_list_or_with_imbalance_factors():
    assert [entry.name for entry in parse(data=["digits-lt", "cifar100-lt"]).data] == ["digits-lt", "cifar100-lt"]
    plan = parse(data={"cifar100-lt": {"imbalance_factors": [100, 50], "val_share": 0.1}, "digits-lt": None})
    assert [entry.settings for entry in plan.data] == [
        {"val_share": 0.1, "imbalance_factor": 100},
        {"val_share": 0.1, "imbalance_factor": 50},
        {},
    ]


def test_a_method_may_be_changed_under_another_name():
    entry = parse(methods=[{"name": "no tau", "method": "tau-norm", "set": {"stages.1.method.tau": 0.0}}]).methods[0]
    assert (entry.name, entry.method, entry.change) == ("no tau", "tau-norm", {"set": [("stages.1.method.tau", 0.0)]})
    assert entry.published is None
    assert parse().methods[0].published == "ce"


def test_a_part_of_a_plan_under_other_settings():
    plan = narrowed(read_plan("cifar100-ldam"), ["crt", "ce"], 2, {"training": {"epochs": 3}}, [10])
    assert [entry.name for entry in plan.methods] == ["ce", "crt"]
    assert (plan.seeds, plan.reference) == ((0, 1), "ce")
    assert [entry.settings["imbalance_factor"] for entry in plan.data] == [10]
    assert plan.changes == ({"training": {"epochs": 3}},)
    assert narrowed(plan, ["crt"]).reference is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"method": ["ce"]}, "no setting of the plan mine 'method'; did you mean methods"),
        ({"methods": ["cee"]}, "no method 'cee'; did you mean"),
        ({"methods": "ce"}, "`methods` must be a list"),
        ({"methods": [{"method": "ce"}]}, "a name, or a mapping with a `name`"),
        ({"methods": [{"name": "x", "method": "ce", "sett": {}}]}, "did you mean set"),
        ({"methods": [{"name": "ce", "training": {"epochs": 1}}]}, "give the changed row another name"),
        ({"methods": ["ce", "ce"]}, "lists the method ce twice"),
        ({"methods": []}, "has no methods"),
        ({"seeds": 0}, ">= 1 or a list"),
        ({"seeds": True}, ">= 1 or a list"),
        ({"seeds": [1, 1]}, "lists the seed 1 twice"),
        ({"reference": "lws"}, "no reference row 'lws'"),
        ({"columns": ["top2"]}, "no score 'top2'; did you mean top"),
        ({"columns": []}, "has no columns"),
        ({"data": {"cifar100-lt": [100]}}, "must be a mapping, such as"),
        ({"data": {"cifar100-lt": {"val_shar": 0.1}}}, "val_share"),
        ({"data": {"cifar100-lt": {"imbalance_factors": 100}}}, "imbalance_factors` must be a list"),
        ({"data": []}, "has no data"),
        ({"changes": {"seed": 1}}, "no setting of the changes of all methods 'seed'"),
        ({"changes": {"set": {"stages.0.loss": "FocalLoss"}}}, "defines the method"),
        ({"changes": 3}, "must be a mapping"),
    ],
)
def test_what_is_no_plan_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        parse(**content)


def test_an_unknown_plan_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match="no plan or file 'quik'; did you mean quick"):
        read_plan("quik")
    (tmp_path / "mine.yaml").write_text("- a\n- list\n")
    with pytest.raises(InputError, match="must be a mapping"):
        read_plan(str(tmp_path / "mine.yaml"))
    with pytest.raises(InputError, match="no method in the plan mine 'crd'; did you mean crt"):
        narrowed(parse(), ["crd"])


def test_a_plan_file_gives_its_name_to_the_plan(tmp_path):
    (tmp_path / "mine.yaml").write_text("{data: digits-lt, methods: [ce], seeds: [3, 5]}")
    plan = read_plan(str(tmp_path / "mine.yaml"))
    assert (plan.name, plan.seeds) == ("mine", (3, 5))


def test_the_plan_of_the_guide_is_one():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "bench.md").read_text()
    plan = parse_plan("guide", yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]))
    configs = [config for data in plan.data for _, config in configs_of(plan, data)]
    assert len(configs) == 8
    assert configs[2].stages[0].mixing == Component("CMO", {"probability": 0.25})
