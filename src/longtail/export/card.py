"""The model card: a README.md in the layout of the Hugging Face hub, generated from the files of a run.

Shapes: C = classes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail._io import write_text
from longtail.data.counts import ClassCounts

if TYPE_CHECKING:
    from longtail.run.run import Run

MOST_CLASSES = 200
"""Largest number of classes that the table of classes lists; of more, the most and the least accurate ones."""
METRICS = {"top1": "accuracy", "balanced": "balanced accuracy", "mcc": "Matthews correlation"}
"""Scores of the front matter, in the words of the hub."""


def write_card(path: Path, facts: Mapping[str, Any], run: "Run") -> None:
    """Write the model card.

    Args:
        path: File to write or replace.
        facts: Metadata of the model, see `longtail.export.metadata.describe`.
        run: Finished run.
    """
    write_text(path, card(facts, run))


def card(facts: Mapping[str, Any], run: "Run") -> str:
    """Return the model card as Markdown with YAML front matter.

    The license is left to the user, because it depends on the data and on the pretrained weights.

    Args:
        facts: Metadata of the model, see `longtail.export.metadata.describe`.
        run: Finished run.
    """
    sections = (
        _front_matter(facts),
        f"# {_title(facts)}",
        _summary(facts),
        _data(facts, run),
        _scores(facts, run),
        _classes(facts, run),
        _calibration(facts, run),
        _limits(facts, run),
        _use(facts),
    )
    return "\n\n".join(sections) + "\n"


def _title(facts: Mapping[str, Any]) -> str:
    name = str(facts["run"]["data"]).rstrip("/").rpartition("/")[2]
    return f"{name}: {facts['run']['method']}"


def _front_matter(facts: Mapping[str, Any]) -> str:
    import yaml

    scores = [
        {"type": key, "name": label, "value": round(facts["scores"][key], 2)}
        for key, label in METRICS.items()
        if facts["scores"].get(key) is not None
    ]
    name = str(facts["run"]["data"]).rstrip("/").rpartition("/")[2]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": name, "type": name, "split": "test"},
        "metrics": scores,
    }
    content = {
        "library_name": "longtail",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "long-tailed", "class-imbalance", str(facts["run"]["method"])],
        "model-index": [{"name": _title(facts), "results": [result]}],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n# license: add the license that your data and the pretrained weights allow\n{text}---"


def _summary(facts: Mapping[str, Any]) -> str:
    backbone, origin = facts["backbone"] or {}, facts["run"]
    pretrained = "pretrained weights" if backbone.get("pretrained") else "random weights"
    parameters = f"{backbone['parameters']:,} parameters, " if backbone.get("parameters") else ""
    return (
        f"An image classifier for {len(facts['class_names']):,} classes with different numbers of training images, "
        f"trained with longtail {facts['longtail']}.\n\n"
        f"- Network: {backbone.get('name')}, {parameters}started from {pretrained}\n"
        f"- Method: {origin['method']}; training recipe: {origin['recipe']}; seed: {origin['seed']}"
    )


def _data(facts: Mapping[str, Any], run: "Run") -> str:
    counts = ClassCounts(facts["class_counts"])
    most, least = int(counts.counts.max()), int(counts.counts.min())
    split = facts["run"]["split"] or {}
    lines = [
        f"- Data set: {facts['run']['data']}",
        f"- Training images: {int(counts.counts.sum()):,}; test images: {len(run.predictions()):,}",
        f"- Most frequent class: {most:,} training images; least frequent: {least:,} (imbalance factor "
        f"{most / max(least, 1):.3g})",
    ]
    if split.get("sha256"):
        lines.append(f"- SHA-256 of the training split: `{split['sha256']}`")
    lines += [f"- {note}" for note in run.result.get("notes") or []]
    return "## Data\n\n" + "\n".join(lines)


def _scores(facts: Mapping[str, Any], run: "Run") -> str:
    scores, groups = run.scores, run.groups
    thirds = groups["groups"] == "quantile"
    named = {
        "all images": scores.top1,
        "mean over classes (balanced)": scores.balanced,
        "many-shot classes" + ("" if thirds else f" (more than {groups['many']} training images)"): scores.many,
        "medium-shot classes": scores.medium,
        "few-shot classes" + ("" if thirds else f" (fewer than {groups['few']} training images)"): scores.few,
    }
    rows = [f"| {name} | {_percent(value)} |" for name, value in named.items()]
    protocol = facts["run"]["protocol"] or {}
    chosen = protocol.get("selected_on")
    how = f"The epoch was chosen on the {chosen} split." if chosen else "The last checkpoint was evaluated once."
    return "\n".join(["## Scores on the test split", "", "| accuracy, % | |", "|---|---|", *rows, "", how])


def _classes(facts: Mapping[str, Any], run: "Run") -> str:
    names, counts, accuracies = facts["class_names"], facts["class_counts"], run.scores.per_class
    order = sorted(range(len(names)), key=lambda index: -counts[index])
    heading = "## Classes"
    if len(order) > MOST_CLASSES:
        ranked = sorted(order, key=lambda index: _sortable(accuracies[index]))
        order = [*ranked[: MOST_CLASSES // 2], *ranked[-MOST_CLASSES // 2 :]]
        heading = (
            f"## Classes: the {MOST_CLASSES // 2} least and the {MOST_CLASSES // 2} most accurate of {len(names):,}"
        )
    rows = [
        f"| {str(names[index]).replace('|', chr(92) + '|')} | {counts[index]:,} | {_percent(accuracies[index])} |"
        for index in order
    ]
    return "\n".join([heading, "", "| class | training images | accuracy, % |", "|---|---|---|", *rows])


def _calibration(facts: Mapping[str, Any], run: "Run") -> str:
    error = run.scores.ece
    measured = "was not measured" if error is None else f"is {error:.2f} % on the test split"
    if facts["test_prior"] is not None:
        prior = "The logits are shifted to class frequencies that the user of the export stated (`test_prior`)."
    elif len(set(facts["model_prior"])) == 1:
        prior = "The probabilities assume that all classes are equally frequent."
    else:
        prior = "The probabilities assume the class frequencies of the training images."
    return (
        f"## Calibration\n\nThe expected calibration error of the unshifted probabilities {measured}. {prior} Where "
        "other frequencies hold, shift the logits by the log of their ratio."
    )


def _limits(facts: Mapping[str, Any], run: "Run") -> str:
    scores, counts = run.scores, facts["class_counts"]
    few = run.groups["few"]
    rare = [name for name, count in zip(facts["class_names"], counts, strict=True) if count < few]
    never = [
        name
        for name, accuracy in zip(facts["class_names"], scores.per_class, strict=True)
        if accuracy is not None and accuracy == 0
    ]
    lines = [
        "- Every image is answered with one of the classes above, also an image of something else.",
        "- The scores hold for images like those of the test split.",
        f"- {len(rare):,} of {len(counts):,} classes have fewer than {few} training images.",
    ]
    if never:
        shown = ", ".join(map(str, never[:10])) + (", ..." if len(never) > 10 else "")
        lines.append(f"- {len(never):,} classes were never recognized on the test split: {shown}")
    return "## Limits\n\n" + "\n".join(lines)


def _use(facts: Mapping[str, Any]) -> str:
    kind, shape = facts["input"]["kind"], facts["input"]["shape"]
    lines = [
        "## Use",
        "",
        "```python",
        "import torch",
        "from longtail.export import load_exported",
        "",
        'trained = load_exported(".")  # this folder',
    ]
    if kind == "images":
        lines += [
            f"images = torch.zeros(1, 3, {shape[2]}, {shape[3]}, dtype=torch.uint8)  # RGB, 0 to 255",
            "probabilities = trained.model(images).softmax(dim=1)",
        ]
    else:
        lines += [f"features = torch.zeros(1, {shape[1]})", "probabilities = trained.model(features).softmax(dim=1)"]
    lines += ["print(trained.class_names[int(probabilities.argmax())])", "```"]
    if facts["preprocessing"] is not None:
        steps = {key: facts["preprocessing"][key] for key in ("color", "resize", "crop", "normalize")}
        lines += ["", "Preparation of an image file; the model itself normalizes:", "", "```json"]
        lines += [json.dumps(steps, indent=2), "```"]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.1f}"


def _sortable(value: float | None) -> float:
    return 101.0 if value is None or value != value else value
