"""Cells: what makes two of them the same training, and which stages are trained once for several."""

import shutil
from pathlib import Path

import pytest

import longtail
from longtail.bench import cells as module
from longtail.bench.cells import Cell, cells_of, code_version, configs_of, jobs_for
from longtail.bench.plan import parse_plan, read_plan
from longtail.errors import InputError

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
    """Nine rows, three features; only the first of BALMS' supplement's Table 3, without CIFAR at hand."""
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
    """A row whose change is what the recipe says already would stand there as if it measured something."""
    found = read_plan(plan)
    for data in found.data:
        settings = [Cell(config, "", "").settings for _, config in configs_of(found, data)]
        assert len(set(settings)) == len(settings)


def test_what_can_not_be_run_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match=r"(?s)tau-norm on digits-lt: .*none are held out"):
        cells("ce", "tau-norm", of={"digits-lt": {"val_share": 0.0}})
    with pytest.raises(InputError, match=r"crt on digits-lt: --set stages\.5"):
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
    assert found[0].config.stages[0].loss == "CrossEntropy"
    assert found[1].config.stages[0].loss == "BalancedSoftmax"
    assert found[0].config.model == found[1].config.model
    assert found[0].config.stages[0].training.epochs == 1
