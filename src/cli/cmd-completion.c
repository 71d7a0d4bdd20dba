/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripts by which a shell completes our command lines, made from the tables of verbs and options:
 * a case for each verb with its options, which of them take a value, and what its words are. Names
 * of sandboxes, images and volumes are asked for when they are wanted.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* The tables of a verb, one after the other. */
static const struct opt *const *tables_of(const struct verb *v, const struct opt *tables[4])
{
	size_t n = 0;

	if (v->opts)
		tables[n++] = v->opts;
	if (v->shared_opts)
		tables[n++] = v->shared_opts;
	if (v->settings)
		tables[n++] = SETTINGS_OPTIONS;
	tables[n] = NULL;
	return tables;
}

static void put_words(const char *const *words)
{
	for (size_t i = 0; words[i]; i++)
		printf("%s%s", i ? " " : "", words[i]);
}

/* What stands for a verb's words: "sandboxes", "images", "volumes", or the words themselves. */
static const char *words_of(const struct verb *v)
{
	return strstr(v->usage, "SANDBOX")  ? "sandboxes"
	       : strstr(v->usage, "VOLUME") ? "volumes"
	       : strstr(v->usage, "IMAGE")  ? "images"
					    : "files";
}

/* bash */

static void bash_verb(const struct verb *v)
{
	const struct opt *tables[4];

	printf("\t\"%s\")\n\t\twords=%s\n\t\toptions=\"", v->name, words_of(v));
	for (const struct opt *const *t = tables_of(v, tables); *t; t++)
		for (const struct opt *o = *t; o->name; o++)
			printf("--%s ", o->name);
	printf("--help\"\n\t\tvalued=\"");
	for (const struct opt *const *t = tables; *t; t++) {
		for (const struct opt *o = *t; o->name; o++) {
			if (o->type == OPT_FLAG)
				continue;
			printf("--%s ", o->name);
			if (o->letter)
				printf("-%c ", o->letter);
		}
	}
	printf("\"\n\t\tcase $prev in\n");
	for (const struct opt *const *t = tables; *t; t++) {
		for (const struct opt *o = *t; o->name; o++) {
			if (o->type != OPT_WORD)
				continue;
			printf("\t\t--%s) values=\"", o->name);
			put_words(o->words);
			printf("\" ;;\n");
		}
	}
	printf("\t\tesac\n\t\t;;\n");
}

static const char bash_head[] =
	"# Completion of micropod's command line, made by 'micropod completion'.\n"
	"_micropod() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"\tlocal verb= second= options= valued= values= words=files i from=1 verbs groups\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tcase ${COMP_WORDS[i]} in\n"
	"\t\t--server | --on | --root | --vmm) ((i++)) ;;\n"
	"\t\t-*) ;;\n"
	"\t\t*) verb=${COMP_WORDS[i]} from=$((i + 1)); break ;;\n"
	"\t\tesac\n"
	"\tdone\n";
static const char bash_tail[] =
	"\tesac\n"
	"\tif [[ $values ]]; then\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$values\" -- \"$cur\")\n"
	"\telif [[ \" $valued\" == *\" $prev \"* ]]; then\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"\telif [[ $cur == -* ]]; then\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
	"\telse\n"
	"\t\tcase $words in\n"
	"\t\tsandboxes) mapfile -t COMPREPLY < <(compgen -W \"$(micropod ps -a --format "
	"'{{.Names}}' 2>/dev/null)\" -- \"$cur\") ;;\n"
	"\t\timages) mapfile -t COMPREPLY < <(compgen -W \"$(micropod images --format "
	"'{{.Repository}}:{{.Tag}}' 2>/dev/null)\" -- \"$cur\") ;;\n"
	"\t\tvolumes) mapfile -t COMPREPLY < <(compgen -W \"$(micropod volume ls -q "
	"2>/dev/null)\" -- \"$cur\") ;;\n"
	"\t\t*) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
	"\t\tesac\n"
	"\tfi\n"
	"}\n"
	"complete -o filenames -F _micropod micropod\n";

/* Verbs of one word, and the second words of groups. */
static void bash_verbs(void)
{
	printf("\tverbs=\"");
	for (size_t i = 0; verb_table[i]; i++)
		if (!strchr(verb_table[i]->name, ' '))
			printf("%s ", verb_table[i]->name);
	printf("container image system volume config\"\n\tcase $verb in\n");
	for (const char *const *g = verb_groups; *g; g++) {
		printf("\t%s) groups=\"", *g);
		for (size_t i = 0; verb_in_group(*g, i); i++)
			printf("%s ", verb_in_group(*g, i));
		printf("\" ;;\n");
	}
	printf("\tesac\n"
	       "\tif [[ ! $verb ]]; then\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -W \"$verbs\" -- \"$cur\")\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tif [[ $groups ]]; then\n"
	       "\t\tif ((COMP_CWORD == from)); then\n"
	       "\t\t\tmapfile -t COMPREPLY < <(compgen -W \"$groups\" -- \"$cur\")\n"
	       "\t\t\treturn\n"
	       "\t\tfi\n"
	       "\t\tverb=\"$verb ${COMP_WORDS[from]}\"\n"
	       "\tfi\n"
	       "\tcase $verb in\n");
}

