import torch

from longtail.evaluation import Predictions
from longtail.report.classtable import OPEN_ROWS, class_table_section
from longtail.report.wording import DASH

from .conftest import EVIL, Page, content, sample


def test_every_row_agrees_with_the_scores() -> None:
    predictions = sample()
    scores = predictions.scores()
    head, *rows = Page(class_table_section(content(predictions))).rows["every"]
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
    rows = Page(class_table_section(content(predictions))).rows["every"]
    assert rows[1] == ["a", "many", "200", "2", "100.0", "100.0", DASH, DASH]
    assert rows[3] == ["c", "few", "3", "0", DASH, DASH, DASH, DASH]


def test_names_stay_text() -> None:
    page = Page(class_table_section(content(sample((300, 50, 5, 4), names=EVIL))))
    assert {row[0] for row in page.rows["every"][1:]} == {name.replace("\x00", "\ufffd") for name in EVIL}


def test_a_long_table_waits_closed() -> None:
    short, long = (sample(tuple(range(n, 0, -1)), per_class=1) for n in (OPEN_ROWS, OPEN_ROWS + 1))
    assert "<details" not in class_table_section(content(short))
    assert f"Show all {OPEN_ROWS + 1} classes" in class_table_section(content(long))


def test_headings_belong_to_their_columns_and_rows() -> None:
    page = Page(class_table_section(content(sample())))
    scopes = [attributes["scope"] for tag, attributes in page.elements if tag == "th"]
    assert scopes == ["col"] * 8 + ["row"] * 6
