"""Operations that need words of their own: cast, fill, census, dropout, random numbers, updates."""
import math

import torch

import tern_api

NAN, INF = math.nan, math.inf
NAMES = ["f32", "f64", "f16", "bf16", "i64", "i32", "u8", "bool"]
EDGES = torch.tensor([0.0, -0.0, 1, -1, 0.5, 1.5, 2.5, -2.5, 0.999, 65504, 65519.9, 65520, 1e5, 1e-8,
                      5.9e-8, 3e-8, 2.98e-8, 6.1e-5, 1.00048828125, 1.0009765625, 1.00390625,
                      1.005859375, 255, 256, 300, -5, 2147483647, 2147483648, -2147483648,
                      -2147483649, 3e9, 9e18, 9.3e18, -9.3e18, 1e30, -1e30, 3.4e38, INF, -INF, NAN,
                      1e-40, 1e-45], dtype=torch.float64)


def converted(x, type_):
    """What ops.h says: floats round to nearest even; integers truncate, saturate, NaN is 0."""
    if type_.is_floating_point:
        return x.to(type_)
    if type_ == torch.bool:
        return x != 0
    if not x.is_floating_point():
        i = torch.iinfo(type_)
        return torch.tensor([min(max(int(v), i.min), i.max) for v in x], dtype=type_)
    i, y = torch.iinfo(type_), []
    for v in x.double().tolist():
        y.append(0 if v != v else i.max if v >= i.max else i.min if v <= i.min else int(v))
    return torch.tensor(y, dtype=type_)


def same(a, b):
    a, b = (v.double() if v.dtype != torch.int64 else v for v in (a, b))
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def casts(t):
    ints = {torch.int64: [0, 1, -1, 255, 256, 1 << 40, -(1 << 40), (1 << 53) + 1, (1 << 63) - 1],
            torch.int32: [0, 1, -1, 300, 16777217, -(1 << 31), (1 << 31) - 1],
            torch.uint8: [0, 1, 127, 255], torch.bool: [0, 1]}
    for source in tern_api.TYPES:
        x = EDGES.to(source) if source.is_floating_point else \
            torch.tensor(ints[source]).to(source)
        for target, name in zip(tern_api.TYPES, NAMES):
            with t:
                y = t.get(t.apply("cast", {"type": name}, t.put(x))[0])
            # f64 to a half float in one rounding: PyTorch goes through f32.
            if source == torch.float64 and target in (torch.float16, torch.bfloat16):
                x_ = x[(x == x.float()) | (x != x)]
                y = y[(x == x.float()) | (x != x)]
                want = converted(x_, target)
            else:
                want = converted(x, target)
            if y.dtype != target or not same(y, want):
                i = next((i for i in range(len(want)) if not same(y[i:i + 1], want[i:i + 1])), 0)
                yield f"cast {source} to {name}: {x[i].item()!r} gave {y[i].item()!r}, not " \
                      f"{want[i].item()!r}"


def updates(t, dtype):
    made = torch.Generator().manual_seed(3)
    draw = lambda: torch.randn(37, generator=made, dtype=torch.float64).to(dtype)
    limit = 1e-12 if dtype == torch.float64 else 1e-6
    one = torch.tensor([1], dtype=torch.int64)
    for o in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": 1}, {"decay": 0.1},
              {"momentum": 0.5, "dampening": 0.25, "decay": 0.01}):
        for scale in (None, 0.5):
            p, m, g, lr = draw(), draw(), draw(), torch.tensor(0.1, dtype=dtype)
            s = None if scale is None else torch.tensor(scale, dtype=dtype)
            with t:
                h = t.apply("sgd_update", o, t.put(p), t.put(m) if "momentum" in o else 0, t.put(g),
                            t.put(lr), t.put(s) if s is not None else 0)
                got = [t.get(v) if v else None for v in h[:2]]
            p, m, g = p.double(), m.double(), g.double()
            d = g * (scale or 1) + o.get("decay", 0) * p
            if "momentum" in o:
                m = o["momentum"] * m + (1 - o.get("dampening", 0)) * d
                d = d + o["momentum"] * m if "nesterov" in o else m
            want = [p - lr.double() * d, m if "momentum" in o else d]
            for a, b in zip(got, want):
                if a is not None and not torch.allclose(a.double(), b, limit, limit):
                    yield f"sgd_update {o} {dtype} differs by {(a.double() - b).abs().max():.3g}"
    for step in (1, 2, 1000):
        for o in ({}, {"decay": 0.1}, {"decay": 0.1, "decoupled": 1},
                  {"beta1": 0.5, "beta2": 0.7, "eps": 1e-3}, {"beta1": 0}):
            p, m, v, g = draw(), draw(), draw().abs(), draw()
            lr = torch.tensor(0.01, dtype=dtype)
            with t:
                h = t.apply("adam_update", o, t.put(p), t.put(m), t.put(v), t.put(g), t.put(lr),
                            t.put(one * step), 0)
                got = [t.get(a) for a in h[:3]]
            p, m, v, g, lr = (a.double() for a in (p, m, v, g, lr))
            b1, b2, eps, decay = (o.get(k, d) for k, d in (("beta1", 0.9), ("beta2", 0.999),
                                                           ("eps", 1e-8), ("decay", 0)))
            if "decoupled" in o:
                p = p - lr * decay * p
            else:
                g = g + decay * p
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            p = p - lr * (m / (1 - b1 ** step)) / (torch.sqrt(v / (1 - b2 ** step)) + eps)
            for a, b in zip(got, (p, m, v)):
                if not torch.allclose(a.double(), b, limit, limit):
                    yield f"adam_update {o} step {step} {dtype} differs by " \
                          f"{(a.double() - b).abs().max():.3g}"


