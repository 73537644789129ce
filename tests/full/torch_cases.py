"""Cases for torch_values.py: an operation, its options, its inputs, and the same in PyTorch."""
import itertools
import math

import torch
import torch.nn.functional as F

NAN, INF = math.nan, math.inf
made = torch.Generator().manual_seed(7)


class Case:
    """f(*inputs) is the reference: a tensor, or a tuple (None: not compared). Float inputs are f64
    and are rounded to the type under test; diff: which of them derivatives are taken for; scale: the size
    of what is added up, where it is more than the result's."""

    def __init__(self, op, options, inputs, f, diff=None, second=True, elementwise=False,
                 extreme=False, types=("f64", "f32"), note="", scale=0.0):
        self.op, self.options, self.inputs, self.f = op, options, inputs, f
        self.second, self.elementwise, self.extreme = second, elementwise, extreme
        self.types, self.note, self.scale = types, note, scale
        self.diff = [i for i, x in enumerate(inputs)
                     if callable(x) or (x is not None and x.is_floating_point())] \
            if diff is None else diff

    def __str__(self):
        shapes = " ".join("-" if x is None else "special" if callable(x) else str(list(x.shape)).replace(" ", "")
                          for x in self.inputs)
        return f"{self.op} {shapes} {self.options} {self.note}"


def normal(*shape):
    return torch.randn(shape, generator=made, dtype=torch.float64)


def uniform(a, b, *shape):
    return a + (b - a) * torch.rand(shape, generator=made, dtype=torch.float64)


def whole(a, b, *shape, dtype=torch.int64):
    return torch.randint(a, b, shape, generator=made, dtype=dtype)


def distinct(*shape):
    n = math.prod(shape)
    return (torch.randperm(n, generator=made).double() / max(1, n) * 4 - 2).reshape(shape)


def specials(dtype):
    """Zeros, ones, subnormals, the ends of the range, infinities, NaN: exact in dtype."""
    i = torch.finfo(dtype)
    v = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, i.smallest_normal, -i.smallest_normal,
         i.smallest_normal / 8, -i.smallest_normal / 8, i.max, -i.max, INF, -INF, NAN,
         i.eps, 88.0, -88.0, 104.0, -104.0, 20.0, -20.0, 9.0, -9.0, 1e-4, -1e-4, 1e-20, 1e20, -1e20,
         -13.0, 5.5, 0.921875, 1e-8]
    return torch.tensor(v, dtype=torch.float64).to(dtype).double()


SHAPES = [(), (1,), (7,), (0,), (3, 5), (2, 0, 3), (1, 17), (2, 3, 5), (2, 5, 3, 3), (2, 3, 1, 2, 5),
          (67,), (5, 33), (3, 4, 9, 7)]
PAIRS = [((), ()), ((7,), (7,)), ((3, 1), (1, 5)), ((5,), (3, 5)), ((), (2, 3)), ((4, 1, 3), (2, 1)),
         ((2, 3, 4, 5), (3, 1, 1)), ((2, 1, 3, 1, 5), (4, 1, 2, 1)), ((0,), (1,)), ((2, 0, 3), (1, 3)),
         ((33,), (33,)), ((2, 5, 3, 3), (2, 5, 3, 3)), ((2, 17), (17,)), ((19, 1), (19, 1))]

# Where PyTorch differs from ops.h, or from the limit of a function, the reference says ops.h's.


def sign(x):  # NaN stays
    return torch.where(torch.isnan(x), x.detach(), torch.sign(x))


def absolute(x):  # the derivative at NaN is NaN
    return x * sign(x).detach()


def relu(x):  # derivative 0 at NaN
    return torch.where(torch.isnan(x), x.detach(), torch.relu(x))


def elu(x, slope=1.0):  # the second derivative at 0 is that of the left side
    return torch.where(x > 0, x, slope * torch.expm1(torch.where(x > 0, torch.zeros_like(x), x)))


def gelu(x, how="none"):  # limits far out, where PyTorch has 0 times infinity
    far = x.abs() > 1e18
    return torch.where(far, torch.relu(x),
                       F.gelu(torch.where(far, torch.zeros_like(x), x), approximate=how))


def clamp(x, low=-INF, high=INF):  # derivative 1 on the limits, 0 at NaN
    return torch.where((x >= low) & (x <= high), x, x.detach().clamp(low, high))


