/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, indexes and configurations: the same bytes are tried as each. */
#include <stdlib.h>

#include "fuzz.h"
#include "image/manifest.h"
#include "oci/imgconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_manifest struct manifest m = { 0 };
	auto_image_config struct image_config c = { 0 };
	auto_imgconf_process struct imgconf_process p = { 0 };
	const struct descriptor *d;
	struct err err = ERR_INIT;

	if (manifest_parse((const char *)data, size, &m, &err) == 0)
		for (size_t i = 0; i < m.n; i++)
			if (!digest_valid(m.items[i].digest))
				abort();
	if (m.is_index)
		(void)manifest_select(&m, "amd64", &d, &err);
	if (image_config_parse((const char *)data, size, &c, &err) == 0 &&
		imgconf_process(&c, &(struct imgconf_overrides){ .tty = true }, &p, &err) == 0 &&
		(p.argv.n == 0 || p.cwd[0] != '/'))
		abort();
	return 0;
}
