/* SPDX-License-Identifier: Apache-2.0 */
/* Apart from url.c: a static agent has no use for the system's resolver. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "tunnel/url.h"

int tunnel_resolve(const char *name, char *out, size_t size)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM },
			*found = NULL;
	int r = getaddrinfo(name, NULL, &hints, &found);

	if (r != 0)
		return r == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH;
	r = getnameinfo(
		found->ai_addr, found->ai_addrlen, out, (socklen_t)size, NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(found);
	return r == 0 ? 0 : -EHOSTUNREACH;
}
