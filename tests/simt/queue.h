/*
 * queue.h - what streams, events, captures and graphs are made of (cudart_stream.cpp runs them,
 * cudart_capture.cpp records them).
 */
#ifndef SIMT_QUEUE_H
#define SIMT_QUEUE_H

#include <deque>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "internal.h"

namespace simt
{

/* How far a queue has come: items put into it, items done. */
struct Timeline {
    uint64_t put = 0, done = 0;
};
struct Point {
    std::shared_ptr<Timeline> line;
    uint64_t at;
    bool reached() const { return line->done >= at; }
};

struct Node {
    Work run;
    std::vector<int> after;
};
using Nodes = std::vector<Node>;

struct Capture {
    Nodes nodes;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool spoilt = false;
};

struct Item {
    Work run;
    std::vector<Point> after;
    std::shared_ptr<double> stamp; /* an event's time, in ms */
};

struct Stream {
    std::deque<Item> items;
    std::shared_ptr<Timeline> line = std::make_shared<Timeline>();
    std::vector<Point> next_after; /* waits that bind the next item */
    bool blocking = true, began = false;
    std::shared_ptr<Capture> capture;
    std::vector<int> last; /* nodes of the capture that the next one follows */
};

struct Event {
    Point point{nullptr, 0};
    std::shared_ptr<double> stamp;
    bool timed = true;
    std::shared_ptr<Capture> capture;
    std::vector<int> last;
};

extern std::vector<Stream *> &streams;
extern std::set<Event *> &events;
extern std::set<Nodes *> &graphs, &executables;
extern std::vector<std::shared_ptr<Capture>> &captures;
extern Stream &legacy;

uint64_t random_below(uint64_t n);
Stream *find(cudaStream_t s);
Event *event_of(cudaEvent_t e);
cudaError_t spoil(Capture *c);
/* Adds work to the capture that s is in. */
cudaError_t add_node(Stream *s, Work w);

} // namespace simt

#endif /* SIMT_QUEUE_H */
