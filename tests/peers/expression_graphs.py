"""Writes expression_graphs.txt: random expressions with the values and gradients that PyTorch's float64 autograd gives
them, for tests/expression_graphs_test.cpp.

Usage: python expression_graphs.py   (needs PyTorch and NumPy; last run with PyTorch 2.15.0 and NumPy 2.4.6)

A line reads `name operands | numbers`; an operand is the number of an earlier node of the same graph, counted from 0.

  graph | index                  begins a graph
  variable | rows cols values    a node: a leaf whose gradient is wanted; values are column-major
  constant | rows cols values    a node: a leaf without gradient
  matmul 3 0 |                   a node: an operation of the table OPERATIONS below, its parameters after the bar
  value | v                      ends the graph: the last node, which is 1x1
  gradient 0 | values            after it, for each variable: its gradient, column-major

Each graph has 5 to 40 operations and only values within +-1000. A graph is drawn again when its answer is not settled:
when an operand lies within 1e-6 of a kink or two candidates of a maximum within 1e-6 of each other, or when relative
noise of 4e-16 in every node changes the value or a gradient by more than 1e-12 of its largest entry. The filter looks
at the expression as PyTorch evaluates it, never at armagrad's answer.
"""

import collections
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

SEED = 3
GRAPHS = 200
FEWEST, MOST = 5, 40  # operations of a graph
BOUND = 1e3  # of every value
LARGEST_SIDE = 8  # rows or columns of a node
KINK = 1e-6
NOISE, SETTLED = 4e-16, 1e-12

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


# The operations in PyTorch's words, with Armadillo's meaning: names, parameters and dimensions as in armagrad.


def flat(x):
    return x.t().reshape(-1)


def scalar(x):
    return x.reshape(1, 1)


def solve(a, b):
    return torch.linalg.solve(a, b) if a.shape[0] == a.shape[1] else torch.linalg.pinv(a) @ b


OPERATIONS = {
    "matmul": lambda a, b: a * b if 1 in (a.numel(), b.numel()) else a @ b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda x: -x,
    "scale": lambda x, c: c * x,
    "add_scalar": lambda x, c: x + c,
    "pow": lambda x, p: x**p,
    "t": lambda x: x.t(),
    "cols": lambda x, first, last: x[:, first : last + 1],
    "rows": lambda x, first, last: x[first : last + 1, :],
    "submat": lambda x, r0, c0, r1, c1: x[r0 : r1 + 1, c0 : c1 + 1],
    "elem": lambda x, *indices: flat(x)[list(indices)].reshape(-1, 1),
    "join_rows": lambda a, b: torch.cat([a, b], 1),
    "join_cols": lambda a, b: torch.cat([a, b], 0),
    "reshape": lambda x, r, c: flat(x).reshape(c, r).t(),
    "repmat": lambda x, down, across: x.repeat(down, across),
    "diagmat": lambda x: torch.diag(x.reshape(-1)),
    "diagvec": lambda x: torch.diagonal(x).reshape(-1, 1),
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "abs": torch.abs,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros(())),  # functional.softplus is x itself above 20
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "gelu": functional.gelu,
    "clamp": torch.clamp,
    "min": torch.minimum,
    "max": torch.maximum,
    "where": lambda a, b, c, d: torch.where(a > b, c, d),
    "accu": lambda x: scalar(x.sum()),
    "sum": lambda x, dim: x.sum(dim, keepdim=True),
    "mean": lambda x, dim: x.mean(dim, keepdim=True),
    "var": lambda x, dim: x.var(dim, correction=1, keepdim=True),
    "max_along": lambda x, dim: x.amax(dim, keepdim=True),
    "min_along": lambda x, dim: x.amin(dim, keepdim=True),
    "log_sum_exp": lambda x, dim: x.logsumexp(dim, keepdim=True),
    "norm": lambda x: scalar(torch.linalg.matrix_norm(x, "fro")),
    "dot": lambda a, b: scalar((a * b).sum()),
    "trace": lambda x: scalar(torch.trace(x)),
    "affine": lambda w, x, b: w @ x + b,
    "affine_relu": lambda w, x, b: torch.relu(w @ x + b),
    "softmax": lambda x: x.softmax(0),
    "log_softmax": lambda x: x.log_softmax(0),
    "cross_entropy": lambda x, *labels: scalar(functional.cross_entropy(x.t(), torch.tensor(labels))),
    "mse": lambda a, b: scalar(functional.mse_loss(a, b)),
    "solve": solve,
    "inv": torch.linalg.inv,
    "pinv": torch.linalg.pinv,
}


