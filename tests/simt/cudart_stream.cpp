/*
 * cudart_stream.cpp - streams, events, graphs, and kernel launches.
 *
 * Work is queued. It runs when somebody waits, in a random order (by seed) that only the order in
 * each stream, the events, and the legacy stream's rules limit: where a wait is missing, the
 * result is wrong here too. Captures: cudart_capture.cpp.
 */
#include <algorithm>
#include <chrono>

#include "queue.h"

namespace simt
{

std::vector<Stream *> &streams = *new std::vector<Stream *>;
std::set<Event *> &events = *new std::set<Event *>;
std::set<Nodes *> &graphs = *new std::set<Nodes *>;
std::set<Nodes *> &executables = *new std::set<Nodes *>;
std::vector<std::shared_ptr<Capture>> &captures = *new std::vector<std::shared_ptr<Capture>>;
Stream &legacy = *new Stream;
static uint64_t random_state = 88172645463325252u;
static bool in_host_function;

constexpr size_t most_queued = 1024; /* more makes something run, as a GPU's full queue does */
static size_t n_queued;

uint64_t random_below(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state ^ (uint64_t)order_seed * 0x9E3779B97F4A7C15u) % n;
}

Stream *find(cudaStream_t s)
{
    if (!s || s == cudaStreamLegacy) return &legacy;
    for (Stream *t : streams)
        if (reinterpret_cast<cudaStream_t>(t) == s) return t;
    return nullptr;
}

