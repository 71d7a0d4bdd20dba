/* SPDX-License-Identifier: Apache-2.0 */
/* The part of DNS (RFC 1035) that answers for the names on a network: one question, address
 * records. What is read comes from a guest. */
#pragma once

#include <stdint.h>
#include <stddef.h>

#define DNS_MESSAGE 512 /* of an answer over UDP without EDNS (RFC 1035, 4.2.1) */
#define DNS_NAME    255 /* as text, with its NUL */

#define DNS_TYPE_A 1

/* Response codes */
#define DNS_OK	    0
#define DNS_NO_NAME 3

struct dns_question {
	char name[DNS_NAME]; /* lower case, without the dot at its end */
	uint16_t type;	     /* of class IN */
	size_t end;	     /* where the question ends in the message */
};

/*
 * Reads a query. 0, or -EBADMSG for what is none, or none that can be answered here: an answer,
 * more than one question, another class, a name with other bytes than letters, digits, '-', '_'
 * and '.'.
 */
int dns_read(const uint8_t *message, size_t len, struct dns_question *ret_q);

/* Answers the query (as read) with n addresses (host byte order; those that do not fit are left
 * out) and the code. Returns the answer's length. */
size_t dns_answer(const uint8_t *query, const struct dns_question *q, unsigned code,
	const uint32_t *addresses, unsigned n, uint8_t out[static DNS_MESSAGE]);
