"""Rounding errors of f32 results and derivatives: root mean squares against f64, beside PyTorch's
own, for every instruction set. More than 4 times PyTorch's (16 for Winograd's convolutions, and
where both are below 2 roundings never) is an error."""
import os

import torch
import torch.nn.functional as F

import tern_api
import torch_cases as cases

EPS = 2.0 ** -24
made = torch.Generator().manual_seed(23)


def normal(*shape):
    return torch.randn(shape, generator=made, dtype=torch.float64).float()


def uniform(a, b, *shape):
    return a + (b - a) * torch.rand(shape, generator=made)


def problems():
    x = lambda: 3 * normal(257, 33)
    for name, f in cases.UNARY.items():
        if name not in ("neg", "abs", "sign", "relu", "copy", "alias"):
            yield name, {}, [uniform(0.01, 9, 257, 33) if name in ("log", "sqrt", "rsqrt") else x()], f
    for o, f in (({}, cases.gelu), ({"tanh": 1}, lambda x: cases.gelu(x, "tanh"))):
        yield "gelu", o, [x()], f
    yield "elu", {}, [x()], cases.elu
    yield "pow", {"value": 2.7}, [uniform(0.01, 9, 257, 33)], lambda x: x.pow(2.7)
    yield "power", {}, [uniform(0.01, 9, 257, 33), x()], torch.pow
    yield "div", {}, [x(), uniform(0.5, 2, 257, 33)], torch.div
    for axes, mask in (([0], 1), ([1], 2), ([0, 1], 3)):
        yield "sum", {"axes": mask}, [x() + 1], lambda x, a=axes: x.sum(a)
        yield "mean", {"axes": mask}, [x() + 1], lambda x, a=axes: x.mean(a)
        yield "variance", {"axes": mask}, [x() + 5], lambda x, a=axes: x.var(a, correction=0)
    for axis in (0, 1):
        yield "softmax", {"axis": axis}, [x()], lambda x, a=axis: torch.softmax(x, a)
        yield "log_softmax", {"axis": axis}, [x()], lambda x, a=axis: torch.log_softmax(x, a)
    for m, k, n in ((64, 64, 64), (33, 500, 10), (1, 784, 512), (128, 17, 65), (100, 1000, 3)):
        yield "matmul", {}, [normal(m, k), normal(k, n)], torch.matmul
        yield "linear_act", {}, [normal(m, k), normal(n, k), normal(n)], F.linear
    for s, k, r, o in (((8, 3, 16, 16), 32, 3, {"pad": (1, 1)}), ((8, 32, 12, 12), 32, 3, {"pad": (1, 1)}),
                       ((4, 64, 8, 8), 64, 3, {"pad": (1, 1), "stride": (2, 2)}),
                       ((8, 64, 8, 8), 64, 3, {"pad": (1, 1)}), ((4, 6, 14, 14), 16, 5, {}),
                       ((4, 64, 8, 8), 128, 1, {}), ((2, 1, 28, 28), 6, 5, {"pad": (2, 2)}),
                       ((4, 32, 9, 9), 32, 3, {"groups": 32, "pad": (1, 1)})):
        t = cases.torch_conv(o)
        yield "conv2d", o, [normal(*s), normal(k, s[1] // o.get("groups", 1), r, r)], \
            lambda x, w, t=t: F.conv2d(x, w, **t)
    yield "avg_pool2d", {"size": (3, 3)}, [normal(4, 17, 12, 12)], lambda x: F.avg_pool2d(x, 3)
    for s in ((32, 16, 6, 6), (64, 50), (16, 65, 4, 4)):
        c = s[1]
        yield "batch_norm", {}, [2 + normal(*s), normal(c), normal(c), torch.zeros(c),
                                 torch.ones(c)], lambda *a: cases.batch_norm(*a)[0]
    for k in (33, 64, 500):
        yield "layer_norm", {}, [2 + normal(40, k), normal(k), normal(k)], \
            lambda x, g, b, k=k: F.layer_norm(x, (k,), g, b)
    labels = torch.randint(0, 10, (500,), generator=made)
    yield "cross_entropy", {"reduction": "none"}, [x()[:, :10].repeat(2, 1)[:500], labels, None], \
        lambda x, t, w: F.cross_entropy(x, t, w, reduction="none")
    yield "mse", {}, [x(), x()], F.mse_loss


def in_torch(f, x, dtype, g):
    x = [v if v is None or not v.is_floating_point() else v.to(dtype).requires_grad_() for v in x]
    y = f(*x)
    wrt = [v for v in x if v is not None and v.requires_grad]
    d = torch.autograd.grad(y, wrt, g(y).to(dtype), allow_unused=True)
    return [y.detach()] + [torch.zeros_like(v) if a is None else a for a, v in zip(d, wrt)]


def in_tern(t, op, options, x, g):
    with t:
        h = [0 if v is None else t.put(v) for v in x]
        h = [t.track(a) if v is not None and v.is_floating_point() else a for a, v in zip(h, x)]
        y = t.apply(op, options, *h)[0]
        value = t.get(y)
        wrt = [a for a, v in zip(h, x) if v is not None and v.is_floating_point()]
        return [value] + [t.get(d) for d in t.grads([y], [t.put(g(value))], wrt)]


def error(a, exact):
    """Root mean square, in roundings of the largest value's root mean square; and the maximum."""
    scale = exact.pow(2).mean().sqrt().clamp_min(1e-300)
    e = (a.double() - exact).abs() / scale / EPS
    return e.pow(2).mean().sqrt().item(), e.max().item()


def cotangent(y):
    g = torch.Generator().manual_seed(5)
    return torch.randn(y.shape, generator=g, dtype=torch.float64).float()


def run(lib, only=""):
    wanted = [p for p in problems() if not only or p[0] in only.split(",")]
    known = [(in_torch(f, x, torch.float64, cotangent), in_torch(f, x, torch.float32, cotangent))
             for _, _, x, f in wanted]
    before = os.environ.get("TERN_DISABLE")
    for disable in ("", "avx512", "avx512,avx2"):
        os.environ["TERN_DISABLE"] = disable
        t = tern_api.Tern(lib, "cpu")
        isa, ratios = lib.tern_isa(t.c).decode(), []
        for (op, options, x, _), (exact, own) in zip(wanted, known):
            for i, (a, b, c) in enumerate(zip(in_tern(t, op, options, x, cotangent), exact, own)):
                mine, most = error(a, b)
                theirs, their_most = error(c, b)
                ratios.append((mine + 0.1) / (theirs + 0.1))
                if mine > max(2.0, (16 if op == "conv2d" else 4) * theirs):
                    yield f"{isa}: {op} {[list(v.shape) for v in x if v is not None]} {options} " \
                          f"{'d%d' % (i - 1) if i else 'y'}: {mine:.3g} roundings, at most " \
                          f"{most:.3g}; PyTorch {theirs:.3g}, {their_most:.3g}"
        ratios.sort()
        print(f"quality: {isa}: {len(ratios)} results, error over PyTorch's: median "
              f"{ratios[len(ratios) // 2]:.2f}, largest {ratios[-1]:.2f}")
        t.close()
    os.environ.pop("TERN_DISABLE") if before is None else os.environ.update(TERN_DISABLE=before)
