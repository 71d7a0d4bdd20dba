/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/parse.h"
#include "net/net.h"
#include "sandbox/manager.h"
#include "sandbox/shelf.h"

#define MEMBERS	 "members"
#define FIRST	 0x0a590000u /* 10.89.0.0/16 is cut into networks of 24 bits */
#define PREFIX	 24
#define CHOICES	 256
#define NOBODY	 65534
#define ID_LEAST 4 /* of an id's beginning */

static const struct shelf networks = { "networks", "network" };

void network_deinit(struct network *n)
{
	strv_deinit(&n->labels);
	*n = (struct network){ 0 };
}

static uint32_t mask_of(unsigned prefix)
{
	return ~(UINT32_MAX >> prefix);
}

static void text_of(uint32_t address, char out[static 16])
{
	struct in_addr in = { htonl(address) };

	inet_ntop(AF_INET, &in, out, 16);
}

/* "10.89.0.0/24" */
static int parse_subnet(const char *text, uint32_t *ret_address, unsigned *ret_prefix)
{
	auto_free char *copy = strdup(text);
	char *slash = copy ? strchr(copy, '/') : NULL;
	struct in_addr in;

	if (!slash)
		return -EINVAL;
	*slash++ = 0;
	if (inet_pton(AF_INET, copy, &in) != 1 || parse_uint(slash, 8, 29, ret_prefix) < 0)
		return -EINVAL;
	*ret_address = ntohl(in.s_addr);
	return 0;
}

/* ---- making ---- */

static int fill(int dir, void *arg)
{
	const struct network *n = arg;
	json_t *more;
	int r;

	if (mkdirat(dir, MEMBERS, 0700) < 0)
		return -errno;
	/* As root the members' micropod-net are nobody. */
	if (geteuid() == 0 && fchownat(dir, MEMBERS, NOBODY, NOBODY, 0) < 0)
		return -errno;
	more = json_pack("{s:s, s:I, s:i, s:b, s:b}", "id", n->id, "subnet", (json_int_t)n->subnet,
		"prefix", (int)n->prefix, "internal", n->internal, "bridged", n->bridged);
	r = shelf_write_record(&networks, dir, &n->labels, more);
	json_decref(more);
	return r;
}

/* The name of a network that has addresses of n's. */
static int find_overlap(struct sandbox_root *root, const struct network *n,
	char ret_name[static LIMIT_NAME + 1], struct err *err)
{
	auto_strv struct strv names = STRV_INIT;
	int r = network_list(root, &names, err);

	ret_name[0] = 0;
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		auto_network struct network other = { 0 };
		uint32_t mask;

		r = network_load(root, names.v[i], &other, err);
		mask = mask_of(MIN(n->prefix, other.prefix));
		if (r == 0 && (n->subnet & mask) == (other.subnet & mask)) {
			snprintf(ret_name, LIMIT_NAME + 1, "%s", other.name);
			break;
		}
	}
	return r;
}

static int choose_subnet(
	struct sandbox_root *root, const char *wanted, struct network *n, struct err *err)
{
	char other[LIMIT_NAME + 1];
	int r;

	if (wanted) {
		if (parse_subnet(wanted, &n->subnet, &n->prefix) < 0 ||
			(n->subnet & ~mask_of(n->prefix)) || n->subnet >= 0xe0000000u ||
			n->subnet >> 24 == 127 || n->subnet >> 24 == 0)
			return err_set(err, EINVAL,
				"option '--subnet' is '%.100s': give a network's address and 8 to "
				"29 bits, such as 10.89.0.0/24",
				wanted);
		r = find_overlap(root, n, other, err);
		if (r == 0 && other[0])
			return err_set(err, EEXIST,
				"subnet %s overlaps with that of network '%s': choose another",
				wanted, other);
		if (r == 0 && n->bridged && bridge_is_routed(n->subnet, n->prefix))
			return err_set(err, EEXIST,
				"subnet %s is another network's of this host: choose another",
				wanted);
		return r;
	}
	n->prefix = PREFIX;
	for (uint32_t i = 0; i < CHOICES; i++) {
		n->subnet = FIRST | i << (32 - PREFIX);
		r = find_overlap(root, n, other, err);
		if (r < 0 || (!other[0] && !bridge_is_routed(n->subnet, n->prefix)))
			return r;
	}
	return err_set(err, ENOSPC, "no subnet is free: give one with --subnet");
}

