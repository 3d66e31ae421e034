import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from longtail.data import long_tailed_counts
from longtail.errors import InputError
from longtail.evaluation import Predictions
from longtail.report import write_report, write_report_for
from longtail.report.html import _read_log

from .conftest import EVIL, RESULT, Page, sample, write_files

SECTIONS = ("summary", "groups", "classes", "confidence", "weakest", "training", "every", "about")
LOG = "".join(json.dumps({"stage": "train", "epoch": e, "loss": 2.0 / e, "lr": 0.1}) + "\n" for e in range(1, 4))
LOADS = ("src", "srcset", "poster", "data", "action", "formaction", "background", "ping", "manifest")


def picture(index: int) -> torch.Tensor:
    return torch.full((3, 8, 8), index, dtype=torch.uint8)


def read(path: Path) -> tuple[str, Page]:
    text = path.read_text("utf-8")
    return text, Page(text)


def assert_loads_nothing(text: str, page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "audio", "video")
        for key in LOADS:
            assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
        for key in ("href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
    assert not re.search(r"@import|@font-face|url\(\s*['\"]?(?!#)", text)
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text


@pytest.fixture
def page_of(write_run: Callable[..., Path]) -> Callable[..., tuple[str, Page]]:
    def make(predictions: Predictions, *run: object) -> tuple[str, Page]:
        return read(write_report(write_run(predictions, *run), picture))

    return make


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The page of a run that left everything behind."""
    run = tmp_path_factory.mktemp("run")
    write_files(run, sample(), RESULT, LOG, "seed: 0\n")
    return read(write_report(run, picture))


def test_every_section_is_there_and_every_link_leads_somewhere(full: tuple[str, Page]) -> None:
    page = full[1]
    ids = page.ids()
    assert [key for key in ids if key in SECTIONS] == list(SECTIONS)
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.elements:
        if tag in ("a", "use"):
            assert (attributes.get("href") or attributes["xlink:href"])[1:] in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
    assert page.open == []
    assert page.texts["title"] == page.texts["h1"] == ["balanced-softmax on digits-lt"]
    assert len([tag for tag, _ in page.elements if tag == "svg"]) == 6


def test_it_is_one_file_that_loads_nothing(full: tuple[str, Page]) -> None:
    assert_loads_nothing(*full)


def test_its_policy_lets_no_script_run_but_its_own(full: tuple[str, Page]) -> None:
    page = full[1]
    [script] = page.texts["script"]
    [policy] = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_names_stay_text_everywhere(page_of: Callable[..., tuple[str, Page]]) -> None:
    predictions = sample((300, 50, 5, 4), names=EVIL)
    hostile = "</code></pre><script>alert(2)</script>"
    result = {**RESULT, "data": f'x"><img src=x onerror=alert(1)>{hostile}', "notes": [hostile], "command": hostile}
    text, page = page_of(predictions, result, LOG.replace('"train"', json.dumps(hostile)), hostile)
    assert_loads_nothing(text, page)
    assert len(page.texts["script"]) == 1
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert "alert(" not in "".join(page.texts["script"] + page.texts["style"])
    assert hostile in page.texts["code"]
    assert "\x00" not in text
    assert page.open == []


def test_names_from_a_broken_file_system_can_be_written(tmp_path: Path) -> None:
    predictions = sample((300, 5), names=("caf\udce9", "b"))
    text, _ = read(write_report_for(predictions, predictions.scores(), tmp_path / "page.html", "t\udce9"))
    assert "caf\ufffd" in text


def test_pictures_are_asked_for_by_their_place_in_the_test(write_run: Callable[..., Path]) -> None:
    predictions, asked = sample(), []

    def note(index: int) -> torch.Tensor:
        asked.append(index)
        return picture(index)

    write_report(write_run(predictions), note)
    wrong = (predictions.predicted != predictions.targets).nonzero()[:, 0].tolist()
    assert asked
    assert set(asked) <= set(wrong)


def test_without_logits_images_log_or_configuration(write_run: Callable[..., Path]) -> None:
    _, page = read(write_report(write_run(sample(logits=False), {})))
    assert [key for key in page.ids() if key in SECTIONS] == [key for key in SECTIONS if key != "training"]
    assert "need logits or probabilities" in page.texts["section"][3]
    assert "No images were at hand" in page.texts["section"][4]
    assert len([tag for tag, _ in page.elements if tag == "svg"]) == 3


@pytest.mark.parametrize("counts", [(300, 200), (9, 8), (300, 9)])
def test_groups_without_a_class(page_of: Callable[..., tuple[str, Page]], counts: tuple[int, ...]) -> None:
    text, page = page_of(sample(counts))
    assert "no class" in text
    assert ">None<" not in text
    assert "nan" not in page.texts["main"][0].lower()
    assert not any("nan" in attributes.get("d", "") for _, attributes in page.elements)


def test_quantile_groups_of_a_run_are_those_of_the_page(page_of: Callable[..., tuple[str, Page]]) -> None:
    result = {**RESULT, "class_groups": {"kind": "quantile", "many": 100, "few": 20}}
    predictions = sample((9, 8, 7, 6, 5, 4))
    _, page = page_of(predictions, result)
    scores = predictions.scores(groups="quantile")
    assert [row[1] for row in page.rows["flow"][1:]] == [f"{v:.1f}" for v in (scores.many, scores.medium, scores.few)]


def test_8142_classes_make_a_page_of_reasonable_size(tmp_path: Path) -> None:
    counts = long_tailed_counts(1000, 8142, 500, "pareto")
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(8142).repeat_interleave(2)
    predicted = torch.where(torch.rand(len(targets), generator=generator) < 0.6, targets, targets.roll(7))
    predictions = Predictions(targets, counts, predicted=predicted)
    path = write_report_for(predictions, predictions.scores(), tmp_path / "page.html", "iNaturalist")
    text = path.read_text("utf-8")
    assert len(re.findall(r'<tr><th scope="row"><bdi>\d+</bdi></th><td class="(?:many|medium|few)">', text)) == 8142
    assert "Show all 8,142 classes" in text
    assert path.stat().st_size < 4_000_000


def test_a_checkpoint_chosen_on_the_test_set_heads_the_page(
    page_of: Callable[..., tuple[str, Page]], full: tuple[str, Page]
) -> None:
    _, page = page_of(sample(), {**RESULT, "protocol": {"checkpoint": "best", "selected_on": "test"}})
    assert "Checkpoint chosen on the test set" in page.texts["header"][0]
    assert "test set" not in full[1].texts["header"][0]


@pytest.mark.parametrize("odd", [None, "text"])
def test_parts_of_a_result_may_be_missing_or_odd(page_of: Callable[..., tuple[str, Page]], odd: object) -> None:
    keys = ("split", "backbone", "protocol", "cost", "versions")
    _, page = page_of(sample(), {**RESULT, **dict.fromkeys(keys, odd)})
    assert page.texts["h1"] == ["balanced-softmax on digits-lt"]


def test_a_page_for_another_tool_has_its_title_and_its_groups(tmp_path: Path) -> None:
    predictions = sample()
    scores = predictions.scores(many=200, few=50)
    path = write_report_for(predictions, scores, tmp_path / "other.html", "R & D <1>", many=200, few=50)
    _, page = read(path)
    assert page.texts["h1"] == ["R & D <1>"]
    assert [row[1] for row in page.rows["flow"][1:]] == [f"{v:.1f}" for v in (scores.many, scores.medium, scores.few)]


def test_scores_of_other_groups_are_refused(tmp_path: Path) -> None:
    predictions = sample((90, 80, 70))
    message = "other groups: many-shot accuracy is .* there and unknown here; pass the same many, few and groups"
    with pytest.raises(InputError, match=message):
        write_report_for(predictions, predictions.scores(many=75), tmp_path / "page.html", "t")


def test_scores_under_another_test_prior_are_welcome(tmp_path: Path) -> None:
    predictions = sample()
    scores = predictions.scores(prior=[6, 5, 4, 3, 2, 1])
    _, page = read(write_report_for(predictions, scores, tmp_path / "page.html", "t"))
    assert f"{scores.top1:.1f}" in page.texts["dl"][0]


def test_the_page_is_replaced_whole_or_not_at_all(
    write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(sample())
    (run / "report.html").write_text("old")

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", disk_full)
        with pytest.raises(InputError, match=r"cannot write the report to .*report\.html: .*No space left"):
            write_report(run)
    assert (run / "report.html").read_text() == "old"
    assert write_report(run) == run / "report.html"
    assert sorted(path.name for path in run.iterdir()) == ["predictions.npz", "report.html", "result.json"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    predictions = sample()
    with pytest.raises(InputError, match=r"cannot write the report to .*page\.html: there is no folder .*none; make"):
        write_report_for(predictions, predictions.scores(), tmp_path / "none" / "page.html", "t")


def test_a_page_may_lie_anywhere(write_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    run, target = write_run(sample()), tmp_path_factory.mktemp("pages") / "page.html"
    assert write_report(run, target=target) == target
    assert read(target)[1].texts["h1"] == ["balanced-softmax on digits-lt"]
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (".", "it is a folder; give the path of a file"),
        ("", "it is a folder"),
        ("none/page.html", "there is no folder .*none; make it first"),
        ("result.json/page.html", "there is no folder"),
        ("x" * 300, "File name too long; give another file"),
        ("\0.html", "null byte"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused(write_run: Callable[..., Path], name: str, problem: str) -> None:
    run = write_run(sample())
    with pytest.raises(InputError, match=f"cannot write the report to .*{problem}"):
        write_report(run, target=run / name)
    predictions = sample()
    with pytest.raises(InputError, match=f"cannot write the report to .*{problem}"):
        write_report_for(predictions, predictions.scores(), run / name, "t")


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"no result at .*result\.json; give the folder of a finished run"):
        write_report(tmp_path)
    run = write_run(sample())
    (run / "predictions.npz").unlink()
    with pytest.raises(InputError, match="no predictions at"):
        write_report(run)


@pytest.mark.parametrize("odd", [{"kind": "fixed"}, [1], {"kind": "fixed", "many": "x", "few": 20}])
def test_odd_groups_are_refused(write_run: Callable[..., Path], odd: object) -> None:
    with pytest.raises(InputError, match='"class_groups" of a result must have kind, many and few, got'):
        write_report(write_run(sample(), {**RESULT, "class_groups": odd}))


@pytest.mark.parametrize(("text", "message"), [("{", "cannot read"), ("[1]", "must be a JSON object, got a list")])
def test_a_broken_result_is_refused(write_run: Callable[..., Path], text: str, message: str) -> None:
    run = write_run(sample())
    (run / "result.json").write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(run)


def test_of_an_epoch_that_ran_twice_the_second_counts_and_a_torn_line_does_no_harm(tmp_path: Path) -> None:
    lines = [
        '{"stage": "train", "epoch": 1, "loss": 3.0}',
        '{"stage": "train", "epoch": 2, "loss": 2.0}',
        '{"stage": "train", "ep',
        '{"stage": "train", "epoch": 2, "loss": 1.0}',
        "3",
        '{"stage": "retrain", "epoch": 1, "loss": 9.0}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert [entry["loss"] for entry in _read_log(tmp_path / "log.jsonl")] == [3.0, 1.0, 9.0]


def test_the_same_run_gives_the_same_page(write_run: Callable[..., Path]) -> None:
    run = write_run(sample(), None, LOG)
    first = write_report(run, picture).read_bytes()
    assert write_report(run, picture).read_bytes() == first
