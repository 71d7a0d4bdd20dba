/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

static inline void cleanup_json(json_t **j)
{
	json_decref(*j);
}
#define auto_json __attribute__((cleanup(cleanup_json)))
