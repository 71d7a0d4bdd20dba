/* SPDX-License-Identifier: Apache-2.0 */
/* micropod-shim make-template ...: shim/build.h; else shim/shim.c for a VM. */
#include <string.h>

#include "shim/build.h"
#include "shim/vm.h"

const struct driver *const shim_drivers[] = { &driver_qemu, NULL };

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], TEMPLATE_VERB) == 0)
		return template_build_main(argc - 1, argv + 1);
	return shim_main(argc, argv, &shim_vm);
}
