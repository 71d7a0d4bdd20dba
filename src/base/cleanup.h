/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership of locals. A local that owns something is declared with one of these and initialised on
 * that line; it is handed over with take_ptr() or take_fd(), which leave NULL or -1 behind.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define auto_free     __attribute__((cleanup(cleanup_free)))
#define auto_close    __attribute__((cleanup(cleanup_close)))
#define auto_fclose   __attribute__((cleanup(cleanup_fclose)))
#define auto_closedir __attribute__((cleanup(cleanup_closedir)))

/* For any type with `T *T_free(T *)`: DEFINE_CLEANUP(foo, struct foo *, foo_free) gives
 * auto_clean(foo). */
#define auto_clean(name) __attribute__((cleanup(cleanup_##name)))
#define DEFINE_CLEANUP(name, type, fn)             \
	static inline void cleanup_##name(type *p) \
	{                                          \
		fn(*p);                            \
	}

#define take_ptr(p)                         \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Closes fd if it is not negative; keeps errno; never retries (close(2): the fd is gone in any
 * case). Returns -1. */
static inline int safe_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		close(fd);
		errno = saved;
	}
	return -1;
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
	safe_close(*fd);
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}
