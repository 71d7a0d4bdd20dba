/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/boxes.h"

#include "cli/remote.h"

int boxes_find(struct cli *cli, const char *word, char out[static ID_LEN + 1], struct err *err)
{
	return cli->remote ? remote_find(cli->remote, word, out, err)
			   : sandbox_find(cli->root, word, out, err);
}

int boxes_list(struct cli *cli, struct strv *ids, struct err *err)
{
	return cli->remote ? remote_list(cli->remote, ids, err) : sandbox_list(cli->root, ids, err);
}

int boxes_load(struct cli *cli, const char *id, struct sandbox *ret_box, struct err *err)
{
	return cli->remote ? remote_load(cli->remote, id, ret_box, err)
			   : sandbox_load(cli->root, id, ret_box, err);
}