def top_gap(x, dim):
    """The smallest distance between the largest and the second largest element along dim."""
    if x.shape[dim] == 1:
        return np.inf
    top = x.topk(2, dim).values
    return (top.select(dim, 0) - top.select(dim, 1)).min().item()


KINK_DISTANCE = {
    "abs": lambda x: x.abs().min(),
    "sign": lambda x: x.abs().min(),
    "relu": lambda x: x.abs().min(),
    "leaky_relu": lambda x, s: x.abs().min(),
    "affine_relu": lambda w, x, b: (w @ x + b).abs().min(),
    "clamp": lambda x, low, high: torch.minimum((x - low).abs(), (x - high).abs()).min(),
    "min": lambda a, b: (a - b).abs().min(),
    "max": lambda a, b: (a - b).abs().min(),
    "where": lambda a, b, c, d: (a - b).abs().min(),
    "max_along": top_gap,
    "min_along": lambda x, dim: top_gap(-x, dim),
}

Node = collections.namedtuple("Node", "name operands numbers value")
LEAVES = "variable", "constant"


class Unfit(Exception):
    """The operation just drawn, or the whole graph, is not to be used."""


class Graph:
    def __init__(self, rng):
        self.rng = rng
        self.nodes = []

    def value(self, index):
        return self.nodes[index].value

    def shape(self, index):
        return tuple(self.value(index).shape)

    def operations(self):
        return [node for node in self.nodes if node.name not in LEAVES]

    def sinks(self):
        used = {k for node in self.nodes for k in node.operands}
        return [k for k in range(len(self.nodes)) if k not in used]

    def apply(self, name, *operands, numbers=()):
        values = [self.value(k) for k in operands]
        if name in KINK_DISTANCE and not KINK_DISTANCE[name](*values, *numbers) > KINK:
            raise Unfit
        value = OPERATIONS[name](*values, *numbers)
        if not (value.abs() <= BOUND).all() or max(value.shape) > LARGEST_SIDE:
            raise Unfit
        self.nodes.append(Node(name, operands, numbers, value))
        return len(self.nodes) - 1

    # Leaves

    def leaf(self, name, matrix):
        matrix = np.round(matrix, 4)
        self.nodes.append(Node(name, (), (*matrix.shape, *matrix.ravel(order="F").tolist()), torch.tensor(matrix)))
        return len(self.nodes) - 1

    def new(self, rows=None, cols=None, low=-2.0, high=2.0):
        rows, cols = rows or self.integer(1, 5), cols or self.integer(1, 5)
        return self.leaf(self.rng.choice(LEAVES, p=[0.85, 0.15]), self.rng.uniform(low, high, (rows, cols)))

    # Draws

    def integer(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def number(self, low, high):
        return round(float(self.rng.uniform(low, high)), 4)

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, fits=lambda x: True, make=None):
        """A node whose value fits, rather one that nobody uses yet; now and then, or if there is none, a new leaf."""
        nodes = [k for k, node in enumerate(self.nodes) if fits(node.value)]
        leaves = sum(node.name in LEAVES for node in self.nodes)
        if not nodes or leaves < 10 and self.chance(0.05):
            return (make or self.new)()
        sinks = set(self.sinks())
        weights = np.array([40.0 if k in sinks else 1.0 for k in nodes])
        return int(self.rng.choice(nodes, p=weights / weights.sum()))

    def shaped(self, rows, cols):
        return self.pick(lambda x: tuple(x.shape) == (rows, cols), lambda: self.new(rows, cols))

    def like(self, index):
        return self.shaped(*self.shape(index))

    def within(self, low, high):
        make = lambda: self.new(low=max(low, -3), high=min(high, 3))
        return self.pick(lambda x: low <= x.min() and x.max() <= high, make)

    def positive(self):
        if self.chance(0.3):
            return self.apply("add_scalar", self.apply("softplus", self.pick()), numbers=(self.number(0.1, 1),))
        return self.within(0.1, 100)

    def conditioned(self, square=False):
        """A matrix of full rank with well separated solution."""

        def fits(x):
            rows, cols = x.shape
            if square and rows != cols:
                return False
            s = torch.linalg.svdvals(x)
            return s.min() > 0.1 and s.max() < 20 * s.min()

        def make():
            rows = self.integer(1, 4)
            cols = rows if square or self.chance(0.5) else self.integer(1, 4)
            while True:
                matrix = np.round(self.rng.uniform(-2, 2, (rows, cols)), 4)
                if fits(torch.tensor(matrix)):
                    return self.leaf("variable", matrix)

        return self.pick(fits, make)

    def span(self, n):
        first = self.integer(0, n - 1)
        return first, self.integer(first, n - 1)