UNARY = {
    "neg": torch.neg, "abs": absolute, "sign": sign, "exp": torch.exp, "erf": torch.erf,
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": relu, "copy": lambda x: x.clone(),
    "alias": lambda x: x.clone(),
    "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt,
}
WITH_OPTIONS = [
    ("leaky_relu", {}, lambda x: F.leaky_relu(x)),
    ("leaky_relu", {"slope": 0.25}, lambda x: F.leaky_relu(x, 0.25)),
    ("leaky_relu", {"slope": 0.0}, lambda x: F.leaky_relu(x, 0.0)),
    ("leaky_relu", {"slope": -0.5}, lambda x: torch.where(x > 0, x, -0.5 * x)),
    ("elu", {}, lambda x: elu(x)),
    ("elu", {"slope": 0.3}, lambda x: elu(x, 0.3)),
    ("gelu", {}, lambda x: gelu(x)),
    ("gelu", {"tanh": 1}, lambda x: gelu(x, "tanh")),
    ("scale", {"value": -2.5}, lambda x: x * -2.5),
    ("scale", {"value": 0.1}, lambda x: x * 0.1),
    ("scale", {"value": 0}, lambda x: x * 0.0),
    ("shift", {"value": 0.7}, lambda x: x + 0.7),
    ("clamp", {"min": -0.5, "max": 0.5}, lambda x: clamp(x, -0.5, 0.5)),
    ("clamp", {"min": 0}, lambda x: clamp(x, low=0.0)),
    ("clamp", {"max": 0.25}, lambda x: clamp(x, high=0.25)),
    ("clamp", {"min": 1, "max": 1}, lambda x: clamp(x, 1.0, 1.0)),
    ("clamp", {"min": "-inf", "max": "inf"}, lambda x: clamp(x)),
    ("clamp", {}, lambda x: clamp(x)),
    ("pow", {"value": 2}, lambda x: x.pow(2.0)), ("pow", {"value": 3}, lambda x: x.pow(3.0)),
    ("pow", {"value": 1}, lambda x: x.pow(1.0)), ("pow", {"value": 0}, lambda x: x.pow(0.0)),
    ("pow", {"value": -1}, lambda x: x.pow(-1.0)), ("pow", {"value": -2}, lambda x: x.pow(-2.0)),
    ("pow", {"value": 7}, lambda x: x.pow(7.0)),
]
POSITIVE = [("pow", {"value": v}, lambda x, v=v: x.pow(torch.full_like(x, v) if v % 1 == 0.5 else v)) for v in (0.5, -0.5, 1.5, 2.7, -3.3)]
BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
          "maximum": torch.maximum, "minimum": torch.minimum, "power": torch.pow}
COMPARE = {"eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt,
           "ge": torch.ge}


def elementwise():
    for name, f in UNARY.items():
        positive = name in ("log", "sqrt", "rsqrt")
        for s in SHAPES:
            x = uniform(0.1, 3, *s) if positive else normal(*s)
            yield Case(name, {}, [x], f, elementwise=True)
        yield Case(name, {}, [specials], f, elementwise=True, extreme=True)
    for name, options, f in WITH_OPTIONS + POSITIVE:
        for s in SHAPES[::2] + [(4, 31)]:
            x = uniform(0.1, 3, *s) if (name, options, f) in POSITIVE else normal(*s)
            yield Case(name, options, [x], f, elementwise=True)
        yield Case(name, options, [specials], f, elementwise=True, extreme=True)
    for s in SHAPES:
        yield Case("is_finite", {}, [normal(*s)], torch.isfinite, diff=[])
    yield Case("is_finite", {}, [specials], torch.isfinite, diff=[], extreme=True)
    for name, f in BINARY.items():
        for a, b in PAIRS:
            for a, b in ((a, b), (b, a)):
                x, y = normal(*a), normal(*b)
                if name == "power":
                    x = uniform(0.2, 3, *a)
                if name == "div":
                    y = torch.sign(y) * (0.3 + y.abs())
                yield Case(name, {}, [x, y], f, elementwise=True)
        ties = whole(-1, 2, 4, 9).double()
        if name in ("maximum", "minimum"):
            yield Case(name, {}, [ties, whole(-1, 2, 4, 9).double()], f, note="ties")
        yield Case(name, {}, [lambda d: specials(d)[:, None], specials], f, extreme=True,
                   second=name not in ("div", "power"), note="outer")
        yield Case(name, {}, [lambda d: specials(d).repeat(34),
                              lambda d: specials(d).repeat_interleave(34)], f, extreme=True,
                   elementwise=True, second=name not in ("div", "power"), note="same shape")
        if name in ("add", "sub", "mul", "maximum", "minimum"):
            for t in (torch.int64, torch.int32):
                yield Case(name, {}, [whole(-9, 9, 3, 5, dtype=t), whole(-9, 9, 5, dtype=t)], f)
    for name, f in COMPARE.items():
        for a, b in PAIRS:
            yield Case(name, {}, [whole(-1, 2, *a).double(), whole(-1, 2, *b).double()], f, diff=[])
        yield Case(name, {}, [lambda d: specials(d)[:, None], specials], f, diff=[], extreme=True)
        for t in (torch.int64, torch.int32):
            yield Case(name, {}, [whole(-2, 2, 3, 5, dtype=t), whole(-2, 2, 5, dtype=t)], f)
    for c, a, b in [((), (), ()), ((3, 1), (1, 5), ()), ((5,), (3, 5), (2, 1, 1)), ((0,), (0,), ()),
                    ((4, 33), (4, 33), (4, 33)), ((2, 3, 4, 4), (3, 1, 1), (2, 3, 4, 4))]:
        yield Case("where", {}, [whole(0, 2, *c).bool(), normal(*a), normal(*b)], torch.where,
                   elementwise=True)
    yield Case("where", {}, [whole(0, 2, 34, 1).bool(), specials, specials], torch.where,
               extreme=True)


