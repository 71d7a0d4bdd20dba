/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What a fuzz target defines: hands size bytes to one parser. Returns 0; aborts when a promise of
 * the parser is broken. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
