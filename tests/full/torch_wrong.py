"""Wrong arguments: each call fails with a message that begins with the operation's name, nothing
crashes, and the context works on."""
import itertools

import torch

import tern_api

F, I, B = torch.float32, torch.int64, torch.bool
HUGE = (2147483647, -2147483648, 9223372036854775807, -9223372036854775808, -1, 0, 1 << 40, 1 << 31)


def x(*shape, type=F):
    return torch.zeros(shape, dtype=type)


IMAGE, FILTER = x(2, 3, 5, 5), x(4, 3, 3, 3)
ONE = x(1, type=I)
# Arguments that fit; they are then bent one at a time.
GOOD = {
    "adam_update": ([x(5), x(5), x(5), x(5), x(), ONE, None], {}),
    "sgd_update": ([x(5), x(5), x(5), x(), None], {"momentum": 0.9}),
    "argmax": ([x(3, 4)], {"axis": 1}), "argmin": ([x(3, 4)], {"axis": 1}),
    "avg_pool2d": ([IMAGE], {"size": (2, 2)}),
    "avg_pool2d_dx": ([x(2, 3, 2, 2)], {"size": (2, 2), "shape": (2, 3, 5, 5)}),
    "max_pool2d": ([IMAGE], {"size": (2, 2)}),
    "max_pool2d_dx": ([x(2, 3, 2, 2), x(2, 3, 2, 2, type=I)],
                      {"size": (2, 2), "shape": (2, 3, 5, 5)}),
    "max_pool2d_at": ([IMAGE, x(2, 3, 2, 2, type=I)], {"size": (2, 2)}),
    "batch_norm": ([x(4, 3), x(3), x(3), x(3), x(3)], {}),
    "batch_norm_eval": ([x(4, 3), x(3), x(3), x(3), x(3)], {}),
    "layer_norm": ([x(4, 3), x(3), x(3)], {"axes": 1}),
    "cast": ([x(3)], {"type": "f64"}), "census": ([x(3), x(2)], {}),
    "clamp": ([x(3)], {"min": 0, "max": 1}), "concat": ([x(2, 3), x(1, 3)], {"axis": 0}),
    "conv2d": ([IMAGE, FILTER], {"stride": (1, 1), "pad": (0, 0), "groups": 1}),
    "conv2d_act": ([IMAGE, FILTER, x(4)], {"act": "relu"}),
    "conv2d_dx": ([x(2, 4, 3, 3), FILTER], {"shape": (2, 3, 5, 5)}),
    "conv2d_dw": ([IMAGE, x(2, 4, 3, 3)], {"shape": (4, 3, 3, 3)}),
    "cross_entropy": ([x(4, 3), x(4, type=I), x(3)], {"smoothing": 0.1}),
    "dropout": ([x(4), ONE], {"p": 0.5}), "expand": ([x(1, 3)], {"rank": 2, "dim": (2, 3)}),
    "fill": ([], {"rank": 1, "dim": 3, "value": 1}), "gather": ([x(3, 4), x(3, 2, type=I)],
                                                               {"axis": 1}),
    "scatter_add": ([x(3, 4), x(3, 4, type=I)], {"axis": 1, "count": 5}),
    "take": ([x(3, 4), x(2, type=I)], {}), "take_add": ([x(2, 4), x(2, type=I)], {"count": 3}),
    "one_hot": ([x(3, type=I)], {"classes": 4}), "linear_act": ([x(2, 3), x(4, 3), x(4)], {}),
    "matmul": ([x(2, 3), x(3, 4)], {}), "mse": ([x(3), x(3)], {"reduction": "sum"}),
    "normal": ([ONE], {"rank": 1, "dim": 3}), "uniform": ([ONE], {"rank": 1, "dim": 3}),
    "pad": ([x(2, 3)], {"before": (1, 0), "after": (0, 1)}),
    "permute": ([x(2, 3)], {"axes": (1, 0)}), "reshape": ([x(2, 3)], {"rank": 1, "dim": 6}),
    "slice": ([x(5, 3)], {"axis": 0, "from": 1, "count": 2, "step": 2}),
    "softmax": ([x(2, 3)], {"axis": 1}), "log_softmax": ([x(2, 3)], {"axis": 1}),
    "sum": ([x(2, 3)], {"axes": 1}), "mean": ([x(2, 3)], {"axes": 1}),
    "max": ([x(2, 3)], {"axes": 1}), "min": ([x(2, 3)], {"axes": 1}),
    "variance": ([x(2, 3)], {"axes": 1}), "where": ([x(3, type=B), x(3), x(3)], {}),
}
# Calls that must not succeed: inputs and options.
MUST = [
    ("add", [x(2, 3), x(4)], ""), ("add", [x(2), x(2, type=torch.float64)], ""),
    ("add", [x(2, type=B), x(2, type=B)], ""), ("mul", [x(2), None], ""), ("add", [x(2)], ""),
    ("exp", [x(2, type=I)], ""), ("div", [x(2, type=I), x(2, type=I)], ""),
    ("where", [x(3), x(3), x(3)], ""), ("where", [x(3, type=B), x(3), x(4)], ""),
    ("clamp", [x(3)], "min=1 max=0"), ("clamp", [x(3)], "min=nan"), ("cast", [x(3)], "type=12"),
    ("cast", [x(3)], "type=-1"), ("reshape", [x(2, 3)], "rank=1 dim=7"),
    ("reshape", [x(2, 3)], "rank=2 dim=-1,-1"), ("reshape", [x(2, 3)], "rank=9 dim=6"),
    ("reshape", [x(2, 3)], "rank=-1 dim=6"), ("reshape", [x(2, 3)], "rank=2 dim=4294967296,4294967296"),
    ("expand", [x(2, 3)], "rank=1 dim=3"), ("expand", [x(2, 3)], "rank=2 dim=3,3"),
    ("expand", [x(1)], "rank=3 dim=9223372036854775807,3,2"), ("expand", [x(1)], "rank=1 dim=-1"),
    ("permute", [x(2, 3)], "axes=0,0"), ("permute", [x(2, 3)], "axes=0,2"),
    ("permute", [x(2, 3)], "axes=-3,1"), ("slice", [x(5)], "axis=1 count=1"),
    ("slice", [x(5)], "axis=0 from=-1 count=1"), ("slice", [x(5)], "axis=0 from=3 count=3"),
    ("slice", [x(5)], "axis=0 count=-1"), ("slice", [x(5)], "axis=0 count=1 step=-1"),
    ("slice", [x(5)], "axis=0 from=1 count=2 step=9223372036854775807"),
    ("slice", [x(5)], "axis=0 from=9223372036854775807 count=1"),
    ("concat", [x(2, 3), x(2, 4)], "axis=0"), ("concat", [x(2, 3), x(3)], "axis=0"),
    ("concat", [x(2, 3)], "axis=2"), ("concat", [x(2), x(2, type=I)], "axis=0"),
    ("concat", [], "axis=0"), ("concat", [x(2), None], "axis=0"), ("concat", [x()], "axis=0"),
    ("pad", [x(2)], "before=-1"), ("pad", [x(2)], "before=9223372036854775807 after=5"),
    ("pad", [x(2)], "before=1,1"), ("sum", [x(2, 3)], "axes=4"), ("sum", [x(2, 3)], "axes=-1"),
    ("sum", [x(2, type=B)], ""), ("mean", [x(2, type=I)], ""), ("max", [x(0, 3)], "axes=1"),
    ("max", [x(0)], ""), ("argmax", [x(0)], ""), ("argmax", [x(2, 0)], "axis=1"),
    ("argmax", [x(2)], "axis=1"), ("argmin", [x(2)], "axis=-2"),
    ("matmul", [x(2, 3), x(4, 2)], ""),
    ("matmul", [x(3), x(3, 2)], ""), ("matmul", [x(2, 2, 3), x(3, 3, 2)], ""),
    ("matmul", [x(2, 3), x(3, 2, type=torch.float64)], ""), ("linear_act", [x(2, 3), x(4, 2), None], ""),
    ("linear_act", [x(2, 3), x(4, 3), x(3)], ""), ("linear_act", [x(2, 3), x(4, 3), None], "act=4"),
    ("linear_act", [x(2, 3), x(4, 3), None], "act=-1"), ("linear_act", [x(), x(4, 3), None], ""),
    ("linear_act", [x(2, 3), None, None], ""),
    ("gather", [x(3, 4), x(3, type=I)], "axis=0"), ("gather", [x(3, 4), x(3, 4)], "axis=0"),
    ("gather", [x(3, 4), x(3, 2, type=I) + 4], "axis=1"),
    ("gather", [x(3, 4), x(3, 2, type=I) - 1], "axis=1"), ("gather", [x(3), x(3, type=I)], "axis=1"),
    ("scatter_add", [x(3), x(3, type=I) + 5], "axis=0 count=5"),
    ("scatter_add", [x(3), x(3, type=I)], "axis=0 count=-1"),
    ("scatter_add", [x(3), x(3, type=I)], "axis=0 count=9223372036854775807"),
    ("take", [x(3, 2), x(2, type=I) + 3], ""), ("take", [x(3, 2), x(2, type=I) - 1], ""),
    ("take", [x(), x(2, type=I)], ""), ("take", [x(3), x(2)], ""),
    ("take_add", [x(2, 3), x(2, type=I) + 7], "count=7"), ("take_add", [x(2, 3), x(2, type=I)], "count=-1"),
    ("take_add", [x(2, 3), x(3, type=I)], "count=4"), ("one_hot", [x(3, type=I) + 4], "classes=4"),
    ("one_hot", [x(3, type=I)], "classes=-1"), ("one_hot", [x(3)], "classes=4"),
    ("one_hot", [x(3, type=I)], "classes=4 type=i64"),
    ("conv2d", [IMAGE, x(4, 2, 3, 3)], ""), ("conv2d", [IMAGE, x(4, 3, 6, 3)], ""),
    ("conv2d", [IMAGE, x(4, 3, 3)], ""), ("conv2d", [x(3, 5, 5), FILTER], ""),
    ("conv2d", [IMAGE, FILTER], "groups=2"), ("conv2d", [IMAGE, FILTER], "groups=-1"),
    ("conv2d", [IMAGE, FILTER], "stride=-1"), ("conv2d", [IMAGE, FILTER], "pad=-1"),
    ("conv2d", [IMAGE, FILTER], "dilation=-1"), ("conv2d", [IMAGE, FILTER], "dilation=3"),
    ("conv2d", [IMAGE, FILTER], "dilation=2147483647"), ("conv2d", [IMAGE, FILTER], "pad=2147483647"),
    ("conv2d", [IMAGE, x(4, 3, 0, 3)], ""), ("conv2d", [IMAGE, FILTER.double()], ""),
    ("conv2d_dx", [x(2, 4, 3, 3), FILTER], "shape=2,3,9,9"), ("conv2d_dx", [x(2, 4, 3, 3), FILTER], ""),
    ("conv2d_dx", [x(2, 4, 3, 3), FILTER], "shape=2,-3,5,5"),
    ("conv2d_dw", [IMAGE, x(2, 4, 3, 3)], "shape=4,3,2,2"), ("conv2d_dw", [IMAGE, x(1, 4, 3, 3)], "shape=4,3,3,3"),
    ("conv2d_act", [IMAGE, FILTER, x(3)], ""), ("conv2d_act", [IMAGE, FILTER, None], "act=9"),
    ("max_pool2d", [IMAGE], ""), ("max_pool2d", [IMAGE], "size=-2"), ("max_pool2d", [IMAGE], "size=6"),
    ("max_pool2d", [IMAGE], "size=2 pad=2"), ("max_pool2d", [IMAGE], "size=2 pad=-1"),
    ("max_pool2d", [IMAGE], "size=2 stride=-1"),
    ("max_pool2d", [IMAGE], "size=2 dilation=2147483647"), ("max_pool2d", [x(3, 5, 5)], "size=2"),
    ("max_pool2d", [IMAGE], "size=2 dilation=-1"),
    ("avg_pool2d", [IMAGE], "size=2 dilation=2"), ("avg_pool2d", [IMAGE], "size=2 pad=2"),
    ("avg_pool2d", [x(2, 3, 0, 5)], "size=2"), ("avg_pool2d_dx", [x(2, 3, 2, 2)], "size=2 shape=2,3,9,9"),
    ("max_pool2d_dx", [x(2, 3, 2, 2), x(2, 3, 2, 2, type=I) + 25], "size=2 shape=2,3,5,5"),
    ("max_pool2d_dx", [x(2, 3, 2, 2), x(2, 3, 2, 2, type=I) - 1], "size=2 shape=2,3,5,5"),
    ("max_pool2d_at", [IMAGE, x(2, 3, 2, 2, type=I) + 25], "size=2"),
    ("batch_norm", [x(1, 3), x(3), x(3), x(3), x(3)], ""), ("batch_norm", [x(3), x(3), x(3), x(3), x(3)], ""),
    ("batch_norm", [x(4, 3), x(4), x(3), x(3), x(3)], ""), ("batch_norm", [x(4, 3), None, x(3), x(3), x(3)], ""),
    ("batch_norm", [x(4, 3), x(3), x(3), x(3), x(3)], "eps=-1"),
    ("batch_norm", [x(4, 3), x(3), x(3), x(3), x(3)], "momentum=2"),
    ("batch_norm", [x(4, 3), x(3), x(3), x(3), x(3)], "momentum=nan"),
    ("batch_norm_eval", [x(4, 3), x(3), x(3), x(3), x(2)], ""),
    ("layer_norm", [x(4, 3), x(4), None], ""), ("layer_norm", [x(4, 3), None, None], "axes=3"),
    ("layer_norm", [x(4, 3), None, None], "axes=-1"), ("layer_norm", [x(), None, None], ""),
    ("layer_norm", [x(4, 3), None, None], "eps=-1"), ("layer_norm", [x(4, 3), None, None], "eps=nan"),
    ("softmax", [x(2, 3)], "axis=2"), ("softmax", [x(2, 3)], "axis=-3"), ("softmax", [x(2, type=I)], ""),
    ("cross_entropy", [x(4), x(4, type=I), None], ""), ("cross_entropy", [x(4, 3), x(5, type=I), None], ""),
    ("cross_entropy", [x(4, 3), x(4, type=I) + 3, None], ""), ("cross_entropy", [x(4, 3), x(4, type=I) - 1, None], ""),
    ("cross_entropy", [x(4, 3), x(4, type=I), x(4)], ""), ("cross_entropy", [x(4, 3), x(4, 3).double(), None], ""),
    ("cross_entropy", [x(4, 3), x(4, type=I), None], "smoothing=1.5"),
    ("cross_entropy", [x(4, 3), x(4, type=I), None], "smoothing=-0.1"),
    ("cross_entropy", [x(4, 3), x(4, type=I), None], "smoothing=nan"),
    ("cross_entropy", [x(4, 3), x(4, type=I), None], "reduction=3"),
    ("cross_entropy", [x(4, 3), x(4, 3), None], "ignore=1"),
    ("mse", [x(3), x(4)], ""), ("mse", [x(3), x(3)], "reduction=-1"),
    ("dropout", [x(3), ONE], "p=1"), ("dropout", [x(3), ONE], "p=-0.1"), ("dropout", [x(3), ONE], "p=nan"),
    ("dropout", [x(3), x(2, type=I)], "p=0.5"), ("uniform", [ONE], "rank=1 dim=-1"),
    ("uniform", [ONE], "rank=1 dim=3 type=i64"), ("normal", [x(1)], "rank=1 dim=3"),
    ("fill", [], "rank=2 dim=9223372036854775807,2"), ("fill", [], "rank=1 dim=-3"), ("fill", [], "rank=9"),
    ("fill", [], "rank=1 dim=3 type=77"),
    ("sgd_update", [x(3), None, x(4), x(), None], ""), ("sgd_update", [x(3), x(3), x(3), x(2), None], ""),
    ("sgd_update", [x(3), x(3), x(3), None, None], ""), ("adam_update", [x(3)] * 4 + [x(), x(), None], ""),
    ("adam_update", [x(3), x(3), x(2), x(3), x(), ONE, None], ""),
    ("take", [x(3, 2), x(2, type=I)], "count=3"), ("sum", [x(2)], "axes"), ("sum", [x(2)], "axes="),
    ("sum", [x(2)], "axes=1x"), ("conv2d", [IMAGE, FILTER], "stride=1,2,3"),
    ("conv2d", [IMAGE, FILTER], "stride=99999999999"), ("nothing", [x(2)], ""),
]


