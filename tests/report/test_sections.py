import re

import pytest
import torch

from longtail.evaluation import Predictions
from longtail.report.sections import (
    about_section,
    cards,
    classes_section,
    confidence_section,
    figure,
    groups_section,
    training_section,
)
from longtail.report.wording import DASH

from .conftest import RESULT, Page, content, sample


def plain(text: str) -> str:
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def card_values(text: str) -> dict[str, str]:
    pairs = re.findall(r'<dt>([^<]*)</dt><dd class="value">([^<]*)</dd>', text)
    return {label: plain(value) for label, value in pairs}


def test_the_cards_are_the_scores() -> None:
    predictions = sample()
    scores = predictions.scores()
    assert card_values(cards(content(predictions))) == {
        "Accuracy": f"{scores.top1:.1f} %",
        "Balanced": f"{scores.balanced:.1f} %",
        "Many-shot": f"{scores.many:.1f} %",
        "Medium-shot": f"{scores.medium:.1f} %",
        "Few-shot": f"{scores.few:.1f} %",
        "Worst class": f"{scores.worst:.1f} %",
        "MCC": f"{scores.mcc:.1f}",
        "NMI": f"{scores.nmi:.1f}",
        "Macro F1": f"{scores.macro_f1:.1f} %",
        "G-mean": f"{scores.g_mean:.1f} %",
        "ECE": f"{scores.ece:.2f} %",
        "ECE, few-shot": f"{scores.ece_few:.2f} %",
    }


def test_an_empty_group_is_a_dash_in_its_card_and_a_word_in_its_figure() -> None:
    made = content(sample((300, 150, 60)))
    assert card_values(cards(made))["Few-shot"] == DASH
    assert "no class" in groups_section(made)


def test_without_logits_confidence_says_why_it_is_missing() -> None:
    made = content(sample(logits=False))
    text = confidence_section(made)
    assert "need logits or probabilities" in text
    assert "<svg" not in text
    assert card_values(cards(made))["ECE"] == DASH


def test_with_logits_reliability_and_margins_are_drawn() -> None:
    predictions = sample()
    page = Page(confidence_section(content(predictions)))
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    assert len(labels) == 2
    assert f"few {predictions.scores().ece_few:.2f} %" in plain(labels[0])


def test_margins_of_the_page_agree_with_accuracy() -> None:
    # on a balanced test, the share of positive margins of a group is its accuracy
    predictions = sample()
    assert f"few {predictions.scores().few:.1f} %" in plain(confidence_section(content(predictions)))


def test_the_flow_table_starts_with_the_group_accuracies() -> None:
    predictions = sample()
    scores = predictions.scores()
    head, *rows = Page(groups_section(content(predictions))).rows["flow"]
    assert head == ["images of", "right", "taken for many", "taken for medium", "taken for few"]
    assert [row[1] for row in rows] == [f"{value:.1f}" for value in (scores.many, scores.medium, scores.few)]


def test_the_most_frequent_mistakes_are_listed_with_their_share() -> None:
    predictions = Predictions(
        torch.tensor([0, 1, 1, 1, 1]), [200, 3], predicted=torch.tensor([0, 0, 0, 0, 1]), class_names=["cat", "eel"]
    )
    assert Page(classes_section(content(predictions))).rows["mixups"][1:] == [["eel", "cat", "3", "75.0"]]


def test_a_mistake_made_once_is_listed_only_where_there_is_no_other() -> None:
    targets = torch.tensor([0, 1, 1, 1])
    often = Predictions(targets, [200, 3, 3], predicted=torch.tensor([2, 0, 0, 2]))
    once = Predictions(targets, [200, 3, 3], predicted=torch.tensor([0, 0, 1, 1]))
    assert [row[2] for row in Page(classes_section(content(often))).rows["mixups"][1:]] == ["2"]
    assert [row[2] for row in Page(classes_section(content(once))).rows["mixups"][1:]] == ["1"]


def test_no_mistakes_no_table() -> None:
    labels = torch.tensor([0, 1])
    assert "<table" not in classes_section(content(Predictions(labels, [200, 3], predicted=labels)))


def test_captions_tell_of_binning_and_of_classes_without_test_images() -> None:
    counts = tuple(range(600, 0, -1))
    predictions = Predictions(torch.arange(599), torch.tensor(counts), predicted=torch.arange(599))
    text = classes_section(content(predictions))
    assert "Each cell gathers about 3 neighbouring classes" in text
    assert "mean of neighbouring classes" in text
    assert "1 class has no test image" in text


def test_training_is_left_out_without_a_log() -> None:
    assert training_section(content(sample())) is None
    log = [{"stage": "train", "loss": 1.0, "lr": 0.1}, {"stage": "retrain", "loss": 1.0, "lr": 0.1}]
    text = training_section(content(sample(), log=log))
    assert text is not None
    assert "Training: 2 epochs in 2 stages." in text


def test_what_one_must_know_of_a_run_is_told() -> None:
    text = about_section(content(sample(), result=RESULT, config="a: '<b>'\n"))
    page = Page(text)
    notes = page.texts["li"]
    assert notes[:3] == RESULT["notes"]
    # each is told once
    assert text.count("unreadable") == 1
    assert len([note for note in notes if "training part" in note or "both the training" in note]) == 1
    assert not {"skipped", "duplicates"} & set(page.texts["dt"])
    assert any("the last checkpoint. Nothing was chosen on the test set" in note for note in notes)
    assert "many-shot, more than 100 training images" in notes[-1]
    assert page.texts["code"] == [RESULT["command"], "a: '<b>'\n"]
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert facts["split, sha256"] == "ab25350e3e65"
    assert facts["versions, torch"] == "2.15.0"
    assert facts["cost, images per second"] == "15,321.3"
    assert facts["backbone, parameters"] == "93,000"
    assert not any(name.startswith("test") for name in facts)


@pytest.mark.parametrize("protocol", [{"checkpoint": "best", "selected_on": "test"}, {"checkpoint": "best-on-test"}])
def test_a_checkpoint_chosen_on_the_test_set_is_flagged_in_every_figure(protocol: dict[str, str]) -> None:
    made = content(sample(), result={**RESULT, "protocol": protocol}, log=[{"stage": "train", "loss": 1.0, "lr": 0.1}])
    sections = [groups_section(made), classes_section(made), confidence_section(made), training_section(made)]
    for text in sections:
        assert text is not None
        assert text.count("checkpoint chosen on the test set</text>") == text.count("<svg") > 0
    assert "the numbers flatter the model" in about_section(made)


def test_a_checkpoint_chosen_on_held_out_images_is_no_cause_for_a_warning() -> None:
    made = content(sample(), result={**RESULT, "protocol": {"checkpoint": "best", "selected_on": "val"}})
    assert made.warning == ""
    assert "the best checkpoint, chosen on val. Nothing was chosen on the test set" in about_section(made)


def test_a_result_with_nothing_in_it_still_has_its_groups() -> None:
    assert Page(about_section(content(sample()))).texts["li"][0].startswith("Groups:")


def test_a_figure_has_a_text_for_those_who_cannot_see_it() -> None:
    page = Page(figure('<svg viewBox="0 0 1 1"><path d=""/></svg>', 'says "<b>"', "caption <i>"))
    assert ("svg", {"role": "img", "aria-label": 'says "<b>"', "viewbox": "0 0 1 1"}) in page.elements
    assert page.texts["figcaption"] == ["caption <i>"]
