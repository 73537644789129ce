#!/usr/bin/env python3
"""Training steps in PyTorch, on request: one of the sides of interleaved.py, and of gpu-check.

  torch_steps.py MODEL BATCH THREADS [channels-last] [compile] [cuda]

MODEL: lenet5 | cnn | mlp | resnet18 | vgg-small | lstm | gru, the nets of tern_steps.c; or `eager`:
multiplications of 4 by 4 numbers forward and backward. A step is forward, loss, backward and fused
Adam, in f32; images are fixed, labels rotate. What is said and answered: steps.py. With `cuda` the
GPU computes, in strict f32, and is waited for after every tenth step; compiled code is captured.
"""
import sys

import torch
import torch.nn.functional as F
from torch import nn

from steps import serve

MODEL, BATCH, THREADS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
CHANNELS_LAST, COMPILE, CUDA = (word in sys.argv for word in ("channels-last", "compile", "cuda"))
AHEAD = 10  # steps between waits for a GPU
TIME, FEATURES, STATE, TOKENS = 64, 128, 256, 128  # of the recurrent nets


def lenet5():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, 10))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512),
                         nn.ReLU(), nn.Linear(512, 10))


class Block(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c, k, 3, stride, 1, bias=False), nn.BatchNorm2d(k)
        self.conv2, self.norm2 = nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k)
        self.side = nn.Identity() if stride == 1 and c == k else nn.Sequential(
            nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.side(x))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def resnet18():
    layers, c = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
    for k, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(c, k, stride), Block(k, k, 1)]
        c = k
    return nn.Sequential(*layers, Mean(), nn.Linear(512, 10))


def vgg_small():
    layers, c = [], 3
    for k in (64, 64, 0, 128, 128, 0, 256, 256, 0):
        if k == 0:
            layers += [nn.MaxPool2d(2)]
        else:
            layers += [nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU()]
            c = k
    return nn.Sequential(*layers, Mean(), nn.Linear(256, 10))


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.out = layer(FEATURES, STATE), nn.Linear(STATE, TOKENS)

    def forward(self, x):
        return self.out(self.layer(x)[0]).flatten(0, 1)


def make_net():
    nets = {"lenet5": lenet5, "cnn": cnn, "mlp": mlp, "resnet18": resnet18,
            "vgg-small": vgg_small, "lstm": lambda: Recurrent(nn.LSTM),
            "gru": lambda: Recurrent(nn.GRU)}
    return nets[MODEL]()


def make_batch():
    if MODEL in ("lstm", "gru"):
        return torch.randn(TIME, BATCH, FEATURES), torch.randint(0, TOKENS, (8, TIME * BATCH))
    shape = (3, 32, 32) if MODEL in ("resnet18", "vgg-small") else (1, 28, 28)
    return torch.randn(BATCH, *shape), torch.randint(0, 10, (8, BATCH))


def training_step():
    net, (x, labels) = make_net(), make_batch()
    if CUDA:
        net, x, labels = net.cuda(), x.cuda(), labels.cuda()
    if CHANNELS_LAST and x.dim() == 4:
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    update = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    turn = 0

    def loss_of(y):
        return F.cross_entropy(net(x), y)

    if COMPILE:
        loss_of = torch.compile(loss_of, mode="reduce-overhead" if CUDA else "default")

    def step():
        nonlocal turn
        turn += 1
        update.zero_grad(set_to_none=True)
        loss = loss_of(labels[turn % 8])
        loss.backward()
        update.step()
        return loss.detach()

    return step


def waited_for(step):
    def steps():
        for _ in range(AHEAD):
            step()
        torch.cuda.synchronize()

    return steps


def eager_chain():
    x, y = torch.randn(4, 4, requires_grad=True), torch.randn(4, 4)

    def chain(n):
        z = x
        for _ in range(n):
            z = z * y
        z.sum().backward()

    return chain


torch.set_num_threads(THREADS)
torch.manual_seed(0)
if CUDA:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
if MODEL == "eager":
    serve(None, eager_chain(), {"torch": torch.__version__})
elif CUDA:
    serve(waited_for(training_step()), None, {"torch": torch.__version__}, call=AHEAD)
else:
    serve(training_step(), None, {"torch": torch.__version__})