def attempt(t, op, options, inputs):
    """The failure's text, or None; whatever happens, the context works on."""
    text = None
    with t:
        try:
            h = [0 if v is None else t.put(v) for v in inputs]
            out = t.apply(op, options, *h)
            for o in out:
                if o:
                    t.get(o)
        except tern_api.Failed as e:
            text = e.text
        y = t.apply("add", {}, t.put(torch.ones(3)), t.put(torch.ones(3)))[0]
        if t.get(y).tolist() != [2, 2, 2]:
            text = "broken context"
    return text


def bent(inputs, options, fields):
    """Calls with one thing changed: they may fail or not, but only in good order."""
    for i, v in enumerate(inputs):
        for other in (None, x(), x(0), x(7), x(2, 0, 3), x(1, 1, 1, 1, 1, 1, 1, 1), x(2, 2, type=B),
                      x(3, type=I), x(2, 3, type=torch.float64), x(3, type=torch.float16),
                      x(4, type=torch.uint8)):
            yield inputs[:i] + [other] + inputs[i + 1:], options
        if v is not None and v.dim():
            yield inputs[:i] + [v[:0]] + inputs[i + 1:], options
            yield inputs[:i] + [v.unsqueeze(0)] + inputs[i + 1:], options
            yield inputs[:i] + [v[..., :-1]] + inputs[i + 1:], options
    for f in fields:
        for value in HUGE + ("nan", "inf", "-inf", "1e308", "-0.5", "2", "relu"):
            if f in ("dim", "shape", "rank", "after", "before", "count", "classes") and \
                    str(value).lstrip("-").isdigit() and 1 << 30 < int(value) < 1 << 42:
                continue  # might be made
            yield inputs, {**options, f: value}
            if f in ("stride", "pad", "dilation", "size", "dim", "before", "after", "shape", "axes"):
                yield inputs, {**options, f: (1, value)}
    yield inputs[:-1], options
    yield inputs + [x(1)], options


