"""Gradients of linear algebra: a 50-digit reference, and PyTorch's own error beside it.

    pip install torch numpy mpmath        # PyTorch 2.x
    python tests/peers/linear_algebra.py > tests/peers/linear_algebra.txt

For every operation and input family: f(A, ...) = sum(W % operation(A, ...)) with W(k) = cos(0.7 + 1.3 k), k counted down
the columns from 0. The reference gradient is a central difference of f in 60-digit arithmetic with a step of 1e-20, so
its own error is below 1e-30 times the third derivative. One line for each case:

    case OPERATION FAMILY TORCH_ERROR INPUTS
    input ROWS COLS VALUES...     (down the columns, exact: they are written with few digits)
    gradient VALUES...

TORCH_ERROR is max |g - reference| / max |reference| of PyTorch's float64 gradient, nan where it has no such operation or
no gradient for it; it is of one processor and version. Outputs that depend on the signs of vectors are made independent of them: V diag(1, 2, ...) V'.
"""
import math
import sys

import mpmath as mp
import numpy as np
import torch

mp.mp.dps = 60
STEP = mp.mpf(10) ** -20
torch.set_default_dtype(torch.float64)
L = torch.linalg


def sympart_t(a):
    return (a + a.T) / 2


def sympart(a):
    return (a + a.T) / 2


def mp_diag(values):
    return mp.diag([v for v in values])


def qr(a):
    """Gram and Schmidt's, with the signs of LAPACK's R."""
    m, n = a.rows, a.cols
    k = min(m, n)
    signs = np.sign(np.diag(np.linalg.qr(np.array(a.tolist(), dtype=float))[1]))
    q, r = mp.zeros(m, k), mp.zeros(k, n)
    for j in range(n):
        v = a[:, j]
        for i in range(min(j, k)):
            r[i, j] = sum(q[l, i] * v[l] for l in range(m))
            v = v - r[i, j] * q[:, i]
        if j < k:
            r[j, j] = signs[j] * mp.sqrt(sum(x * x for x in v))
            for l in range(m):
                q[l, j] = v[l] / r[j, j]
    return q, r


def lu(a):
    """Doolittle's, with LAPACK's row exchanges."""
    import scipy.linalg

    p = scipy.linalg.lu(np.array(a.tolist(), dtype=float))[0].T
    n = a.rows
    u, low = mp.matrix(p.tolist()) * a, mp.eye(n)
    for j in range(n):
        for i in range(j + 1, n):
            low[i, j] = u[i, j] / u[j, j]
            for c in range(n):
                u[i, c] -= low[i, j] * u[j, c]
    return low, u


def svd(a):
    u, s, vt = mp.svd_r(a)
    return u, [s[i] for i in range(len(s))], vt.T


def eig(a):
    w, v = mp.eigsy(sympart(a))
    order = sorted(range(len(w)), key=lambda i: w[i])
    return [w[i] for i in order], mp.matrix([[v[r, i] for i in order] for r in range(a.rows)])


def column(values):
    return mp.matrix(values)


def spectral(a, f):
    w, v = eig(a)
    return v * mp_diag([f(x) for x in w]) * v.T


def spectral_t(a, f):
    w, v = L.eigh(sympart_t(a))
    return v @ torch.diag(f(w)) @ v.T


def pinv(a):
    u, s, v = svd(a)
    return v * mp_diag([1 / x for x in s]) * u.T


def ranks_t(n):
    return torch.diag(torch.arange(1.0, n + 1))


def ranks(n):
    return mp_diag(range(1, n + 1))


def svd_vectors_t(a):
    u, s, vt = L.svd(a, full_matrices=False)
    return u @ ranks_t(len(s)) @ vt


def svd_vectors(a):
    u, s, v = svd(a)
    return u * ranks(len(s)) * v.T


def eig_vectors_t(a):
    w, v = L.eigh(sympart_t(a))
    return v @ ranks_t(len(w)) @ v.T


def eig_vectors(a):
    w, v = eig(a)
    return v * ranks(len(w)) * v.T


