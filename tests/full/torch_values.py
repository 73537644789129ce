#!/usr/bin/env python3
"""Tern's operations against PyTorch: values, first and second derivatives, wrong arguments, models.

  torch_values.py LIBRARY [part ...] [--only WORD]   parts: values others wrong
  quality models; all of them if none is named

Every case runs on the devices cpu and ref, in f64 and f32, for several layouts in memory. f64 has
to agree within 1e-12 of the largest magnitude; f32 within 8 roundings of it plus 4 times PyTorch's
own f32 error; NaN and infinities exactly.
"""
import argparse
import collections
import os
import sys
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")
import torch  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tern_api  # noqa: E402
import torch_cases  # noqa: E402

torch.set_num_threads(1)
LAYOUTS = ["plain", "turned", "cut", "last", "middle", "spread"]
DTYPE = {"f64": torch.float64, "f32": torch.float32}
bad = collections.Counter()
first = {}
n_checked = collections.Counter()


def complain(case, what):
    bad[case.op] += 1
    if bad[case.op] <= limit:
        print(f"  {case}: {what}", flush=True)


def inputs_of(case, dtype):
    x = [c(dtype) if callable(c) else c for c in case.inputs]
    return [None if t is None else t.to(dtype) if t.is_floating_point() else t for t in x]


def cotangent(y, i, v=None):
    g = torch.Generator().manual_seed(11 + i)
    return torch.randn(y.shape, generator=g, dtype=torch.float64).to(y.dtype)


def as_tuple(y):
    return tuple(y) if isinstance(y, (tuple, list)) else (y,)


def grads(y, x, g):
    """Derivatives in x; zeros where there are none."""
    if not y:
        return [torch.zeros_like(t) for t in x]
    d = torch.autograd.grad(y, x, g, create_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if t_ is None else t_ for t_, t in zip(d, x)]


def detached(all_):
    return [None if t is None else t.detach() for t in all_]


def reference(case, x, dtype):
    """(outputs, first derivatives, second derivatives in the inputs and in the cotangent)."""
    x = [t if t is None or not t.is_floating_point() else t.to(dtype) for t in x]
    x = [t.clone().requires_grad_() if i in case.diff else t for i, t in enumerate(x)]
    outs = as_tuple(case.f(*x))
    y, wrt = outs[0], [x[i] for i in case.diff]
    if not wrt or not y.is_floating_point():
        return detached(outs), [], []
    if not y.requires_grad:
        y = y + sum(t.sum() * 0 for t in wrt)
    g = cotangent(y, 0).to(case_dtype[0]).to(dtype).requires_grad_()
    d = grads([y], wrt, [g])
    second = []
    if case.second:
        v = [cotangent(t, 1 + i).to(case_dtype[0]).to(dtype) for i, t in enumerate(d)]
        linked = [(a, b) for a, b in zip(d, v) if a.requires_grad]
        second = grads([a for a, _ in linked], wrt + [g], [b for _, b in linked])
    return detached(outs), detached(d), detached(second)


case_dtype = [torch.float64]


def result(t, case, x, layout):
    with t:
        h = []
        for i, v in enumerate(x):
            if v is None:
                h.append(0)
                continue
            at = LAYOUTS[(LAYOUTS.index(layout) + i) % len(LAYOUTS)] if layout != "plain" else layout
            h.append(t.laid(v, at))
        h = [t.track(a) if i in case.diff else a for i, a in enumerate(h)]
        out = t.apply(case.op, case.options, *h)
        values = [t.get(o) if o else None for o in out]
        if not case.diff or not values[0].is_floating_point():
            return values, [], []
        g = t.track(t.laid(cotangent(values[0], 0), layout))
        wrt = [h[i] for i in case.diff]
        d = t.grads([out[0]], [g], wrt)
        first = [t.get(a) for a in d]
        second = []
        if case.second:
            v = [t.laid(cotangent(a, 1 + i), layout) for i, a in enumerate(first)]
            second = [t.get(a) for a in t.grads(d, v, wrt + [g])]
        return values, first, second


