/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/driver.h"

const struct driver *const driver_table[] = { &driver_qemu, NULL };
