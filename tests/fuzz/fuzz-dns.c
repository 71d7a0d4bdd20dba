/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's question for a name, and the answer to it. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "net/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t addresses[64];
	/* A copy of the exact size, so that a read beyond it is seen. */
	uint8_t *copy = malloc(size ? size : 1), out[DNS_MESSAGE];
	struct dns_question q;

	memcpy(copy, data, size);
	if (dns_read(copy, size, &q) == 0) {
		size_t len = dns_answer(copy, &q, DNS_OK, addresses, 64, out);

		if (!q.name[0] || strlen(q.name) >= DNS_NAME || q.end > size || len > sizeof(out) ||
			len < q.end || memcmp(out, copy, 2) != 0)
			abort();
	}
	free(copy);
	return 0;
}
