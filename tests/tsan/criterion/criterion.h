/*
 * criterion.h - as much of Criterion's interface as the tests with threads use.
 *
 * ThreadSanitizer reserves the addresses at which Criterion 2.4 wants to share memory with its
 * workers, so a test program linked with both ends before its first test. In the `tsan` build this
 * header and runner.c stand in: one process per test, the same macros. Only tests that speak of
 * threads are built there; what they need and is not here is an error of the compiler.
 */
#ifndef TSAN_CRITERION_H
#define TSAN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct stand_in_extra {
    void (*init)(void), (*fini)(void);
    double timeout; /* ctest's holds here */
    const char *description;
    bool disabled;
} stand_in_extra;

typedef struct stand_in_entry {
    const char *suite, *name; /* a suite itself has no name */
    void (*run)(void);
    stand_in_extra extra;
    struct stand_in_entry *next;
} stand_in_entry;

void stand_in_add(stand_in_entry *entry);
void stand_in_check(bool fatal, const char *file, int line, const char *what, bool holds,
                    const char *text, ...);
void stand_in_log(const char *text, ...);
void stand_in_skip(const char *text, ...);

#define STAND_IN_ENTRY(id, ...)                                                                    \
    static stand_in_entry entry_##id = {__VA_ARGS__};                                              \
    __attribute__((constructor)) static void add_##id(void) { stand_in_add(&entry_##id); }

#define TestSuite(s, ...) STAND_IN_ENTRY(s, .suite = #s, .extra = {__VA_ARGS__})
#define Test(s, t, ...)                                                                            \
    static void test_##s##_##t(void);                                                              \
    STAND_IN_ENTRY(s##_##t, .suite = #s, .name = #t, .run = test_##s##_##t,                        \
                   .extra = {__VA_ARGS__})                                                         \
    static void test_##s##_##t(void)

#define cr_assert(holds, ...)                                                                      \
    stand_in_check(true, __FILE__, __LINE__, #holds, (holds), "" __VA_ARGS__)
#define cr_expect(holds, ...)                                                                      \
    stand_in_check(false, __FILE__, __LINE__, #holds, (holds), "" __VA_ARGS__)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), __VA_ARGS__)
#define cr_expect_eq(a, b, ...) cr_expect((a) == (b), __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cr_assert(strcmp(a, b) == 0, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) cr_expect(strcmp(a, b) == 0, __VA_ARGS__)
#define cr_assert_not_null(a, ...) cr_assert((a) != NULL, __VA_ARGS__)
#define cr_assert_null(a, ...) cr_assert((a) == NULL, __VA_ARGS__)
#define cr_expect_null(a, ...) cr_expect((a) == NULL, __VA_ARGS__)
#define cr_assert_fail(...) cr_assert(false, __VA_ARGS__)
#define cr_expect_fail(...) cr_expect(false, __VA_ARGS__)
#define cr_log_info(...) stand_in_log(__VA_ARGS__)
#define cr_log_warn(...) stand_in_log(__VA_ARGS__)
#define cr_skip_test(...) stand_in_skip("" __VA_ARGS__)

#endif
