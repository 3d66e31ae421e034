"""Score the logits of any model by class frequency, also under other test priors."""

import torch

import longtail as lt


def main() -> None:
    """Score synthetic logits of a classifier that favors the classes with many training images."""
    class_counts = torch.tensor([1000, 300, 80, 30, 10])
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(5).repeat_interleave(200)
    logits = torch.randn(1000, 5, generator=generator) + 0.5 * class_counts.log()
    logits[torch.arange(1000), targets] += 2.5
    for name, prior in (
        ("test set as it is", None),
        ("training prior", class_counts / class_counts.sum()),
        ("backward, 50 : 1", lt.evaluation.long_tailed_prior(class_counts, 50, "backward")),
    ):
        scores = lt.evaluation.evaluate_logits(logits, targets, class_counts, prior=prior)
        print(
            f"{name:18} all {scores.top1:5.1f}  many {scores.many:5.1f}  few {scores.few:5.1f}  ECE {scores.ece:4.1f}"
        )


if __name__ == "__main__":
    main()
