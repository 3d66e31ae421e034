"""A run is complete once its result is written."""

import longtail.report
from longtail.config import recipes
from longtail.run.fit import fit


def test_a_report_that_cannot_be_written_leaves_the_result(tmp_path, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(longtail.report, "write_report", fail)
    config = recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 1}}])
    run = fit(config, tmp_path / "run")
    assert run.result["test"]
    assert f"the report is not written: no fonts; write it with: longtail report {run.folder}" in caplog.text
