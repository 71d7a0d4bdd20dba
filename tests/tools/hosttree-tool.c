/* SPDX-License-Identifier: Apache-2.0 */
/* hosttree-tool FOLDER NAME: what `cp` does with the stream that a sandbox sends, on stdin. */
#include <stdio.h>

#include "cli/hosttree.h"

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: hosttree-tool FOLDER NAME\n");
		return 2;
	}
	return hosttree_receive(0, argv[1], argv[2], false);
}