def run(lib, only=""):
    n = n_refused = 0
    for device in ("cpu", "ref"):
        t = tern_api.Tern(lib, device)
        for op, inputs, options in MUST:
            if only and op not in only.split(","):
                continue
            n += 1
            text = attempt(t, op, options, inputs)
            if text is None:
                yield f"{device}: {op} {[None if v is None else list(v.shape) for v in inputs]} " \
                      f"\"{options}\" succeeded"
            elif op in t.ops and not text.startswith(op + ":"):
                yield f"{device}: {op} \"{options}\": {text}"
        for op in t.ops:
            if op == "commit" or (only and op not in only.split(",")):
                continue
            n_in, _, _, fields, optional = t.ops[op]
            inputs, options = GOOD.get(op, ([x(3)] * max(1, n_in), {}))
            for i, o in bent(inputs, options, fields):
                n += 1
                text = attempt(t, op, o, i)
                n_refused += text is not None
                if text is not None and "no memory for" not in text and \
                        not text.startswith((op + ":", op.removesuffix("_d") + ":")):
                    yield f"{device}: {op} {o}: {text}"
            if op in GOOD:
                text = attempt(t, op, options, inputs)
                if text:
                    yield f"{device}: {op} {options} refused: {text}"
        if t.close():
            yield f"{device}: something is held"
    print(f"wrong: {n} calls, {n_refused} of the bent ones refused")
