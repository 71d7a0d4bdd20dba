/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/opt.h"
#include "base/strv.h"
#include "test.h"

struct values {
	bool detach, interactive, tty;
	const char *name;
	struct strv env, publish;
	uint64_t memory, cpus;
	int64_t timeout;
	unsigned last;
	int pull;
	int sum;
};

static const char *const pull_words[] = { "missing", "always", "never", NULL };

static int add_up(const char *value, void *field, struct err *err)
{
	if (value[0] < '0' || value[0] > '9' || value[1])
		return err_set(err, EINVAL, "give one digit");
	*(int *)field += value[0] - '0';
	return 0;
}

#define AT(field) offsetof(struct values, field)
static const struct opt table[] = {
	{ "detach", 'd', OPT_FLAG, AT(detach), NULL, "run in the background" },
	{ "interactive", 'i', OPT_FLAG, AT(interactive), NULL, "keep stdin open" },
	{ "tty", 't', OPT_FLAG, AT(tty), NULL, "give it a terminal" },
	{ "name", 0, OPT_STRING, AT(name), "NAME", "name of the sandbox" },
	{ "env", 'e', OPT_LIST, AT(env), "KEY=VALUE", "set a variable" },
	{ "publish", 'p', OPT_LIST, AT(publish), "PORT", "publish a port" },
	{ "memory", 'm', OPT_SIZE, AT(memory), "SIZE", "memory" },
	{ "cpus", 0, OPT_MILLI, AT(cpus), "N", "CPUs" },
	{ "timeout", 0, OPT_DURATION, AT(timeout), "TIME", "time" },
	{ "last", 'n', OPT_UINT, AT(last), "N", "how many", .min = 1, .max = 100 },
	{ "pull", 0, OPT_WORD, AT(pull), "WHEN", "when to pull", .words = pull_words },
	{ "sum", 's', OPT_CALL, AT(sum), "DIGIT", "add up", .parse = add_up },
	{ NULL },
};

struct globals {
	bool debug, help;
};
static const struct opt globals[] = {
	{ "debug", 'D', OPT_FLAG, offsetof(struct globals, debug), NULL, "debug" },
	{ "help", 'h', OPT_FLAG, offsetof(struct globals, help), NULL, "help" },
	{ NULL },
};

static struct values v;
static struct globals g;
static const char *words[32];
static struct err err;

#define PARSE(first, ...) parse(first, (char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static int parse(bool options_first, char *const *args)
{
	const struct opt_set sets[] = { { table, &v }, { globals, &g } };
	const struct opt_grammar grammar = { "prog run", sets, ARRAY_SIZE(sets), options_first };
	size_t n = 0;

	opt_free(table, &v);
	v = (struct values){ 0 };
	g = (struct globals){ 0 };
	err = ERR_INIT;
	while (args[n])
		n++;
	return opt_parse(&grammar, args, n, words, &err);
}

static void forms_of_docker(void)
{
	CHECK_INT(PARSE(true, "-itd", "--name=web", "-p8080:80", "-p", "9:9", "-e", "A=1", "--env",
			  "B=2", "img", "ls", "-la"),
		3);
	CHECK(v.detach && v.interactive && v.tty);
	CHECK_STR(v.name, "web");
	CHECK_INT(v.publish.n, 2);
	CHECK_STR(v.publish.v[0], "8080:80");
	CHECK_STR(v.publish.v[1], "9:9");
	CHECK_STR(v.env.v[1], "B=2");
	CHECK_STR(words[0], "img");
	CHECK_STR(words[2], "-la");
	CHECK(!words[3]);
	CHECK_INT(PARSE(true, "-itp=80", "x"), 1);
	CHECK_STR(v.publish.v[0], "80");
	CHECK(v.tty);
	CHECK_INT(PARSE(true, "-itm512m", "x"), 1);
	CHECK_INT(v.memory, 512 << 20);
	CHECK_INT(PARSE(true, "--name", "--env", "x"), 1);
	CHECK_STR(v.name, "--env");
	CHECK_INT(PARSE(true, "--name=", "x"), 1);
	CHECK_STR(v.name, "");
	CHECK_INT(PARSE(true, "--detach=false", "-t=true", "-i=0"), 0);
	CHECK(!v.detach && v.tty && !v.interactive);
	CHECK_INT(PARSE(true, "--cpus", "1.5", "--timeout", "1m30s", "-n", "7", "--pull", "never",
			  "-s1", "-s", "2"),
		0);
	CHECK_INT(v.cpus, 1500);
	CHECK_INT(v.timeout, 90000000000);
	CHECK_INT(v.last, 7);
	CHECK_INT(v.pull, 2);
	CHECK_INT(v.sum, 3);
	CHECK_INT(PARSE(true), 0);
}