def kron(a, b):
    return mp.matrix([[a[i // b.rows, j // b.cols] * b[i % b.rows, j % b.cols] for j in range(a.cols * b.cols)]
                      for i in range(a.rows * b.rows)])


def vec_t(*parts):
    return torch.cat([x.T.reshape(-1) for x in parts]).reshape(-1, 1)


def vec(*parts):
    return column([x[i, j] for x in parts for j in range(x.cols) for i in range(x.rows)])


def projector_beside(q):
    """Q2 Q2' for any basis Q2 of what Q's columns leave out; 0 where they leave out nothing."""
    return mp.zeros(q.rows) if q.rows == q.cols else mp.eye(q.rows) - q * q.T


def full_qr_t(a):
    q, r = L.qr(a, mode="complete")
    k = min(a.shape)
    return vec_t(q[:, :k], r[:k], q[:, k:] @ q[:, k:].T)


def full_qr(a):
    q, r = qr(a)
    return vec(q, r, projector_beside(q))


def full_svd_t(a):
    u, s, vt = L.svd(a, full_matrices=True)
    k = len(s)
    return vec_t(u[:, :k] @ ranks_t(k) @ vt[:k], u[:, k:] @ u[:, k:].T, vt[k:].T @ vt[k:])


def full_svd(a):
    u, s, v = svd(a)
    return vec(u * ranks(len(s)) * v.T, projector_beside(u), projector_beside(v))


def lu_factors(a):
    """Doolittle's, of any shape, with LAPACK's row exchanges: L (m x k), U (k x n)."""
    import scipy.linalg

    p = scipy.linalg.lu(np.array(a.tolist(), dtype=float))[0].T
    m, n = a.rows, a.cols
    k = min(m, n)
    rest, low, u = mp.matrix(p.tolist()) * a, mp.zeros(m, k), mp.zeros(k, n)
    for j in range(k):
        for c in range(n):
            u[j, c] = rest[j, c] if c >= j else 0
        for i in range(j, m):
            low[i, j] = rest[i, j] / u[j, j]
        for i in range(j + 1, m):
            for c in range(n):
                rest[i, c] -= low[i, j] * u[j, c]
    return low, u


def eig_gen_t(a):
    return torch.stack([x.sum() for w in [L.eigvals(a).real] for x in (w, w**3, torch.exp(w))]).reshape(-1, 1)


def eig_gen(a):
    w = [mp.re(x) for x in mp.eig(a)[0]]
    return column([sum(w), sum(x**3 for x in w), sum(mp.exp(x) for x in w)])


def eig_gen_vectors_t(a):
    w, x = L.eig(a)
    return (x.real**2 @ w.real).reshape(-1, 1)


def eig_gen_vectors(a):
    w, x = mp.eig(a)
    n = a.rows
    lengths = [sum(mp.re(x[i, j]) ** 2 for i in range(n)) for j in range(n)]
    return column([sum(mp.re(x[i, j]) ** 2 / lengths[j] * mp.re(w[j]) for j in range(n)) for i in range(n)])


def band_t(d):
    return torch.diag(d[:, 0]) + torch.diag(d[1:, 1], 1) + torch.diag(d[1:, 2], -1)


def band_solution(d, b):
    """Of the matrix with the diagonal d(:, 0), d(1:, 1) above and d(1:, 2) below; no rows are exchanged."""
    n = d.rows
    diagonal, x = [d[i, 0] for i in range(n)], b.copy()
    for i in range(1, n):
        factor = d[i, 2] / diagonal[i - 1]
        diagonal[i] -= factor * d[i, 1]
        for c in range(b.cols):
            x[i, c] -= factor * x[i - 1, c]
    for i in reversed(range(n)):
        for c in range(b.cols):
            x[i, c] = (x[i, c] - (d[i + 1, 1] * x[i + 1, c] if i + 1 < n else 0)) / diagonal[i]
    return x


def deficient_pinv(x, y):
    """Of X Y, both of full rank."""
    return y.T * mp.inverse(y * y.T) * mp.inverse(x.T * x) * x.T


def centred(x):
    means = [sum(x[i, j] for i in range(x.rows)) / x.rows for j in range(x.cols)]
    return mp.matrix([[x[i, j] - means[j] for j in range(x.cols)] for i in range(x.rows)])


def cov(x, y):
    return centred(x).T * centred(y) / (x.rows - 1)


def cor(x):
    c = cov(x, x)
    return mp.matrix([[c[i, j] / mp.sqrt(c[i, i] * c[j, j]) for j in range(c.cols)] for i in range(c.rows)])


def cov_t(x, y):
    return torch.cov(torch.cat([x, y], 1).T)[: x.shape[1], x.shape[1]:]


def conv(a, b):
    y = mp.zeros(a.rows + b.rows - 1, 1)
    for i in range(a.rows):
        for j in range(b.rows):
            y[i + j] += a[i] * b[j]
    return y


def toeplitz(a, b):
    return mp.matrix([[a[i - j] if i >= j else b[j - i] for j in range(b.rows)] for i in range(a.rows)])


def toeplitz_t(a, b):
    i, j = np.indices((a.shape[0], b.shape[0]))
    return torch.cat([a, b])[np.where(i >= j, i - j, a.shape[0] + j - i), 0]


def cumsum(a):
    return mp.matrix([[sum(a[r, j] for r in range(i + 1)) for j in range(a.cols)] for i in range(a.rows)])


def sort_rows(a):
    return mp.matrix([sorted((a[i, j] for j in range(a.cols)), reverse=True) for i in range(a.rows)])


def cross(a, b):
    return column([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def sums(a, by_rows):
    lines = range(a.rows if by_rows else a.cols)
    across = range(a.cols if by_rows else a.rows)
    return max(sum(abs(a[k, i] if by_rows else a[i, k]) for i in across) for k in lines)


def scalar_t(f):
    return lambda a: f(a).reshape(1, 1)


shapes = ["square", "tall", "wide"]
# operation, families of A, columns of B (None: no B), PyTorch, mpmath
OPERATIONS = [
    ("solve", ["square", "ill"], 3, L.solve, lambda a, b: mp.inverse(a) * b),
    ("solve_sympd", ["spd", "spd_ill"], 2, lambda a, b: torch.cholesky_solve(b, L.cholesky(sympart_t(a))),
     lambda a, b: mp.inverse(sympart(a)) * b),
    ("solve_triu", ["square", "ill_triu"], 2, lambda a, b: L.solve_triangular(a.triu(), b, upper=True),
     lambda a, b: mp.inverse(mp.matrix([[a[i, j] if j >= i else 0 for j in range(a.cols)] for i in range(a.rows)])) * b),
    ("least_squares", ["tall", "wide", "tall_ill"], 2, lambda a, b: L.lstsq(a, b).solution, lambda a, b: pinv(a) * b),
    ("inv", ["square", "ill"], None, L.inv, mp.inverse),
    ("inv_sympd", ["spd", "spd_ill"], None, lambda a: torch.cholesky_inverse(L.cholesky(sympart_t(a))),
     lambda a: mp.inverse(sympart(a))),
    ("pinv", ["square", "tall", "wide", "tall_ill"], None, L.pinv, pinv),
    ("chol", ["spd", "spd_ill"], None, lambda a: L.cholesky(sympart_t(a)).T, lambda a: mp.cholesky(sympart(a)).T),
    ("lu", ["square", "ill"], None, lambda a: sum(L.lu(a)[1:]), lambda a: lu(a)[0] + lu(a)[1]),
    ("qr_econ", ["square", "tall", "wide", "tall_ill"], None, lambda a: torch.cat([x.reshape(-1) for x in (
        L.qr(a)[0].T, L.qr(a)[1].T)]).reshape(-1, 1),
     lambda a: column([x[i, j] for x in qr(a) for j in range(x.cols) for i in range(x.rows)])),
    ("eig_sym", ["spd", "spd_ill"], None, lambda a: L.eigvalsh(sympart_t(a)).reshape(-1, 1), lambda a: column(eig(a)[0])),
    ("eig_sym_vectors", ["spd", "spd_ill"], None, eig_vectors_t, eig_vectors),
    ("svd", ["square", "tall", "wide", "ill"], None, lambda a: L.svdvals(a).reshape(-1, 1), lambda a: column(svd(a)[1])),
    ("svd_econ_vectors", ["square", "tall", "wide", "ill"], None, svd_vectors_t, svd_vectors),
    ("det", ["square", "ill"], None, lambda a: L.det(a).reshape(1, 1), lambda a: column([mp.det(a)])),
    ("log_det", ["square", "ill"], None, lambda a: L.slogdet(a)[1].reshape(1, 1), lambda a: column([mp.log(abs(mp.det(a)))])),
    ("log_det_sympd", ["spd", "spd_ill"], None, lambda a: torch.logdet(sympart_t(a)).reshape(1, 1),
     lambda a: column([mp.log(mp.det(sympart(a)))])),
    ("expmat", ["square", "ill"], None, L.matrix_exp, mp.expm),
    ("sqrtmat_sympd", ["spd", "spd_ill"], None, lambda a: spectral_t(a, torch.sqrt), lambda a: spectral(a, mp.sqrt)),
    ("logmat_sympd", ["spd", "spd_ill"], None, lambda a: spectral_t(a, torch.log), lambda a: spectral(a, mp.log)),
    ("norm_2", ["square", "tall", "wide", "ill"], None, lambda a: L.matrix_norm(a, 2).reshape(1, 1),
     lambda a: column([svd(a)[1][0]])),
    ("cond", ["square", "tall", "wide", "ill"], None, lambda a: L.cond(a).reshape(1, 1),
     lambda a: column([svd(a)[1][0] / svd(a)[1][-1]])),
    ("kron", ["square"], 2, torch.kron, kron),
    ("kron", ["tall", "wide"], 2, torch.kron, kron),
    ("lu_factors", shapes, None, lambda a: vec_t(*L.lu(a)[1:]), lambda a: vec(*lu_factors(a))),
    ("qr", shapes, None, full_qr_t, full_qr),
    ("svd_vectors", shapes, None, full_svd_t, full_svd),
    ("eig_gen", ["real"], None, eig_gen_t, eig_gen),
    ("eig_gen_vectors", ["real"], None, eig_gen_vectors_t, eig_gen_vectors),
    ("pinv_deficient", ["thin"], 4, lambda x, y: L.pinv(x @ y, rtol=1e-8), deficient_pinv),
    ("solve_band", ["band"], 1, lambda d, b: L.solve(band_t(d), b), band_solution),
    ("spectral", ["spd", "spd_ill"], None, lambda a: spectral_t(a, torch.sin), lambda a: spectral(a, mp.sin)),
    ("norm_1", shapes, None, scalar_t(lambda a: L.matrix_norm(a, 1)), lambda a: column([sums(a, False)])),
    ("norm_inf", shapes, None, scalar_t(lambda a: L.matrix_norm(a, float("inf"))), lambda a: column([sums(a, True)])),
    ("norm_fro", shapes, None, scalar_t(L.matrix_norm), lambda a: column([mp.sqrt(sum(x * x for x in a))])),
    ("trace", ["square"], None, scalar_t(torch.trace), lambda a: column([sum(a[i, i] for i in range(a.rows))])),
    ("cumsum", ["tall"], None, lambda a: torch.cumsum(a, 0), cumsum),
    ("sort", ["wide"], None, lambda a: torch.sort(a, 1, descending=True).values, sort_rows),
    ("toeplitz", ["column"], 1, toeplitz_t, toeplitz),
    ("conv", ["column"], 1, lambda a, b: torch.nn.functional.conv1d(a.T[None], b.flip(0).T[None], padding=3)[0].T, conv),
    ("cross", ["triple"], 1, lambda a, b: L.cross(a, b, dim=0), cross),
    ("cov", ["tall"], None, lambda x: torch.cov(x.T), lambda x: cov(x, x)),
    ("cov_xy", ["tall"], 2, cov_t, cov),
    ("cor", ["tall"], None, lambda x: torch.corrcoef(x.T), cor),
]
ROWS_OF_B = {"kron": 2, "pinv_deficient": 2, "toeplitz": 4, "conv": 4}


def rounded(x, digits):
    return np.array([[float(f"{v:.{digits}f}") for v in row] for row in np.atleast_2d(x)])


def matrix(family, rng):
    if family in ("column", "triple", "band", "thin"):
        a = rounded(rng.uniform(-1, 1, {"column": (6, 1), "triple": (3, 1), "band": (32, 3), "thin": (5, 2)}[family]), 3)
        return a + np.array([[3, 0, 0]]) if family == "band" else a
    if family == "real":  # real eigenvalues
        x = np.eye(5) + rng.uniform(-0.3, 0.3, (5, 5))
        return rounded(x @ np.diag([1, 2, 2.7, 3.5, 4.4]) @ np.linalg.inv(x), 5)
    shape = {"tall": (6, 4), "tall_ill": (6, 4), "wide": (4, 6)}.get(family, (5, 5))
    k = min(shape)
    u, v = (np.linalg.qr(rng.standard_normal((s, k)))[0] for s in shape)
    s = np.logspace(0, -8, k) if "ill" in family else np.linspace(2.5, 0.7, k)
    if family.startswith("spd"):
        a = rounded(u @ np.diag(s) @ u.T, 12 if "ill" in family else 5)
        return (np.tril(a) + np.tril(a, -1).T)
    if family == "ill_triu":
        return rounded(np.triu(np.linalg.qr(u @ np.diag(s) @ v.T)[1]), 12)
    return rounded(u @ np.diag(s) @ v.T, 12 if "ill" in family else 5)


def weights(rows, cols):
    return np.cos(0.7 + 1.3 * np.arange(rows * cols)).reshape(cols, rows).T


def reference(f, inputs):
    exact = [mp.matrix(x.tolist()) for x in inputs]
    y = f(*exact)
    w = weights(y.rows, y.cols)

    def value():
        z = f(*exact)
        return sum(mp.mpf(float(w[i, j])) * z[i, j] for i in range(z.rows) for j in range(z.cols))

    gradients = []
    for x in exact:
        g = np.zeros((x.rows, x.cols))
        for i in range(x.rows):
            for j in range(x.cols):
                at = x[i, j]
                x[i, j] = at + STEP
                up = value()
                x[i, j] = at - STEP
                down = value()
                x[i, j] = at
                g[i, j] = float((up - down) / (2 * STEP))
        gradients.append(g)
    return gradients


def torch_gradient(f, inputs):
    xs = [torch.tensor(x, requires_grad=True) for x in inputs]
    y = f(*xs)
    (y * torch.tensor(weights(*y.shape))).sum().backward()
    return [x.grad.numpy() for x in xs]


def numbers(x):
    return " ".join(repr(float(v)) for v in np.asarray(x).T.reshape(-1))


def main():
    rng = np.random.default_rng(7)
    print(f"# made by tests/peers/linear_algebra.py with PyTorch {torch.__version__.split('+')[0]}, mpmath {mp.__version__}")
    for name, families, columns, in_torch, in_mp in OPERATIONS:
        for family in families:
            a = matrix(family, rng)
            inputs = [a]
            if columns is not None:
                rows = ROWS_OF_B.get(name, a.shape[0])
                inputs.append(rounded(rng.uniform(-1, 1, (rows, columns)), 3))
            gradients = reference(in_mp, inputs)
            try:
                theirs = torch_gradient(in_torch, inputs)
                error = max(np.abs(t - g).max() / np.abs(g).max() for t, g in zip(theirs, gradients))
            except RuntimeError as e:
                print(f"{name:20} {family:10} PyTorch: {e}", file=sys.stderr)
                error = math.nan
            print(f"case {name} {family} {error:.2g} {len(inputs)}")
            for x in inputs:
                print(f"input {x.shape[0]} {x.shape[1]} {numbers(x)}")
            for g in gradients:
                print(f"gradient {numbers(g)}")
            print(f"{name:20} {family:10} PyTorch's error {error:.1e}", file=sys.stderr)


main()
