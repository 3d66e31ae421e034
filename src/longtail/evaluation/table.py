"""Table of predictions for people: one row per test image.

Shapes: N = examples, C = classes.
"""

import csv
import io
import os
from pathlib import Path

from longtail._io import write_text
from longtail.errors import InputError
from longtail.evaluation.predictions import Predictions

TOP = 5


def save_table(path: str | Path, predictions: Predictions) -> None:
    """Write predictions to a CSV file, atomically.

    The columns are path (or the index of the image, if there are no paths), label, predicted, probability, and class_2,
    probability_2 and so on of the next most probable classes, five in all. Without logits, the table ends after
    predicted.

    Args:
        path: Path of the file. An existing file is replaced.
        predictions: Predictions.

    Raises:
        InputError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> found = Predictions([0], [9, 2], logits=[[0.0, 1.0]], class_names=["cat", "dog"], paths=["cat/1.jpg"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_table(Path(folder) / "predictions.csv", found)
        ...     print((Path(folder) / "predictions.csv").read_text())
        path,label,predicted,probability,class_2,probability_2
        cat/1.jpg,cat,dog,0.731059,cat,0.268941
        <BLANKLINE>
    """
    names, text = predictions.class_names, io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    images = predictions.paths or tuple(map(str, range(len(predictions))))
    labels = [names[label] for label in predictions.targets.tolist()]
    # a file name need not be UTF-8
    firsts = [[os.fsencode(image).decode(errors="replace"), label] for image, label in zip(images, labels, strict=True)]
    if predictions.logits is None:
        lines.writerow(["path", "label", "predicted"])
        lines.writerows([*first, names[k]] for first, k in zip(firsts, predictions.predicted.tolist(), strict=True))
    else:
        top = predictions.logits.softmax(1).topk(min(TOP, len(names)), dim=1)
        more = [f"{word}_{rank}" for rank in range(2, top.values.shape[1] + 1) for word in ("class", "probability")]
        lines.writerow(["path", "label", "predicted", "probability", *more])
        for first, values, classes in zip(firsts, top.values.tolist(), top.indices.tolist(), strict=True):
            pairs = zip(classes, values, strict=True)
            lines.writerow([*first, *(cell for k, value in pairs for cell in (names[k], f"{value:.6f}"))])
    try:
        write_text(Path(path), text.getvalue())
    except OSError as error:
        raise InputError(f"cannot write the predictions to {path}: {error}") from error
