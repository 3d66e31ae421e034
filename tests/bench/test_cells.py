"""Cells: their identity, shared first stages, and adopted runs."""

import shutil
from pathlib import Path

import pytest

import longtail
from longtail.bench import cells as module
from longtail.bench.cells import Cell, adopt, cells_of, code_version, configs_of, jobs_for
from longtail.bench.plan import parse_plan, read_plan
from longtail.bench.results import finished_run, older_cells
from longtail.config import recipes
from longtail.errors import InputError
from longtail.run.fit import fit

TINY = {"training": {"epochs": 1}, "set": {"model.backbone.width": 4}}


def cells(*methods, seeds=1, of="digits-lt", **changes):
    plan = parse_plan("mine", {"data": of, "methods": list(methods), "seeds": seeds, "changes": {**TINY, **changes}})
    return [cell for _, _, cell in cells_of(plan)]


def one(method="ce", **changes) -> Cell:
    return cells(method, **changes)[0]


def test_the_identity_is_that_of_seed_option_split_and_code():
    base = one()
    assert one().identity == base.identity
    other_seed = cells("ce", seeds=[1])[0]
    longer = one(training={"epochs": 2})
    other_split = one(of={"digits-lt": {"val_share": 0.2}})
    other_code = Cell(base.config, base.split, "another")
    all_of_them = [base, other_seed, longer, other_split, other_code]
    assert len({cell.identity for cell in all_of_them}) == 5
    assert other_code.settings == base.settings
    assert Cell(base.config, "another", base.code).identity != base.identity


def test_device_folder_and_name_make_no_other_cell(tmp_path):
    base = one()
    assert one(device="cpu").identity == base.identity
    assert one(data={"workers": 3, "root": str(tmp_path)}).identity == base.identity
    assert base.folder(tmp_path / "a").name == base.folder(tmp_path / "b").name
    renamed = one({"name": "plain", "method": "ce"})
    assert renamed.config.method == "plain"
    assert renamed.identity == base.identity


def test_a_folder_keeps_the_name_that_it_was_given_first(tmp_path):
    base = one()
    base.folder(tmp_path).mkdir(parents=True)
    assert base.folder(tmp_path).name == f"{base.identity[:12]}-digits-lt-20-ce-seed0"
    assert one({"name": "pl/a in", "method": "ce"}).folder(tmp_path) == base.folder(tmp_path)
    assert "pl-a-in" in one({"name": "pl/a in", "method": "ce"}).folder(tmp_path / "other").name


def test_the_code_version_goes_by_what_a_training_depends_on(tmp_path, monkeypatch):
    copy = tmp_path / "longtail"
    shutil.copytree(Path(longtail.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module.longtail, "__file__", str(copy / "__init__.py"))
    version = code_version.__wrapped__
    before = version()
    (copy / "report" / "style.py").write_text("# other colours")
    (copy / "bench" / "page.py").write_text("# another page")
    assert version() == before
    (copy / "losses" / "focal.py").write_text("# another loss")
    assert version() != before


def test_crt_lws_and_tau_norm_start_from_one_cross_entropy():
    jobs = jobs_for(cells("crt", "ce", "lws", "tau-norm"))
    by_name = {job.cell.config.method: job for job in jobs.values()}
    ce = by_name["ce"].cell.identity
    assert by_name["ce"].start is None
    assert {by_name[name].start for name in ("crt", "lws", "tau-norm")} == {ce}
    assert not any(job.hidden for job in jobs.values())
    order = list(jobs)
    assert all(order.index(job.start) < order.index(identity) for identity, job in jobs.items() if job.start)


def test_first_stages_that_only_the_others_need_are_hidden():
    jobs = jobs_for(cells("crt", "lws"))
    hidden = [job for job in jobs.values() if job.hidden]
    assert [(job.cell.config.method, len(job.cell.config.stages)) for job in hidden] == [("stage-1-of-crt", 1)]
    assert {job.start for job in jobs.values() if not job.hidden} == {hidden[0].cell.identity}


def test_nothing_is_shared_where_only_one_needs_it_or_something_differs():
    assert [job.start for job in jobs_for(cells("crt")).values()] == [None]
    seeds = jobs_for(cells("ce", "crt", seeds=2))
    assert all(job.start is None or seeds[job.start].cell.config.seed == job.cell.config.seed for job in seeds.values())
    longer = {"name": "crt longer", "method": "crt", "training": {"epochs": 2}}
    assert all(job.start is None for job in jobs_for(cells("ce", longer)).values())


def test_a_training_under_two_names_is_one_job():
    jobs = jobs_for(cells("balanced-softmax", "balms-e2e"))
    assert [job.cell.config.method for job in jobs.values()] == ["balanced-softmax"]


def test_the_decoupled_table_of_balms_trains_three_backbones():
    """BALMS, supplement, Table 3: nine rows from three backbones. The digits replace CIFAR."""
    plan = read_plan("balms-decoupled")
    content = {"data": "digits-lt", "methods": [{"name": e.name, **e.change} for e in plan.methods], "changes": TINY}
    jobs = jobs_for([cell for _, _, cell in cells_of(parse_plan("mine", {**content, "seeds": 1}))])
    assert len([job for job in jobs.values() if not job.hidden]) == 9
    assert len([job for job in jobs.values() if job.hidden]) == 3


@pytest.mark.parametrize("plan", ["quick", "cifar100-ldam", "smart-ablation", "dlsa-ablation", "elm", "elm-sweep"])
def test_the_methods_of_the_plans_can_be_composed(plan):
    found = read_plan(plan)
    for data in found.data:
        assert len(configs_of(found, data)) == len(found.methods)


@pytest.mark.parametrize("plan", ["cifar100-ldam", "smart-ablation", "dlsa-ablation", "elm", "elm-sweep"])
def test_no_two_rows_of_a_plan_are_the_same_training(plan):
    """A change that equals the recipe would look like a measurement but is a copy."""
    found = read_plan(plan)
    for data in found.data:
        settings = [Cell(config, "", "").settings for _, config in configs_of(found, data)]
        assert len(set(settings)) == len(settings)


def test_what_can_not_be_run_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match=r"(?s)tau-norm on digits-lt: .*none are held out"):
        cells("ce", "tau-norm", of={"digits-lt": {"val_share": 0.0}})
    with pytest.raises(InputError, match=r"crt on digits-lt: cannot set `stages\.5\.loss\.power`"):
        cells("crt", set={"stages.5.loss.power": 1.0})
    with pytest.raises(InputError, match="no data set and no file or folder 'digitz'"):
        cells("ce", of="digitz")


