/* assert.h - Criterion's comparisons with types, for the stand-in of criterion.h. */
#ifndef TSAN_CRITERION_ASSERT_H
#define TSAN_CRITERION_ASSERT_H

#include <criterion/criterion.h>

#define STAND_IN_IS(op, a, b) ((a)op(b))
#define STAND_IN_STR(op, a, b) (strcmp(a, b) op 0)
#define STAND_IN_int STAND_IN_IS
#define STAND_IN_uint STAND_IN_IS
#define STAND_IN_long STAND_IN_IS
#define STAND_IN_ptr STAND_IN_IS
#define STAND_IN_sz STAND_IN_IS
#define STAND_IN_i32 STAND_IN_IS
#define STAND_IN_u32 STAND_IN_IS
#define STAND_IN_i64 STAND_IN_IS
#define STAND_IN_u64 STAND_IN_IS
#define STAND_IN_flt STAND_IN_IS
#define STAND_IN_dbl STAND_IN_IS
#define STAND_IN_str STAND_IN_STR

#define eq(type, a, b) STAND_IN_##type(==, a, b)
#define ne(type, a, b) STAND_IN_##type(!=, a, b)
#define lt(type, a, b) STAND_IN_##type(<, a, b)
#define le(type, a, b) STAND_IN_##type(<=, a, b)
#define gt(type, a, b) STAND_IN_##type(>, a, b)
#define ge(type, a, b) STAND_IN_##type(>=, a, b)

#endif
