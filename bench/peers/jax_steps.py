#!/usr/bin/env python3
"""Training steps in JAX, on request: one of the sides of interleaved.py.

  jax_steps.py MODEL BATCH THREADS [nhwc] [ten]

MODEL: lenet5 | cnn | mlp | resnet18 | vgg-small | lstm | gru, the nets of tern_steps.c. A step is
forward, loss, backward and Adam, in f32, one jitted function whose state is donated; images are
fixed, labels rotate. nhwc: images and filters channels-last, pools as a maximum over a reshaped
view, which has the cheaper gradient here. ten: ten steps in one call, the time divided by ten.
What is said and answered: steps.py. The cores of the process size XLA's threads.
"""
import os
import sys

MODEL, BATCH, THREADS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
NHWC, CALL = "nhwc" in sys.argv, 10 if "ten" in sys.argv else 1
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if THREADS == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from steps import serve

TIME, FEATURES, STATE, TOKENS = 64, 128, 256, 128  # of the recurrent nets
relu, sigmoid = jax.nn.relu, jax.nn.sigmoid
random = np.random.default_rng(0)
params, running = {}, {}  # by name: weights; batch norms' statistics


def uniform(shape, fan_in):
    return random.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(fan_in))


# ---- Layers: make_ draws the weights, the other applies them to p -------------------------------

def make_conv(name, c, k, size, bias):
    shape = (size, size, c, k) if NHWC else (k, c, size, size)
    params[name + ".w"] = uniform(shape, c * size * size)
    if bias:
        params[name + ".b"] = uniform((k,), c * size * size)


def make_linear(name, d, k):
    params[name + ".w"], params[name + ".b"] = uniform((d, k), d), uniform((k,), d)


def make_norm(name, c):
    params[name + ".g"], params[name + ".b"] = np.ones(c, np.float32), np.zeros(c, np.float32)
    running[name + ".m"], running[name + ".v"] = np.zeros(c, np.float32), np.ones(c, np.float32)


def of_channels(v):
    return v if NHWC else v[:, None, None]


def conv(p, name, x, stride=1, pad=0):
    numbers = ("NHWC", "HWIO", "NHWC") if NHWC else ("NCHW", "OIHW", "NCHW")
    y = lax.conv_general_dilated(x, p[name + ".w"], (stride, stride), ((pad, pad), (pad, pad)),
                                 dimension_numbers=numbers)
    return y + of_channels(p[name + ".b"]) if name + ".b" in p else y


def linear(p, name, x):
    return x @ p[name + ".w"] + p[name + ".b"]


