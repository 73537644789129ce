/* expect.h - how the self-tests count. */
#ifndef SIMT_EXPECT_H
#define SIMT_EXPECT_H

extern int n_passed, n_failed;

/* Counts, and says what failed. */
void expect(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
