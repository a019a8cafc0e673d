# SPDX-License-Identifier: GPL-3.0-or-later
# A thin front of meson. Each goal sets up what it needs; BUILD and WERROR can be overridden.
BUILD ?= build
WERROR ?= false
MESON_SETUP = CC="$${CC:-ccache gcc}" meson setup

.PHONY: all deps-build deps-run deps run check check-slow check-sanitize check-threads bench fuzz lint format install clean

all: deps-build $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	$(MESON_SETUP) $(BUILD) -Dwerror=$(WERROR)

deps-build:
	@tools/install-deps build
deps-run:
	@tools/install-deps build run
deps:
	@tools/install-deps

# Boots the demo guest in this terminal; Ctrl-A x leaves it.
run: deps-run all
	tools/make-guest
	$(BUILD)/ospite run --memory 512M --disk .cache/guest/disk.raw,format=raw --serial stdio --display none

check: deps all
	tools/make-guest
	tools/run-tests $(BUILD) unit disk boot

# The long boots (other distributions' loaders, installers, both architectures).
check-slow: deps all
	tools/make-guest
	tools/run-tests $(BUILD) unit disk boot slow

# The unit and disk tests again under AddressSanitizer and UndefinedBehaviorSanitizer.
check-sanitize: deps
	[ -f build-asan/build.ninja ] || CC="ccache clang" meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C build-asan
	tools/run-tests build-asan unit disk

# And under ThreadSanitizer.
check-threads: deps
	[ -f build-tsan/build.ninja ] || CC="ccache clang" meson setup build-tsan -Db_sanitize=thread -Db_lundef=false
	ninja -C build-tsan
	tools/run-tests build-tsan unit

bench: deps all
	tools/make-guest
	bench/run $(BUILD)
	bench/disk $(BUILD)
	bench/convert $(BUILD)
	bench/daemon $(BUILD)

# FUZZ_SECONDS for each target; then the host's CPU against ours, from a new random seed each time.
fuzz: deps all
	[ -f build-fuzz/build.ninja ] || CC="ccache clang" meson setup build-fuzz -Dfuzzing=true -Db_sanitize=address,undefined -Db_lundef=false -Db_pie=false
	ninja -C build-fuzz
	tools/fuzz build-fuzz $${FUZZ_SECONDS:-60}
	$(BUILD)/tests/test-cpu-soft-oracle-modes -k --seconds $${FUZZ_SECONDS:-60} --random $${FUZZ_SEED:-$$(date +%s)}

# clang-tidy looks at what changed since it was found clean.
lint: all
	tools/check-layers
	tools/check-format
	tools/check-tidy $(BUILD)

format:
	tools/check-format --fix

install: all
	ninja -C $(BUILD) install

clean:
	rm -rf $(BUILD) build-asan build-fuzz build-tsan
