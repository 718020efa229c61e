"""The functions of higher_derivatives.cpp with JAX (compiled) and PyTorch, float64, one core: a table of microseconds.
With the built program named, armagrad's times from the same run stand beside theirs.

    pip install jax torch numpy
    taskset -c 0 python bench/higher_derivatives.py [build/release/bench/bench_higher_derivatives] [rounds]
"""

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"
import math  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def fixed(rows, cols, phase):
    return np.sin(phase + 1.7 * np.arange(rows * cols)).reshape(rows, cols, order="F")


def shortest(f):
    f()
    best, end, k = 1e300, time.perf_counter() + 0.5, 0
    while k < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
        k += 1
    return 1e6 * best


DATA, LABELS, IN = fixed(1000, 400, 0.1), np.sign(fixed(1000, 1, 0.7)), fixed(20, 200, 0.3)


def cases(xp, const):
    data, labels, inputs = const(DATA), const(LABELS), const(IN)
    softplus = jax.nn.softplus if xp is jnp else torch.nn.functional.softplus
    return {
        "logistic": (lambda w: softplus(-(labels * (data @ w))).mean(), 0.01 * fixed(400, 1, 0.2)),
        "network": (lambda w: (xp.tanh(w @ inputs) ** 2).sum(), 0.2 * fixed(20, 20, 0.2)),
        "chain": (lambda z: (z**4).sum() + xp.exp(z[:-1] * z[1:]).sum(), 0.5 * fixed(400, 1, 0.2)),
    }


def jax_times(f, x):
    x, v = jnp.array(x), jnp.array(fixed(*x.shape, 0.4))
    hvp = jax.jit(lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1])
    hessian, gradient = jax.jit(jax.hessian(f)), jax.jit(jax.value_and_grad(f))
    calls = (lambda: gradient(x), lambda: hvp(x, v), lambda: hessian(x))
    return [shortest(lambda g=g: jax.block_until_ready(g())) for g in calls]


def torch_times(f, x):
    x, v = torch.tensor(x), torch.tensor(fixed(*x.shape, 0.4))
    at = x.clone().requires_grad_()
    hessian = torch.func.hessian(f)
    calls = (
        lambda: torch.autograd.grad(f(at), at),
        lambda: torch.autograd.functional.hvp(f, x, v),
        lambda: hessian(x),
    )
    return [shortest(g) for g in calls]


def armagrad_times(program):
    """By case: gradient, H v, H; the faster of the two ways each."""
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    text = subprocess.run([program], env=env, check=True, capture_output=True, text=True).stdout
    times = {}
    for line in text.splitlines():
        g, hv1, hv2, h1, h2 = (float(t) for t in re.findall(r" (\d+\.?\d*)(?=,|$|  )", line))
        times[line.split()[0]] = [g, min(hv1, hv2), min(h1, h2)]
    return times


program = sys.argv[1] if len(sys.argv) > 1 else None
best = {}


def take(library, case, times):
    old = best.get((case, library), [math.inf] * 3)
    best[case, library] = [min(pair) for pair in zip(old, times)]


for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
    if program:
        for case, times in armagrad_times(program).items():
            take("armagrad", case, times)
    for case, (f, x) in cases(jnp, jnp.array).items():
        take(f"JAX {jax.__version__}", case, jax_times(f, x))
    for case, (f, x) in cases(torch, torch.tensor).items():
        take(f"PyTorch {torch.__version__.split('+')[0]}", case, torch_times(f, x))
print("| 400 inputs | | gradient | H v | H |\n|---|---|---|---|---|")
for case in ("logistic", "network", "chain"):
    for (c, library), times in best.items():
        if c == case:
            print(f"| {case} | {library} | " + " | ".join(f"{t:.0f}" for t in times) + " |")