static bool is_reserved(const char *name)
{
	static const char *const words[] = { "default", "none", "host", "bridge", NETWORK_PRIVATE,
		NETWORK_INTERNET };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(name, words[i]) == 0)
			return true;
	return false;
}

void network_bridge(const struct network *n, char out[static BRIDGE_NAME])
{
	snprintf(out, BRIDGE_NAME, "mp-%.*s", ID_SHOWN_LEN, n->id);
}

static int make_bridge(const struct network *n, struct err *err)
{
	char name[BRIDGE_NAME];

	network_bridge(n, name);
	return bridge_make(name, n->subnet + 1, n->prefix, !n->internal, err);
}

static int drop_bridge(const struct network *n, struct err *err)
{
	char name[BRIDGE_NAME];

	network_bridge(n, name);
	return bridge_remove(name, err);
}

int network_create(struct sandbox_root *root, const char *name, const char *subnet, bool internal,
	bool bridged, const struct strv *labels, struct err *err)
{
	auto_close int folder = -1, lock = -1;
	struct network n = { .internal = internal, .bridged = bridged, .labels = *labels };
	struct err ignored = ERR_INIT;
	struct stat st;
	int r;

	if (!name_valid(name))
		return err_set(err, EINVAL,
			"'%.100s' is no name of a network: use 2 to %d letters, digits, '_', '.', "
			"'-', the first a letter or digit",
			name, LIMIT_NAME);
	if (is_reserved(name))
		return err_set(
			err, EINVAL, "'%s' is the name of a network that is always there", name);
	folder = shelf_open(&networks, root, &lock, err);
	if (folder < 0)
		return folder;
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(err, EEXIST, "network '%s' is there already", name);
	id_generate(n.id);
	r = choose_subnet(root, subnet, &n, err);
	if (r == 0 && bridged)
		r = make_bridge(&n, err);
	if (r < 0)
		return r;
	r = shelf_make(folder, name, fill, &n);
	if (r < 0 && bridged)
		drop_bridge(&n, &ignored);
	return r < 0 ? err_errno(err, -r, "cannot make the network '%s'", name) : 0;
}

/* ---- looking ---- */

static int load(
	struct sandbox_root *root, const char *name, struct network *ret_network, struct err *err)
{
	auto_close int dir = shelf_item(&networks, root, name, err);
	struct network n = { 0 };
	const char *id = NULL;
	json_int_t subnet = 0;
	json_t *record = NULL;
	int prefix = 0, internal = 0, r;

	if (dir < 0)
		return dir;
	snprintf(n.name, sizeof(n.name), "%s", name);
	r = shelf_read_record(&networks, dir, &n.created_ns, &n.labels, &record);
	if (r == 0 && (json_unpack(record, "{s:s, s:I, s:i, s:b}", "id", &id, "subnet", &subnet,
			       "prefix", &prefix, "internal", &internal) < 0 ||
			      strlen(id) != ID_LEN || prefix < 8 || prefix > 29))
		r = -EBADMSG;
	if (r == 0) {
		snprintf(n.id, sizeof(n.id), "%s", id);
		n.subnet = (uint32_t)subnet;
		n.prefix = (unsigned)prefix;
		n.internal = internal;
		n.bridged = json_is_true(json_object_get(record, "bridged"));
	}
	json_decref(record);
	if (r < 0) {
		network_deinit(&n);
		return err_errno(err, -r, "cannot read what is known of the network '%s'", name);
	}
	*ret_network = n;
	return 0;
}

int network_load(
	struct sandbox_root *root, const char *word, struct network *ret_network, struct err *err)
{
	auto_strv struct strv names = STRV_INIT;
	struct err ignored = ERR_INIT;
	int r = load(root, word, ret_network, err);

