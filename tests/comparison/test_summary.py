"""The tables that `longtail compare` prints."""

from rich.console import Console

from longtail.report.comparison.summary import changes_table, overview_table

from .made_up import predictions, together, told


def printed(table: object) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_overview_marks_what_is_more_than_chance() -> None:
    text = printed(overview_table(together(predictions(0.6), predictions(-0.2))))
    pair = together(predictions(0.6), predictions(-0.2)).pairs[0]
    assert pair.by_score["few"].significant
    few = f"{pair.other.scores.few:.1f} (+{pair.by_score['few'].mean:.1f})*"
    assert few in text
    assert f"{pair.reference.scores.top1:.1f}" in text


def test_groups_without_a_class_are_dashes() -> None:
    text = printed(overview_table(told([0, 1, 2], [0, 0, 0], [0, 1, 2], counts=(5, 4, 3))))
    assert text.count("\N{EN DASH}") == 4


def test_changes_by_hand() -> None:
    text = printed(changes_table(told([0] * 20 + [2] * 20, [0] * 40, [0] * 18 + [2] * 22).pairs[0]))
    [best] = [line for line in text.splitlines() if "+100.0*" in line]
    assert best.split()[:5] == ["2", "5", "0.0", "100.0", "+100.0*"]
    assert best.strip().endswith("0 \N{MINUS SIGN}20")
    assert "\N{MINUS SIGN}10.0 " in text
