/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `micropod token ...`: works on the server's database, beside the server or without it. */
int token_main(int argc, char **argv);