static void where_options_end(void)
{
	CHECK_INT(PARSE(true, "-d", "--", "-t", "--name"), 2);
	CHECK(!v.tty);
	CHECK_STR(words[0], "-t");
	CHECK_INT(PARSE(true, "img", "--", "x"), 3);
	CHECK_STR(words[1], "--");
	CHECK_INT(PARSE(false, "a", "-t", "b", "--debug", "--", "-i"), 3);
	CHECK(v.tty && g.debug && !v.interactive);
	CHECK_STR(words[2], "-i");
	CHECK_INT(PARSE(false, "-"), 1);
	CHECK_STR(words[0], "-");
	CHECK_INT(PARSE(false, ""), 1);
}

/* What is wrong, what to do, on one line, naming the command's help where the option itself is
 * unknown. */
static void wrong_input(void)
{
	static const struct {
		const char *args[4];
		const char *message;
	} cases[] = {
		{ { "--nmae", "x" },
			"unknown option '--nmae': did you mean '--name'? See 'prog run --help'" },
		{ { "--evn=x" },
			"unknown option '--evn': did you mean '--env'? See 'prog run --help'" },
		{ { "--detached" }, "unknown option '--detached': did you mean '--detach'? See "
				    "'prog run --help'" },
		{ { "--zzzzz=1" }, "unknown option '--zzzzz': see 'prog run --help'" },
		{ { "--=1" }, "unknown option '--': see 'prog run --help'" },
		{ { "--NAME" }, "unknown option '--NAME': see 'prog run --help'" },
		{ { "-z" }, "unknown option '-z': see 'prog run --help'" },
		{ { "-itz" }, "unknown option '-z' in '-itz': see 'prog run --help'" },
		{ { "-name" }, "option '-n' (--last) is 'ame': give a whole number from 1 to 100" },
		{ { "--name" }, "option '--name' needs a value: --name NAME" },
		{ { "-tp" }, "option '-p' (--publish) needs a value: -p PORT" },
		{ { "--detach=maybe" }, "option '--detach' is 'maybe': give true or false" },
		{ { "-d=maybe" }, "option '-d' (--detach) is 'maybe': give true or false" },
		{ { "--detach=" }, "option '--detach' is '': give true or false" },
		{ { "-m", "12q" }, "option '-m' (--memory) is '12q': give bytes, or a number with "
				   "k, m, g or t, such as 512m" },
		{ { "--memory=-1" }, "option '--memory' is '-1': give bytes, or a number with k, "
				     "m, g or t, such as 512m" },
		{ { "--memory=99999999999g" }, "option '--memory' is '99999999999g': give bytes, "
					       "or a number with k, m, g or t, such as 512m" },
		{ { "--cpus", "0" }, "option '--cpus' is '0': give a number above 0 with at most "
				     "three decimals, such as 1.5" },
		{ { "--cpus", "1.2345" }, "option '--cpus' is '1.2345': give a number above 0 with "
					  "at most three decimals, such as 1.5" },
		{ { "--timeout", "soon" }, "option '--timeout' is 'soon': give seconds, or a time "
					   "such as 300ms, 10s or 1m30s" },
		{ { "--last", "0" }, "option '--last' is '0': give a whole number from 1 to 100" },
		{ { "--last", "101" },
			"option '--last' is '101': give a whole number from 1 to 100" },
		{ { "--last", "1x" },
			"option '--last' is '1x': give a whole number from 1 to 100" },
		{ { "--pull", "Always" },
			"option '--pull' is 'Always': give one of missing, always, never" },
		{ { "--pull=" }, "option '--pull' is '': give one of missing, always, never" },
		{ { "-s", "12" }, "option '-s' (--sum) is '12': give one digit" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(parse(true, (char *const *)cases[i].args), -EINVAL);
		CHECK_STR(err.msg, cases[i].message);
	}
}

static void long_words_are_cut(void)
{
	char word[5000], arg[5004];

	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = 0;
	snprintf(arg, sizeof(arg), "--%s", word);
	CHECK_INT(PARSE(true, arg), -EINVAL);
	CHECK(strlen(err.msg) < LIMIT_ERR_MESSAGE);
	CHECK(strstr(err.msg, "see 'prog run --help'"));
	CHECK_INT(PARSE(true, "--name", word), 0);
	CHECK_STR(v.name, word);
	CHECK_INT(PARSE(true, "--pull", word), -EINVAL);
}

static void help_lists_all(void)
{
	auto_strbuf struct strbuf out = STRBUF_INIT;

	opt_help(table, &out);
	CHECK(strstr(out.data, "  -d, --detach                run in the background\n"));
	CHECK(strstr(out.data, "      --name NAME             name of the sandbox\n"));
	CHECK(strstr(
		out.data, "      --pull WHEN             when to pull (missing, always, never)\n"));
	for (const struct opt *o = table; o->name; o++)
		CHECK(strstr(out.data, o->name));
}

static void distance(void)
{
	CHECK_INT(opt_distance("name", "name"), 0);
	CHECK_INT(opt_distance("nmae", "name"), 1);
	CHECK_INT(opt_distance("", "abc"), 3);
	CHECK_INT(opt_distance("kitten", "sitting"), 3);
}

TEST_MAIN(TEST(forms_of_docker), TEST(where_options_end), TEST(wrong_input),
	TEST(long_words_are_cut), TEST(help_lists_all), TEST(distance))