def pool(x):
    if not NHWC:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    n, h, w, c = x.shape
    x = x[:, :h // 2 * 2, :w // 2 * 2]
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def norm(p, old, new, name, x):
    axes = (0, 1, 2) if NHWC else (0, 2, 3)
    mean = x.mean(axes)
    var = jnp.maximum((x * x).mean(axes) - mean * mean, 0)
    n = x.size // mean.size
    new[name + ".m"] = 0.9 * old[name + ".m"] + 0.1 * lax.stop_gradient(mean)
    new[name + ".v"] = 0.9 * old[name + ".v"] + 0.1 * lax.stop_gradient(var) * n / max(1, n - 1)
    scale = p[name + ".g"] * lax.rsqrt(var + 1e-5)
    return x * of_channels(scale) + of_channels(p[name + ".b"] - mean * scale)


# ---- Nets: each gives apply(p, running, x) -> logits, running -----------------------------------

def lenet5():
    make_conv("c1", 1, 6, 5, True)
    make_conv("c2", 6, 16, 5, True)
    for name, d, k in (("f1", 400, 120), ("f2", 120, 84), ("f3", 84, 10)):
        make_linear(name, d, k)

    def apply(p, old, x):
        x = pool(relu(conv(p, "c1", x, pad=2)))
        x = pool(relu(conv(p, "c2", x))).reshape(BATCH, -1)
        return linear(p, "f3", relu(linear(p, "f2", relu(linear(p, "f1", x))))), old
    return apply


def cnn():
    make_conv("c1", 1, 32, 3, True)
    make_conv("c2", 32, 32, 3, True)
    make_linear("f1", 32 * 12 * 12, 128)
    make_linear("f2", 128, 10)

    def apply(p, old, x):
        x = pool(relu(conv(p, "c2", relu(conv(p, "c1", x))))).reshape(BATCH, -1)
        return linear(p, "f2", relu(linear(p, "f1", x))), old
    return apply


def mlp():
    for name, d, k in (("f1", 784, 512), ("f2", 512, 512), ("f3", 512, 10)):
        make_linear(name, d, k)

    def apply(p, old, x):
        x = relu(linear(p, "f1", x.reshape(BATCH, -1)))
        return linear(p, "f3", relu(linear(p, "f2", x))), old
    return apply


def resnet18():
    make_conv("c", 3, 64, 3, False)
    make_norm("n", 64)
    blocks, c = [], 64
    for k, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for i, stride in ((0, first), (1, 1)):
            name, side = f"b{k}.{i}", stride != 1 or c != k
            make_conv(name + ".c1", c, k, 3, False)
            make_conv(name + ".c2", k, k, 3, False)
            make_norm(name + ".n1", k)
            make_norm(name + ".n2", k)
            if side:
                make_conv(name + ".cs", c, k, 1, False)
                make_norm(name + ".ns", k)
            blocks.append((name, stride, side))
            c = k
    make_linear("f", 512, 10)

    def apply(p, old, x):
        new = {}
        x = relu(norm(p, old, new, "n", conv(p, "c", x, 1, 1)))
        for name, stride, side in blocks:
            y = relu(norm(p, old, new, name + ".n1", conv(p, name + ".c1", x, stride, 1)))
            y = norm(p, old, new, name + ".n2", conv(p, name + ".c2", y, 1, 1))
            if side:
                x = norm(p, old, new, name + ".ns", conv(p, name + ".cs", x, stride))
            x = relu(y + x)
        return linear(p, "f", x.mean((1, 2) if NHWC else (2, 3))), new
    return apply


def vgg_small():
    layers, c = (64, 64, 0, 128, 128, 0, 256, 256, 0), 3
    for i, k in enumerate(layers):
        if k:
            make_conv(f"c{i}", c, k, 3, False)
            make_norm(f"n{i}", k)
            c = k
    make_linear("f", 256, 10)

    def apply(p, old, x):
        new = {}
        for i, k in enumerate(layers):
            x = relu(norm(p, old, new, f"n{i}", conv(p, f"c{i}", x, 1, 1))) if k else pool(x)
        return linear(p, "f", x.mean((1, 2) if NHWC else (2, 3))), new
    return apply


def lstm_cell(p, state, z):
    h, c = state
    i, f, g, o = jnp.split(z + h @ p["u"] + p["bu"], 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru_cell(p, h, z):
    z_r, z_u, z_n = jnp.split(z, 3, -1)
    h_r, h_u, h_n = jnp.split(h @ p["u"] + p["bu"], 3, -1)
    r, u = sigmoid(z_r + h_r), sigmoid(z_u + h_u)
    h = (1 - u) * jnp.tanh(z_n + r * h_n) + u * h
    return h, h


def recurrent(cell, gates, n_state):
    width = gates * STATE
    params["w"], params["bw"] = uniform((FEATURES, width), STATE), uniform((width,), STATE)
    params["u"], params["bu"] = uniform((STATE, width), STATE), uniform((width,), STATE)
    make_linear("f", STATE, TOKENS)

    def apply(p, old, x):
        zero = jnp.zeros((BATCH, STATE))
        first = zero if n_state == 1 else (zero,) * n_state
        z = x @ p["w"] + p["bw"]  # of all steps at once
        _, y = lax.scan(lambda state, z: cell(p, state, z), first, z)
        return linear(p, "f", y).reshape(TIME * BATCH, TOKENS), old
    return apply


NETS = {"lenet5": lenet5, "cnn": cnn, "mlp": mlp, "resnet18": resnet18, "vgg-small": vgg_small,
        "lstm": lambda: recurrent(lstm_cell, 4, 2), "gru": lambda: recurrent(gru_cell, 3, 1)}


# ---- A step -------------------------------------------------------------------------------------

def make_batch():
    if MODEL in ("lstm", "gru"):
        x = random.standard_normal((TIME, BATCH, FEATURES), dtype=np.float32)
        return x, random.integers(0, TOKENS, (8, TIME * BATCH)).astype(np.int32)
    c, h = (3, 32) if MODEL in ("resnet18", "vgg-small") else (1, 28)
    x = random.standard_normal((BATCH, h, h, c) if NHWC else (BATCH, c, h, h), dtype=np.float32)
    return x, random.integers(0, 10, (8, BATCH)).astype(np.int32)


def adam(p, m, v, g, t):
    t = t.astype(jnp.float32)
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    rate, fix = 1e-3 / (1 - 0.9 ** t), lax.rsqrt(1 - 0.999 ** t)
    return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) * fix + 1e-8), p, m, v), m, v


def training_step():
    apply, (images, labels) = NETS[MODEL](), make_batch()
    zeros = {name: np.zeros_like(w) for name, w in params.items()}

    def loss_of(p, old, x, y):
        z, new = apply(p, old, x)
        picked = jnp.take_along_axis(z, y[:, None], -1)[:, 0]
        return (jax.nn.logsumexp(z, -1) - picked).mean(), new

    def one(state, x, ys):
        p, old, m, v, t, _ = state
        (loss, new), g = jax.value_and_grad(loss_of, has_aux=True)(p, old, x, ys[t % 8])
        p, m, v = adam(p, m, v, g, t + 1)
        return p, new, m, v, t + 1, loss

    def call(state, x, ys):
        if CALL == 1:
            return one(state, x, ys)
        return lax.fori_loop(0, CALL, lambda _, state: one(state, x, ys), state)

    call = jax.jit(call, donate_argnums=0)
    x, ys = jnp.asarray(images), jnp.asarray(labels)
    state = jax.tree.map(jnp.array, (params, running, zeros, zeros, np.int32(0), np.float32(0)))

    def step():
        nonlocal state
        state = jax.block_until_ready(call(state, x, ys))

    return step


serve(training_step(), None, {"jax": jax.__version__}, CALL)