def draw_broadcast(name):
    """Two operands in either order, one of them of the other's shape, a column, a row or 1x1."""

    def draw(g):
        a = g.pick()
        rows, cols = g.shape(a)
        b = g.shaped(*[(rows, cols), (rows, 1), (1, cols), (1, 1)][g.rng.choice(4, p=[0.4, 0.2, 0.2, 0.2])])
        return g.apply(name, *((a, b) if g.chance(0.5) else (b, a)))

    return draw


def draw_div(g):
    a = g.pick()
    rows, cols = g.shape(a)
    rows, cols = [(rows, cols), (rows, 1), (1, cols), (1, 1)][g.integer(0, 3)]
    safe = lambda x: tuple(x.shape) == (rows, cols) and 0.1 < x.abs().min()
    b = g.pick(safe, lambda: g.new(rows, cols, *[(0.3, 2), (-2, -0.3)][g.integer(0, 1)]))
    if g.chance(0.4):  # a small numerator over a large denominator
        if not g.value(a).abs().min() > 0.1:
            raise Unfit
        return g.apply("div", b, a)
    return g.apply("div", a, b)


def draw_matmul(g):
    a = g.pick()
    rows, cols = g.shape(a)
    if g.chance(0.1):
        return g.apply("matmul", *((g.shaped(1, 1), a) if g.chance(0.5) else (a, g.shaped(1, 1))))
    if g.chance(0.5):
        return g.apply("matmul", a, g.pick(lambda x: x.shape[0] == cols, lambda: g.new(rows=cols)))
    return g.apply("matmul", g.pick(lambda x: x.shape[1] == rows, lambda: g.new(cols=rows)), a)


def draw_submat(g):
    x = g.pick()
    (r0, r1), (c0, c1) = g.span(g.shape(x)[0]), g.span(g.shape(x)[1])
    return g.apply("submat", x, numbers=(r0, c0, r1, c1))


def draw_spanned(name, dim):
    def draw(g):
        x = g.pick(lambda x: x.shape[dim] > 1)
        return g.apply(name, x, numbers=g.span(g.shape(x)[dim]))

    return draw


def draw_elem(g):
    x = g.pick()
    last = g.value(x).numel() - 1
    return g.apply("elem", x, numbers=tuple(g.integer(0, last) for _ in range(g.integer(1, 6))))


def draw_join(name, dim):
    def draw(g):
        a = g.pick()
        same = g.shape(a)[1 - dim]
        make = lambda: g.new(cols=same) if dim == 0 else g.new(rows=same)
        return g.apply(name, a, g.pick(lambda x: x.shape[1 - dim] == same, make))

    return draw


