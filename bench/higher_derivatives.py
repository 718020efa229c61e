"""The functions of higher_derivatives.cpp with JAX (compiled) and PyTorch, float64, one core: microseconds.

    pip install jax torch numpy
    taskset -c 0 python bench/higher_derivatives.py
"""

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"
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


print("JAX", jax.__version__, "PyTorch", torch.__version__)
for name, (f, x) in cases(jnp, jnp.array).items():
    x, v = jnp.array(x), jnp.array(fixed(*x.shape, 0.4))
    hvp = jax.jit(lambda x, v, f=f: jax.jvp(jax.grad(f), (x,), (v,))[1])
    hessian, gradient = jax.jit(jax.hessian(f)), jax.jit(jax.value_and_grad(f))
    t = [shortest(lambda g=g: jax.block_until_ready(g())) for g in (lambda: gradient(x), lambda: hvp(x, v), lambda: hessian(x))]
    print("JAX      %-9s gradient %8.1f  H v %8.1f  H %9.0f" % (name, *t))
for name, (f, x) in cases(torch, torch.tensor).items():
    x, v = torch.tensor(x), torch.tensor(fixed(*x.shape, 0.4))
    at = x.clone().requires_grad_()
    gradient = lambda f=f, at=at: torch.autograd.grad(f(at), at)  # noqa: E731
    hvp = lambda f=f, x=x, v=v: torch.autograd.functional.hvp(f, x, v)  # noqa: E731
    hessian = torch.func.hessian(f)
    t = [shortest(gradient), shortest(hvp), shortest(lambda: hessian(x))]
    print("PyTorch  %-9s gradient %8.1f  H v %8.1f  H %9.0f" % (name, *t))
