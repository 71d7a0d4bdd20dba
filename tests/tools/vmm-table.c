/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the VMMs' abilities as docs/drivers.md has them. */
#include <stdio.h>

#include "driver/kinds.h"

int main(void)
{
	printf("| ability |");
	for (size_t i = 0; i < VMM_MAX; i++)
		printf(" %s |", vmm_kinds[i].title);
	printf("\n|---|");
	for (size_t i = 0; i < VMM_MAX; i++)
		printf("---|");
	printf("\n");
	for (unsigned bit = 0; bit < 32; bit++) {
		struct strbuf word = STRBUF_INIT;
		bool any = false;

		vmm_abilities(1u << bit, &word);
		for (size_t i = 0; i < VMM_MAX; i++)
			any |= (vmm_kinds[i].abilities >> bit & 1) != 0;
		if (any) {
			printf("| %s |", word.data);
			for (size_t i = 0; i < VMM_MAX; i++)
				printf(" %s |", vmm_kinds[i].abilities >> bit & 1 ? "yes" : "-");
			printf("\n");
		}
		strbuf_deinit(&word);
	}
	return 0;
}
