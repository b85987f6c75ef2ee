// SPDX-License-Identifier: MIT
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_OPTIONS 16

static void usage(const struct option_spec *specs, size_t count)
{
	static const char *const placeholders[] = {
		[OPTION_NUMBER] = " N",
		[OPTION_TEXT] = " TEXT",
		[OPTION_FLAG] = "",
	};

	fprintf(stderr, "usage: %s", program_invocation_short_name);
	for (size_t i = 0; i < count; i++)
		fprintf(stderr, " [--%s%s]", specs[i].name, placeholders[specs[i].kind]);
	fputc('\n', stderr);
	exit(2);
}

static void set_option(const struct option_spec *spec, char *argument)
{
	switch (spec->kind) {
	case OPTION_NUMBER:
		*(uint64_t *)spec->value = strtoull(argument, NULL, 0);
		break;
	case OPTION_TEXT:
		*(const char **)spec->value = argument;
		break;
	case OPTION_FLAG:
		*(bool *)spec->value = true;
		break;
	}
}

void parse_options(int argc, char **argv, const struct option_spec *specs, size_t count)
{
	struct option known[MAX_OPTIONS + 1] = {0};
	int index, result;

	if (count > MAX_OPTIONS)
		abort();
	for (size_t i = 0; i < count; i++) {
		known[i].name = specs[i].name;
		known[i].has_arg = specs[i].kind == OPTION_FLAG ? no_argument : required_argument;
	}
	while ((result = getopt_long(argc, argv, "", known, &index)) == 0)
		set_option(&specs[index], optarg);
	if (result != -1 || optind != argc)
		usage(specs, count);
}

void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	if (error)
		fprintf(stderr, ": %s", strerror(error));
	fputc('\n', stderr);
	exit(1);
}

static struct timespec read_clock(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time))
		die("cannot read a clock");
	return time;
}

static double to_seconds(struct timespec time)
{
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

double seconds_now(void)
{
	return to_seconds(read_clock(CLOCK_MONOTONIC));
}

int64_t realtime_ns(void)
{
	struct timespec now = read_clock(CLOCK_REALTIME);

	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double cpu_seconds(uint64_t pid)
{
	clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;

	if (pid) {
		errno = clock_getcpuclockid((pid_t)pid, &clock);
		if (errno)
			die("no CPU clock of process %llu", (unsigned long long)pid);
	}
	return to_seconds(read_clock(clock));
}
