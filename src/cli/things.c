/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/things.h"

#include <errno.h>
#include <stdio.h>

#include "base/strv.h"
#include "cli/output.h"

int things_remove(struct cli *cli, const char **words, size_t n, bool missing_is_fine,
	int (*remove)(struct sandbox_root *root, const char *word, struct err *err))
{
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;
		int r = remove(cli->root, words[i], &why);

		if (r == 0) {
			printf("%s\n", words[i]);
		} else if (r != -ENOENT || !missing_is_fine) {
			cli_complain(&why);
			code = EXIT_MICROPOD;
		}
	}
	return code;
}

int things_inspect(struct cli *cli, const char *format, const char **words, size_t n,
	int (*describe)(struct cli *cli, const char *word, json_t **ret, struct err *err),
	struct err *err)
{
	json_t *all = json_array();
	int code = 0, r;

	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;
		json_t *one = NULL;

		if (describe(cli, words[i], &one, &why) == 0) {
			json_array_append_new(all, one);
		} else {
			json_decref(one);
			cli_complain(&why);
			code = EXIT_MICROPOD;
		}
	}
	r = output_inspected(format, all, err);
	return r < 0 ? r : code;
}

int things_prune(struct cli *cli, const char *what,
	int (*list)(struct sandbox_root *root, struct strv *names, struct err *err),
	bool (*used)(struct sandbox_root *root, const char *name, char by[static LIMIT_NAME + 1]),
	int (*remove)(struct sandbox_root *root, const char *word, struct err *err),
	struct err *err)
{
	auto_strv struct strv names = STRV_INIT;
	char by[LIMIT_NAME + 1];
	int code = 0, r = list(cli->root, &names, err);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		struct err why = ERR_INIT;
		int ret = used(cli->root, names.v[i], by) ? -EBUSY
							  : remove(cli->root, names.v[i], &why);

		if (ret == 0) {
			printf("Deleted %s: %s\n", what, names.v[i]);
		} else if (ret != -EBUSY && ret != -ENOENT) {
			cli_complain(&why);
			code = EXIT_MICROPOD;
		}
	}
	return r < 0 ? r : code;
}
