/*
 * cudart_capture.cpp - stream capture and graphs.
 *
 * A capture collects nodes with what they follow. Calls that it forbids fail and spoil it, as on a
 * GPU. A graph's launch is one item of its stream; inside it the nodes run in a random order that
 * their dependencies allow.
 */
#include <algorithm>

#include "queue.h"

namespace simt
{

static thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

cudaError_t spoil(Capture *c)
{
    c->spoilt = true;
    return cudaErrorStreamCaptureInvalidated;
}

cudaError_t add_node(Stream *s, Work w)
{
    Capture *c = s->capture.get();

    if (c->spoilt) return cudaErrorStreamCaptureInvalidated;
    c->nodes.push_back({std::move(w), s->last});
    s->last = {(int)c->nodes.size() - 1};
    return cudaSuccess;
}

bool is_capturing(cudaStream_t stream)
{
    const Stream *s = find(stream);

    return s && s->capture;
}

/* An allocation, or a wait for the device: spoils every capture that forbids it to this thread. */
cudaError_t unsafe_in_capture()
{
    cudaError_t e = cudaSuccess;

    if (thread_mode == cudaStreamCaptureModeRelaxed) return e;
    for (auto &c : captures) {
        const bool mine = c->thread == std::this_thread::get_id();
        if (c->mode == cudaStreamCaptureModeRelaxed) continue;
        if (!mine &&
            (c->mode != cudaStreamCaptureModeGlobal || thread_mode != cudaStreamCaptureModeGlobal))
            continue;
        spoil(c.get());
        e = cudaErrorStreamCaptureUnsupported;
    }
    return e;
}

static cudaError_t run_nodes(const Nodes &nodes)
{
    std::vector<int> left(nodes.size());
    std::vector<char> done(nodes.size());

    for (size_t i = 0; i < left.size(); i++) left[i] = (int)i;
    while (!left.empty()) {
        const size_t n = left.size(), first = random_below(n);
        for (size_t k = 0; k < n; k++) {
            const size_t at = (first + k) % n, i = (size_t)left[at];
            if (!std::all_of(nodes[i].after.begin(), nodes[i].after.end(),
                             [&](int a) { return done[(size_t)a] != 0; }))
                continue;
            left.erase(left.begin() + (std::ptrdiff_t)at);
            done[i] = 1;
            if (nodes[i].run)
                if (cudaError_t e = nodes[i].run()) return e;
            break;
        }
    }
    return cudaSuccess;
}

} // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    std::swap(*mode, thread_mode);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    SIMT_ENTER;
    Stream *s = find(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (s == &legacy) return fail(cudaErrorStreamCaptureUnsupported);
    if (s->capture) return fail(cudaErrorIllegalState);
    s->capture = std::make_shared<Capture>();
    s->capture->mode = mode;
    s->capture->thread = std::this_thread::get_id();
    s->began = true;
    s->last.clear();
    captures.push_back(s->capture);
    return cudaSuccess;
}

/* The streams that joined must have been joined again: what they did last, comes before. */
static bool all_joined(const Stream *origin, const Capture *c)
{
    std::vector<char> seen(c->nodes.size());
    std::vector<int> todo(origin->last);

    while (!todo.empty()) {
        const int i = todo.back();
        todo.pop_back();
        if (seen[(size_t)i]) continue;
        seen[(size_t)i] = 1;
        todo.insert(todo.end(), c->nodes[(size_t)i].after.begin(), c->nodes[(size_t)i].after.end());
    }
    return std::all_of(seen.begin(), seen.end(), [](char yes) { return yes != 0; });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    SIMT_ENTER;
    Stream *s = find(stream);
    *out = nullptr;
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!s->capture) return fail(cudaErrorIllegalState);
    if (!s->began) return fail(cudaErrorStreamCaptureUnmatched);
    std::shared_ptr<Capture> c = s->capture;
    if (c->mode != cudaStreamCaptureModeRelaxed && c->thread != std::this_thread::get_id())
        return fail(cudaErrorStreamCaptureWrongThread);
    const bool joined = all_joined(s, c.get());
    captures.erase(std::find(captures.begin(), captures.end(), c));
    for (Stream *t : streams)
        if (t->capture == c) {
            t->capture.reset();
            t->began = false;
            t->last.clear();
        }
    for (Event *e : events)
        if (e->capture == c) e->capture.reset();
    if (c->spoilt) return fail(cudaErrorStreamCaptureInvalidated);
    if (!joined) return fail(cudaErrorStreamCaptureUnjoined);
    if (creation_fails()) return fail(cudaErrorMemoryAllocation);
    Nodes *g = new Nodes(std::move(c->nodes));
    graphs.insert(g);
    live_objects++;
    *out = reinterpret_cast<cudaGraph_t>(g);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    SIMT_ENTER;
    const Stream *s = find(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    *status = !s->capture          ? cudaStreamCaptureStatusNone
              : s->capture->spoilt ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    SIMT_ENTER;
    Nodes *g = reinterpret_cast<Nodes *>(graph);
    if (!graphs.count(g) || nodes) return fail(cudaErrorInvalidValue); /* the count only */
    *n = g->size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    SIMT_ENTER;
    (void)flags;
    Nodes *g = reinterpret_cast<Nodes *>(graph);
    *out = nullptr;
    if (!graphs.count(g)) return fail(cudaErrorInvalidValue);
    if (creation_fails()) return fail(cudaErrorMemoryAllocation);
    Nodes *x = new Nodes(*g);
    executables.insert(x);
    live_objects++;
    *out = reinterpret_cast<cudaGraphExec_t>(x);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph,
                                          unsigned long long flags)
{
    return cudaGraphInstantiate(out, graph, flags);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *info)
{
    SIMT_ENTER;
    Nodes *x = reinterpret_cast<Nodes *>(exec), *g = reinterpret_cast<Nodes *>(graph);
    if (!executables.count(x) || !graphs.count(g)) return fail(cudaErrorInvalidValue);
    *info = cudaGraphExecUpdateResultInfo{};
    bool same = x->size() == g->size();
    for (size_t i = 0; same && i < x->size(); i++) same = (*x)[i].after == (*g)[i].after;
    if (!same) {
        info->result = cudaGraphExecUpdateErrorTopologyChanged;
        return fail(cudaErrorGraphExecUpdateFailure);
    }
    drain_all(); /* launches that are queued keep what they were launched with */
    *x = *g;
    info->result = cudaGraphExecUpdateSuccess;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    SIMT_ENTER;
    const bool known = executables.count(reinterpret_cast<Nodes *>(exec)) && find(stream);
    return known ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    SIMT_ENTER;
    Nodes *x = reinterpret_cast<Nodes *>(exec);
    if (!executables.count(x)) return fail(cudaErrorInvalidValue);
    auto nodes = std::make_shared<Nodes>(*x); /* destroyed while queued: it still runs */
    return fail(enqueue(stream, [=] { return run_nodes(*nodes); }));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    Nodes *g = reinterpret_cast<Nodes *>(graph);

    if (!graphs.erase(g)) return fail(cudaErrorInvalidValue);
    live_objects--;
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    Nodes *x = reinterpret_cast<Nodes *>(exec);

    if (!executables.erase(x)) return fail(cudaErrorInvalidValue);
    live_objects--;
    delete x;
    return cudaSuccess;
}

} /* extern "C" */
