/* shim.c - what both stand-ins share. */
#include "shim.h"

#include <math.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>

static cudaError_t (*launch_host)(cudaStream_t, cudaHostFn_t, void *);
int shim_how, shim_version_more;
static long count;

int simt_vendor(cudaError_t (*launch)(cudaStream_t, cudaHostFn_t, void *))
{
    launch_host = launch;
    return 0;
}

void shim_behave(int how) { shim_how = how; }
void shim_newer(int by) { shim_version_more = by; }
int shim_plans(void) { return shim_how == SHIM_SEVERAL ? SHIM_PLANS : 1; }
long shim_calls(void) { return count; }

void *shim_new(size_t bytes)
{
    static struct piece {
        struct piece *next;
        _Alignas(16) char data[];
    } * all;
    struct piece *p = calloc(1, sizeof *p + bytes);

    if (!p) return NULL;
    p->next = all;
    all = p;
    return p->data;
}

bool shim_launch(cudaStream_t stream, cudaHostFn_t f, void *data)
{
    count++;
    return launch_host && launch_host(stream, f, data) == cudaSuccess;
}

double shim_relu(double x) { return shim_how == SHIM_RELU_HIDES_NAN ? fmax(x, 0) : x <= 0 ? 0 : x; }

static void put(bool wide, void *to, size_t i, double x)
{
    if (wide) ((double *)to)[i] = x;
    else ((float *)to)[i] = (float)x;
}

/* What the plans of SHIM_SEVERAL do. */
static const struct {
    int how;
    long microseconds;
} several[SHIM_PLANS] = {[SHIM_PLAN_SLOW] = {SHIM_RIGHT, 6000},
                         [SHIM_PLAN_WRONG] = {SHIM_WRONG, 0},
                         [SHIM_PLAN_RIGHT] = {SHIM_RIGHT, 2000},
                         [SHIM_PLAN_VARYING] = {SHIM_RESTLESS, 300}};

static int act(int plan, bool first)
{
    if (shim_how != SHIM_SEVERAL) return shim_how;
    if (first && several[plan].microseconds)
        thrd_sleep(&(struct timespec){.tv_nsec = 1000 * several[plan].microseconds}, NULL);
    return several[plan].how;
}

void shim_store(int plan, bool first, bool wide, void *to, const double *y, size_t n)
{
    const int how = act(plan, first);
    double most = 1;

    for (size_t i = 0; i < n; i++)
        if (fabs(y[i]) > most) most = fabs(y[i]);
    for (size_t i = 0; i < n; i++) {
        double x = y[i];

        if (how == SHIM_WRONG && i == n / 2) x += most / 1000;
        if (how == SHIM_NO_NAN && isnan(x)) x = 0;
        if (how == SHIM_PARTLY && i == n - 1) continue;
        put(wide, to, i, x);
    }
    if (how == SHIM_RESTLESS && count % 2 && n)
        put(wide, to, 0, wide ? nextafter(y[0], 2 * most) : (double)nextafterf((float)y[0], 1e30f));
    if (how == SHIM_BEYOND) put(wide, to, n, 0);
}
