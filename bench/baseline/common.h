/* SPDX-License-Identifier: MIT */
/* What all programs of this folder share: options, errors, clocks. */
#ifndef BASELINE_COMMON_H
#define BASELINE_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_kind {
	OPTION_NUMBER, /* uint64_t */
	OPTION_TEXT,   /* const char * */
	OPTION_FLAG,   /* bool */
};

struct option_spec {
	const char *name;
	enum option_kind kind;
	void *value; /* its present value is the default */
};

/* Reads options of the form --name VALUE; prints a usage line and exits with 2 if there is any other word. */
void parse_options(int argc, char **argv, const struct option_spec *specs, size_t count);

/* Prints "PROGRAM: ..." with errno's text, or without one if errno is 0, and exits with 1. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* CLOCK_MONOTONIC. */
double seconds_now(void);

/* CLOCK_REALTIME, the clock of the converters' timestamps. */
int64_t realtime_ns(void);

/* CPU time of all threads of a process (0: this one). */
double cpu_seconds(uint64_t pid);

#endif
