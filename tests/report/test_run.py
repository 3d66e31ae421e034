import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtail.data import long_tailed_counts
from longtail.errors import InputError
from longtail.evaluation import Predictions
from longtail.report import write_report, write_report_for
from longtail.report.data import ReportData
from longtail.report.run import _EXAMPLES, OPEN_ROWS, class_table, confusions_table, flow_table, page
from longtail.report.tables import Table
from longtail.report.wording import DASH

from .made_up import EVIL, RESULT, Page, assert_loads_nothing, picture, report_data, sample, write_files

SECTIONS = ("summary", "groups", "classes", "confidence", "weakest", "training", "every", "about")
LOG = "".join(json.dumps({"stage": 0, "epoch": e, "loss": 2.0 / e, "lr": 0.1}) + "\n" for e in range(1, 4))


def read(path: Path) -> tuple[str, Page]:
    text = path.read_text("utf-8")
    return text, Page(text)


@pytest.fixture
def page_of(write_run: Callable[..., Path]) -> Callable[..., tuple[str, Page]]:
    def make(predictions: Predictions, *run: object) -> tuple[str, Page]:
        return read(write_report(write_run(predictions, *run), picture))

    return make


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The page of a run that left everything behind."""
    run = tmp_path_factory.mktemp("run")
    write_files(run, sample(), RESULT, LOG)
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
    text, page = page_of(predictions, result, LOG.replace('"train"', json.dumps(hostile)))
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
    assert "no images were available" in page.texts["section"][4]
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
    assert "Show 8,142 classes" in text
    assert path.stat().st_size < 4_000_000


def test_a_checkpoint_chosen_on_the_test_set_heads_the_page(
    page_of: Callable[..., tuple[str, Page]], full: tuple[str, Page]
) -> None:
    _, page = page_of(sample(), {**RESULT, "protocol": {"checkpoint": "best", "selected_on": "test"}})
    assert "Checkpoint chosen on the test split" in page.texts["header"][0]
    assert "test split" not in full[1].texts["header"][0]


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
    message = "other groups: its many-shot accuracy is .*, that of these groups \N{EN DASH}; pass the same `many`"
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
        with pytest.raises(InputError, match=r"cannot write .*report\.html: .*No space left"):
            write_report(run)
    assert (run / "report.html").read_text() == "old"
    assert write_report(run) == run / "report.html"
    assert sorted(path.name for path in run.iterdir()) == [
        "config.yaml",
        "predictions.npz",
        "report.html",
        "result.json",
    ]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    predictions = sample()
    with pytest.raises(InputError, match=r"cannot write the report to .*page\.html: there is no folder .*none; create"):
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
        ("none/page.html", "there is no folder .*none; create it"),
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
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)
    run = write_run(sample())
    for name in ("predictions.npz", "result.json"):
        (run / name).unlink()
        with pytest.raises(InputError, match="is not finished"):
            write_report(run)


@pytest.mark.parametrize("odd", [{"kind": "fixed"}, [1], {"kind": "fixed", "many": "x", "few": 20}])
def test_odd_groups_are_refused(write_run: Callable[..., Path], odd: object) -> None:
    with pytest.raises(InputError, match='"class_groups" of a result must have kind'):
        write_report(write_run(sample(), {**RESULT, "class_groups": odd}))


@pytest.mark.parametrize(("text", "message"), [("{", "cannot read"), ("[1]", "must be a JSON object, got a list")])
def test_a_broken_result_is_refused(write_run: Callable[..., Path], text: str, message: str) -> None:
    run = write_run(sample())
    (run / "result.json").write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(run)


def test_the_same_run_gives_the_same_page(write_run: Callable[..., Path]) -> None:
    run = write_run(sample(), None, LOG)
    first = write_report(run, picture).read_bytes()
    assert write_report(run, picture).read_bytes() == first


def section(key: str, data: ReportData) -> str:
    """The markup of one section of the page; "" if it is missing."""
    found = re.search(rf'<section id="{key}".*?</section>', page(data), re.DOTALL)
    return found[0] if found else ""


def rows_of(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[column.heading for column in table.heads], *([cell.text for cell in row] for _, row in table.lines)]


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def plain(text: str) -> str:
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def card_values(text: str) -> dict[str, str]:
    pairs = re.findall(r'<dt>([^<]*)</dt><dd class="value">([^<]*)</dd>', text)
    return {label: plain(value) for label, value in pairs}


def test_the_cards_are_the_scores() -> None:
    predictions = sample()
    scores = predictions.scores()
    assert card_values(section("summary", report_data(predictions))) == {
        "Accuracy": f"{scores.top1:.1f} %",
        "Balanced": f"{scores.balanced:.1f} %",
        "Many-shot": f"{scores.many:.1f} %",
        "Medium-shot": f"{scores.medium:.1f} %",
        "Few-shot": f"{scores.few:.1f} %",
        "Worst class": f"{scores.worst:.1f} %",
        "MCC": f"{scores.mcc:.1f}",
        "NMI": f"{scores.nmi:.1f}",
        "Top-5 accuracy": f"{scores.top5:.1f} %",
        "Macro F1": f"{scores.macro_f1:.1f} %",
        "G-mean": f"{scores.g_mean:.1f} %",
        "ECE": f"{scores.ece:.2f} %",
        "ECE, few-shot": f"{scores.ece_few:.2f} %",
    }


def test_an_empty_group_is_a_dash_in_its_card_and_a_word_in_its_figure() -> None:
    made = report_data(sample((300, 150, 60)))
    assert card_values(section("summary", made))["Few-shot"] == DASH
    assert "no class" in section("groups", made)


def test_without_logits_confidence_says_why_it_is_missing() -> None:
    made = report_data(sample(logits=False))
    text = section("confidence", made)
    assert "need logits or probabilities" in text
    assert "<svg" not in text
    assert card_values(section("summary", made))["ECE"] == DASH


def test_with_logits_reliability_and_margins_are_drawn() -> None:
    predictions = sample()
    page = Page(section("confidence", report_data(predictions)))
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    assert len(labels) == 2
    assert f"few {predictions.scores().ece_few:.2f} %" in plain(labels[0])


def test_margins_of_the_page_agree_with_accuracy() -> None:
    # on a balanced test, the share of positive margins of a group is its accuracy
    predictions = sample()
    assert f"few {predictions.scores().few:.1f} %" in plain(section("confidence", report_data(predictions)))


def test_the_flow_table_starts_with_the_group_accuracies() -> None:
    predictions = sample()
    scores = predictions.scores()
    head, *rows = rows_of(flow_table(report_data(predictions)))
    assert head == ["images of", "right", "predicted as many", "predicted as medium", "predicted as few"]
    assert [row[1] for row in rows] == [f"{value:.1f}" for value in (scores.many, scores.medium, scores.few)]


def test_the_most_frequent_mistakes_are_listed_with_their_share() -> None:
    predictions = Predictions(
        torch.tensor([0, 1, 1, 1, 1]), [200, 3], predicted=torch.tensor([0, 0, 0, 0, 1]), class_names=["cat", "eel"]
    )
    assert rows_of(confusions_table(report_data(predictions)))[1:] == [["eel", "cat", "3", "75.0"]]


def test_a_mistake_made_once_is_listed_only_where_there_is_no_other() -> None:
    targets = torch.tensor([0, 1, 1, 1])
    often = Predictions(targets, [200, 3, 3], predicted=torch.tensor([2, 0, 0, 2]))
    once = Predictions(targets, [200, 3, 3], predicted=torch.tensor([0, 0, 1, 1]))
    assert [row[2] for row in rows_of(confusions_table(report_data(often)))[1:]] == ["2"]
    assert [row[2] for row in rows_of(confusions_table(report_data(once)))[1:]] == ["1"]


def test_no_mistakes_no_table() -> None:
    labels = torch.tensor([0, 1])
    assert confusions_table(report_data(Predictions(labels, [200, 3], predicted=labels))) is None


def test_captions_tell_of_binning_and_of_classes_without_test_images() -> None:
    counts = tuple(range(600, 0, -1))
    predictions = Predictions(torch.arange(599), torch.tensor(counts), predicted=torch.arange(599))
    text = section("classes", report_data(predictions))
    assert "Each cell combines about 3 neighboring classes" in text
    assert "mean of neighboring classes" in text
    assert "1 class has no test image" in text


def test_training_is_left_out_without_a_log() -> None:
    assert section("training", report_data(sample())) == ""
    log = [{"stage": "train", "loss": 1.0, "lr": 0.1}, {"stage": "retrain", "loss": 1.0, "lr": 0.1}]
    text = section("training", report_data(sample(), log=log))
    assert text is not None
    assert "Training: 2 epochs in 2 stages." in text


def test_what_one_must_know_of_a_run_is_told() -> None:
    text = section("about", report_data(sample(), result=RESULT, config="a: '<b>'\n"))
    page = Page(text)
    notes = page.texts["li"]
    assert notes[:3] == RESULT["notes"]
    # each is told once
    assert text.count("unreadable") == 1
    assert len([note for note in notes if "training part" in note or "both the training" in note]) == 1
    assert not {"skipped", "duplicates"} & set(page.texts["dt"])
    assert any("the last checkpoint. Nothing was chosen on the test split" in note for note in notes)
    assert "many-shot: more than 100 training images" in notes[-1]
    assert page.texts["code"] == [RESULT["command"], "a: '<b>'\n"]
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert facts["split, sha256"] == "ab25350e3e65"
    assert facts["versions, torch"] == "2.15.0"
    assert facts["cost, images per second"] == "15,321.3"
    assert facts["backbone, parameters"] == "93,000"
    assert not any(name.startswith("test") for name in facts)


@pytest.mark.parametrize("protocol", [{"checkpoint": "best", "selected_on": "test"}, {"checkpoint": "best-on-test"}])
def test_a_checkpoint_chosen_on_the_test_set_is_flagged_in_every_figure(protocol: dict[str, str]) -> None:
    made = report_data(
        sample(), result={**RESULT, "protocol": protocol}, log=[{"stage": "train", "loss": 1.0, "lr": 0.1}]
    )
    sections = [
        section("groups", made),
        section("classes", made),
        section("confidence", made),
        section("training", made),
    ]
    for text in sections:
        assert text is not None
        assert text.count("checkpoint chosen on the test split</text>") == text.count("<svg") > 0
    assert "The numbers are optimistic" in section("about", made)


def test_a_checkpoint_chosen_on_held_out_images_is_no_cause_for_a_warning() -> None:
    made = report_data(sample(), result={**RESULT, "protocol": {"checkpoint": "best", "selected_on": "val"}})
    assert made.warning == ""
    assert "the best checkpoint, chosen on val. Nothing was chosen on the test split" in section("about", made)


def test_a_result_with_nothing_in_it_still_has_its_groups() -> None:
    assert Page(section("about", report_data(sample()))).texts["li"][0].startswith("Groups:")


def test_every_row_agrees_with_the_scores() -> None:
    predictions = sample()
    scores = predictions.scores()
    head, *rows = rows_of(class_table(report_data(predictions)))
    assert head[0] == "class"
    assert [row[0] for row in rows] == [
        predictions.class_names[c] for c in predictions.class_counts.argsort(descending=True)
    ]
    for row in rows:
        label = predictions.class_names.index(row[0])
        own = predictions.targets == label
        wrong = predictions.predicted[own & (predictions.predicted != label)]
        claimed = predictions.targets[predictions.predicted == label] == label
        assert row[2:4] == [str(int(predictions.class_counts[label])), str(int(own.sum()))]
        assert row[4] == f"{scores.per_class[label]:.1f}"
        assert row[5] == f"{100 * float(claimed.double().mean()):.1f}"
        assert row[7] == str(int(wrong.bincount().max()))


def test_what_cannot_be_measured_is_a_dash() -> None:
    labels = torch.tensor([0, 0])
    predictions = Predictions(labels, [200, 50, 3], predicted=labels, class_names=["a", "b", "c"])
    rows = rows_of(class_table(report_data(predictions)))
    assert rows[1] == ["a", "many", "200", "2", "100.0", "100.0", DASH, DASH]
    assert rows[3] == ["c", "few", "3", "0", DASH, DASH, DASH, DASH]


def test_names_stay_text() -> None:
    page = Page(section("every", report_data(sample((300, 50, 5, 4), names=EVIL))))
    assert {row[0] for row in page.rows["every"][1:]} == {name.replace("\x00", "\ufffd") for name in EVIL}


def test_a_long_table_waits_closed() -> None:
    short, long = (sample(tuple(range(n, 0, -1)), per_class=1) for n in (OPEN_ROWS, OPEN_ROWS + 1))
    assert "<details" not in section("every", report_data(short))
    assert f"Show {OPEN_ROWS + 1} classes" in section("every", report_data(long))


def test_headings_belong_to_their_columns_and_rows() -> None:
    page = Page(section("every", report_data(sample())))
    scopes = [attributes["scope"] for tag, attributes in page.elements if tag == "th"]
    assert scopes == ["col"] * 8 + ["row"] * 6


def test_examples_are_the_surest_mistakes_of_the_class() -> None:
    predictions = sample()
    assert predictions.logits is not None
    page = Page(section("weakest", report_data(predictions, thumbnails=picture)))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    shown = [decoded(attributes["src"]).getpixel((0, 0))[0] for attributes in pictures[:_EXAMPLES]]  # type: ignore[index]
    label = int(predictions.targets[shown[0]])
    sure = predictions.logits.softmax(1).max(1).values
    wrong = [i for i in range(len(predictions)) if predictions.targets[i] == label != predictions.predicted[i]]
    assert shown == sorted(wrong, key=lambda i: -float(sure[i]))[:_EXAMPLES]


def test_each_picture_says_what_it_shows_and_what_its_prediction() -> None:
    predictions = Predictions(
        torch.tensor([0, 1]),
        [200, 3],
        predicted=torch.tensor([0, 0]),
        class_names=["cat", "eel"],
        paths=["a.png", "b.png"],
    )
    page = Page(section("weakest", report_data(predictions, thumbnails=picture)))
    [image] = [attributes for tag, attributes in page.elements if tag == "img"]
    assert image["alt"] == "Test image 1: eel, predicted as cat"
    assert image["title"] == "b.png"
    assert page.texts["h3"] == ["eel"]
    assert page.texts["figcaption"] == ["catb.png"]
    assert "3 training images, 0 of 1 test image right; mostly predicted as cat (1)." in page.texts["article"][0]


def test_names_in_attributes_are_escaped() -> None:
    page = Page(section("weakest", report_data(sample((300, 50, 5, 4), names=EVIL), thumbnails=picture)))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert pictures
    assert all(set(attributes) <= {"src", "alt", "title", "class"} for attributes in pictures)
    assert any(EVIL[0] in attributes["alt"] for attributes in pictures)


@pytest.mark.parametrize("logits", [True, False])
def test_without_pictures_the_classes_are_there_all_the_same(logits: bool) -> None:
    page = Page(section("weakest", report_data(sample(logits=logits))))
    assert "no images were available" in page.texts["section"][0]
    assert len(page.texts["article"]) == 6


def test_a_perfect_test_has_no_weak_class() -> None:
    labels = torch.tensor([0, 1])
    text = section("weakest", report_data(Predictions(labels, [200, 3], predicted=labels)))
    assert "No class has an error" in text
