"""The contestants written in Python: `peers.py pytorch|torch-compile|jax FILE`.

Reads a problem (problem.hpp) and answers the requests of contestant.hpp, each contestant in its framework's usual style.
"""

import json
import os
import sys
import time

import numpy as np


def memory(line_name):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(line_name + ":"):
                return int(line.split()[1]) * 1024


class Problem:
    """Weights as in x out, inputs as batch x features: the transpose of the file's column-major matrices."""

    def __init__(self, path):
        with open(path, "rb") as file:
            head = file.readline().decode().split()
            self.attack = head[0] == "attack"
            self.batch = int(head[1])
            self.lr, self.momentum, self.alpha, self.epsilon = map(float, head[2:6])
            self.layers = [int(n) for n in head[6:]]

            def read(kind, *shape):
                values = np.frombuffer(file.read(4 * int(np.prod(shape))), kind)
                return values.reshape(shape).copy()

            self.weights, self.biases = [], []
            for fan_in, fan_out in zip(self.layers, self.layers[1:]):
                self.weights.append(read(np.float32, fan_in, fan_out))
                self.biases.append(read(np.float32, fan_out))
            self.x = read(np.float32, self.batch, self.layers[0])
            self.labels = read(np.int32, self.batch)


class PyTorch:
    compiled = False

    def __init__(self, p):
        import torch

        self.torch, self.p = torch, p
        threads = int(os.environ["OMP_NUM_THREADS"])
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        linears = [torch.nn.Linear(i, o) for i, o in zip(p.layers, p.layers[1:])]
        modules = [m for linear in linears for m in (linear, torch.nn.ReLU())][:-1]
        self.linears, self.model = linears, torch.nn.Sequential(*modules)
        self.x, self.labels = torch.from_numpy(p.x), torch.from_numpy(p.labels).long()
        self.delta = torch.zeros_like(self.x, requires_grad=True) if p.attack else None
        if p.attack:
            self.model.requires_grad_(False)
        else:
            # fused=True is the fastest on a CPU; torch.compile fuses by itself.
            self.sgd = torch.optim.SGD(
                self.model.parameters(), lr=p.lr, momentum=p.momentum, fused=not self.compiled
            )
            self.update = torch.compile(self.sgd.step) if self.compiled else self.sgd.step
        self.loss_of = torch.nn.CrossEntropyLoss(reduction="sum" if p.attack else "mean")
        self.forward = lambda x, y: self.loss_of(self.model(x), y)
        self.attacked = lambda x, delta, y: self.loss_of(self.model(x + delta), y)
        if self.compiled:
            self.forward = torch.compile(self.forward)
            self.attacked = torch.compile(self.attacked)
        self.reset()

    def info(self):
        torch = self.torch
        config = torch.__config__.show().splitlines()
        names = ("Math Kernel Library Version", "OpenBLAS", "CPU capability usage")
        blas = "; ".join(line.strip(" -") for line in config if any(name in line for name in names))
        return {"version": torch.__version__, "blas": blas, "threads": torch.get_num_threads()}

    def reset(self):
        torch, p = self.torch, self.p
        with torch.no_grad():
            for linear, w, b in zip(self.linears, p.weights, p.biases):
                linear.weight.copy_(torch.from_numpy(w).t())
                linear.bias.copy_(torch.from_numpy(b))
            if p.attack:
                self.delta.zero_()
            elif p.momentum:
                for state in self.sgd.state.values():
                    state["momentum_buffer"].zero_()

    def step(self):
        torch, p = self.torch, self.p
        if p.attack:
            self.last = self.attacked(self.x, self.delta, self.labels)
            (gradient,) = torch.autograd.grad(self.last, self.delta)
            with torch.no_grad():
                self.delta.add_(gradient.sign_(), alpha=p.alpha).clamp_(-p.epsilon, p.epsilon)
        else:
            self.sgd.zero_grad()
            self.last = self.forward(self.x, self.labels)
            self.last.backward()
            self.update()

    def wait(self):
        pass

    def loss(self):
        return self.last.item()


class TorchCompile(PyTorch):
    compiled = True


class Jax:
    def __init__(self, p):
        import jax
        import jax.numpy as jnp

        self.jax, self.jnp, self.p = jax, jnp, p
        self.x, self.labels = jnp.asarray(p.x), jnp.asarray(p.labels)

        def forward(parameters, x, y):
            for w, b in parameters[:-1]:
                x = jax.nn.relu(x @ w + b)
            w, b = parameters[-1]
            logits = x @ w + b
            own = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
            losses = jax.nn.logsumexp(logits, axis=1) - own
            return losses.sum() if p.attack else losses.mean()

        def train(state, parameters, x, y):
            parameters, velocity = state
            loss, gradient = jax.value_and_grad(forward)(parameters, x, y)
            if p.momentum:
                velocity = jax.tree.map(lambda v, g: p.momentum * v + g, velocity, gradient)
                gradient = velocity
            parameters = jax.tree.map(lambda w, g: w - p.lr * g, parameters, gradient)
            return (parameters, velocity), loss

        def attack(delta, parameters, x, y):
            loss, g = jax.value_and_grad(lambda d: forward(parameters, x + d, y))(delta)
            return jnp.clip(delta + p.alpha * jnp.sign(g), -p.epsilon, p.epsilon), loss

        self.jitted = jax.jit(attack if p.attack else train, donate_argnums=0)
        self.reset()

    def info(self):
        import jaxlib

        blas = "XLA's CPU compiler"
        return {
            "version": f"{self.jax.__version__}, jaxlib {jaxlib.__version__}",
            "blas": blas,
            "threads": len(os.sched_getaffinity(0)),
        }

    def reset(self):
        jnp, p = self.jnp, self.p
        self.parameters = [(jnp.array(w), jnp.array(b)) for w, b in zip(p.weights, p.biases)]
        if p.attack:
            self.state = jnp.zeros_like(self.x)
        else:
            velocity = self.jax.tree.map(jnp.zeros_like, self.parameters) if p.momentum else None
            self.state = (self.parameters, velocity)
            self.parameters = None
        self.jax.block_until_ready(self.state)

    def step(self):
        self.state, self.last = self.jitted(self.state, self.parameters, self.x, self.labels)

    def wait(self):
        self.jax.block_until_ready(self.state)

    def loss(self):
        return float(self.last)


def serve(make, path, answers):
    problem = Problem(path)
    start = memory("VmRSS")
    contestant = make(problem)
    for line in sys.stdin:
        request, *numbers = line.split()
        numbers = [int(n) for n in numbers]
        try:
            if request == "info":
                answer = contestant.info()
            elif request == "check":
                contestant.reset()
                losses = []
                for _ in range(numbers[0]):
                    contestant.step()
                    losses.append(contestant.loss())
                answer = {"losses": losses}
            elif request == "run":
                warm, n = numbers
                contestant.reset()
                step = contestant.step
                for _ in range(warm):
                    step()
                contestant.wait()
                processor, begin = time.process_time(), time.perf_counter()
                for _ in range(n):
                    step()
                contestant.wait()
                answer = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - processor}
            elif request == "memory":
                answer = {"start": start, "now": memory("VmRSS"), "peak": memory("VmHWM")}
            else:
                answer = {"error": f"unknown request '{request}'"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # Answers go out by the first standard output; whatever the frameworks print goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kinds = {"pytorch": PyTorch, "torch-compile": TorchCompile, "jax": Jax}
    try:
        serve(kinds[sys.argv[1]], sys.argv[2], answers)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        sys.exit(1)