def test_images_of_ones_own_can_be_compared_too(tmp_path):
    import numpy as np
    from PIL import Image

    for label, count in enumerate((30, 12)):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / str(label) / f"{index}.png")
    found = cells("ce", "balanced-softmax", of=str(tmp_path / "photos"))
    assert [cell.config.method for cell in found] == ["ce", "balanced-softmax"]
    assert found[0].config.stages[0].loss.name == "CrossEntropy"
    assert found[1].config.stages[0].loss.name == "BalancedSoftmax"
    assert found[0].config.model == found[1].config.model
    assert found[0].config.stages[0].training.epochs == 1


def config(method: str = "ce", seed: int = 0):
    small = {"set": [("model.backbone.width", 4)]}
    return recipes.compose("digits-lt", method, changes=[{"seed": seed, "training": {"epochs": 1}}, small])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(config(), tmp_path_factory.mktemp("runs") / "mine", report=False)


def test_an_adopted_run_stands_in_for_the_cell_of_its_settings_and_for_no_other(run, tmp_path):
    split = run.result["split"]["sha256"]
    wanted = {Cell(config(), split, "now").settings}
    assert adopt([run.folder, run.folder], tmp_path, wanted) == []
    older = older_cells(tmp_path)
    found = finished_run(Cell(config(), split, "now"), tmp_path, older)
    assert found.folder != Cell(config(), split, "now").folder(tmp_path)
    assert found.result == run.result
    assert finished_run(Cell(config(), split, "now"), tmp_path) is None  # without `older`, only results of this code
    for other in (Cell(config(seed=1), split, "now"), Cell(config("focal"), split, "now"), Cell(config(), "x", "now")):
        assert finished_run(other, tmp_path, older) is None
    assert [path.name[-13:] for path in (tmp_path / "cells").iterdir()] == ["-adopted-mine"]


def test_a_run_that_the_plan_does_not_contain_is_returned_and_not_copied(run, tmp_path):
    wanted = {Cell(config(seed=1), run.result["split"]["sha256"], "now").settings}
    assert adopt([run.folder], tmp_path / "bench", wanted) == [run.folder]
    assert not (tmp_path / "bench").exists()


def test_an_unfinished_run_is_refused_and_nothing_is_copied(run, tmp_path):
    wanted = {Cell(config(), run.result["split"]["sha256"], "now").settings}
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run.folder / "config.yaml", begun)
    for folder, words in ((begun, "is not finished"), (tmp_path / "nothing", "holds no run")):
        with pytest.raises(InputError, match=words):
            adopt([run.folder, folder], tmp_path / "bench", wanted)
    assert not (tmp_path / "bench").exists()
