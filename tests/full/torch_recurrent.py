"""Cases for torch_values.py: recurrent operations, fused batch norm, and the operations X_d that are
first derivatives."""
import torch
import torch.nn.functional as F

from torch_cases import Case, cross_entropy, distinct, normal, uniform, whole

STATES = {"rnn": 1, "lstm": 2, "gru": 1}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def turned(x, lengths):
    """Each sequence [T,N,...] backwards within its own length; zeros beyond."""
    t = torch.arange(x.shape[0]).unsqueeze(1)
    at = (lengths.unsqueeze(0) - 1 - t).clamp_min(0)
    y = x.gather(0, at.reshape(at.shape + (1,) * (x.dim() - 2)).expand_as(x))
    return inside(y, lengths)


def inside(x, lengths):
    t = torch.arange(x.shape[0]).unsqueeze(1)
    return torch.where((t < lengths.unsqueeze(0)).unsqueeze(-1), x, torch.zeros_like(x))


def gru_before(x, h, w_ih, w_hh, b_ih, b_hh):
    """One step of the convention that PyTorch lacks: the reset gate acts on the state."""
    n = h.shape[1]
    gx, gh = x @ w_ih.T + b_ih, h @ w_hh[:2 * n].T + b_hh[:2 * n]
    r, z = torch.sigmoid(gx[:, :n] + gh[:, :n]), torch.sigmoid(gx[:, n:2 * n] + gh[:, n:])
    new = torch.tanh(gx[:, 2 * n:] + (r * h) @ w_hh[2 * n:].T + b_hh[2 * n:])
    return (1 - z) * new + z * h


def one_step(op, o, x, state, w):
    if o.get("reset_before"):
        return [gru_before(x, state[0], *w)]
    if op == "lstm":
        return list(torch.lstm_cell(x, state, *w))
    cell = torch.gru_cell if op == "gru" else \
        torch.rnn_relu_cell if o.get("act") == "relu" else torch.rnn_tanh_cell
    return [cell(x, state[0], *w)]


def walk(op, o, x, state, w, lengths):
    """PyTorch's cells, step by step; a sequence that is over keeps its state."""
    ys = []
    for t in range(x.shape[0]):
        go = (lengths > t).unsqueeze(1)
        new = one_step(op, o, torch.where(go, x[t], torch.zeros_like(x[t])), state, w)
        state = [torch.where(go, a, b) for a, b in zip(new, state)]
        ys.append(torch.where(go, new[0], torch.zeros_like(new[0])))
    y = torch.stack(ys) if ys else x.new_zeros(0, x.shape[1], state[0].shape[1])
    return y, state


def layer(op, o, x, state, w):
    """PyTorch's whole layer, where all sequences are as long as x."""
    from torch import _VF
    f = {"lstm": _VF.lstm, "gru": _VF.gru}.get(op) or \
        (_VF.rnn_relu if o.get("act") == "relu" else _VF.rnn_tanh)
    h = [s.unsqueeze(0) for s in state]
    with torch.backends.mkldnn.flags(enabled=False):  # it has no second derivatives
        y, *state = f(x, h if op == "lstm" else h[0], w, True, 1, 0.0, False, False, False)
    return y, [s.squeeze(0) for s in state]


def recurrent(op, o):
    """The operation as a function of its inputs."""
    def f(*inputs):
        x, *rest = inputs
        n_state = STATES[op]
        w_ih, w_hh, b_ih, b_hh, lengths = rest[n_state:]
        n, h = x.shape[1], w_hh.shape[1]
        state = [x.new_zeros(n, h) if s is None else s for s in rest[:n_state]]
        w = [w_ih, w_hh] + [x.new_zeros(w_ih.shape[0]) if b is None else b for b in (b_ih, b_hh)]
        all_ = torch.full((n,), x.shape[0]) if lengths is None else lengths.long()
        if o.get("reverse"):
            x = turned(x, all_) if x.shape[0] else x
        whole_ = lengths is None and not o.get("reset_before") and x.shape[0] > 0 and n > 0
        y, state = layer(op, o, x, state, w) if whole_ else walk(op, o, x, state, w, all_)
        if o.get("reverse") and x.shape[0]:
            y = turned(y, all_)
        return (y, *state)
    return f


