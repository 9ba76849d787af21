# Short names for the usual steps. The work is done by tools/ and the presets of CMakePresets.json.
.DEFAULT_GOAL := help
.PHONY: help demo build test asan tsan thread-safety bench package check format clean deps

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: deps ## install what is missing, build, and watch devices go from under programs and a database
	@cmake --preset release
	@cmake --build --preset release --target refault refaultd
	build/release/bin/refault demo

build: ## configure and build the release preset, tests included
	@cmake --preset release
	@cmake --build --preset release

test: deps build ## install what is missing, build, run every test
	@tools/run-tests.sh release

asan: ## build and run every test with the address and undefined-behaviour sanitizers
	@cmake --preset asan
	@cmake --build --preset asan
	@tools/run-tests.sh asan

tsan: ## build, and run the tests that the thread sanitizer can run
	@cmake --preset tsan
	@cmake --build --preset tsan
	@tools/run-tests.sh tsan

thread-safety: ## hold the code to what it says about its locks; needs clang
	@tools/thread-safety.sh

bench: build ## build and run the benchmark of pulls; see refault-bench --help for the others
	build/release/bin/refault-bench drain

package: deps ## build the Debian package, into build/package
	@cmake --preset release
	@cmake --build --preset release --target refault refaultd refault-bench refault_shared refault_static reference
	@tools/package.sh build/release build/package

check: ## folder order, file rules, formatting
	@python3 tools/check_test.py
	@python3 tools/check.py

format: ## format every C and C++ file in place
	@git ls-files -z --cached --others --exclude-standard --deduplicate -- '*.h' '*.hpp' '*.cc' \
		| while IFS= read -r -d '' file; do if [ -e "$$file" ]; then printf '%s\0' "$$file"; fi; done \
		| xargs -0 -r clang-format -i

clean: ## remove build/
	rm -rf build

deps:
	@tools/install-deps.sh

# `read -d` in the format target is bash.
SHELL := /bin/bash