static double now_ms()
{
    using namespace std::chrono;

    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

static bool step(Stream *s)
{
    if (s->items.empty()) return false;
    for (const Point &p : s->items.front().after)
        if (!p.reached()) return false;

    Item item = std::move(s->items.front());
    s->items.pop_front();
    n_queued--;
    if (item.run && sticky == cudaSuccess) {
        const cudaError_t e = item.run();
        if (e != cudaSuccess && sticky == cudaSuccess) sticky = e;
    }
    if (item.stamp) *item.stamp = now_ms();
    s->line->done++;
    return true;
}

static bool step_any()
{
    const size_t n = streams.size() + 1, first = random_below(n);

    for (size_t k = 0; k < n; k++) {
        const size_t i = (first + k) % n;
        if (step(i ? streams[i - 1] : &legacy)) return true;
    }
    return false;
}

/* Runs queued work until the point is reached. Something can always run: items wait for earlier
 * ones only. */
static cudaError_t drain_to(const Point &p)
{
    while (!p.reached())
        if (!step_any()) {
            report("streams wait for each other");
            return cudaErrorUnknown;
        }
    return sticky;
}

static Point end_of(const Stream *s) { return Point{s->line, s->line->put}; }

static cudaError_t put(Stream *s, Item item)
{
    item.after.insert(item.after.end(), s->next_after.begin(), s->next_after.end());
    s->next_after.clear();
    if (s == &legacy) {
        for (Stream *t : streams)
            if (t->blocking) item.after.push_back(end_of(t));
    } else if (s->blocking) {
        item.after.push_back(end_of(&legacy));
    }
    s->line->put++;
    s->items.push_back(std::move(item));
    if (++n_queued > most_queued) step_any();
    return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, Work w)
{
    Stream *s = find(stream);

    if (!s) return cudaErrorInvalidResourceHandle;
    if (s->capture) return add_node(s, std::move(w));
    if (s == &legacy) /* it would wait for the stream that is being captured */
        for (Stream *t : streams)
            if (t->capture && t->blocking) {
                spoil(t->capture.get());
                return cudaErrorStreamCaptureImplicit;
            }
    Item item;
    item.run = std::move(w);
    return put(s, std::move(item));
}

cudaError_t drain_stream(cudaStream_t stream)
{
    Stream *s = find(stream);

    if (!s) return cudaErrorInvalidResourceHandle;
    if (s->capture) {
        spoil(s->capture.get());
        return cudaErrorStreamCaptureUnsupported;
    }
    for (const Point &p : s->next_after) drain_to(p); /* waits alone are work as well */
    return drain_to(end_of(s));
}

cudaError_t drain_all()
{
    for (Stream *s : streams) drain_to(end_of(s));
    return drain_to(end_of(&legacy));
}

static cudaError_t check_launch(const Launch &l)
{
    const dim3 b = l.block, g = l.grid;
    const uint64_t n = (uint64_t)b.x * b.y * b.z;

    if (!n || n > max_threads || b.x > 1024 || b.y > 1024 || b.z > 64)
        return cudaErrorInvalidConfiguration;
    if (!g.x || !g.y || !g.z || g.x > 2147483647u || g.y > 65535 || g.z > 65535)
        return cudaErrorInvalidConfiguration;
    if (shared_bytes(l.function) + l.dynamic > dynamic_limit(l.function))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

static cudaError_t run_kernel(const Launch &l, void (*thread)(void *), void *call, size_t bytes)
{
    Access a;
    cudaError_t e;

    if (kernel_fails()) return cudaErrorLaunchFailure;
    where.kernel = l.name;
    where.function = l.function;
    where.args = call;
    where.args_bytes = bytes;
    e = run_grid({l.grid, l.block, l.dynamic, thread, call});
    where.kernel = nullptr;
    return e;
}

void launch(const Launch &l, void (*thread)(void *), const void *call, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);

    if (entry() != cudaSuccess) return; /* cudaGetLastError tells */
    cudaError_t e = check_launch(l);
    if (e == cudaSuccess) {
        struct alignas(64) Line {
            char bytes[64];
        };
        std::shared_ptr<Line[]> own(new Line[bytes / sizeof(Line) + 1]);
        memcpy(own.get(), call, bytes);
        const bool skipped = skipping;
        e = enqueue(l.stream, [=] {
            return skipped ? cudaSuccess : run_kernel(l, thread, own.get(), bytes);
        });
    }
    fail(e);
}

void reset_streams()
{
    for (Stream *s : streams) delete s;
    for (Event *e : events) delete e;
    for (Nodes *g : graphs) delete g;
    for (Nodes *x : executables) delete x;
    live_objects -= (int)(streams.size() + events.size() + graphs.size() + executables.size());
    streams.clear();
    events.clear();
    graphs.clear();
    executables.clear();
    captures.clear();
    legacy = Stream();
    n_queued = 0;
}

Event *event_of(cudaEvent_t e)
{
    Event *p = reinterpret_cast<Event *>(e);

    return events.count(p) ? p : nullptr;
}

} // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    SIMT_ENTER;
    (void)priority;
    *out = nullptr;
    if (flags & ~(unsigned)cudaStreamNonBlocking) return fail(cudaErrorInvalidValue);
    if (creation_fails()) return fail(cudaErrorMemoryAllocation);
    Stream *s = new Stream;
    s->blocking = !(flags & cudaStreamNonBlocking);
    streams.push_back(s);
    live_objects++;
    *out = reinterpret_cast<cudaStream_t>(s);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    return cudaStreamCreateWithPriority(out, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithPriority(out, 0, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    Stream *s = stream ? find(stream) : nullptr;

    if (!s || s == &legacy) return fail(cudaErrorInvalidResourceHandle);
    if (s->capture) spoil(s->capture.get());
    const cudaError_t e = drain_to(end_of(s));
    streams.erase(std::find(streams.begin(), streams.end(), s));
    live_objects--;
    delete s;
    return e;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    SIMT_ENTER;
    return fail(drain_stream(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    SIMT_ENTER;
    Stream *s = find(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (s->capture) {
        spoil(s->capture.get());
        return fail(cudaErrorStreamCaptureUnsupported);
    }
    step_any();
    if (sticky != cudaSuccess) return fail(sticky);
    return end_of(s).reached() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void)
{
    SIMT_ENTER;
    SIMT_NO_CAPTURE;
    return fail(drain_all());
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    SIMT_ENTER;
    *out = nullptr;
    if (creation_fails()) return fail(cudaErrorMemoryAllocation);
    Event *e = new Event;
    e->timed = !(flags & cudaEventDisableTiming);
    events.insert(e);
    live_objects++;
    *out = reinterpret_cast<cudaEvent_t>(e);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    Event *e = event_of(event);

    if (!e) return fail(cudaErrorInvalidResourceHandle);
    events.erase(e);
    live_objects--;
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    SIMT_ENTER;
    (void)flags;
    Event *e = event_of(event);
    Stream *s = find(stream);
    if (!e || !s) return fail(cudaErrorInvalidResourceHandle);
    if (s->capture) {
        if (s->capture->spoilt) return fail(cudaErrorStreamCaptureInvalidated);
        e->capture = s->capture;
        e->last = s->last;
        return cudaSuccess;
    }
    Item item;
    item.stamp = e->stamp = std::make_shared<double>(0.0);
    e->capture.reset();
    put(s, std::move(item));
    e->point = end_of(s);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return cudaEventRecordWithFlags(event, stream, 0);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    SIMT_ENTER;
    (void)flags;
    Event *e = event_of(event);
    Stream *s = find(stream);
    if (!e || !s) return fail(cudaErrorInvalidResourceHandle);
    if (e->capture) { /* the stream joins the capture, or meets itself again */
        if (s == &legacy || (s->capture && s->capture != e->capture)) {
            spoil(e->capture.get());
            return fail(cudaErrorStreamCaptureMerge);
        }
        if (e->capture->spoilt) return fail(cudaErrorStreamCaptureInvalidated);
        if (!s->capture) s->last.clear();
        s->capture = e->capture;
        for (int i : e->last)
            if (std::find(s->last.begin(), s->last.end(), i) == s->last.end()) s->last.push_back(i);
        return cudaSuccess;
    }
    if (s->capture) { /* of something outside the capture */
        spoil(s->capture.get());
        return fail(cudaErrorStreamCaptureIsolation);
    }
    if (!e->point.line || e->point.reached()) return cudaSuccess; /* nothing to wait for */
    Item item;
    item.after.push_back(e->point);
    return fail(put(s, std::move(item)));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    SIMT_ENTER;
    Event *e = event_of(event);
    if (!e) return fail(cudaErrorInvalidResourceHandle);
    if (e->capture) return fail(cudaErrorCapturedEvent);
    return e->point.line ? fail(drain_to(e->point)) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    SIMT_ENTER;
    Event *e = event_of(event);
    if (!e) return fail(cudaErrorInvalidResourceHandle);
    if (e->capture) return fail(cudaErrorCapturedEvent);
    step_any();
    if (sticky != cudaSuccess) return fail(sticky);
    return !e->point.line || e->point.reached() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    SIMT_ENTER;
    const Event *a = event_of(from), *b = event_of(to);
    if (!a || !b || !a->timed || !b->timed || !a->point.line || !b->point.line)
        return fail(cudaErrorInvalidResourceHandle);
    if (!a->point.reached() || !b->point.reached()) return cudaErrorNotReady;
    *ms = (float)(*b->stamp - *a->stamp);
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void *data)
{
    SIMT_ENTER;
    return fail(enqueue(stream, [=] {
        in_host_function = true;
        f(data);
        in_host_function = false;
        return cudaSuccess;
    }));
}

} /* extern "C" */

bool simt::host_function_runs() { return in_host_function; }
