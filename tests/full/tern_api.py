"""Tern's public interface for tests in Python: ctypes around the shared library, torch tensors in
and out. A tensor's handle is an int; 0 is NULL."""
import ctypes as C

import torch

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
         torch.uint8, torch.bool]
RANK = 8


class Shape(C.Structure):
    _fields_ = [("rank", C.c_int), ("dim", C.c_int64 * RANK)]


class Field(C.Structure):
    _fields_ = [("name", C.c_char_p), ("type", C.c_char_p), ("count", C.c_int),
                ("otherwise", C.c_double), ("names", C.c_char_p)]


class Info(C.Structure):
    _fields_ = [("name", C.c_char_p), ("n_in", C.c_int), ("in_", C.c_char_p * 16),
                ("optional", C.c_uint), ("n_out", C.c_int), ("out", C.c_char_p * 8),
                ("differentiable", C.c_uint), ("n_fields", C.c_int), ("field", Field * 24)]


class Failed(Exception):
    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


P = C.c_void_p


def load(path):
    lib = C.CDLL(path)

    def is_(name, result, *args):
        f = getattr(lib, name)
        f.restype, f.argtypes = result, list(args)

    is_("tern_open", C.c_int, C.POINTER(P), C.c_char_p)
    is_("tern_close", C.c_int, P)
    is_("tern_error", C.c_int, P)
    is_("tern_error_text", C.c_char_p, P)
    is_("tern_error_clear", None, P)
    is_("tern_status_name", C.c_char_p, C.c_int)
    is_("tern_frame_begin", None, P)
    is_("tern_frame_end", None, P)
    is_("tern_mode", None, P, C.c_int)
    is_("tern_threads_set", C.c_int, P, C.c_int)
    is_("tern_isa", C.c_char_p, P)
    is_("tern_from_host", P, P, C.c_int, P, Shape)
    is_("tern_to_host", C.c_int, P, P, P)
    is_("tern_shape_of", Shape, P)
    is_("tern_type_of", C.c_int, P)
    is_("tern_track", P, P, P)
    is_("tern_detach", P, P, P)
    is_("tern_grads", C.c_int, P, P, C.c_int, P, P, C.c_int, P)
    is_("tern_apply", C.c_int, P, C.c_char_p, C.c_char_p, C.c_int, P, P)
    is_("tern_op_at", C.c_bool, C.c_int, C.POINTER(Info))
    is_("tern_model", P, P, C.c_char_p, P)
    is_("tern_module_type", C.c_int, P, C.c_int)
    is_("tern_module_var", P, P, P, C.c_char_p)
    is_("tern_param_at", P, P, P, C.c_int)
    is_("tern_buffer_at", P, P, P, C.c_int)
    is_("tern_var_name", C.c_char_p, P)
    is_("tern_var_shape", Shape, P)
    is_("tern_read", P, P, P)
    is_("tern_assign", C.c_int, P, P, P)
    is_("tern_forward", P, P, P, P)
    is_("tern_backward", C.c_int, P, P, P)
    is_("tern_grad_of", P, P, P)
    is_("tern_sgd", P, P, P, P)
    is_("tern_adam", P, P, P, P)
    is_("tern_adamw", P, P, P, P)
    is_("tern_optim_step", C.c_int, P, P)
    return lib


def shape_of(dims):
    s = Shape(rank=len(dims))
    s.dim[:len(dims)] = list(dims)
    return s


def text_of(options):
    """{"stride": (2, 1), "eps": 0.1} -> "stride=2,1 eps=0.1"."""
    words = []
    for key, value in options.items():
        values = value if isinstance(value, (tuple, list)) else (value,)
        if len(values):
            words.append(f"{key}=" + ",".join(str(int(v)) if isinstance(v, bool) else str(v)
                                              for v in values))
    return " ".join(words)


