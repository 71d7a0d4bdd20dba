/* SPDX-License-Identifier: Apache-2.0 */
/* micropod-vmm-shim: the shim of a VM whose VMM is told over HTTP what to do, so that libcurl is
 * loaded by nobody else. */
#include "shim/vm.h"

const struct driver *const shim_drivers[] = { &driver_firecracker, &driver_cloud_hypervisor, NULL };

int main(int argc, char **argv)
{
	return shim_main(argc, argv, &shim_vm);
}
