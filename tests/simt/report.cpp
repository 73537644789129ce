/*
 * report.cpp - what the emulator says, and the control functions of control.h that only keep
 * a figure.
 */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "internal.h"

namespace simt
{

bool report_failed, keep_going;

static int n_errors;
static char text[2400];
static cudaError_t grid_fault;
static void (*listener)(const char *text, void *data);
static void *listener_data;

cudaError_t device_fault() { return grid_fault; }
void device_fault_clear() { grid_fault = cudaSuccess; }
void set_device_fault(cudaError_t e) { grid_fault = e; }

static void say(const char *format, va_list args)
{
    int n = 0;

    n_errors++;
    if (where.kernel)
        n = snprintf(text, sizeof text,
                     "simt: %s block (%u,%u,%u) thread (%u,%u,%u): ", where.kernel, where.block.x,
                     where.block.y, where.block.z, where.thread.x, where.thread.y, where.thread.z);
    else n = snprintf(text, sizeof text, "simt: ");
    vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    if (listener) listener(text, listener_data);
    else if (n_errors <= 20) fprintf(stderr, "%s\n", text);
}

void report(const char *format, ...)
{
    Quiet q;
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    report_failed = true;
}

void fault(cudaError_t e, const char *format, ...)
{
    va_list args;

    where.running = false;
    va_start(args, format);
    say(format, args);
    va_end(args);
    grid_fault = e;
    fiber_switch(nullptr); /* this block's fibers are left as they are, and start anew later */
    abort();
}

} // namespace simt

extern "C" {

int simt_errors(void) { return simt::n_errors; }
const char *simt_last_error(void) { return simt::text; }

void simt_errors_clear(void)
{
    simt::n_errors = 0;
    simt::text[0] = 0;
}

void simt_on_report(void (*report)(const char *text, void *data), void *data)
{
    simt::listener = report;
    simt::listener_data = data;
}

void simt_keep_going(int on) { simt::keep_going = on != 0; }
int simt_checked(void) { return simt::check::present; }
void simt_seed(unsigned seed) { simt::order_seed = seed; }
simt_stats simt_work_done(void) { return simt::work_done; }

} /* extern "C" */