def draw_reshape(g):
    x = g.pick(lambda x: x.numel() > 1)
    n = g.value(x).numel()
    rows = int(g.rng.choice([r for r in range(1, n + 1) if n % r == 0 and max(r, n // r) <= LARGEST_SIDE] or [0]))
    if rows == 0:
        raise Unfit
    return g.apply("reshape", x, numbers=(rows, n // rows))


def draw_where(g):
    c = g.pick()
    return g.apply("where", g.like(c), g.like(c), c, g.like(c))


def draw_affine(name):
    def draw(g):
        x = g.pick()
        outputs = g.integer(1, 5)
        return g.apply(name, g.shaped(outputs, g.shape(x)[0]), x, g.shaped(outputs, 1))

    return draw


def draw_cross_entropy(g):
    x = g.pick(lambda x: x.shape[0] > 1 and x.abs().max() < 30, lambda: g.new(rows=g.integer(2, 5)))
    rows, cols = g.shape(x)
    return g.apply("cross_entropy", x, numbers=tuple(g.integer(0, rows - 1) for _ in range(cols)))


def draw_sign(g):
    x = g.pick()
    return g.apply("mul", g.apply("sign", x), x)  # alone it would end the gradient of all before it


def draw_clamp(g):
    x = g.within(-3, 3)
    low = g.number(-1.5, 0.5)
    return g.apply("clamp", x, numbers=(low, round(low + g.number(0.5, 2), 4)))


def draw_solve(g):
    a = g.conditioned()
    rows = g.shape(a)[0]
    return g.apply("solve", a, g.pick(lambda x: x.shape[0] == rows, lambda: g.new(rows=rows)))


def in_range(name, low, high):
    return lambda g: g.apply(name, g.within(low, high))


def along(name, least):
    """A reduction along a dimension that has at least so many elements."""

    def draw(g):
        dim = g.integer(0, 1)
        make = lambda: g.new(rows=g.integer(2, 5), cols=g.integer(2, 5))
        return g.apply(name, g.pick(lambda x: x.shape[dim] >= least, make), numbers=(dim,))

    return draw


def vector(g):
    return g.pick(lambda x: min(x.shape) == 1 and x.numel() <= 5, lambda: g.new(cols=1))


def pair(name):
    def draw(g):
        a = g.pick()
        return g.apply(name, a, g.like(a))

    return draw


DRAW = {
    "matmul": draw_matmul,
    **{name: draw_broadcast(name) for name in ("add", "sub", "mul", "min", "max")},
    "div": draw_div,
    "neg": in_range("neg", -BOUND, BOUND),
    "scale": lambda g: g.apply("scale", g.pick(), numbers=(g.number(-2, 2),)),
    "add_scalar": lambda g: g.apply("add_scalar", g.pick(), numbers=(g.number(-2, 2),)),
    "pow": lambda g: g.apply("pow", g.positive(), numbers=(float(g.rng.choice([-1, -0.7, 0.5, 1.5, 2.5, 3])),)),
    "t": in_range("t", -BOUND, BOUND),
    "cols": draw_spanned("cols", 1),
    "rows": draw_spanned("rows", 0),
    "submat": draw_submat,
    "elem": draw_elem,
    "join_rows": draw_join("join_rows", 1),
    "join_cols": draw_join("join_cols", 0),
    "reshape": draw_reshape,
    "repmat": lambda g: g.apply("repmat", g.pick(), numbers=(g.integer(1, 3), g.integer(1, 3))),
    "diagmat": lambda g: g.apply("diagmat", vector(g)),
    "diagvec": in_range("diagvec", -BOUND, BOUND),
    "exp": in_range("exp", -5, 5),
    "log": lambda g: g.apply("log", g.positive()),
    "log1p": in_range("log1p", -0.9, 100),
    "expm1": in_range("expm1", -5, 5),
    "sqrt": lambda g: g.apply("sqrt", g.positive()),
    "square": in_range("square", -20, 20),
    "abs": in_range("abs", -BOUND, BOUND),
    "sign": draw_sign,
    "sin": in_range("sin", -20, 20),
    "cos": in_range("cos", -20, 20),
    "tanh": in_range("tanh", -5, 5),
    "sigmoid": in_range("sigmoid", -30, 30),
    "softplus": in_range("softplus", -30, 30),
    "relu": in_range("relu", -BOUND, BOUND),
    "leaky_relu": lambda g: g.apply("leaky_relu", g.pick(), numbers=(g.number(0.01, 0.3),)),
    "gelu": in_range("gelu", -4, BOUND),
    "clamp": draw_clamp,
    "where": draw_where,
    "accu": in_range("accu", -BOUND, BOUND),
    "sum": along("sum", 1),
    "mean": along("mean", 1),
    "var": along("var", 2),
    "max_along": along("max_along", 2),
    "min_along": along("min_along", 2),
    "log_sum_exp": along("log_sum_exp", 1),
    "norm": lambda g: g.apply("norm", g.pick(lambda x: x.abs().max() > 0.1)),
    "dot": pair("dot"),
    "trace": lambda g: g.apply("trace", g.pick(lambda x: x.shape[0] == x.shape[1], lambda: g.new(3, 3))),
    "affine": draw_affine("affine"),
    "affine_relu": draw_affine("affine_relu"),
    "softmax": in_range("softmax", -30, 30),
    "log_softmax": in_range("log_softmax", -30, 30),
    "cross_entropy": draw_cross_entropy,
    "mse": pair("mse"),
    "solve": draw_solve,
    "inv": lambda g: g.apply("inv", g.conditioned(square=True)),
    "pinv": lambda g: g.apply("pinv", g.conditioned()),
}
assert DRAW.keys() == OPERATIONS.keys()


def finish(g):
    """Ends in one number on which every node bears: the weighted sums of the nodes nobody uses, added up."""
    total = None
    for k, sink in enumerate(g.sinks()):
        if g.shape(sink) != (1, 1):
            weights = g.leaf("constant", g.rng.uniform(-2, 2, g.shape(sink)))
            sink = g.apply("dot", weights, sink) if k % 2 else g.apply("accu", g.apply("mul", weights, sink))
        total = sink if total is None else g.apply("add", total, sink)


def draw_graph(rng, drawn):
    """A graph; operations that `drawn` counts less often are the likelier ones."""
    g = Graph(rng)
    target = g.integer(FEWEST, MOST)
    names = list(DRAW)
    # Every sink costs up to three operations at the end.
    while len(g.operations()) + 3 * len(g.sinks()) < target:
        weights = np.array([1.0 / (1 + drawn[name]) ** 2 for name in names])
        name = names[rng.choice(len(names), p=weights / weights.sum())]
        before = len(g.nodes)
        try:
            DRAW[name](g)
            drawn[name] += 1
        except Unfit:
            del g.nodes[before:]
    finish(g)
    if not FEWEST <= len(g.operations()) <= MOST:
        raise Unfit
    return g


def differentiate(g, noise=None):
    """Value and gradients of the variables by autograd; `noise` draws a rounding error for every node."""
    values, variables = [], []
    for node in g.nodes:
        if node.name in LEAVES:
            value = node.value.clone().requires_grad_(node.name == "variable")
            if node.name == "variable":
                variables.append(value)
        else:
            value = OPERATIONS[node.name](*[values[k] for k in node.operands], *node.numbers)
        if noise is not None:
            value = value * (1 + NOISE * noise(value.shape))
        values.append(value)
    if not variables:
        raise Unfit
    zeros = [torch.zeros_like(v) for v in variables]
    found = torch.autograd.grad(values[-1], variables, allow_unused=True) if values[-1].requires_grad else zeros
    return [values[-1].detach()] + [z if grad is None else grad for z, grad in zip(zeros, found)]


def settled(g):
    answer = differentiate(g)
    if not any(grad.abs().max() > 1e-3 for grad in answer[1:]):
        raise Unfit
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        again = differentiate(g, lambda shape: torch.randn(shape, generator=generator))
        for a, b in zip(answer, again):
            if not (a - b).abs().max() <= SETTLED * a.abs().max():
                raise Unfit
    return answer


def line(name, operands, numbers):
    return " ".join([name, *map(str, operands), "|", *map(repr, numbers)]) + "\n"


text, sizes, zero_gradients, gradients, redrawn = [], [], 0, 0, 0
drawn = collections.Counter()  # by name, to balance
kept = collections.Counter()
rng = np.random.default_rng(SEED)
while len(sizes) < GRAPHS:
    attempt = drawn.copy()
    try:
        g = draw_graph(rng, attempt)
        value, *grads = settled(g)
    except Unfit:
        redrawn += 1
        continue
    drawn = attempt
    text.append(line("graph", (), (len(sizes),)))
    text += [line(node.name, node.operands, node.numbers) for node in g.nodes]
    text.append(line("value", (), [value.item()]))
    variables = [k for k, node in enumerate(g.nodes) if node.name == "variable"]
    text += [line("gradient", (k,), flat(grad).tolist()) for k, grad in zip(variables, grads)]
    sizes.append(len(g.operations()))
    kept.update(node.name for node in g.nodes)
    gradients += len(grads)
    zero_gradients += sum(not grad.any() for grad in grads)

Path(__file__).with_suffix(".txt").write_text("".join(text))
print("PyTorch %s: %d graphs" % (torch.__version__, GRAPHS))
print("%d to %d operations each, %d in all" % (min(sizes), max(sizes), sum(sizes)))
print("%d graphs drawn again; %d of %d gradients are zero" % (redrawn, zero_gradients, gradients))
print("\n".join("%5d %s" % (kept[name], name) for name in (*LEAVES, *OPERATIONS)))
