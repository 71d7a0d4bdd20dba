/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns.h"

#include <errno.h>
#include <string.h>

#include "net/packet.h"

#define HEADER	     12
#define LABEL_MAX    63
#define CLASS_IN     1
#define FLAG_ANSWER  0x8000
#define FLAG_OPCODE  0x7800
#define FLAG_OURS    0x0400 /* authoritative */
#define FLAG_RECURSE 0x0100 /* asked for; repeated in the answer */
#define FLAG_WILL    0x0080 /* recursion is available */
#define NAME_AT	     0xc000 /* a pointer to a name earlier in the message */
#define RECORD	     16	    /* with a pointer and an IPv4 address */
#define TIME_TO_LIVE 5	    /* s: members come and go */

static int read_label(const uint8_t *p, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++) {
		char c = (char)p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
			return -EBADMSG;
		out[i] = c;
	}
	return 0;
}

/* The name at *at, which no pointer may be part of. */
static int read_name(const uint8_t *m, size_t len, size_t *at, char out[static DNS_NAME])
{
	size_t n = 0;

	for (;;) {
		size_t label;

		if (*at >= len)
			return -EBADMSG;
		label = m[(*at)++];
		if (label == 0)
			break;
		if (label > LABEL_MAX || label > len - *at || n + label + 2 > DNS_NAME)
			return -EBADMSG;
		if (n)
			out[n++] = '.';
		if (read_label(m + *at, label, out + n) < 0)
			return -EBADMSG;
		n += label;
		*at += label;
	}
	out[n] = 0;
	return n ? 0 : -EBADMSG;
}

int dns_read(const uint8_t *m, size_t len, struct dns_question *ret_q)
{
	struct dns_question q = { .end = HEADER };
	int r;

	if (len < HEADER || (get16(m + 2) & (FLAG_ANSWER | FLAG_OPCODE)) || get16(m + 4) != 1 ||
		get16(m + 6) || get16(m + 8))
		return -EBADMSG;
	r = read_name(m, len, &q.end, q.name);
	if (r < 0)
		return r;
	if (len - q.end < 4 || get16(m + q.end + 2) != CLASS_IN)
		return -EBADMSG;
	q.type = get16(m + q.end);
	q.end += 4;
	*ret_q = q;
	return 0;
}

size_t dns_answer(const uint8_t *query, const struct dns_question *q, unsigned code,
	const uint32_t *addresses, unsigned n, uint8_t out[static DNS_MESSAGE])
{
	size_t len = q->end;
	unsigned told = 0;

	memcpy(out, query, len);
	for (; told < n && DNS_MESSAGE - len >= RECORD; told++, len += RECORD) {
		put16(out + len, NAME_AT | HEADER);
		put16(out + len + 2, DNS_TYPE_A);
		put16(out + len + 4, CLASS_IN);
		put32(out + len + 6, TIME_TO_LIVE);
		put16(out + len + 10, 4);
		put32(out + len + 12, addresses[told]);
	}
	put16(out + 2,
		FLAG_ANSWER | FLAG_OURS | (get16(query + 2) & FLAG_RECURSE) | FLAG_WILL | code);
	put16(out + 6, told);
	put16(out + 8, 0);
	put16(out + 10, 0);
	return len;
}
