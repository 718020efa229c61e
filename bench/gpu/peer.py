"""The same steps in PyTorch on the same GPU, eager and as CUDA graphs: lines of "name value unit", as gpu.cpp prints.

Products are in true float32 unless "tf32" is given. "cpu" runs the eager steps there, small ones, to try this file.
usage: peer.py [seconds per measurement] [tf32|cpu]
"""
import statistics
import sys
import time

import torch
from torch import nn

seconds_each = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
torch.backends.cuda.matmul.allow_tf32 = "tf32" in sys.argv
torch.manual_seed(1)
on_gpu = "cpu" not in sys.argv
device = torch.device("cuda" if on_gpu else "cpu")
name = torch.cuda.get_device_name() if on_gpu else "the CPU"
print("device PyTorch", torch.__version__, name, "TF32" if "tf32" in sys.argv else "float32")


def synchronize():
    if on_gpu:
        torch.cuda.synchronize()


def microseconds(run):
    def timed(times):
        synchronize()
        start = time.perf_counter()
        for _ in range(times):
            run()
        synchronize()
        return time.perf_counter() - start

    timed(3)
    times = 1
    while timed(times) < seconds_each / 20:
        times *= 2
    return 1e6 * statistics.median(timed(times) / times for _ in range(9))


def tell(name, step):
    """The step's time, eager and as a graph; the latter is returned."""
    print(f"{name}.eager {microseconds(step):.6g} us", flush=True)
    if not on_gpu:
        return 0
    graph = microseconds(graph_of(step).replay)
    print(f"{name}.graph {graph:.6g} us", flush=True)
    return graph


def graph_of(step):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def network(inputs, h1, h2):
    return nn.Sequential(nn.Linear(inputs, h1), nn.ReLU(), nn.Linear(h1, h2), nn.ReLU(), nn.Linear(h2, 10)).to(device)


def labels(n):
    return ((7 * torch.arange(n) + 3) % 10).to(device)


def training(name, widths, batch):
    model = network(*widths[:3])
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, fused=on_gpu)
    x, y = torch.rand(batch, widths[0], device=device), labels(batch)

    def step():
        sgd.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        sgd.step()

    tell(name, step)


def attack(name, batch):
    model = network(784, 1024, 1024)
    for p in model.parameters():
        p.requires_grad_(False)
    x, y = torch.rand(batch, 784, device=device), labels(batch)
    delta = torch.zeros_like(x)

    def step():
        d = delta.detach().requires_grad_()
        loss = nn.functional.cross_entropy(model(x + d), y, reduction="sum")
        (g,) = torch.autograd.grad(loss, d)
        delta.copy_((delta + 1000 * g.sign()).clamp_(-0.05, 0.05))

    graph = tell(name, step)
    if on_gpu:  # the published sweep: 60,000 images at 11 budgets with 1000 iterations
        print(f"{name}.sweep {60000 / batch * 11 * 1000 * graph / 1e6:.6g} s", flush=True)


training("small", (64, 32, 16, 10), 64)
for size in (128, 1024, 8192) if on_gpu else (16,):
    training(f"large.{size}", (784, 1024, 1024, 10), size)
attack("pgd", 10000 if on_gpu else 16)
