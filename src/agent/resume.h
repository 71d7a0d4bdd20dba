/* SPDX-License-Identifier: Apache-2.0 */
/* What makes one of many machines that go on from the same saved state a machine of its own. */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define MACHINE_ID_SIZE	 16
#define ENTROPY_SIZE_MIN 32
#define ENTROPY_SIZE_MAX 512

/*
 * Mixes data into the kernel's random numbers, credited in full, and has every generator made anew
 * at once (random(4), RNDADDENTROPY and RNDRESEEDCRNG). 0 or -errno with err.
 */
int resume_entropy(const void *data, size_t len, struct err *err);

#define MACHINE_ID "/run/machine-id" /* where systemd has it when /etc may be read-only */

/* The machine's id, 16 bytes, as a line of hex digits (machine-id(5)). 0 or -errno with err. */
int resume_machine_id(const void *id, struct err *err);