static int print_bash(void)
{
	fputs(bash_head, stdout);
	bash_verbs();
	for (size_t i = 0; verb_table[i]; i++)
		bash_verb(verb_table[i]);
	for (const char *const *g = verb_groups; *g; g++) {
		for (size_t i = 0; verb_in_group(*g, i); i++) {
			const char *word = verb_in_group(*g, i);
			const struct verb *v = verb_by_group(*g, word);
			struct verb same = *v;
			char name[64];

			snprintf(name, sizeof(name), "%s %s", *g, word);
			if (strcmp(name, v->name) == 0)
				continue;
			same.name = name;
			bash_verb(&same);
		}
	}
	fputs(bash_tail, stdout);
	return 0;
}

/* zsh has bash's way, too. */
static int print_zsh(void)
{
	fputs("#compdef micropod\nautoload -U +X compinit && compinit\nautoload -U +X bashcompinit "
	      "&& "
	      "bashcompinit\n"
	      "mapfile() {\n\tlocal line\n\tCOMPREPLY=()\n\twhile IFS= read -r line; do "
	      "COMPREPLY+=(\"$line\"); done\n}\n",
		stdout);
	return print_bash();
}

/* fish */

static void put_quoted(const char *s)
{
	putchar('\'');
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('\'');
}

static void fish_option(const char *condition, const struct opt *o)
{
	printf("complete -c micropod -n '%s' -l %s", condition, o->name);
	if (o->letter)
		printf(" -s %c", o->letter);
	if (o->type != OPT_FLAG)
		printf(" -r");
	if (o->type == OPT_WORD) {
		printf(" -f -a '");
		put_words(o->words);
		printf("'");
	}
	printf(" -d ");
	put_quoted(o->help);
	putchar('\n');
}

static int print_fish(void)
{
	static const struct {
		const char *words, *command;
	} names[] = {
		{ "sandboxes", "micropod ps -a --format \"{{.Names}}\" 2>/dev/null" },
		{ "images", "micropod images --format \"{{.Repository}}:{{.Tag}}\" 2>/dev/null" },
		{ "volumes", "micropod volume ls -q 2>/dev/null" },
	};

	fputs("# Completion of micropod's command line, made by 'micropod completion'.\n", stdout);
	for (size_t i = 0; verb_table[i]; i++) {
		const struct verb *v = verb_table[i];
		const struct opt *tables[4];
		const char *space = strchr(v->name, ' ');
		char condition[128];

		if (space) {
			snprintf(condition, sizeof(condition),
				"__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from "
				"%s",
				(int)(space - v->name), v->name, space + 1);
			printf("complete -c micropod -n __fish_use_subcommand -f -a %.*s\n",
				(int)(space - v->name), v->name);
			printf("complete -c micropod -n '__fish_seen_subcommand_from %.*s' -f -a "
			       "%s "
			       "-d ",
				(int)(space - v->name), v->name, space + 1);
		} else {
			snprintf(condition, sizeof(condition), "__fish_seen_subcommand_from %s",
				v->name);
			printf("complete -c micropod -n __fish_use_subcommand -f -a %s -d ",
				v->name);
		}
		put_quoted(v->summary);
		putchar('\n');
		for (const struct opt *const *t = tables_of(v, tables); *t; t++)
			for (const struct opt *o = *t; o->name; o++)
				fish_option(condition, o);
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			if (strcmp(names[k].words, words_of(v)) == 0)
				printf("complete -c micropod -n '%s' -f -a '(%s)'\n", condition,
					names[k].command);
	}
	return 0;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	if (strcmp(words[0], "bash") == 0)
		return print_bash();
	if (strcmp(words[0], "zsh") == 0)
		return print_zsh();
	if (strcmp(words[0], "fish") == 0)
		return print_fish();
	return err_set(err, EINVAL, "there is no completion for '%.100s': give bash, zsh or fish",
		words[0]);
}

const struct verb verb_completion = {
	.name = "completion",
	.no_root = true,
	.usage = "bash|zsh|fish",
	.summary = "Print a script by which a shell completes command lines",
	.min_words = 1,
	.max_words = 1,
	.run = run,
};