def compare(case, where, got, want, own, dtype, second):
    """want: the reference in f64 (own dtype where extreme); own: PyTorch's result in dtype."""
    n_checked[case.op] += 1
    if got is None or list(got.shape) != list(want.shape):
        return complain(case, f"{where}: shape {got if got is None else list(got.shape)}, "
                              f"not {list(want.shape)}")
    if not want.is_floating_point():
        if got.is_floating_point() or not torch.equal(got.long(), want.long()):
            complain(case, f"{where}: {got.flatten()[:8].tolist()}, not "
                           f"{want.flatten()[:8].tolist()}")
        return None
    if not got.is_floating_point():
        return complain(case, f"{where}: type {got.dtype}")
    a, b = got.double(), want.double()
    odd = ~(torch.isfinite(a) & torch.isfinite(b))
    wrong = odd & ~((a == b) | (torch.isnan(a) & torch.isnan(b)))
    if second and case.extreme:  # where a product of PyTorch's overflowed on the way
        wrong = wrong & torch.isfinite(b)
    if bool(wrong.any()):
        i = int(wrong.flatten().nonzero()[0])
        return complain(case, f"{where}: element {i} is {a.flatten()[i].item()}, not "
                              f"{b.flatten()[i].item()} ({int(wrong.sum())} such)")
    error = torch.where(odd, torch.zeros_like(a), (a - b).abs())
    size = torch.where(odd, torch.zeros_like(b), b.abs())
    top = max(size.max().item() if size.numel() else 0, case.scale ** (2 if second else 1))
    eps = torch.finfo(dtype).eps
    if dtype == torch.float64:
        exact = case.extreme and case.elementwise
        allowed = 1e-12 * (size if exact else torch.full_like(size, top)) + 1e-300
        if exact:
            allowed = allowed + 1e-13 * min(top, 1.0)
    else:
        theirs = (own.double() - b).abs()
        theirs = torch.where(torch.isfinite(theirs), theirs, torch.zeros_like(theirs))
        most = theirs.max().item() if theirs.numel() else 0
        allowed = 8 * eps * (size if case.elementwise else torch.full_like(size, top)) + \
            4 * most + 2e-45
        if case.elementwise:
            allowed = allowed + 2 * eps * min(top, 1.0)
    over = error > allowed
    if bool(over.any()):
        i = int((error / allowed.clamp_min(1e-320)).flatten().argmax())
        complain(case, f"{where}: element {i} is {a.flatten()[i].item()!r}, not "
                       f"{b.flatten()[i].item()!r} (of at most {top:.3g}; {int(over.sum())} such)")
    return None


def merged(own, exact):
    """The infinities and NaN of the type itself, other values from f64."""
    if own is None or not own.is_floating_point():
        return own
    both = torch.isfinite(own) & torch.isfinite(exact)
    return torch.where(both, exact, own.double())


def check_case(tern, case):
    for type_ in case.types:
        dtype = DTYPE[type_]
        x = inputs_of(case, dtype)
        case_dtype[0] = dtype
        own = reference(case, x, dtype)
        want = own if dtype == torch.float64 else reference(case, x, torch.float64)
        if case.extreme and dtype != torch.float64:
            want = [[merged(a, b) for a, b in zip(p, q)] for p, q in zip(own, want)]
        floats = any(v is not None and v.is_floating_point() for v in x)
        for device, t in tern.items():
            for layout in LAYOUTS:
                if layout != "plain" and not any(v is not None and v.dim() > 0 for v in x):
                    continue
                where = f"{device} {type_} {layout}"
                try:
                    got = result(t, case, x, layout)
                except tern_api.Failed as e:
                    complain(case, f"{where}: {e}")
                    break
                for what, g, w, o in zip(("y", "d", "dd"), got, want, own):
                    if len(g) < len(w):
                        complain(case, f"{where}: {len(g)} results {what}, not {len(w)}")
                    for i, (a, b, c) in enumerate(zip(g, w, o)):
                        if b is not None:
                            compare(case, f"{where} {what}{i}", a, b, c, dtype, what == "dd")
        if not floats:
            break


def values(lib, only):
    tern = {d: tern_api.Tern(lib, d) for d in ("cpu", "ref")}
    n = 0
    for case in torch_cases.all_cases():
        if only and not any(case.op == w for w in only.split(",")):
            continue
        n += 1
        try:
            check_case(tern, case)
        except Exception as e:  # a case of this script that PyTorch refuses
            if os.environ.get("TRACE"):
                raise
            complain(case, f"reference: {type(e).__name__} {e}")
    for t in tern.values():
        if t.close():
            print("  close: something is held")
            bad["close"] += 1
    missing = sorted(set(tern["cpu"].ops) - set(n_checked))
    print(f"values: {n} cases, {sum(n_checked.values())} comparisons; without a case: "
          f"{' '.join(missing)}")


def main():
    global limit
    p = argparse.ArgumentParser()
    p.add_argument("lib", metavar="LIBTERN")
    p.add_argument("part", nargs="*")
    p.add_argument("--only", default="")
    p.add_argument("--limit", type=int, default=3)
    a = p.parse_args()
    limit = a.limit
    lib = tern_api.load(a.lib)
    parts = a.part or ["values", "others", "wrong", "quality", "models"]
    for name in parts:
        if name == "values":
            values(lib, a.only)
        else:
            module = __import__(f"torch_{name}")
            for text in module.run(lib, a.only):
                bad[name] += 1
                print(f"  {text}", flush=True)
    if bad:
        print("differ: " + ", ".join(f"{k} {v}" for k, v in sorted(bad.items())))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
