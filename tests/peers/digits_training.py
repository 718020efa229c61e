"""Writes digits_training/: what PyTorch gives for the trainings that tests/pytorch_training_test.cpp repeats.

Usage: python digits_training.py   (needs PyTorch, NumPy and scikit-learn; last run with PyTorch 2.15.0, NumPy 2.4.6
and scikit-learn 1.9.1)

Every file is one matrix in a format that Armadillo's `load` recognises: arma_ascii (.txt) for losses and steps,
arma_binary (.bin) for weights and gradients. A model's weights, or gradients, are one column: each layer in turn, its
weight (out x in, column-major) and then its bias.

  linear_float_weights.bin   model 5 (64-10) before the first step, float32
  linear_float_losses.txt    its first 100 losses
  mlp_double_weights.bin     model 7 (64-32-16-10, ReLU) before the first step, double (float32 numbers)
  mlp_double_losses.txt      its first 100 losses
  mlp_float_steps.txt        model 7 in float32 from the same weights: which 25 of the first 100 steps are kept
  mlp_float_weights.bin      its weights before each of them, one column a step
  mlp_float_gradients.bin    their gradients; SGD's update is weights - lr * gradients
  mlp_float_losses.txt       the losses of these steps

All train on the whole training set (1437 digits, stratified split 42, each pixel scaled to [0, 1]) with cross-entropy
and SGD at lr = 1e-2. A pre-activation of 1e-7 is positive or negative by its order of summation, and with it the
gradient of its ReLU: the steps kept are those at which all are at least 1e-6 away from 0.
"""

import copy
from pathlib import Path

import numpy as np
import sklearn.preprocessing
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

LEARNING_RATE = 1e-2
STEPS = 100
KEPT = 25
MARGIN = 1e-6  # of a pre-activation from ReLU's kink, at a kept step

folder = Path(__file__).with_suffix("")
folder.mkdir(exist_ok=True)


def save_text(name, values):
    lines = ["%.17g\n" % v for v in values]
    (folder / name).write_text("ARMA_MAT_TXT_FN008\n%d 1\n" % len(lines) + "".join(lines))


def save_binary(name, columns):
    matrix = np.stack(columns, axis=1)
    header = "ARMA_MAT_BIN_FN%03d\n%d %d\n" % (matrix.itemsize, *matrix.shape)
    (folder / name).write_bytes(header.encode() + matrix.astype(matrix.dtype.newbyteorder("<")).tobytes(order="F"))


def training_set(dtype):
    pixels, labels = load_digits(return_X_y=True)
    pixels, _, labels, _ = train_test_split(pixels, labels, test_size=0.2, random_state=42, stratify=labels)
    # (x - min) / range, each operation rounded once, so that another program gets the same bits; scikit-learn's
    # x * (1 / range) + offset rounds differently.
    low, span = pixels.min(axis=0), np.ptp(pixels, axis=0)
    scaled = np.divide(pixels - low, span, out=np.zeros_like(pixels), where=span > 0)
    assert np.abs(scaled - sklearn.preprocessing.MinMaxScaler().fit_transform(pixels)).max() < 1e-15
    return torch.tensor(scaled, dtype=dtype), torch.tensor(labels)


def flat(model, values):
    """One column of what `values` takes from each parameter, in Armadillo's column-major order."""
    return np.concatenate([values(p).detach().numpy().ravel(order="F") for p in model.parameters()])


def kink_distance(model, x):
    """The smallest |pre-activation| of a ReLU, computed in double."""
    smallest, x = np.inf, x.double()
    for layer in copy.deepcopy(model).double():
        if isinstance(layer, nn.ReLU):
            smallest = min(smallest, x.abs().min().item())
        x = layer(x)
    return smallest


def train(model, dtype, each_step=lambda step, loss, weights: None):
    x, labels = training_set(dtype)
    sgd = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for step in range(STEPS):
        weights = flat(model, lambda p: p)
        loss = nn.functional.cross_entropy(model(x), labels)
        sgd.zero_grad()
        loss.backward()
        each_step(step, loss.item(), weights)
        sgd.step()
        gradients = flat(model, lambda p: p.grad)
        assert np.allclose(flat(model, lambda p: p), weights - LEARNING_RATE * gradients, rtol=0, atol=1e-7)
        losses.append(loss.item())
    return losses


torch.set_num_threads(1)  # the order of summation, and so the last digits, depends on it
torch.manual_seed(5)
linear = nn.Linear(64, 10)
save_binary("linear_float_weights.bin", [flat(linear, lambda p: p)])
linear_losses = train(linear, torch.float32)
save_text("linear_float_losses.txt", linear_losses)

torch.manual_seed(7)
mlp_double = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10)).double()
mlp_float = copy.deepcopy(mlp_double).float()
save_binary("mlp_double_weights.bin", [flat(mlp_double, lambda p: p)])
mlp_losses = train(mlp_double, torch.float64)
save_text("mlp_double_losses.txt", mlp_losses)

pixels, _ = training_set(torch.float32)
records = []


def record(step, loss, weights):
    if kink_distance(mlp_float, pixels) >= MARGIN:
        records.append((step, loss, weights, flat(mlp_float, lambda p: p.grad)))


train(mlp_float, torch.float32, record)
eligible = len(records)
records = [records[i] for i in np.linspace(0, eligible - 1, KEPT).round().astype(int)]
steps, losses, weights, gradients = zip(*records)
save_text("mlp_float_steps.txt", steps)
save_text("mlp_float_losses.txt", losses)
save_binary("mlp_float_weights.bin", weights)
save_binary("mlp_float_gradients.bin", gradients)

print("PyTorch %s" % torch.__version__)
print("model 5, float32: loss %.7g -> %.7g" % (linear_losses[0], linear_losses[-1]))
print("model 7, double:  loss %.15g -> %.15g" % (mlp_losses[0], mlp_losses[-1]))
print("model 7, float32: %d of %d steps away from kinks; kept %s" % (eligible, STEPS, list(steps)))
