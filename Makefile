# SPDX-License-Identifier: Apache-2.0
# The front door. meson builds; this only strings together what one does with it. `make help` lists the targets.

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60

.PHONY: all help demo demo-docker demo-server test test-long test-kvm soak bench bench-rpc asan fuzz lint format generate build-agent agents kernel agent-rootfs \
	install uninstall deb test-deb clean deps configure

all: configure ## build everything
	ninja -C $(BUILD)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

deps: ## install the system packages that are missing (sudo only if not root)
	scripts/install-deps.sh

configure:
	@[ -e $(BUILD)/build.ninja ] || { scripts/install-deps.sh build && meson setup $(BUILD); }

demo: ## install what is missing, build, and run a container in a VM
	scripts/install-deps.sh build run demo
	@$(MAKE) --no-print-directory all
	scripts/demo.sh $(BUILD)

demo-docker: ## the same in a container of a Docker Engine of its own, with the agent put in (root)
	scripts/install-deps.sh build run demo-docker
	@$(MAKE) --no-print-directory all
	scripts/demo-docker.sh $(BUILD)

demo-server: ## a server, a host behind a firewall, a sandbox on it (root)
	scripts/install-deps.sh build run demo demo-server
	@$(MAKE) --no-print-directory all
	scripts/demo-server.sh $(BUILD)

test: deps all kernel agents ## every test; ends with the counts
	scripts/test.sh $(BUILD)

test-long: deps all kernel agents ## the same with full counts of cycles, outages and soaks
	scripts/test.sh --long $(BUILD)

SOAK_SECONDS ?= 1800
soak: deps all kernel ## mixed verbs from several processes at once for SOAK_SECONDS seconds; fails if anything is left or grows
	scripts/make-test-images.sh $(BUILD)/test-images busybox
	for kind in cloud small; do $(BUILD)/guest/prepare-guest --progress --kind $$kind $(BUILD)/test-root; done
	MICROPOD_BUILD=$(abspath $(BUILD)) MICROPOD_TEST_GUEST=$(abspath $(BUILD))/test-root /usr/bin/python3 tests/e2e/soak.py $(SOAK_SECONDS)

test-kvm: deps all kernel ## the end-to-end tests with KVM; fails where KVM does not work
	scripts/test.sh --kvm $(BUILD)

bench: all kernel agents ## starts, execs, tunnel and memory beside Docker, Podman, ssh, runtimes and bare QEMU; writes docs/benchmarks.md (root)
	scripts/install-deps.sh build run test bench
	scripts/make-test-images.sh $(BUILD)/test-images
	for kind in cloud small; do $(BUILD)/guest/prepare-guest --progress --kind $$kind $(BUILD)/test-root; done
	/usr/bin/python3 bench/bench.py --docs $(BUILD)
	/usr/bin/python3 bench/docker.py $(BUILD)
	/usr/bin/python3 bench/tunnel.py $(BUILD)
	/usr/bin/python3 bench/work.py $(BUILD)

bench-rpc: all ## unary calls a second, beside the C-core
	scripts/install-deps.sh bench
	meson test -C $(BUILD) --no-rebuild --benchmark --suite bench-rpc --verbose

asan: ## unit and integration tests with the address and undefined-behaviour sanitizers
	scripts/install-deps.sh
	[ -e $(BUILD)-asan/build.ninja ] || meson setup $(BUILD)-asan -Db_sanitize=address,undefined -Dguest=disabled
	ninja -C $(BUILD)-asan
	scripts/test.sh --no-e2e $(BUILD)-asan

fuzz: ## each fuzz target for FUZZ_SECONDS seconds
	scripts/install-deps.sh build test
	scripts/fuzz.sh $(BUILD)-fuzz $(FUZZ_SECONDS)

lint: configure ## layers, format, shell scripts, style
	scripts/install-deps.sh build test
	scripts/lint.sh $(BUILD)

format: ## rewrite all C files with clang-format
	git ls-files -z '*.c' '*.h' | xargs -0 clang-format-14 -i

generate: configure ## C from proto/ (every build does it anyway)
	ninja -C $(BUILD) proto/all

build-agent: ## bin/agent, bin/agent-arm64: the static agents
	scripts/build-agent.sh bin

agents: configure ## the agents of other machines and with TLS, installed when they are there (once, some minutes)
	scripts/install-deps.sh build agents
	scripts/build-agent.sh --build-dir $(BUILD)/agent-musl --arch aarch64 $(BUILD)/agents
	scripts/build-agent.sh --build-dir $(BUILD)/agent-musl --arch x86_64 --tls $(BUILD)/agents

kernel: configure ## the small guest kernel, used when it is there (once, some minutes)
	scripts/install-deps.sh build kernel
	scripts/build-kernel.sh $(BUILD)/guest/kernel

agent-rootfs: ## agent-rootfs.ext4: a root disk with the agent, made without root
	scripts/build-agent-rootfs.sh agent-rootfs.ext4

install: configure ## install below PREFIX (default /usr/local)
	meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	ninja -C $(BUILD)
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --quiet
	@# The small kernel only if it has been built.
	[ ! -e $(BUILD)/guest/kernel/vmlinuz ] || install -D -m 644 -t $(DESTDIR)$(abspath $(PREFIX))/lib/micropod/kernel \
		$(BUILD)/guest/kernel/vmlinuz $(BUILD)/guest/kernel/version
	@# The other agents likewise.
	for agent in agent-arm64 micropod-agent-tls; do [ ! -e $(BUILD)/agents/$$agent ] || \
		install -D -m 755 -t $(DESTDIR)$(abspath $(PREFIX))/lib/micropod $(BUILD)/agents/$$agent; done

uninstall: configure ## remove what install installed below PREFIX
	meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	DESTDIR=$(DESTDIR) scripts/uninstall.sh $(BUILD)

deb: all ## a Debian package, below BUILD
	scripts/build-deb.sh $(BUILD) $(BUILD)/deb

test-deb: all ## installs the Debian package on a clean Debian made for it, and runs containers there (root)
	scripts/test-deb.sh $(BUILD)

clean: ## remove what was built
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-fuzz bin agent-rootfs.ext4
	find subprojects -mindepth 1 -maxdepth 1 ! -name packagefiles -exec rm -rf {} +
