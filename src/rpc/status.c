/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const code_names[RPC_CODE_MAX] = {
	[RPC_OK] = "OK",
	[RPC_CANCELLED] = "CANCELLED",
	[RPC_UNKNOWN] = "UNKNOWN",
	[RPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	[RPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	[RPC_NOT_FOUND] = "NOT_FOUND",
	[RPC_ALREADY_EXISTS] = "ALREADY_EXISTS",
	[RPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
	[RPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	[RPC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	[RPC_ABORTED] = "ABORTED",
	[RPC_OUT_OF_RANGE] = "OUT_OF_RANGE",
	[RPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
	[RPC_INTERNAL] = "INTERNAL",
	[RPC_UNAVAILABLE] = "UNAVAILABLE",
	[RPC_DATA_LOSS] = "DATA_LOSS",
	[RPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

/* Both ways: the first row of a code is the errno it becomes. */
static const struct {
	int error;
	enum rpc_code code;
} table[] = {
	{ ECANCELED, RPC_CANCELLED },
	{ EPROTO, RPC_UNKNOWN },
	{ EINVAL, RPC_INVALID_ARGUMENT },
	{ EILSEQ, RPC_INVALID_ARGUMENT },
	{ ENAMETOOLONG, RPC_INVALID_ARGUMENT },
	{ ETIMEDOUT, RPC_DEADLINE_EXCEEDED },
	{ ETIME, RPC_DEADLINE_EXCEEDED },
	{ ENOENT, RPC_NOT_FOUND },
	{ ESRCH, RPC_NOT_FOUND },
	{ EEXIST, RPC_ALREADY_EXISTS },
	{ EACCES, RPC_PERMISSION_DENIED },
	{ EPERM, RPC_PERMISSION_DENIED },
	{ EROFS, RPC_PERMISSION_DENIED },
	{ ENOBUFS, RPC_RESOURCE_EXHAUSTED },
	{ ENOMEM, RPC_RESOURCE_EXHAUSTED },
	{ ENOSPC, RPC_RESOURCE_EXHAUSTED },
	{ EDQUOT, RPC_RESOURCE_EXHAUSTED },
	{ EMFILE, RPC_RESOURCE_EXHAUSTED },
	{ ENFILE, RPC_RESOURCE_EXHAUSTED },
	{ EMSGSIZE, RPC_RESOURCE_EXHAUSTED },
	{ E2BIG, RPC_RESOURCE_EXHAUSTED },
	{ EFBIG, RPC_RESOURCE_EXHAUSTED },
	{ EBUSY, RPC_FAILED_PRECONDITION },
	{ EADDRINUSE, RPC_FAILED_PRECONDITION },
	{ ENOTEMPTY, RPC_FAILED_PRECONDITION },
	{ ENOTDIR, RPC_FAILED_PRECONDITION },
	{ EISDIR, RPC_FAILED_PRECONDITION },
	{ ELOOP, RPC_FAILED_PRECONDITION },
	{ EXDEV, RPC_FAILED_PRECONDITION },
	{ ENODEV, RPC_FAILED_PRECONDITION },
	{ EALREADY, RPC_ABORTED },
	{ ERANGE, RPC_OUT_OF_RANGE },
	{ EOPNOTSUPP, RPC_UNIMPLEMENTED },
	{ ENOSYS, RPC_UNIMPLEMENTED },
	{ EIO, RPC_INTERNAL },
	{ ECONNREFUSED, RPC_UNAVAILABLE },
	{ ECONNRESET, RPC_UNAVAILABLE },
	{ ECONNABORTED, RPC_UNAVAILABLE },
	{ ENOTCONN, RPC_UNAVAILABLE },
	{ EPIPE, RPC_UNAVAILABLE },
	{ EAGAIN, RPC_UNAVAILABLE },
	{ EHOSTUNREACH, RPC_UNAVAILABLE },
	{ ENETUNREACH, RPC_UNAVAILABLE },
	{ ESHUTDOWN, RPC_UNAVAILABLE },
	{ EBADMSG, RPC_DATA_LOSS },
	{ EKEYREJECTED, RPC_UNAUTHENTICATED },
};

void rpc_status_deinit(struct rpc_status *status)
{
	free(status->details);
	*status = (struct rpc_status){ .code = status->code };
}

const char *rpc_code_name(enum rpc_code code)
{
	return (unsigned)code < RPC_CODE_MAX ? code_names[code] : "UNKNOWN";
}

enum rpc_code rpc_code_from_errno(int code)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].error == code)
			return table[i].code;
	return code ? RPC_UNKNOWN : RPC_OK;
}

int rpc_code_to_errno(enum rpc_code code)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].code == code)
			return table[i].error;
	return code == RPC_OK ? 0 : EPROTO;
}

void rpc_status_from_err(struct rpc_status *status, const struct err *err)
{
	*status = (struct rpc_status){ .code = err->code ? rpc_code_from_errno(err->code)
							 : RPC_UNKNOWN };
	snprintf(status->message, sizeof(status->message), "%s", err->msg);
}

int rpc_status_to_err(const struct rpc_status *status, struct err *err)
{
	if (status->code == RPC_OK)
		return 0;
	return err_set(err, rpc_code_to_errno(status->code), "%s",
		status->message[0] ? status->message : rpc_code_name(status->code));
}
