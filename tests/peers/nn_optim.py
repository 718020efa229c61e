"""Writes nn_optim.inc: what PyTorch gives for the cases that tests/nn_test.cpp and tests/optim_test.cpp compare with.

Usage: python nn_optim.py   (needs PyTorch and NumPy; last run with PyTorch 2.15.0 and NumPy 2.4.6)

All in double. Matrices are written as armagrad has them, features x batch, column by column.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

torch.set_default_dtype(torch.float64)
rng = np.random.RandomState(3)
out = ["// Written by peers/nn_optim.py with PyTorch %s; do not edit." % torch.__version__.split("+")[0], "// clang-format off"]


def numbers(values):
    # repr prints the shortest decimal that reads back to the same bits.
    return "{" + ", ".join(repr(v) for v in np.asarray(values, dtype=float).ravel().tolist()) + "}"


def matrix(m):
    m = m.detach().numpy()
    if m.ndim == 1:
        m = m[:, None]
    return "arma::mat(std::vector<double>%s.data(), %d, %d)" % (numbers(m.ravel(order="F")), *m.shape)


def write(name, m):
    out.append("inline const arma::mat %s = %s;" % (name, matrix(m)))


def random(rows, cols):
    return torch.tensor(np.round(rng.uniform(-2, 2, (rows, cols)), 3))


# Layers: a module's result and, for the upstream gradient `layer_g`, its gradients. PyTorch's batch is samples x
# features, hence the transposes.
w, b, x, g = random(3, 4), random(3, 1), random(4, 5), random(3, 5)
x[0, 0] = 0  # relu's kink
linear = nn.Linear(4, 3)
linear.weight.data, linear.bias.data = w.clone(), b[:, 0].clone()
leaf = x.clone().requires_grad_()
y = linear(leaf.t()).t()
(y * g).sum().backward()
for name, m in ("weight", w), ("bias", b), ("x", x), ("g", g), ("y", y), ("dx", leaf.grad):
    write("linear_" + name, m)
write("linear_dw", linear.weight.grad)
write("linear_db", linear.bias.grad)

activation_g = random(4, 5)
write("activation_g", activation_g)
out.append("struct ActivationCase { const char* name; arma::mat y, dx; };  // of linear_x")
out.append("inline const std::vector<ActivationCase> activation_cases = {")
for layer in nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.GELU():
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    (y * activation_g).sum().backward()
    out.append('  {"%s", %s, %s},' % (type(layer).__name__, matrix(y), matrix(leaf.grad)))
out.append("};")

# Losses: features x batch, so that PyTorch's mean over the batch is the mean over columns.
prediction, target = random(3, 4), random(3, 4)
prediction[0, 0] = target[0, 0]  # no difference
prediction[1, 0] = target[1, 0] + 0.5  # just delta
write("prediction", prediction)
write("target", target)


def reductions(each):
    return [("mean", each.mean()), ("sample_mean", each.sum(0).mean()), ("sum", each.sum())]


out.append("struct LossCase { const char* name; const char* reduction; double delta, value; arma::mat gradient; };")
out.append("inline const std::vector<LossCase> loss_cases = {")
for name, delta in ("mse", 0), ("l1", 0), ("huber", 1), ("huber", 0.5), ("huber", 10):
    for k in range(3):
        leaf = prediction.clone().requires_grad_()
        each = {
            "mse": lambda: F.mse_loss(leaf, target, reduction="none"),
            "l1": lambda: F.l1_loss(leaf, target, reduction="none"),
            "huber": lambda: F.huber_loss(leaf, target, reduction="none", delta=delta),
        }[name]()
        reduction, value = reductions(each)[k]
        if name != "huber" and reduction != "sample_mean":  # PyTorch's own reductions are the same
            own = {"mse": F.mse_loss, "l1": F.l1_loss}[name](leaf, target, reduction=reduction)
            assert abs(own.item() - value.item()) < 1e-14
        value.backward()
        out.append('  {"%s", "%s", %r, %r, %s},' % (name, reduction, delta, value.item(), matrix(leaf.grad)))
out.append("};")

logits, labels = 3 * random(4, 5), torch.tensor([1, 0, 3, 3, 2])
logits[0, 1] = 40  # a confident column
write("logits", logits)
out.append("inline const arma::Row<std::size_t> labels = {%s};" % ", ".join(map(str, labels.tolist())))
for reduction in "mean", "sum":
    leaf = logits.clone().requires_grad_()
    value = F.cross_entropy(leaf.t(), labels, reduction=reduction)
    value.backward()
    out.append("inline const double cross_entropy_%s = %r;" % (reduction, value.item()))
    write("cross_entropy_%s_gradient" % reduction, leaf.grad)

# SGD: two parameters, given gradients at each step, the weights after each step, one column a step: first's elements
# column by column, then second's. `late`: the second parameter has no gradient at step 0.
STEPS = 4
first, second = random(2, 3), random(2, 1)
gradients = [(random(2, 3), random(2, 1)) for _ in range(STEPS)]
write("sgd_first", first)
write("sgd_second", second)
for k in range(2):
    out.append("inline const std::vector<arma::mat> sgd_gradients_%d = {%s};" % (k, ", ".join(matrix(s[k]) for s in gradients)))


def column(p):
    return p.detach().numpy().ravel(order="F")


def run(groups, late, **options):
    p = [nn.Parameter(first.clone()), nn.Parameter(second.clone())]
    sgd = torch.optim.SGD([{"params": [p[k]], **groups[k]} for k in range(2)] if groups else p, **options)
    columns = []
    for step in range(STEPS):
        for k in range(2):
            p[k].grad = None if late and step == 0 and k == 1 else gradients[step][k].clone()
        sgd.step()
        columns.append(np.concatenate([column(p[0]), column(p[1])]))
    return torch.tensor(np.stack(columns, axis=1))


cases = [
    dict(lr=0.1),
    dict(lr=0.1, momentum=0.9),
    dict(lr=0.1, momentum=0.9, dampening=0.3),
    dict(lr=0.1, momentum=0.9, nesterov=True),
    dict(lr=0.1, weight_decay=0.2),
    dict(lr=0.1, maximize=True),
    dict(lr=0.1, momentum=0.5, weight_decay=0.2),
    dict(lr=0.1, momentum=0.5, weight_decay=0.2, maximize=True),
    dict(lr=0.1, momentum=0.5, dampening=-0.5, weight_decay=0.1),
    dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05, maximize=True),
    dict(lr=0.0, momentum=0.9),
    dict(lr=0.1, momentum=0.9, dampening=0.3, late=True),
    dict(lr=0.1, momentum=0.9, nesterov=True, late=True),
]
out += [
    "struct SgdCase {",
    "  double lr, momentum, dampening, weight_decay;",
    "  bool nesterov, maximize, late;",
    "  arma::mat weights;",
    "};",
    "inline const std::vector<SgdCase> sgd_cases = {",
]
for case in cases:
    keep = dict(case)
    late = keep.pop("late", False)
    weights = run(None, late, **keep)
    o = [case.get(k, 0.0) for k in ("lr", "momentum", "dampening", "weight_decay")]
    f = [str(bool(case.get(k, False))).lower() for k in ("nesterov", "maximize", "late")]
    out.append("  {%s, %s, %s}," % (", ".join(map(repr, o)), ", ".join(f), matrix(weights)))
out.append("};")
# Two groups: {lr 0.1, momentum 0.9, nesterov} and {lr 0.01, weight_decay 0.5}.
write("sgd_groups", run([dict(momentum=0.9, nesterov=True), dict(lr=0.01, weight_decay=0.5)], False, lr=0.1))

# Clipping the gradients of step 0.
def clipped(clip):
    p = [nn.Parameter(first.clone()), nn.Parameter(second.clone())]
    for k in range(2):
        p[k].grad = gradients[0][k].clone()
    result = clip(p)
    return result, torch.tensor(np.concatenate([column(p[0].grad), column(p[1].grad)]))


norm, gradient = clipped(lambda p: nn.utils.clip_grad_norm_(p, 1.5))
out.append("inline const double clip_norm = %r;  // before clipping to 1.5" % norm.item())
write("clip_norm_gradient", gradient)
norm_again, gradient = clipped(lambda p: nn.utils.clip_grad_norm_(p, 100))
assert norm_again == norm
write("clip_norm_not_reached", gradient)
write("clip_value_gradient", clipped(lambda p: nn.utils.clip_grad_value_(p, 0.7))[1])


# Schedules: the rate at every step.
def rates(lr, make, steps):
    p = nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([p], lr=lr)
    schedule = make(sgd)
    found = []
    for _ in range(steps):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    return found


def schedule(name, lr, make, steps):
    out.append("inline const std::vector<double> %s = %s;" % (name, numbers(rates(lr, make, steps))))


schedule("step_rates", 0.3, lambda s: lr_scheduler.StepLR(s, step_size=3, gamma=0.5), 11)
schedule("cosine_rates", 0.3, lambda s: lr_scheduler.CosineAnnealingLR(s, T_max=8, eta_min=0.01), 9)
schedule("one_cycle_rates", 1.0, lambda s: lr_scheduler.OneCycleLR(s, max_lr=0.2, total_steps=11), 11)
schedule(
    "one_cycle_rates_other",
    1.0,
    lambda s: lr_scheduler.OneCycleLR(s, max_lr=0.2, total_steps=9, pct_start=0.55, div_factor=10, final_div_factor=50),
    9,
)

Path(__file__).with_suffix(".inc").write_text("\n".join(out) + "\n")
