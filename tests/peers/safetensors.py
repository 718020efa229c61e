"""Writes safetensors/*: files of the public safetensors package that tests/safetensors_test.cpp reads, and what is in
them as text. Also checks that the package reads a file that armagrad has written.

Usage: python safetensors.py              writes them (needs torch and safetensors; last run with PyTorch 2.15.0 and
                                          safetensors 0.8.0)
       python safetensors.py check FILE   compares FILE, written by armagrad, with peer.safetensors: names, types,
                                          shapes, bits and texts (`safetensors_test --run_test=writing` names such a file
                                          when ARMAGRAD_KEEP is set to a folder)
"""

import sys
from pathlib import Path

# This script has the package's name: the package must be found first.
here = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]

import torch
from safetensors import safe_open
from safetensors.torch import save_file

folder = here / "safetensors"


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).flatten().tolist() if tensor.ndim else tensor.reshape(1).view(torch.uint8).tolist()


def contents(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def check(path):
    ours, our_texts = contents(path)
    theirs, their_texts = contents(folder / "peer.safetensors")
    assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
    assert our_texts == their_texts, (our_texts, their_texts)
    for name in theirs:
        a, b = ours[name], theirs[name]
        assert (a.dtype, a.shape, bits(a)) == (b.dtype, b.shape, bits(b)), name
    print(f"{path}: {len(ours)} arrays and {len(our_texts)} texts as in peer.safetensors, bit for bit")


def text(tensors):
    """One line per array: name, shape with x, values in hexadecimal (exact)."""
    for name, tensor in sorted(tensors.items()):
        wide = tensor.double() if tensor.is_floating_point() else tensor
        values = [v.hex() if tensor.is_floating_point() else str(v) for v in wide.flatten().tolist()]
        yield f"{name} {'x'.join(map(str, tensor.shape)) or '-'} {' '.join(values)}\n"


def write():
    folder.mkdir(exist_ok=True)
    special = [0.0, -0.0, 1.0, -2.5, float("inf"), float("-inf"), 2.0**-14, 2.0**-24, 65504.0, 1 / 3]

    # The types that armagrad reads only; 2^-24 is half precision's smallest subnormal.
    narrow = {"half": torch.tensor(special).half(), "bfloat": torch.tensor(special).bfloat16().reshape(2, 5)}
    save_file(narrow, folder / "narrow.safetensors")
    with open(folder / "narrow.txt", "w") as out:
        out.writelines(text(narrow))

    # Those that it writes, too: the test writes this file again and compares the bytes.
    peer = {
        "weight": torch.tensor([[1.5, -2.0, 1 / 3], [4e-45, float("nan"), 3e38]]),
        "bias": torch.tensor([0.1, -0.0]),
        "double": torch.tensor([[1 / 3, 5e-324]], dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "größe": torch.tensor([7.0]),
        "counter": torch.tensor(-5),
        "random": torch.tensor([0, 1, 2**64 - 1], dtype=torch.uint64),
    }
    save_file(peer, folder / "peer.safetensors", metadata={"model": 'a "quoted" name, größer\n'})

    # A model as PyTorch saves it, and what it gives.
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.add_module("l1", torch.nn.Linear(3, 4))
    model.add_module("relu", torch.nn.ReLU())
    model.add_module("l2", torch.nn.Linear(4, 2))
    save_file(model.state_dict(), folder / "pytorch.safetensors", metadata={"format": "pt"})
    x = torch.randn(5, 3)
    with torch.no_grad(), open(folder / "pytorch.txt", "w") as out:
        out.writelines(text({**model.state_dict(), "x": x, "y": model(x)}))

    # The same in PyTorch's own format, which is refused with the way to convert it.
    torch.save(model.state_dict(), folder / "pytorch.pt")


if len(sys.argv) == 3 and sys.argv[1] == "check":
    check(sys.argv[2])
elif len(sys.argv) == 1:
    write()
else:
    sys.exit(__doc__)