class Tern:
    def __init__(self, lib, device):
        self.lib, self.device, self.c = lib, device, P()
        if lib.tern_open(C.byref(self.c), device.encode()):
            raise self.failure()
        info, self.ops = Info(), {}
        i = 0
        while lib.tern_op_at(i, C.byref(info)):
            self.ops[info.name.decode()] = (info.n_in, info.n_out, info.differentiable,
                                            [f.name.decode() for f in info.field[:info.n_fields]],
                                            info.optional)
            i += 1

    def failure(self):
        status, text = self.lib.tern_error(self.c), self.lib.tern_error_text(self.c)
        return Failed(self.lib.tern_status_name(status).decode(), text.decode())

    def check(self, status=0):
        if status or self.lib.tern_error(self.c):
            f = self.failure()
            self.lib.tern_error_clear(self.c)
            raise f

    def __enter__(self):
        self.lib.tern_frame_begin(self.c)
        return self

    def __exit__(self, *_):
        self.lib.tern_frame_end(self.c)

    def close(self):
        return self.lib.tern_close(self.c)

    def put(self, t):
        t = t.detach().contiguous()
        h = self.lib.tern_from_host(self.c, TYPES.index(t.dtype), t.data_ptr(), shape_of(t.shape))
        self.check()
        return h

    def shape(self, h):
        s = self.lib.tern_shape_of(h)
        return list(s.dim[:s.rank])

    def get(self, h):
        t = torch.empty(self.shape(h), dtype=TYPES[self.lib.tern_type_of(h)])
        self.check(self.lib.tern_to_host(self.c, t.data_ptr() or None, h))
        return t

    def apply(self, op, options, *inputs):
        """All results of an operation; 0 where the call gives none."""
        n = self.ops[op][1] if op in self.ops else 8
        x, out = (P * max(1, len(inputs)))(*inputs), (P * 8)()
        options = options if isinstance(options, str) else text_of(options)
        self.check(self.lib.tern_apply(self.c, op.encode(), options.encode(), len(inputs), x, out))
        return [out[i] or 0 for i in range(n)]

    def track(self, h):
        h = self.lib.tern_track(self.c, h)
        self.check()
        return h

    def grads(self, y, gy, x):
        d = (P * len(x))()
        self.check(self.lib.tern_grads(self.c, d, len(y), (P * len(y))(*y),
                                       (P * len(y))(*gy) if gy else None, len(x),
                                       (P * len(x))(*x)))
        return list(d)

    # How a tensor lies in memory. Each gives the same logical values.
    def laid(self, t, layout):
        rank = t.dim()
        if layout == "turned" and rank > 1:
            axes = list(range(rank))[::-1]
            return self.apply("permute", {"axes": axes}, self.put(t.permute(axes)))[0]
        if layout == "cut" and rank > 0:
            # Every second element of the last axis, and an offset in the first one.
            big = torch.full([t.shape[0] + 2] + list(t.shape[1:-1]) + [2 * t.shape[-1] + 1], 77) \
                if rank > 1 else torch.full([2 * t.shape[0] + 3], 77)
            big = big.to(t.dtype)
            if rank > 1:
                big[1:-1, ..., 1::2] = t
                h = self.apply("slice", {"axis": 0, "from": 1, "count": t.shape[0]},
                               self.put(big))[0]
                return self.apply("slice", {"axis": -1, "from": 1, "count": t.shape[-1],
                                            "step": 2}, h)[0]
            big[2:2 + 2 * t.shape[0]:2] = t
            return self.apply("slice", {"axis": 0, "from": 2, "count": t.shape[0], "step": 2},
                              self.put(big))[0]
        if layout == "last" and rank > 2:
            return self.apply("copy", {"channels_last": 1}, self.put(t))[0]
        if layout == "spread":
            # Axes whose elements are all the same are stored once.
            kept = t
            for a in range(rank):
                if t.shape[a] > 1 and bool((kept == kept.narrow(a, 0, 1)).all()):
                    kept = kept.narrow(a, 0, 1)
            if kept.shape != t.shape:
                return self.apply("expand", {"rank": rank, "dim": list(t.shape)},
                                  self.put(kept))[0]
        if layout == "middle" and rank > 2:
            # Axes moved round, and only the last one dense.
            axes = list(range(1, rank - 1)) + [0, rank - 1]
            back = [axes.index(a) for a in range(rank)]
            return self.apply("permute", {"axes": back}, self.put(t.permute(axes)))[0]
        return self.put(t)
