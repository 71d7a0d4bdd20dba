/* SPDX-License-Identifier: Apache-2.0 */
/* The hash that sandbox/template.c keeps of a state file, of what comes on stdin. */
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

int main(void)
{
	XXH3_state_t *state = XXH3_createState();
	static char buf[65536];
	XXH128_hash_t hash;
	size_t n;

	XXH3_128bits_reset(state);
	while ((n = fread(buf, 1, sizeof(buf), stdin)) > 0)
		XXH3_128bits_update(state, buf, n);
	hash = XXH3_128bits_digest(state);
	printf("%016llx%016llx\n", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
	XXH3_freeState(state);
	return 0;
}