	if (r != -ENOENT || strlen(word) < ID_LEAST || network_list(root, &names, &ignored) < 0)
		return r;
	for (size_t i = 0; i < names.n; i++) {
		if (load(root, names.v[i], ret_network, &ignored) < 0)
			continue;
		if (strncmp(ret_network->id, word, strlen(word)) == 0) {
			*err = (struct err)ERR_INIT;
			return 0;
		}
		network_deinit(ret_network);
	}
	return r;
}

static int missing(int r, const char *word, struct err *err)
{
	return r == -ENOENT ? err_set(err, ENOENT,
				      "no such network: %.100s (micropod network create makes one)",
				      word)
			    : r;
}

int network_check(struct sandbox_root *root, const char *word, struct err *err)
{
	auto_network struct network n = { 0 };

	return missing(network_load(root, word, &n, err), word, err);
}

int network_list(struct sandbox_root *root, struct strv *names, struct err *err)
{
	return shelf_list(&networks, root, names, err);
}

bool network_shared(const struct sandbox_config *c)
{
	return c->network && !c->engine && !c->no_network && !is_reserved(c->network);
}

static bool uses(struct sandbox_root *root, const struct sandbox_config *config, void *arg)
{
	return network_shared(config) && strcmp(config->network, arg) == 0;
}

bool network_used(struct sandbox_root *root, const char *name, char by[static LIMIT_NAME + 1])
{
	return shelf_used(root, uses, (void *)name, by);
}

int network_remove(struct sandbox_root *root, const char *word, struct err *err)
{
	auto_close int folder = -1, lock = -1;
	char by[LIMIT_NAME + 1];
	auto_network struct network n = { 0 };
	int r = network_load(root, word, &n, err);

	/* One whose record is damaged goes, too. */
	if (r == -ENOENT)
		return r;
	folder = shelf_open(&networks, root, &lock, err);
	if (folder < 0)
		return folder;
	if (n.name[0])
		word = n.name;
	if (network_used(root, word, by))
		return err_set(err, EBUSY,
			"network '%s' is used by sandbox '%s': remove that first", word, by);
	if (n.bridged && (r = drop_bridge(&n, err)) < 0)
		return r;
	return shelf_take(&networks, folder, word, err);
}

/* ---- addresses ---- */

struct claim {
	const struct network *network;
	uint32_t *taken;
	size_t n;
};

/* Notes down the address of a sandbox that is on the network; false: on to the next. */
static bool note_address(struct sandbox_root *root, const struct sandbox_config *c, void *arg)
{
	struct claim *claim = arg;
	uint32_t address, *grown;
	unsigned prefix;

	if (!network_shared(c) || strcmp(c->network, claim->network->name) != 0 ||
		parse_subnet(c->address, &address, &prefix) < 0)
		return false;
	grown = realloc(claim->taken, (claim->n + 1) * sizeof(*grown));
	if (!grown)
		return true;
	claim->taken = grown;
	claim->taken[claim->n++] = address;
	return false;
}

static bool is_taken(const struct claim *claim, uint32_t address)
{
	for (size_t i = 0; i < claim->n; i++)
		if (claim->taken[i] == address)
			return true;
	return false;
}

/* The first address is the gateway's, the last the resolver's. */
static bool is_members(const struct network *n, uint32_t address)
{
	uint32_t last = n->subnet | ~mask_of(n->prefix);

	/* With a bridge the one before is the stack's (net/filter.h). */
	return address > n->subnet + 1 && address < last - 1 - n->bridged;
}

static int choose_address(const struct network *n, const struct claim *claim, const char *wanted,
	uint32_t *ret_address, struct err *err)
{
	struct in_addr in;

	if (wanted) {
		if (inet_pton(AF_INET, wanted, &in) != 1 || !is_members(n, ntohl(in.s_addr)))
			return err_set(err, EINVAL,
				"option '--ip' is '%.50s', which no sandbox on network '%s' can "
				"have",
				wanted, n->name);
		*ret_address = ntohl(in.s_addr);
		return is_taken(claim, *ret_address)
			       ? err_set(err, EADDRINUSE,
					 "address %s of network '%s' is another sandbox'", wanted,
					 n->name)
			       : 0;
	}
	for (uint32_t address = n->subnet + 2; is_members(n, address); address++) {
		if (!is_taken(claim, address)) {
			*ret_address = address;
			return 0;
		}
	}
	return err_set(err, ENOSPC, "no address of network '%s' is free", n->name);
}