def derivative(f, n_in, n_out=1, n_d=None):
    """X_d, of X's first n_d inputs: the cotangents of its first n_out results follow its n_in
    inputs. None for inputs that are absent or whole numbers."""
    def d(*inputs):
        with torch.enable_grad():
            x = [t if t is None or not t.is_floating_point() else
                 t if t.requires_grad else t.detach().requires_grad_() for t in inputs[:n_in]]
            x = [t if t is None or not t.is_floating_point() else t.view_as(t) for t in x]
            y = f(*x)
            y = y if isinstance(y, tuple) else (y,)
            pairs = [(a, g) for a, g in zip(y, inputs[n_in:n_in + n_out])
                     if g is not None and a.requires_grad]
            wrt = [t for t in x if t is not None and t.is_floating_point()]
            got = iter(torch.autograd.grad([a for a, _ in pairs], wrt, [g for _, g in pairs],
                                           create_graph=True, allow_unused=True)
                       if pairs else [None] * len(wrt))
        out = []
        for t in x[:n_d]:
            g = next(got) if t is not None and t.is_floating_point() else None
            out.append(torch.zeros_like(t) if g is None and t is not None and
                       t.is_floating_point() else g)
        return tuple(out)
    return d


def operands(op, T, N, D, H, how):
    """Inputs; how: "all", "bare" (neither states nor biases), "lengths"."""
    g, bare = GATES[op] * H, how == "bare"
    states = [None if bare else normal(N, H) for _ in range(STATES[op])]
    biases = [None if bare else 0.5 * normal(g) for _ in range(2)]
    lengths = whole(0, T + 1, N) if how == "lengths" else None
    return [normal(T, N, D), *states, normal(g, D) / D ** 0.5, normal(g, H) / H ** 0.5, *biases,
            lengths]


SIZES = [(4, 3, 5, 6, "all"), (1, 2, 3, 4, "all"), (5, 1, 7, 3, "bare"), (3, 2, 1, 1, "all"),
         (6, 5, 3, 7, "lengths"), (2, 3, 17, 19, "bare"), (7, 2, 2, 33, "lengths"),
         (0, 2, 3, 4, "all"), (3, 0, 2, 2, "all"), (9, 17, 5, 8, "all")]
OPTIONS = {"rnn": [{}, {"act": "relu"}, {"reverse": 1}], "lstm": [{}, {"reverse": 1}],
           "gru": [{}, {"reset_before": 1}, {"reverse": 1}, {"reverse": 1, "reset_before": 1}]}


def recurrent_cases():
    for op in STATES:
        for o in OPTIONS[op]:
            for T, N, D, H, how in SIZES:
                f, x = recurrent(op, o), operands(op, T, N, D, H, how)
                yield Case(op, o, x, f, scale=1.0, note=how)
                g = [normal(T, N, H)] + [normal(N, H) for _ in range(STATES[op])]
                hints = [None] * (1 if op == "rnn" else 2)
                for gone in ((), (0,), tuple(range(1, len(g)))):  # which cotangents are absent
                    left = [None if i in gone else t for i, t in enumerate(g)]
                    if all(t is None or not t.numel() for t in left):
                        continue
                    yield Case(op + "_d", o, x + left + hints,
                               derivative(f, len(x), len(g), len(x) - 1), second=not gone, scale=3.0, note=how)


def normed(x, axes, gamma, beta, shape, eps=1e-5):
    """Written out: PyTorch has no third derivatives of batch norm, and those of its layer norm are
    not those of this."""
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps) * gamma.reshape(shape) + beta.reshape(shape)


def batch_normed(x, gamma, beta, eps=1e-5):
    axes = [a for a in range(x.dim()) if a != 1]
    return normed(x, axes, gamma, beta, [1, -1] + [1] * (x.dim() - 2), eps)


def bn_add_act(o):
    def f(x, gamma, beta, r, mean, var):
        m, v = mean.detach().clone(), var.detach().clone()
        y = F.batch_norm(x, m, v, gamma, beta, True, o.get("momentum", 0.1),
                                           o.get("eps", 1e-5))
        y = y if r is None else y + r
        return torch.relu(y) if o.get("act") == "relu" else y, m, v
    return f


def fused_cases():
    for s in [(4, 3), (2, 5, 3, 4), (3, 17, 2, 3), (8, 16, 5, 5), (2, 1, 1, 1)]:
        c = s[1]
        for o in ({}, {"act": "relu"}, {"act": "relu", "eps": 0.1, "momentum": 0.5}):
            for r in (True, False):
                x = [1 + normal(*s), normal(c), normal(c), normal(*s) if r else None, normal(c),
                     uniform(0.5, 2, c)]
                yield Case("bn_add_act", o, x, bn_add_act(o),
                           diff=[i for i in (0, 1, 2, 3) if x[i] is not None], scale=3.0)


            # relu's slope is told by y, which is a value: no derivative in it
            x, g, g2, y = 1 + normal(*s), normal(*s), normal(*s), normal(*s)
            relu = o.get("act") == "relu"
            for more in (None, g2):
                yield Case("bn_add_act_d", o, [x, normal(c), normal(c), g, more,
                                               y if relu else None, None, None],
                           bn_add_act_d(o), scale=3.0, second=False)


