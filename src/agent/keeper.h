/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process in front of one with a time limit, where there is no cgroup to kill: whatever comes of
 * that one and loses its parent becomes the keeper's child (PR_SET_CHILD_SUBREAPER, prctl(2)), so
 * all of it can be found. To the agent it is the process itself: it passes signals on and ends as
 * the process does, and what then still runs is left to process 1, as without it.
 */
#pragma once

#include <signal.h>

/* Tells the keeper to kill everything. Programs that want this signal themselves do not get it. Not
 * one of the last: an emulator of another processor (qemu-user) cannot send those. */
#define KEEPER_KILL (SIGRTMAX - 8)

/*
 * In a fresh child with its signals reset: comes back in a child of it, which goes on to become the
 * program; it stays behind as the keeper, with no descriptors, and never comes back. 0 or -errno.
 */
int keeper_start(void);