def views():
    for s, to in [((2, 3, 4), (6, 4)), ((2, 3, 4), (4, 3, 2)), ((5,), (1, 5, 1)), ((1,), ()),
                  ((), (1, 1)), ((0, 3), (3, 0, 2)), ((2, 3, 4, 5), (2, 60)), ((6,), (2, -1))]:
        yield Case("reshape", {"rank": len(to), "dim": to}, [normal(*s)],
                   lambda x, to=to: x.reshape(to))
    for s, to in [((3, 1), (3, 5)), ((), (2, 3)), ((1,), (0,)), ((2, 1, 4), (5, 2, 3, 4)),
                  ((3, 5), (3, 5)), ((1, 1), (1, 7))]:
        yield Case("expand", {"rank": len(to), "dim": to}, [normal(*s)],
                   lambda x, to=to: x.expand(to))
    for n in range(6):
        for axes in list(itertools.permutations(range(n)))[:: max(1, math.factorial(n) // 7)]:
            yield Case("permute", {"axes": axes}, [normal(*(2, 3, 4, 1, 5)[:n])],
                       lambda x, axes=axes: x.permute(axes))
    for axis, start, count, step in [(0, 0, 3, 1), (1, 1, 2, 2), (-1, 4, 1, 3), (2, 0, 3, 2),
                                     (0, 3, 0, 1), (1, 0, 5, 1), (-3, 1, 2, 1)]:
        yield Case("slice", {"axis": axis, "from": start, "count": count, "step": step},
                   [normal(3, 5, 5)],
                   lambda x, a=axis, f=start, c=count, s=step: x.index_select(
                       a, torch.arange(c) * s + f))
    for s in SHAPES[4:]:
        yield Case("copy", {"channels_last": 1}, [normal(*s)], lambda x: x.clone())
    for axis, shapes in [(0, [(2, 3), (0, 3), (4, 3)]), (1, [(2, 3), (2, 1)]), (-1, [(2, 2, 5)]),
                         (2, [(1, 2, 1, 3), (1, 2, 4, 3), (1, 2, 2, 3)])]:
        yield Case("concat", {"axis": axis}, [normal(*s) for s in shapes],
                   lambda *x, a=axis: torch.cat(x, a))
    for s, before, after, value in [((3,), (1,), (2,), 0), ((2, 3), (0, 1), (3, 0), -1.5),
                                    ((2, 0, 3), (0, 2, 0), (1, 1, 1), 2.0), ((), (), (), 0),
                                    ((2, 3, 4, 5), (0, 0, 1, 2), (0, 0, 2, 1), 0.0),
                                    ((2, 3), (0, 0), (0, 0), NAN), ((2, 3), (1, 0), (0, 0), INF)]:
        flat = [n for p in zip(reversed(before), reversed(after)) for n in p]
        yield Case("pad", {"before": before, "after": after, "value": value}, [normal(*s)],
                   lambda x, p=flat, v=value: F.pad(x, p, value=v) if p else x.clone())


def reductions():
    f = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}
    for s in [(), (7,), (3, 5), (2, 3, 4), (2, 3, 2, 5), (2, 3, 2, 2, 3), (1, 33), (129,), (40, 3)]:
        n = len(s)
        for mask in range(1 << n):
            axes = [a for a in range(n) if mask >> a & 1] or list(range(n))
            for keep in (0, 1) if n < 4 else (mask & 1,):
                for name, g in f.items():
                    yield Case(name, {"axes": mask, "keep": keep},
                               [distinct(*s) if name in ("max", "min") else normal(*s)],
                               lambda x, g=g, a=axes, k=keep: g(x, a, bool(k)) if a else x.clone())
                for c in (0, 1) if mask % 3 == 0 else (1,):
                    if math.prod(s[a] for a in axes) > c:
                        yield Case("variance", {"axes": mask, "keep": keep, "correction": c},
                                   [normal(*s)], lambda x, a=axes, k=keep, c=c: torch.var(
                                       x, a, correction=c, keepdim=bool(k)) if a else x - x)
    for name in ("max", "min"):
        yield Case(name, {"axes": 2}, [whole(-1, 2, 5, 7).double()],
                   lambda x, g=f[name]: g(x, [1]), note="ties")
        yield Case(name, {}, [torch.zeros(3, 4).double()], lambda x, g=f[name]: g(x), note="ties")
        yield Case(name, {"axes": 2}, [torch.empty(0, 3).double()], lambda x, g=f[name]: g(x, [1]))
    for name in ("sum", "mean"):
        yield Case(name, {"axes": 1}, [torch.empty(0, 3).double()], lambda x, g=f[name]: g(x, [0]))
        yield Case(name, {}, [torch.empty(2, 0, 3).double()], lambda x, g=f[name]: g(x))
        yield Case(name, {"axes": 1}, [torch.empty(2, 0, 3).double()],
                   lambda x, g=f[name]: g(x, [0]))
    yield Case("variance", {"axes": 1}, [torch.empty(2, 0, 3).double()],
               lambda x: torch.var(x, [0], correction=0))
    yield Case("variance", {"axes": 1, "correction": 1}, [normal(1, 3)],
               lambda x: torch.var(x, [0], correction=1), second=False, extreme=True,
               note="n - correction 0")
    yield Case("variance", {}, [100 + normal(3, 100)], lambda x: torch.var(x, correction=0),
               scale=1.0, note="far mean")
    for t in (torch.int64, torch.int32):
        yield Case("sum", {"axes": 2}, [whole(-9, 9, 3, 40, dtype=t)],
                   lambda x, t=t: x.sum([1], dtype=t))
    spoiled = normal(4, 9, 5)
    spoiled[0, 2], spoiled[1, 3], spoiled[2, 1, 2], spoiled[2, 5, 2] = NAN, INF, INF, -INF
    for name, g in f.items():
        for mask in range(8):
            axes = [a for a in range(3) if mask >> a & 1] or [0, 1, 2]
            yield Case(name, {"axes": mask}, [spoiled], lambda x, g=g, a=axes: g(x, a),
                       extreme=True)
    for name, g in {"argmax": torch.argmax, "argmin": torch.argmin}.items():
        for s in [(7,), (3, 5), (2, 3, 4), (2, 3, 2, 5), (67, 2), (2, 67)]:
            yield Case(name, {}, [whole(-2, 3, *s).double()],
                       lambda x, g=g: g(x.flatten(), 0), diff=[])
            for axis in range(-len(s), len(s)):
                for keep in (0, 1):
                    yield Case(name, {"axis": axis, "keep": keep}, [whole(-2, 3, *s).double()],
                               lambda x, g=g, a=axis, k=keep: g(x, a, bool(k)), diff=[])
        for axis in range(3):
            yield Case(name, {"axis": axis}, [spoiled], lambda x, g=g, a=axis: g(x, a), diff=[],
                       extreme=True)
        yield Case(name, {}, [torch.tensor([1, NAN, 2, NAN, INF]).double()],
                   lambda x, g=g: g(x, 0), diff=[], note="NaN")
        yield Case(name, {}, [torch.tensor(3.0).double()], lambda x: torch.tensor(0), diff=[])


ACTS = {0: lambda y: y, 1: torch.relu, 2: torch.tanh, 3: torch.sigmoid}


def products():
    for a, b in [((2, 3), (3, 4)), ((1, 1), (1, 1)), ((5, 7), (7, 3)), ((17, 33), (33, 19)),
                 ((4, 2, 3), (3, 5)), ((2, 3), (4, 3, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((0, 3), (3, 2)),
                 ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((3, 0, 2, 4), (1, 4, 5)), ((65, 130), (130, 71)),
                 ((1, 257), (257, 3)), ((3, 1, 2, 2), (1, 4, 2, 2))]:
        yield Case("matmul", {}, [normal(*a), normal(*b)], torch.matmul)
    bad = normal(5, 9)
    bad[1, 2], bad[3, 3], bad[4, 4] = NAN, INF, -INF
    yield Case("matmul", {}, [bad, normal(9, 6)], torch.matmul, extreme=True)
    yield Case("matmul", {}, [bad.T, torch.zeros(5, 3).double()], torch.matmul, extreme=True,
               note="times 0")
    for x, m in [((3, 5), 4), ((7,), 3), ((2, 3, 5), 1), ((0, 4), 3), ((2, 0), 3), ((33, 129), 65),
                 ((2, 2, 2, 3), 7)]:
        for act, g in ACTS.items():
            for bias in (True, False):
                yield Case("linear_act", {"act": act},
                           [normal(*x), normal(m, x[-1]), normal(m) if bias else None],
                           lambda x, w, b, g=g: g(F.linear(x, w, b)))


def conv_options():
    yield (2, 3, 7, 6), 4, (3, 3), {}
    yield (2, 3, 7, 6), 4, (3, 3), {"stride": (2, 1), "pad": (1, 0)}
    yield (1, 2, 9, 8), 3, (5, 2), {"pad": (2, 3), "stride": (3, 2)}
    yield (2, 4, 6, 7), 6, (3, 3), {"groups": 2, "pad": (1, 1)}
    yield (2, 6, 7, 5), 6, (3, 3), {"groups": 6, "pad": (1, 1)}
    yield (2, 3, 7, 5), 6, (3, 2), {"groups": 3, "pad": (1, 1), "stride": (2, 2)}
    yield (1, 3, 11, 10), 2, (3, 3), {"dilation": (2, 3), "pad": (2, 3)}
    yield (1, 2, 9, 9), 4, (2, 3), {"dilation": (3, 2), "stride": (2, 2), "groups": 2}
    yield (3, 5, 4, 4), 7, (1, 1), {}
    yield (3, 5, 5, 5), 7, (1, 1), {"stride": (2, 2)}
    yield (2, 8, 4, 4), 8, (1, 1), {"groups": 4, "pad": (1, 1)}
    yield (2, 3, 4, 4), 2, (4, 4), {}
    yield (1, 1, 1, 1), 1, (1, 1), {}
    yield (1, 1, 1, 1), 1, (3, 3), {"pad": (1, 1)}
    yield (2, 1, 12, 12), 6, (5, 5), {"pad": (2, 2)}
    yield (0, 3, 5, 5), 2, (3, 3), {"pad": (1, 1)}
    yield (2, 3, 5, 5), 0, (3, 3), {"pad": (1, 1)}
    yield (2, 0, 5, 5), 2, (3, 3), {"pad": (1, 1)}
    yield (2, 3, 3, 3), 2, (3, 3), {"stride": (5, 7), "pad": (4, 4)}
    yield (4, 16, 9, 9), 32, (3, 3), {"pad": (1, 1)}
    yield (2, 17, 8, 8), 33, (3, 3), {"pad": (1, 1), "stride": (2, 2)}
    yield (1, 3, 8, 40), 16, (3, 3), {"pad": (1, 1)}
    yield (2, 32, 6, 6), 16, (3, 3), {"pad": (1, 1), "groups": 2}
    yield (2, 48, 7, 7), 48, (3, 3), {"pad": (1, 1), "groups": 48, "stride": (2, 1)}
    yield (1, 4, 7, 7), 8, (7, 7), {"pad": (3, 3)}


def torch_conv(o):
    return {"stride": o.get("stride", 1), "padding": o.get("pad", 0),
            "dilation": o.get("dilation", 1), "groups": o.get("groups", 1)}


def convolutions():
    for s, k, r, o in conv_options():
        w = (k, s[1] // o.get("groups", 1)) + r
        t = torch_conv(o)
        empty = 0 in s or 0 in w
        x, w = normal(*s), normal(*w)
        plain = conv_plain(o) if empty else lambda x, w, t=t: F.conv2d(x, w, **t)
        y = plain(x, w)
        yield Case("conv2d", o, [x, w], plain)
        if empty:
            continue
        # Winograd's roundings are those of the sums' terms, not of the sums.
        scale = F.conv2d(x.abs(), w.abs(), **t).max().item()
        for act, g in ACTS.items():
            for b in (normal(k), None):
                yield Case("conv2d_act", {**o, "act": act}, [x, w, b],
                           lambda x, w, b, g=g, t=t: g(F.conv2d(x, w, b, **t)), scale=scale)
        yield Case("conv2d_dx", {**o, "shape": tuple(x.shape)}, [normal(*y.shape), w],
                   lambda g, w, s=x, t=t: adjoint(lambda x: F.conv2d(x, w, **t), s, g))
        yield Case("conv2d_dw", {**o, "shape": tuple(w.shape)}, [x, normal(*y.shape)],
                   lambda x, g, s=w, t=t: adjoint(lambda w: F.conv2d(x, w, **t), s, g))
    bad = normal(2, 3, 6, 6)
    bad[0, 1, 2, 2], bad[1, 0, 0, 5], bad[1, 2, 5, 0] = NAN, INF, -INF
    for o in ({"pad": (1, 1)}, {"stride": (2, 2)}, {"dilation": (2, 2), "pad": (2, 2)}):
        t = torch_conv(o)
        yield Case("conv2d", o, [bad, normal(4, 3, 3, 3)], lambda x, w, t=t: F.conv2d(x, w, **t),
                   extreme=True)


def conv_plain(o):
    """Empty batches and channels, which some versions of PyTorch refuse."""
    s, p, d = (o.get(k, (z, z)) for k, z in (("stride", 1), ("pad", 0), ("dilation", 1)))

    def f(x, w):
        n, c, k = x.shape[0], x.shape[1], w.shape[0]
        u = F.pad(x, (p[1], p[1], p[0], p[0]))
        u = u.unfold(2, (w.shape[2] - 1) * d[0] + 1, s[0]).unfold(3, (w.shape[3] - 1) * d[1] + 1,
                                                                 s[1])
        u = u[..., ::d[0], ::d[1]]
        return torch.einsum("ncpqrs,kcrs->nkpq", u, w) if c else \
            x.new_zeros(n, k, u.shape[2], u.shape[3]) + x.sum() * w.sum()
    return f


def adjoint(f, like, g):
    with torch.enable_grad():
        x = torch.zeros_like(like).to(g.dtype).requires_grad_()
        return torch.autograd.grad(f(x), x, g, create_graph=True)[0]


def pools():
    shapes = [(2, 3, 7, 6), (1, 1, 5, 5), (1, 17, 4, 9), (0, 2, 4, 4), (2, 33, 6, 6), (1, 2, 12, 13)]
    options = [{"size": (2, 2)}, {"size": (3, 2), "stride": (2, 1)},
               {"size": (3, 3), "stride": (2, 2), "pad": (1, 1)},
               {"size": (3, 3), "stride": (2, 2), "pad": (1, 1), "ceil_mode": 1},
               {"size": (2, 2), "ceil_mode": 1}, {"size": (2, 3), "stride": (3, 4), "ceil_mode": 1},
               {"size": (4, 4), "stride": (1, 2), "pad": (2, 1)}, {"size": (1, 1)},
               {"size": (3, 3), "stride": (5, 5), "pad": (1, 1), "ceil_mode": 1},
               {"size": (1, 1), "stride": (3, 2)}, {"size": (3, 4), "stride": (1, 1)}]
    for s in shapes:
        for o in options:
            for d in ({}, {"dilation": (2, 1)}, {"dilation": (1, 2)}):
                reach = [(o["size"][i] - 1) * d.get("dilation", (1, 1))[i] + 1 for i in (0, 1)]
                pad = o.get("pad", (0, 0))
                if any(s[2 + i] + 2 * pad[i] < reach[i] for i in (0, 1)):
                    continue
                t = [o["size"], o.get("stride"), pad, d.get("dilation", 1), bool(o.get("ceil_mode"))]
                yield Case("max_pool2d", {**o, **d}, [distinct(*s)], lambda x, t=t: F.max_pool2d(
                    x, *t, return_indices=True), diff=[0])
                yield Case("max_pool2d", {**o, **d}, [whole(-1, 2, *s).double()],
                           lambda x, t=t: F.max_pool2d(x, *t, return_indices=True), note="ties")
                if 0 in s:
                    continue
                y, at = F.max_pool2d(distinct(*s), *t, return_indices=True)
                yield Case("max_pool2d_dx", {**o, **d, "shape": s}, [normal(*y.shape), at],
                           lambda g, at, s=s: g.new_zeros(s[0], s[1], s[2] * s[3]).scatter_add(
                               2, at.flatten(2), g.flatten(2)).reshape(s))
                yield Case("max_pool2d_at", {**o, **d}, [normal(*s), at],
                           lambda x, at: x.flatten(2).gather(2, at.flatten(2)).reshape(at.shape))
            if any(s[2 + i] + 2 * o.get("pad", (0, 0))[i] < o["size"][i] for i in (0, 1)):
                continue
            for inside in (0, 1):
                t = [o["size"], o.get("stride"), o.get("pad", (0, 0)), bool(o.get("ceil_mode")),
                     not inside]
                f = lambda x, t=t: F.avg_pool2d(x, *t)
                c = Case("avg_pool2d", {**o, "exclude_pad": inside}, [normal(*s)], f)
                yield c
                y = f(c.inputs[0])
                yield Case("avg_pool2d_dx", {**c.options, "shape": s}, [normal(*y.shape)],
                           lambda g, s=c.inputs[0], f=f: adjoint(f, s, g))
    bad = whole(-3, 3, 2, 3, 7, 7).double()
    bad[0, 0, 1, 1], bad[0, 1, 3], bad[0, 2], bad[1, 0, 0, 0] = NAN, INF, -INF, -INF
    for o in options[:4]:
        t = [o["size"], o.get("stride"), o.get("pad", (0, 0)), 1, bool(o.get("ceil_mode"))]
        yield Case("max_pool2d", o, [bad], lambda x, t=t: F.max_pool2d(x, *t, return_indices=True),
                   extreme=True)
        yield Case("avg_pool2d", o, [bad], lambda x, t=t: F.avg_pool2d(x, *t[:3], t[4]),
                   extreme=True)


def batch_norm(x, gamma, beta, mean, var, eps=1e-5, momentum=0.1):
    m, v = mean.detach().clone(), var.detach().clone()
    y = F.batch_norm(x, m, v, gamma, beta, True, momentum, eps)
    return y, m, v


def norms():
    for s in [(4, 3), (2, 5, 3, 4), (3, 2, 7), (2, 17, 3, 3), (2, 3, 2, 2, 2), (2, 1, 1, 1), (5, 33),
              (8, 16, 5, 5), (1, 4, 3, 3), (3, 67, 2, 1)]:
        c = s[1]
        for o in ({}, {"eps": 0.1}, {"momentum": 0.5}, {"eps": 1e-3, "momentum": 0.0},
                  {"momentum": 1.0}):
            x, args = 3 + 2 * normal(*s), [normal(c), normal(c), normal(c), uniform(0.5, 2, c)]
            yield Case("batch_norm", o, [x] + args,
                       lambda *a, o=o: batch_norm(*a, **o), diff=[0, 1, 2], scale=3.0)
            if "momentum" not in o:
                yield Case("batch_norm_eval", o, [x] + args,
                           lambda x, g, b, m, v, o=o: bn_eval(x, g, b, m, v, o.get("eps", 1e-5)))
    yield Case("batch_norm", {}, [torch.full((3, 2), 5.0).double(), normal(2), normal(2), normal(2),
                                  uniform(1, 2, 2)], batch_norm, diff=[0, 1, 2], note="constant")
    yield Case("batch_norm_eval", {}, [normal(0, 3), normal(3), normal(3), normal(3),
                                       uniform(1, 2, 3)],
               lambda x, g, b, m, v: bn_eval(x, g, b, m, v, 1e-5), note="empty")
    bad = normal(4, 3, 2, 2)
    bad[0, 0, 0, 0], bad[1, 1, 1, 1] = NAN, INF
    yield Case("batch_norm", {}, [bad, normal(3), normal(3), normal(3), uniform(1, 2, 3)],
               batch_norm, diff=[0, 1, 2], extreme=True)
    for s, k in [((4, 5), 1), ((2, 3, 4), 2), ((7,), 1), ((2, 3, 4, 5), 3), ((3, 33), 1), ((2, 0), 1),
                 ((0, 4), 1), ((5, 129), 1), ((3, 1), 1), ((2, 2, 3), 3), ((6, 64), 1)]:
        for o in ({}, {"eps": 0.01}):
            for g, b in itertools.product((1, 0), (1, 0)):
                x = 2 + normal(*s)
                yield Case("layer_norm", {**o, "axes": k},
                           [x, normal(*s[-k:]) if g else None, normal(*s[-k:]) if b else None],
                           lambda x, g, b, s=s[-k:], o=o: layer_norm(x, g, b, s, **o),
                           scale=3.0)
    for row in ([NAN, 1, 2], [INF, 1, 2], [2.0 ** 50] * 3, [0, 0, 0]):
        yield Case("layer_norm", {}, [torch.tensor([row, [1, 2, 4]]).double(), normal(3), normal(3)],
                   lambda x, g, b: F.layer_norm(x, (3,), g, b), extreme=True)


def bn_eval(x, gamma, beta, mean, var, eps):
    """Written out: F.batch_norm does not give derivatives in mean and var."""
    s = [1, -1] + [1] * (x.dim() - 2)
    return (x - mean.reshape(s)) / torch.sqrt(var.reshape(s) + eps) * gamma.reshape(s) + \
        beta.reshape(s)


def layer_norm(x, gamma, beta, shape, eps=1e-5):
    if x.numel() == 0:
        y = x.clone()
        y = y * gamma if gamma is not None else y
        return y + beta if beta is not None else y
    if gamma is None and beta is not None:  # what PyTorch's second derivative wants
        gamma = x.new_ones(shape)
    return F.layer_norm(x, shape, gamma, beta, eps)


def cross_entropy(x, target, weight, smoothing=0.0, reduction="mean", ignore=None):
    """Written out, so that derivatives exist in weight, too."""
    logp, k = torch.log_softmax(x, 1), x.shape[1]
    w = x.new_ones(k) if weight is None else weight
    shaped = w.reshape([1, -1] + [1] * (x.dim() - 2))
    if target.is_floating_point():
        t = target * (1 - smoothing) + smoothing / k
        each = -(t * shaped * logp).sum(1)
        return {"mean": lambda: each.sum() / each.numel(), "sum": each.sum,
                "none": lambda: each}[reduction]()
    counts = torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore
    at = torch.where(counts, target, torch.zeros_like(target)).long()
    wt = w[at] * counts
    each = -(1 - smoothing) * logp.gather(1, at.unsqueeze(1)).squeeze(1) * wt
    each = each - smoothing / k * (logp * shaped).sum(1) * counts
    each = torch.where(counts, each, torch.zeros_like(each))
    return {"mean": lambda: each.sum() / wt.sum(), "sum": each.sum, "none": lambda: each}[reduction]()


def losses():
    for s in SHAPES[1:]:
        for axis in range(-len(s), len(s)):
            for name, f in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
                yield Case(name, {"axis": axis}, [3 * normal(*s)], lambda x, a=axis, f=f: f(x, a))
    rows = torch.tensor([[1, 2, 3, 4], [1000, 999, -1000, 0], [-INF, 0, 1, -INF], [NAN, 0, 0, 0],
                         [INF, 0, 0, 0], [-INF] * 4, [3e38, 3e38, 0, -3e38], [0, -0.0, 0, 0],
                         [1e-40, 0, 0, -1e-40], [-88, -104, 0, -150]]).double()
    for name, f in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
        yield Case(name, {"axis": 1}, [rows], lambda x, f=f: f(x, 1), extreme=True)
        yield Case(name, {"axis": 0}, [rows.T], lambda x, f=f: f(x, 0), extreme=True)
        yield Case(name, {"axis": 0}, [normal(1)], lambda x, f=f: f(x, 0))
    for s in [(4, 5), (1, 1), (7, 10), (3, 33), (2, 3, 4), (2, 5, 2, 3)]:
        n, k = s[0], s[1]
        rest = (n,) + s[2:]
        for r in ("mean", "sum", "none"):
            for smoothing in (0, 0.1, 1.0):
                for w in (None, uniform(0.2, 2, k)):
                    for ignore in (None, -100, 0):
                        t = whole(0, k, *rest)
                        if ignore == -100:
                            t[0] = -100
                        o = {"smoothing": smoothing, "reduction": r}
                        o.update({} if ignore is None else {"ignore": ignore})
                        if ignore is not None and (t == ignore).all():
                            continue
                        for t in (t, t.int()):
                            yield Case("cross_entropy", o, [2 * normal(*s), t, w],
                                       lambda x, t, w, o=o: cross_entropy(x, t, w, **o), scale=3.0)
                    o = {"smoothing": smoothing, "reduction": r}
                    yield Case("cross_entropy", o,
                               [2 * normal(*s), torch.softmax(normal(*s), 1), w],
                               lambda x, t, w, o=o: cross_entropy(x, t, w, **o), scale=3.0)
    for r in ("mean", "sum", "none"):
        yield Case("cross_entropy", {"reduction": r, "ignore": 1},
                   [normal(3, 4), torch.full((3,), 1), None], lambda x, t, w, r=r: F.cross_entropy(
                       x, t, None, ignore_index=1, reduction=r), extreme=True, note="all ignored")
        yield Case("cross_entropy", {"reduction": r}, [rows, whole(0, 4, 10), None],
                   lambda x, t, w, r=r: F.cross_entropy(x, t, reduction=r), extreme=True)
        yield Case("cross_entropy", {"reduction": r}, [normal(0, 4), whole(0, 4, 0), None],
                   lambda x, t, w, r=r: F.cross_entropy(x, t, reduction=r), extreme=True,
                   note="empty")
        for s in SHAPES:
            yield Case("mse", {"reduction": r}, [normal(*s), normal(*s)],
                       lambda x, t, r=r: F.mse_loss(x, t, reduction=r))


def indexing():
    for s, i, axis in [((5,), (7,), 0), ((3, 5), (3, 4), 1), ((3, 5), (2, 5), 0), ((4, 3, 2), (4, 6, 2), 1),
                       ((4, 3, 2), (4, 3, 9), -1), ((3, 5), (3, 0), 1), ((2, 3, 4, 5), (2, 3, 7, 5), 2),
                       ((4, 33), (9, 33), 0)]:
        for t in (torch.int64, torch.int32):
            at = whole(0, s[axis], *i, dtype=t)
            yield Case("gather", {"axis": axis}, [normal(*s), at],
                       lambda x, at, a=axis: x.gather(a, at.long()))
            if all(i[a] == s[a] for a in range(len(s)) if a != axis % len(s)):
                yield Case("scatter_add", {"axis": axis, "count": s[axis]}, [normal(*i), at],
                           lambda g, at, s=s, a=axis: g.new_zeros(s).scatter_add(a, at.long(), g))
    for s, i in [((5,), (3,)), ((5, 3), (4,)), ((5, 3), (2, 4)), ((7, 2, 3), (2, 2)), ((4, 3), ()),
                 ((4, 3), (0,)), ((4, 0), (3,)), ((9, 65), (11,))]:
        for t in (torch.int64, torch.int32):
            at = whole(0, s[0], *i, dtype=t)
            yield Case("take", {}, [normal(*s), at], lambda x, at: x[at.long()])
            yield Case("take_add", {"count": s[0]}, [normal(*(i + s[1:])), at],
                       lambda g, at, s=s, i=i: g.new_zeros(s).index_add(
                           0, at.long().reshape(-1), g.reshape((at.numel(),) + s[1:])))
    for i in [(), (5,), (2, 3), (0,)]:
        for t in (torch.int64, torch.int32):
            yield Case("one_hot", {"classes": 4}, [whole(0, 4, *i, dtype=t)],
                       lambda at: F.one_hot(at.long(), 4).float())
            yield Case("one_hot", {"classes": 4, "type": "f64", "ignore": 2},
                       [whole(0, 4, *i, dtype=t)],
                       lambda at: F.one_hot(at.long(), 4).double() * (at != 2).unsqueeze(-1))


def all_cases():
    import torch_recurrent  # it takes Case and the random inputs from here
    for part in (elementwise, views, reductions, products, convolutions, pools, norms, losses,
                 indexing, torch_recurrent.cases):
        yield from part()