def bn_add_act_d(o):
    def f(x, gamma, beta, g, g2, y, *_):
        q = g if g2 is None else g + g2
        q = q if y is None else q * (y > 0)
        norm = derivative(lambda x, a, b: batch_normed(x, a, b, o.get("eps", 1e-5)), 3)
        return (*norm(x, gamma, beta, q), q)
    return f


def activation_cases():
    """Of x or of the result y: named like the operation's first input."""
    of_y = {"relu_d": lambda y, g: g * (y > 0), "tanh_d": lambda y, g: g * (1 - y * y),
            "sigmoid_d": lambda y, g: g * y * (1 - y)}
    of_x = [("gelu_d", {}, F.gelu), ("gelu_d", {"tanh": 1}, lambda x: F.gelu(x, approximate="tanh")),
            ("elu_d", {}, F.elu), ("elu_d", {"slope": 0.3}, lambda x: F.elu(x, 0.3)),
            ("leaky_relu_d", {"slope": 0.25}, lambda x: F.leaky_relu(x, 0.25))]
    for s in [(), (7,), (3, 5), (2, 5, 3, 3), (0, 4)]:
        for op, f in of_y.items():
            yield Case(op, {}, [normal(*s), normal(*s)], f)
        for op, o, f in of_x:
            yield Case(op, o, [normal(*s), normal(*s)], derivative(f, 1))


def layer_cases():
    acts = {"none": lambda y: y, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    for act, f in acts.items():
        for bias in (True, False):
            for n, k, m in [(3, 5, 4), (1, 1, 1), (17, 33, 19), (0, 4, 3)]:
                yield Case("linear_act_d", {"act": act},
                           [normal(n, k), normal(m, k), normal(m) if bias else None, normal(n, m),
                            None],
                           derivative(lambda x, w, b, f=f: f(F.linear(x, w, b)), 3), scale=2.0)
            for s, m, r, o in [((2, 3, 7, 6), 4, 3, {}), ((1, 4, 5, 5), 6, 3, {"pad": 1, "groups": 2}),
                               ((2, 3, 8, 7), 5, 2, {"stride": 2})]:
                torch_o = {"padding": o.get("pad", 0), "stride": o.get("stride", 1),
                           "groups": o.get("groups", 1)}
                own = {k: v if k == "groups" else (v, v) for k, v in o.items()}
                x, w = normal(*s), normal(m, s[1] // o.get("groups", 1), r, r)
                b = normal(m) if bias else None
                g = normal(*F.conv2d(x, w, b, **torch_o).shape)
                yield Case("conv2d_act_d", {**own, "act": act}, [x, w, b, g, None],
                           derivative(lambda x, w, b, f=f, t=torch_o: f(F.conv2d(x, w, b, **t)), 3),
                           scale=4.0)


def loss_and_norm_cases():
    for s in [(4, 5), (2, 3, 4), (1, 7), (3, 33)]:
        for axis in range(len(s)):
            for op, f in (("softmax_d", torch.softmax), ("log_softmax_d", torch.log_softmax)):
                yield Case(op, {"axis": axis}, [normal(*s), normal(*s), None],
                           derivative(lambda x, f=f, a=axis: f(x, a), 1), scale=1.0)
        for weight in (None, uniform(0.2, 2, s[1])):
            for smoothing in (0, 0.1):
                yield Case("cross_entropy_d", {"smoothing": smoothing},
                           [2 * normal(*s), whole(0, s[1], s[0], *s[2:]), weight, normal()],
                           derivative(lambda x, t, w, e=smoothing:
                                      cross_entropy(x, t, w, smoothing=e), 3), scale=3.0)
        yield Case("layer_norm_d", {}, [1 + normal(*s), normal(s[-1]), normal(s[-1]), normal(*s),
                                        None, None],
                   derivative(lambda x, a, b, s=s: normed(x, [-1], a, b, [s[-1]]), 3), scale=3.0)
        if s == (1, 7):  # a variance needs two values
            continue
        yield Case("batch_norm_d", {}, [1 + normal(*s), normal(s[1]), normal(s[1]), None, None,
                                        normal(*s), None, None],
                   lambda x, a, b, m, v, g, *_: derivative(batch_normed, 3)(x, a, b, g),
                   scale=3.0)
    for s in [(2, 3, 7, 6), (1, 1, 5, 5), (1, 17, 4, 9)]:
        y = F.max_pool2d(distinct(*s), 2)
        yield Case("max_pool2d_d", {"size": (2, 2)}, [distinct(*s), normal(*y.shape), None],
                   derivative(lambda x: F.max_pool2d(x, 2), 1))


def cases():
    yield from recurrent_cases()
    yield from fused_cases()
    yield from activation_cases()
    yield from layer_cases()
    yield from loss_and_norm_cases()
