"""PyTorch's side of bench_linear_algebra: pytorch.py [n...]. Prints "operation n microseconds"."""
import math
import sys
import time

import torch

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
L = torch.linalg


def fastest(f):
    best, end, runs = math.inf, time.perf_counter() + 0.3, 0
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best * 1e6


def total(*xs):
    return sum(x.sum() for x in xs)


GENERAL = {
    "solve": lambda a, b: L.solve(a, b[:, :1]).sum(),
    "solve_n": lambda a, b: L.solve(a, b).sum(),
    "inv": lambda a, b: L.inv(a).sum(),
    "log_det": lambda a, b: L.slogdet(a)[1],
    "svd_values": lambda a, b: L.svdvals(a).sum(),
    "svd": lambda a, b: total(*L.svd(a, full_matrices=False)),
    "pinv": lambda a, b: L.pinv(a).sum(),
}
SYMMETRIC = {
    "chol": lambda a, b: L.cholesky(a).sum(),
    "eig_sym": lambda a, b: total(*L.eigh(a)),
}


def gaussian_process(n):
    x = torch.linspace(0, 10, n)
    y = torch.sin(x) + 0.1 * torch.randn(n)
    squared, identity = (x[:, None] - x[None, :]) ** 2, torch.eye(n)
    length, size, noise = (torch.tensor(v, requires_grad=True) for v in (0.1, 0.2, -2.0))

    def step():
        length.grad = size.grad = noise.grad = None
        k = size.exp() * torch.exp(squared * (-0.5 * torch.exp(-2 * length))) + noise.exp() * identity
        low = L.cholesky(k)
        loss = 0.5 * y @ torch.cholesky_solve(y[:, None], low)[:, 0] + low.diagonal().log().sum()
        loss.backward()

    return fastest(step)


for n in [int(v) for v in sys.argv[1:]] or [10, 100, 500]:
    torch.manual_seed(n)
    a = torch.randn(n, n) + 3 * math.sqrt(n) * torch.eye(n)
    b = torch.randn(n, n)
    s = a @ a.T / n + torch.eye(n)
    for functions, at in ((GENERAL, a), (SYMMETRIC, s)):
        x = at.clone().requires_grad_()
        for name, f in functions.items():

            def step():
                x.grad = None
                f(x, b).backward()

            print(name, n, f"{fastest(step):.2f}", flush=True)
    if n >= 100:
        print("gaussian_process", n, f"{gaussian_process(n):.2f}", flush=True)
