import numpy as np
import pytest
from scipy.spatial.distance import cdist

from longtail.errors import InputError
from longtail.papers import draw, write_plot
from longtail.papers.runs import read_runs


def test_the_summary_is_of_the_farthest_image_of_the_class_over_the_largest_norm(trained):
    plot = draw("intra-class-distances", trained, {"classes": ["3", "8"]})
    found = read_runs(trained)[0].outputs("train")
    embeddings = found.embeddings_ND.double().numpy()
    own = embeddings[found.targets_N.numpy() == 8]
    farthest = cdist(own, own).max(axis=1) / np.linalg.norm(embeddings, axis=1).max()
    line = next(line for line in plot.summary if line.startswith("8: ce"))
    assert f"distance {farthest.mean():.2f}" in line
    assert f"({len(own)} images)" in line
    shares = [row[4] for row in plot.table.rows if row[:2] == ("8", "ce")]
    edges = [row[2] for row in plot.table.rows if row[:2] == ("8", "ce")]
    assert sum(shares) == pytest.approx(1)
    mean_of_bins = np.dot(shares, edges) + (edges[1] - edges[0]) / 2
    assert mean_of_bins == pytest.approx(farthest.mean(), abs=edges[1] - edges[0])


def test_it_draws_either_part(trained, tmp_path):
    plot = draw("intra-class-distances", trained, {"part": "test"})
    assert plot.note == "test images"
    assert "largest distance" in write_plot(plot, "x", tmp_path)[0].read_text()


def test_a_class_of_one_image_has_no_distance(trained, monkeypatch):
    from longtail.papers.runs import FinishedRun, Outputs

    whole = FinishedRun.outputs

    def without_nines(self, part):
        found = whole(self, part)
        kept = (found.targets_N != 9).nonzero().flatten()
        kept = np.append(kept, int((found.targets_N == 9).nonzero()[0]))
        return Outputs(*(values[kept] for values in found))

    monkeypatch.setattr(FinishedRun, "outputs", without_nines)
    with pytest.raises(InputError, match="9 has too few images in this part"):
        draw("intra-class-distances", trained, {"classes": ["9"]})
