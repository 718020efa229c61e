"""Jacobian and Hessian products by JAX, float64, for tests/higher_derivatives_test.cpp:

    pip install jax numpy
    python tests/peers/higher_derivatives.py > tests/peers/higher_derivatives.inc
"""

import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402


def fixed(rows, cols, phase):
    """The numbers that `fixed` of the test makes, column-major."""
    return jnp.array(np.sin(phase + 1.7 * np.arange(rows * cols)).reshape(rows, cols, order="F"))


def vec(x):
    return x.reshape(-1, order="F")


def network(w, x):
    h = jnp.tanh(w @ x)
    return jnp.exp(0.5 * h) * w[:, :1] + jnp.log1p(x[0, :] ** 2)


def loss(w, x):
    return jnp.sum(jax.scipy.special.logsumexp(network(w, x), axis=0)) + 0.1 * jnp.sum(w**2 * jnp.exp(w))


TIMES = jnp.arange(6) * 0.7
OBSERVED = vec(fixed(6, 1, 0.2))


def misfit(theta):
    """-2 log likelihood of a Gaussian process, but for the determinant and constants."""
    distance = (TIMES[:, None] - TIMES[None, :]) ** 2
    k = jnp.exp(2 * theta[0] - distance * jnp.exp(-2 * theta[1])) + jnp.exp(2 * theta[2]) * jnp.eye(6)
    return OBSERVED @ jnp.linalg.solve(k, OBSERVED)


def show(name, value):
    numbers = [f"{v:.17g}" for v in np.asarray(value).reshape(-1, order="F")]
    lines = [", ".join(numbers[i : i + 5]) for i in range(0, len(numbers), 5)]
    print(f"constexpr double {name}[] = {{{(',' + chr(10) + '    ').join(lines)}}};")


def main():
    w, x, v_w, v_x, u = fixed(4, 3, 0.3), fixed(3, 2, 1.1), fixed(4, 3, 0.9), fixed(3, 2, 0.4), fixed(4, 2, 0.6)
    theta = jnp.array([0.2, -0.3, -0.9])
    print(f"// Written by tests/peers/higher_derivatives.py with JAX {jax.__version__}, float64. Column-major.")
    y, dy = jax.jvp(network, (w, x), (v_w, v_x))
    show("network_value", y)
    show("network_jvp", dy)
    _, pull = jax.vjp(network, w, x)
    by_w, by_x = pull(u)
    show("network_vjp_w", by_w)
    show("network_vjp_x", by_x)

    def flat(z):
        return loss(z[:12].reshape(4, 3, order="F"), z[12:].reshape(3, 2, order="F"))

    z, v = jnp.concatenate([vec(w), vec(x)]), jnp.concatenate([vec(v_w), vec(v_x)])
    hessian = jax.hessian(flat)
    show("loss_gradient", jax.grad(flat)(z))
    show("loss_hessian", hessian(z))
    show("loss_hvp", hessian(z) @ v)
    show("loss_third", jax.jvp(hessian, (z,), (v,))[1] @ v)  # the third derivative, twice in direction v
    show("misfit_gradient", jax.grad(misfit)(theta))
    show("misfit_hessian", jax.hessian(misfit)(theta))


main()
