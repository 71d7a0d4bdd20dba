/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent as the first process of a container that somebody else made: it runs what would have
 * been the container's entrypoint as its child, with everything that the container gave it, and is
 * what an init has to be (signals passed on, orphans reaped, the child's exit status its own).
 */
#pragma once

/* `micropod-agent start [--listen unix:PATH] [--] COMMAND [ARG...]`: argv as of main(). Returns the
 * exit code. */
int takeover_main(int argc, char **argv);
