/* SPDX-License-Identifier: Apache-2.0 */
/* Links what the agent will stand on, so that the static build is proved before the agent is there.
 */
#include <jansson.h>
#include <nghttp2/nghttp2.h>
#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <zlib.h>

int main(void)
{
	json_t *object = json_pack("{s:s, s:s, s:s}", "nghttp2", nghttp2_version(0)->version_str,
		"protobuf-c", protobuf_c_version(), "zlib", zlibVersion());
	int ret = object ? json_dumpf(object, stdout, JSON_COMPACT) : -1;

	json_decref(object);
	return ret ? 1 : 0;
}
