"""Use one loss in a plain PyTorch training loop."""

import torch
from sklearn.datasets import make_blobs
from torch import nn

import longtail as lt

CLASS_COUNTS = [500, 50, 5]


def main() -> None:
    """Train a linear classifier on blobs of 500, 50 and 5 points and print the accuracy of each class."""
    centers = [(0.0, 0.0), (2.0, 0.0), (0.0, 2.0)]
    points, labels = make_blobs(n_samples=CLASS_COUNTS, centers=centers, random_state=0)
    x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(labels)
    test_points, test_labels = make_blobs(n_samples=[1000] * 3, centers=centers, random_state=1)
    losses = {"cross-entropy": nn.CrossEntropyLoss(), "Balanced Softmax": lt.losses.BalancedSoftmax(CLASS_COUNTS)}
    for name, loss in losses.items():
        torch.manual_seed(0)
        model = nn.Linear(2, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(500):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        correct = model(torch.tensor(test_points, dtype=torch.float32)).argmax(1) == torch.tensor(test_labels)
        per_class = [100 * correct[torch.tensor(test_labels) == label].float().mean() for label in range(3)]
        print(f"{name:18}", " ".join(f"{accuracy:5.1f} %" for accuracy in per_class))


if __name__ == "__main__":
    main()
