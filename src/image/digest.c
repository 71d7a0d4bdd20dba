/* SPDX-License-Identifier: Apache-2.0 */
#include "image/digest.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/id.h"

struct digest {
	EVP_MD_CTX *ctx;
};

bool digest_valid(const char *s)
{
	return strncmp(s, DIGEST_PREFIX, DIGEST_PREFIX_LEN) == 0 && strlen(s) == DIGEST_LEN &&
	       strspn(digest_hex(s), "0123456789abcdef") == DIGEST_HEX_LEN;
}

struct digest *digest_new(void)
{
	auto_clean(digest) struct digest *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->ctx = EVP_MD_CTX_new();
	if (!d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1)
		return NULL;
	return take_ptr(d);
}

void digest_update(struct digest *d, const void *data, size_t len)
{
	/* sha256 has no way to fail once it is set up. */
	EVP_DigestUpdate(d->ctx, data, len);
}

void digest_finish(struct digest *d, char out[static DIGEST_SIZE])
{
	unsigned char raw[EVP_MAX_MD_SIZE];

	EVP_DigestFinal_ex(d->ctx, raw, NULL);
	memcpy(out, DIGEST_PREFIX, DIGEST_PREFIX_LEN);
	hex_encode(raw, DIGEST_HEX_LEN / 2, out + DIGEST_PREFIX_LEN);
}

struct digest *digest_free(struct digest *d)
{
	if (d) {
		EVP_MD_CTX_free(d->ctx);
		free(d);
	}
	return NULL;
}

int digest_of(const void *data, size_t len, char out[static DIGEST_SIZE])
{
	auto_clean(digest) struct digest *d = digest_new();

	if (!d)
		return -ENOMEM;
	digest_update(d, data, len);
	digest_finish(d, out);
	return 0;
}
