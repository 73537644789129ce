/*
 * shim_control.h - libraries that stand in for cuBLASLt and cuDNN on the emulated device, by
 * soname, and how a test makes them misbehave.
 *
 * They compute in double on the host's memory, in the order of the stream, and refuse what the
 * true ones refuse by their documents. They show that the host side of a row is right; they say
 * nothing about the true libraries. Both export these functions: look them up in the one meant.
 */
#ifndef SIMT_SHIM_CONTROL_H
#define SIMT_SHIM_CONTROL_H

#define SHIM_API __attribute__((visibility("default")))

enum {
    SHIM_RIGHT,
    SHIM_WRONG,          /* one element of each piece is off by a thousandth of the largest */
    SHIM_RESTLESS,       /* the last bit changes from call to call */
    SHIM_BEYOND,         /* writes one element behind the output */
    SHIM_NO_NAN,         /* NaN comes out as zero */
    SHIM_RELU_HIDES_NAN, /* relu(NaN) is 0, as fmax has it */
    SHIM_PARTLY,         /* leaves the last element of each piece as it was */
    SHIM_HELPLESS,       /* has no algorithm */
    SHIM_COMPILES,       /* has one that is compiled at run time */
    SHIM_NO_COMPILER,    /* the same, and cannot compile */
    SHIM_FAILING,        /* the call itself fails */
    SHIM_SEVERAL         /* has several plans, below */
};

/* Of SHIM_SEVERAL, in the order in which the heuristics name them. The last one says that its
 * results vary; it is the fastest that is right. */
enum {
    SHIM_PLAN_SLOW,
    SHIM_PLAN_WRONG, /* takes no time */
    SHIM_PLAN_RIGHT,
    SHIM_PLAN_VARYING,
    SHIM_PLANS
};

/* From the next call on. */
SHIM_API void shim_behave(int how);
/* How much newer the library says it is. */
SHIM_API void shim_newer(int by);
/* Calls that computed something, so far. */
SHIM_API long shim_calls(void);

#endif