static int find_address(struct sandbox_root *root, const struct network *n, const char *wanted,
	uint32_t *ret_address, struct err *err)
{
	struct claim claim = { .network = n };
	char by[LIMIT_NAME + 1];
	int r = shelf_used(root, note_address, &claim, by)
			? err_set(err, EIO, "cannot tell which addresses of network '%s' are free",
				  n->name)
			: choose_address(n, &claim, wanted, ret_address, err);

	free(claim.taken);
	return r;
}

int network_claim(
	struct sandbox_root *root, struct sandbox_config *c, int *ret_lock, struct err *err)
{
	auto_close int folder = -1, lock = -1;
	auto_network struct network n = { 0 };
	char text[16], bridge[BRIDGE_NAME];
	uint32_t address = 0;
	int r;

	folder = shelf_open(&networks, root, &lock, err);
	if (folder < 0)
		return folder;
	r = network_load(root, c->network, &n, err);
	if (r == 0 && n.bridged && c->host_access)
		return err_set(err, EINVAL,
			"option '--host-access' does not go with network '%s': on a bridge the "
			"gateway is "
			"the host itself",
			n.name);
	if (r == 0)
		r = find_address(root, &n, c->ip, &address, err);
	if (r < 0)
		return missing(r, c->network, err);
	/* It may have been given by its id. */
	free(c->network);
	free(c->reach);
	free(c->bridge);
	c->network = strdup(n.name);
	c->reach = n.internal ? strdup("nowhere") : NULL;
	network_bridge(&n, bridge);
	c->bridge = n.bridged ? strdup(bridge) : NULL;
	if (!c->network || (n.internal && !c->reach) || (n.bridged && !c->bridge))
		return err_errno(err, ENOMEM, "cannot join the network '%s'", n.name);
	text_of(address, text);
	snprintf(c->address, sizeof(c->address), "%s/%u", text, n.prefix);
	*ret_lock = take_fd(&lock);
	return 0;
}

int network_ready(struct sandbox_root *root, const struct sandbox_config *c, struct err *err)
{
	auto_network struct network n = { 0 };
	int r = c->bridge ? network_load(root, c->network, &n, err) : 0;

	return r < 0 || !c->bridge ? r : make_bridge(&n, err);
}

char *network_folder(const struct sandbox_root *root, const char *name)
{
	char *path;

	return asprintf(&path, "%s/networks/%s/" MEMBERS, root->path, name) < 0 ? NULL : path;
}

/* The entry of a name, as net/bus.c makes it. */
static int entry(const struct sandbox_config *c, const char *name, char **ret_entry)
{
	int n = asprintf(ret_entry, "%.*s=%s", (int)strcspn(c->address, "/"), c->address, name);

	if (n < 0)
		return -ENOMEM;
	for (char *p = *ret_entry; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	return 0;
}

void network_renamed(
	const struct sandbox_root *root, const struct sandbox_config *c, const char *old_name)
{
	auto_free char *folder = network_shared(c) ? network_folder(root, c->network) : NULL;
	auto_free char *before = NULL, *after = NULL;
	auto_close int dir =
		folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;

	if (dir >= 0 && entry(c, old_name, &before) == 0 && entry(c, c->name, &after) == 0)
		renameat(dir, before, dir, after);
}

void network_plan(const struct sandbox_config *c, struct network_plan *ret_plan)
{
	struct network_plan p = { NET_GUEST_ADDRESS, NET_GATEWAY, NET_DNS, NET_GUEST_PREFIX };
	uint32_t address;
	unsigned prefix;

	if (network_shared(c) && parse_subnet(c->address, &address, &prefix) == 0) {
		text_of(address, p.address);
		text_of((address & mask_of(prefix)) + 1, p.gateway);
		text_of((address | ~mask_of(prefix)) - 1, p.dns);
		p.prefix = prefix;
	}
	*ret_plan = p;
}
