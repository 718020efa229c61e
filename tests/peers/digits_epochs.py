"""Writes digits_epochs.txt: the losses that PyTorch gives for the eight models of tests/zoo_digits_test.cpp.

Usage: python digits_epochs.py   (needs PyTorch, NumPy and scikit-learn; last run with PyTorch 2.15.0, NumPy 2.4.6 and
scikit-learn 1.9.1)

One line per model, in order of their numbers: the last batch's loss of each of the first 10 epochs, in float32 from
weights that both sides compute: entry k of a parameter, in row-major order, is sin(k + 1) / 8. Batches are in order, of
all images or 64; SGD at lr = 1e-2; squared error summed over the classes and averaged over the batch (models 1 and 2),
averaged over all entries (3 and 4), cross-entropy (5 to 8). Models 7 and 8 are 64-32-16-10 with ReLU.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler
from torch import nn

EPOCHS = 10

pixels, labels = load_digits(return_X_y=True)
pixels, _, labels, _ = train_test_split(pixels, labels, test_size=0.2, random_state=42, stratify=labels)
x = torch.tensor(MinMaxScaler().fit_transform(pixels), dtype=torch.float32)
y = torch.tensor(labels)
one_hot = nn.functional.one_hot(y, 10).float()

squares_sum = lambda out, i: ((out - one_hot[i]) ** 2).sum() / len(i)
squares_mean = lambda out, i: nn.functional.mse_loss(out, one_hot[i])
entropy = lambda out, i: nn.functional.cross_entropy(out, y[i])
linear = lambda: nn.Linear(64, 10)
network = lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))

torch.set_num_threads(1)
lines = []
for make, loss, batch in [
    (linear, squares_sum, 1437), (linear, squares_sum, 64), (linear, squares_mean, 1437), (linear, squares_mean, 64),
    (linear, entropy, 1437), (linear, entropy, 64), (network, entropy, 1437), (network, entropy, 64),
]:  # fmt: skip
    model = make()
    for p in model.parameters():
        p.data = torch.tensor(np.sin(np.arange(p.numel()) + 1.0) / 8, dtype=torch.float32).reshape(p.shape)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(EPOCHS):
        for indices in torch.arange(len(x)).split(batch):
            value = loss(model(x[indices]), indices)
            sgd.zero_grad()
            value.backward()
            sgd.step()
        losses.append(value.item())
    lines.append(" ".join("%.9g" % v for v in losses))
Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")
print("PyTorch %s" % torch.__version__, *lines, sep="\n")
