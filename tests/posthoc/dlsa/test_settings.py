import pytest

from longtail.errors import InputError
from longtail.posthoc.dlsa import FilterSettings


def test_defaults_are_the_papers_for_imagenet_lt() -> None:
    """See the supplement, Sec. 5, and lambda_MLE, q and eta in the authors' code."""
    paper = FilterSettings()
    assert (paper.epochs, paper.batch_size, paper.lr) == (50, 1024, 0.2)
    assert (paper.likelihood_weight, paper.balance_weight, paper.purity_weight) == (2, 1, 0.02)
    assert (paper.power, paper.momentum, paper.min_purity, paper.min_size, paper.max_size) == (2, 0.7, 0.7, 10, 5000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "`epochs` must be >= 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
        ({"lr": float("nan")}, "`lr` must be > 0, got nan"),
        ({"likelihood_weight": -1.0}, "`likelihood_weight` must be >= 0, got -1.0"),
        ({"balance_weight": float("inf")}, "`balance_weight` must be >= 0, got inf"),
        ({"purity_weight": -0.1}, "`purity_weight` must be >= 0, got -0.1"),
        ({"power": -2.0}, "`power` must be >= 0, got -2.0"),
        ({"momentum": 1.0}, "`momentum` must be >= 0 and < 1, got 1.0"),
        ({"max_norm": 0.0}, "`max_norm` must be > 0, got 0.0"),
        ({"margin": 2.0}, "`margin` must be > 0 and <= 1, got 2.0"),
    ],
)
def test_a_number_out_of_its_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FilterSettings(**options)  # type: ignore[arg-type]