def random(t, other):
    counter = torch.tensor([3], dtype=torch.int64)
    for op, o, mean, deviation in (
            ("uniform", {"a": 0, "b": 0}, 0.5, 12 ** -0.5), ("uniform", {"a": -2, "b": 4}, 1, 3 ** 0.5),
            ("normal", {}, 0, 1), ("normal", {"a": 5, "b": 0.5}, 5, 0.5)):
        for type_ in ("f32", "f64"):
            y = []
            for c in (t, other):
                with c:
                    y.append(c.get(c.apply(op, {"seed": 9, "rank": 2, "dim": (200, 500),
                                                "type": type_, **o}, c.put(counter))[0]))
            if not torch.allclose(y[0].double(), y[1].double(), 1e-5, 1e-5):
                yield f"{op} {o} {type_}: devices differ"
            z = (y[0].double() - mean) / deviation
            if abs(z.mean()) > 0.02 or abs(z.std() - 1) > 0.02 or \
                    (op == "uniform" and z.abs().max() > 3 ** 0.5 + 1e-6):
                yield f"{op} {o} {type_}: mean {z.mean():.4f}, deviation {z.std():.4f}"
            if y[0].unique().numel() < 90000 and type_ == "f64":
                yield f"{op}: repeats itself"
    for p in (0, 0.25, 0.9):
        x = 1 + torch.rand(100, 300)
        with t:
            h = t.track(t.put(x))
            out = t.apply("dropout", {"p": p, "seed": 4}, h, t.put(counter))[0]
            y, d = t.get(out), t.get(t.grads([out], [t.put(x)], [h])[0])
        kept = y != 0
        if not torch.allclose(y, x * kept / (1 - p), 1e-6) or not torch.equal(d != 0, kept) or \
                abs(kept.double().mean() - (1 - p)) > 0.01 or not torch.allclose(d, y, 1e-6):
            yield f"dropout {p}: {kept.double().mean()} kept"


def run(lib, only=""):
    both = [tern_api.Tern(lib, d) for d in ("cpu", "ref")]
    for i, t in enumerate(both):
        for text in (*casts(t), *updates(t, torch.float32), *updates(t, torch.float64),
                     *random(t, both[1 - i])):
            yield f"{t.device}: {text}"
        for name, type_ in zip(NAMES, tern_api.TYPES):
            for value in (0, 1, 2.5, -1, 300):
                with t:
                    y = t.get(t.apply("fill", {"rank": 2, "dim": (2, 3), "value": value,
                                               "type": name})[0])
                want = converted(torch.tensor([float(value)] * 6).double(), type_)
                if not same(y.flatten(), want):
                    yield f"{t.device}: fill {name} {value}: {y.flatten()[0]}"
        for bad in (0, 1, 3):
            x, z = torch.arange(1.0, 101), torch.ones(7)
            z[:bad] = torch.tensor([NAN, INF, -INF])[:bad]
            with t:
                flag, stats = (t.get(v) for v in t.apply("census", "", t.put(x), t.put(z)))
            norm = x.double().norm().item()
            if flag.item() != (bad > 0) or abs(stats[0].item() - norm) > 1e-12 * norm or \
                    stats[1].item() != bad:
                yield f"{t.device}: census: {flag.item()} {stats.tolist()}"
    for t in both:
        if t.close():
            yield "something is held"
    print("others: cast, fill, census, dropout, uniform, normal, updates")
