"""Writes datasets.inc: what NumPy and scikit-learn give for the cases that tests/datasets_test.cpp compares with.

Usage: python datasets.py   (needs numpy and scikit-learn; last run with NumPy 2.4.6 and scikit-learn 1.9.1)
"""

from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_digits, make_regression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler

out = [
    "// Written by peers/datasets.py with NumPy %s and scikit-learn %s; do not edit." % (np.__version__, sklearn.__version__),
    "// clang-format off",
]


def row(values):
    # repr prints the shortest decimal that reads back to the same bits.
    return "{" + ", ".join(repr(v) for v in np.asarray(values).ravel(order="C").tolist()) + "}"


def reals(name, values):
    out.append("inline const std::vector<double> %s = %s;" % (name, row(values)))


def indices(name, values):
    out.append("inline const std::vector<arma::uword> %s = %s;" % (name, row(values)))


# The stream. One generator serves all calls, in this order, so that the kept normal and the word positions count too.
rng = np.random.RandomState(42)
reals("random_samples", rng.random_sample(5))
reals("normals", rng.standard_normal(5))
reals("uniforms", [rng.uniform(-3, 7) for _ in range(3)])
reals("scaled_normals", rng.normal(2, 0.5, 4))
interval_max = [0, 1, 5, 9, 255, 1000, 2**31, 2**32 - 1, 2**32, 10**15]
indices("interval_max", interval_max)
indices("intervals", [rng.randint(0, m + 1, dtype=np.int64) for m in interval_max])
indices("permutation", rng.permutation(20))
values = np.arange(100, 117)
rng.shuffle(values)
indices("shuffled", values)
reals("after_all", [rng.standard_normal(), rng.random_sample()])
rng = np.random.RandomState(0)
rng.random_sample(10000)
reals("seed_0_after_10000", [rng.random_sample()])
reals("largest_seed", np.random.RandomState(2**32 - 1).random_sample(2))
reals("one_word_key", np.random.RandomState([42]).random_sample(2))
reals("two_word_key", np.random.RandomState([1, 7]).random_sample(3))
reals("long_key", np.random.RandomState(list(range(5))).random_sample(3))
indices("loader_order", np.random.RandomState([1, 2]).permutation(10))  # seed 1, epoch 2

# make_regression
x, y, coef = make_regression(
    n_samples=500, n_features=1, n_informative=1, n_targets=1, bias=10, noise=25, coef=True, random_state=42
)
reals("linear_x", x[:20])
reals("linear_y", y[:20])
reals("linear_sums", [sum(x[:, 0].tolist()), sum(y.tolist())])  # over all 500, in order
reals("linear_coef", [coef])
x, y, coef = make_regression(n_samples=7, n_features=4, n_informative=2, bias=-1, coef=True, random_state=3)
reals("wide_x", x)  # row-major samples x features: column-major features x samples
reals("wide_y", y)
reals("wide_coef", coef)

# The power law, in NumPy's words.
u = np.random.RandomState(5).random_sample(101)
x = np.linspace(1, 10, 101)
reals("power_x", x)
reals("power_y", 2 * x**0.3 + 0.3 * u)

# Splits
digits = load_digits()
cases = [
    ("digits_split", digits.target, 0.2, 42, False),
    ("ties", np.repeat(np.arange(4), 5), 0.3, 0, True),
    ("ties_other_seed", np.repeat(np.arange(4), 5), 0.3, 1, True),
    ("gaps", np.random.RandomState(1).choice([1, 4, 9], 53, p=[0.6, 0.3, 0.1]), 0.25, 7, True),
    ("pairs", np.tile([7, 3], 2), 0.5, 12345, True),
    ("many", np.random.RandomState(2).permutation(np.repeat(np.arange(12), np.arange(2, 14))), 0.37, 2**32 - 1, True),
    # 8 / 49 * 49 rounds to less than 8, so scikit-learn draws random numbers for the test side as well.
    ("rounding", np.repeat(np.arange(7), np.arange(11, 18)), 0.5, 3, True),
    ("one_class", np.zeros(9, dtype=int), 0.1, 42, True),
]
names = []
for name, labels, test_size, seed, store in cases:
    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_size, random_state=seed, stratify=labels
    )
    if store:
        names.append('  {"%s", %s, %r, %dU, %s, %s},' % (name, row(labels), test_size, seed, row(train), row(test)))
    else:
        indices(name + "_train", train)
        indices(name + "_test", test)
out += [
    "struct SplitCase {",
    "  const char* name;",
    "  arma::Row<std::size_t> labels;",
    "  double test_size;",
    "  std::uint32_t random_state;",
    "  arma::uvec train, test;",
    "};",
    "inline const std::vector<SplitCase> split_cases = {",
    *names,
    "};",
]

# Scalers, on the digits split above.
train, test = train_test_split(digits.data, test_size=0.2, random_state=42, stratify=digits.target)
for name, scaler in ("min_max", MinMaxScaler()), ("standard", StandardScaler()):
    scaler.fit(train)
    reals(name + "_test_image", scaler.transform(test[:1]))
reals("digits_pixel_sums", digits.data.sum(axis=0))
indices("digits_label_counts", np.bincount(digits.target))

Path(__file__).with_name("datasets.inc").write_text("\n".join(out) + "\n")
