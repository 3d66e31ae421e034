"""`longtail show`: print the resolved configuration of a run."""

import sys

from longtail.cli._options import RunOptions
from longtail.cli.train import resolve


def main(data: str | None = None, /, *, run: RunOptions = RunOptions()) -> None:
    """Print the resolved configuration of a run, as YAML.

    Args:
        data: Name of a data set (longtail list data), or a path. Default: digits-lt.
        run: Options that define the configuration.

    Examples:
        longtail show cifar100-lt --method balanced-softmax > mine.yaml
        longtail train --config mine.yaml
    """
    name = run.data_set(data)
    from longtail.cli._output import console
    from longtail.config import recipes

    plan = resolve(run, name, fetch=False)
    for reason in plan.reasons:
        console.print(f"chosen: {reason}")
    sys.stdout.write(recipes.to_yaml(plan.config))
