"""Attacks by PyTorch, beside which armagrad's are put.

Usage: python robustness.py
           writes robustness/digits.safetensors: a network for the digits, its gradients by the input and what attacks on
           it give, in double (needs torch and safetensors; last run with PyTorch 2.15.0 and safetensors 0.8.0)
       python robustness.py check WEIGHTS MNIST REPORT
           compares robustness.json of `./run robustness --weights WEIGHTS` with PyTorch's figures for the same weights
           and the folder of MNIST's files
"""

import gzip
import json
import re
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]  # scripts here have packages' names

import numpy as np
import torch
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)


def network(sizes):
    layers = [torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
    model = torch.nn.Module()
    for i, layer in enumerate(layers):
        model.add_module(f"l{i + 1}", layer)

    def forward(x):
        for layer in layers[:-1]:
            x = torch.relu(layer(x))
        return layers[-1](x)

    model.forward = forward
    return model


def losses(z, y, kind="cross_entropy"):
    own = z.gather(1, y[:, None])[:, 0]
    others = z.clone()
    others.scatter_(1, y[:, None], -torch.inf)
    if kind == "margin":
        return others.max(1).values - own
    return torch.nn.functional.softplus(torch.logsumexp(others, 1) - own)  # exact where p is near 1


def gradient(model, x, y, kind="cross_entropy"):
    x = x.detach().requires_grad_()
    z = model(x)
    loss = losses(z, y, kind)
    return torch.autograd.grad(loss.sum(), x)[0], z.detach(), loss.detach()


def fgsm(model, x, y, eps):
    return eps * gradient(model, x, y)[0].sign()


def pgd(model, x, y, eps, step, iterations):
    """Misclassified at any iterate, and at the final one."""
    delta, any_iterate = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool)
    for _ in range(iterations):
        g, z, _ = gradient(model, x + delta, y)
        any_iterate |= z.argmax(1) != y
        delta = (delta + step * g.sign()).clamp(-eps, eps)
    final = model(x + delta).argmax(1) != y
    return any_iterate | final, final, delta


def auto_pgd(model, x, y, eps, iterations):
    """Croce and Hein 2020, algorithm 1, from x itself: the largest loss of each example."""
    step = torch.full((len(x), 1), 2 * eps, dtype=x.dtype)
    interval, decrease, least = (max(1, int(s * iterations)) for s in (0.22, 0.03, 0.06))
    check = interval
    here = torch.zeros_like(x)
    g, _, loss = gradient(model, x, y)
    before, best, best_g, best_loss = here.clone(), here.clone(), g.clone(), loss.clone()
    checked_loss, halved, rises = loss.clone(), torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(x))
    for k in range(iterations):
        if k > 0:
            g, _, new = gradient(model, x + here, y)
            rises += new > loss
            loss = new
            better = loss > best_loss
            best[better], best_g[better], best_loss[better] = here[better], g[better], loss[better]
        if k == check:
            halved = (rises < 0.75 * interval) | (~halved & (best_loss <= checked_loss))
            step[halved] /= 2
            here = torch.where(halved[:, None], best, here)
            g = torch.where(halved[:, None], best_g, g)
            checked_loss, rises = best_loss.clone(), torch.zeros(len(x))
            interval = max(interval - decrease, least)
            check += interval
        ahead = (here + step * g.sign()).clamp(-eps, eps)
        if k > 0:
            ahead = (here + 0.75 * (ahead - here) + 0.25 * (here - before)).clamp(-eps, eps)
        before, here = here, ahead
    return torch.maximum(best_loss, gradient(model, x + here, y)[2])


def digits():
    rows = re.findall(r'"([A-Q]{64})(\d)"', (here / "../../datasets/digits.inc").read_text())
    x = torch.tensor([[ord(c) - ord("A") for c in pixels] for pixels, _ in rows], dtype=torch.float64) / 16
    return x, torch.tensor([int(label) for _, label in rows])


def write():
    torch.manual_seed(1)
    x, y = digits()
    model = network([64, 24, 24, 10])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x.float()), y).backward()
        optimizer.step()
    out = {name: p.detach().clone() for name, p in model.named_parameters()}  # float, which double holds exactly
    model.double()
    n = 300
    x, y = x[:n], y[:n]
    for kind in ("cross_entropy", "margin"):
        out[f"gradient.{kind}"] = gradient(model, x[:12], y[:12], kind)[0].T.contiguous()
    epsilons = [0.02, 0.05, 0.1, 0.2]
    columns = {"fgsm": [], "pgd.any": [], "pgd.final": [], "auto_pgd": []}
    for eps in epsilons:
        columns["fgsm"].append(model(x + fgsm(model, x, y, eps)).argmax(1) != y)
        any_iterate, final, _ = pgd(model, x, y, eps, 1000, 60)
        columns["pgd.any"].append(any_iterate)
        columns["pgd.final"].append(final)
        columns["auto_pgd"].append(auto_pgd(model, x[:40], y[:40], eps, 50))
    out["epsilons"] = torch.tensor(epsilons, dtype=torch.float64)
    for name, values in columns.items():
        if name == "auto_pgd":
            out[name] = torch.stack(values)
        else:
            packed = np.packbits(torch.stack(values).numpy().astype(np.uint8), axis=1)
            out[name] = torch.tensor(packed.astype(np.float32))  # 8 examples a number, the first in the highest bit
            print(name, [f"{v.double().mean().item():.3f}" for v in values])
    (here / "robustness").mkdir(exist_ok=True)
    save_file(out, here / "robustness/digits.safetensors")


def idx(folder, name, skip):
    path = next(p for p in (Path(folder) / (name + ".gz"), Path(folder) / name) if p.exists())
    data = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    return np.frombuffer(data, np.uint8)[skip:]


def check(weights, folder, report):
    figures = json.loads(Path(report).read_text())
    rows = {r["id"]: r["here"] for r in figures["rows"]}
    series = {s["id"]: s for s in figures["series"]}
    x = torch.tensor(idx(folder, "t10k-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32)) / 255
    y = torch.tensor(idx(folder, "t10k-labels-idx1-ubyte", 8).astype(np.int64))
    model = network([784, 1024, 1024, 10])
    model.load_state_dict(load_file(weights))

    def compare(name, ours, theirs):
        print(f"{name:40} armagrad {ours:.4f}  PyTorch {theirs:.4f}  difference {ours - theirs:+.4f}")

    with torch.no_grad():
        compare("test accuracy", rows["robustness.model.test_accuracy"],
                (model(x).argmax(1) == y).double().mean().item())
    first = x[:18], y[:18]
    compare("first 18, FGSM", rows["robustness.first18.fgsm"],
            (model(first[0] + fgsm(model, *first, 0.05)).argmax(1) != first[1]).double().mean().item())
    compare("first 18, PGD", rows["robustness.first18.pgd"],
            pgd(model, *first, 0.05, 1000, 1000)[1].double().mean().item())
    g, _, _ = gradient(model, x, y)
    for eps, ours in zip(series["robustness.fgsm.final"]["x"], series["robustness.fgsm.final"]["y"]):
        with torch.no_grad():
            right = (model(x + eps * g.sign()).argmax(1) == y).double().mean().item()
        compare(f"FGSM at {eps:.2f}, {len(x)} images", ours, right)


if len(sys.argv) == 1:
    write()
elif len(sys.argv) == 5 and sys.argv[1] == "check":
    check(*sys.argv[2:])
else:
    sys.exit(__doc__)
