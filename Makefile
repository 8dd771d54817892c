# What people type. Meson and ninja do the work, in build/; this file only names it.

.DEFAULT_GOAL := all
.PHONY: all run test style asan tsan arm64 torture torture-functions fuzz plants sim model e2e python python-asan coverage mutate openwhisk openwhisk-python lambda bench bench-long bench-attach bench-python format install prefix clean help
JOBS := $(shell nproc)
PREFIX ?= /usr/local
BENCH_PROGRAMS = bench/overwrite bench/instructions test/torture/many

build/build.ninja:
	@command -v meson >/dev/null || { echo 'make: no meson here; `make run` or `tools/install-packages` installs what is missing'; exit 1; }
	@meson setup build --prefix $(PREFIX)

all: build/build.ninja ## build/wadi, the program, and libwadi
	@ninja -C build -j $(JOBS) product

run: ## sort real records through the embedded store; installs what it needs
	@tools/install-packages run
	@$(MAKE) -s all
	@tools/run-demo $(ARGS)

test: ## everything that CI does; installs what it needs
	@tools/install-packages test
	@tools/test $(STAGES)

style asan tsan arm64 model e2e: ## one stage of `make test`
	@tools/install-packages test
	@tools/test $@

sim: ## simulate clusters with faults; SEEDS=N runs so many seeds, and shrinks what fails
	@tools/install-packages test
ifdef SEEDS
	@test -f build/build.ninja || meson setup build
	@ninja -C build -j $(JOBS) test/sim/simulate
	@tools/sim --seeds $(SEEDS) $(ARGS)
else
	@tools/test sim
endif

plants: ## plant bugs, one at a time, and run the tests until they are found
	@tools/install-packages test
	@tools/plants $(NAMES)

fuzz: ## run each fuzzer for a minute, or SECONDS=N
	@tools/install-packages test
	@tools/fuzz --seconds $(or $(SECONDS),60) $(NAMES)

openwhisk: ## build/dist/wadi-sort-fn.zip, the functions of the sort as an action of OpenWhisk
	@tools/install-packages run
	@$(MAKE) -s all
	@ninja -C build -j $(JOBS) apps/bundle/launch
	@tools/function-bundle --program build/apps/sort/wadi-sort-fn --entry exec --output build/dist/wadi-sort-fn.zip

lambda: ## build/dist/wadi-sort-lambda.zip, the functions of the sort as a custom runtime of AWS Lambda
	@tools/install-packages run
	@$(MAKE) -s all
	@ninja -C build -j $(JOBS) apps/bundle/launch
	@tools/function-bundle --program build/apps/lambda/wadi-sort-lambda --entry bootstrap --output build/dist/wadi-sort-lambda.zip

openwhisk-python: python ## build/dist/wadi-sort-python.zip, the same in Python, with its client
	@tools/python-action --wheel build/dist/wadi_store-*.whl --output build/dist/wadi-sort-python.zip

torture: ## kill servers at random under clients that check every byte, 1,000 times or KILLS=N
	@tools/install-packages test
	@test -f build/build.ninja || meson setup build
	@ninja -C build -j $(JOBS) product test/torture/churn
	@WADI_BUILD=build test/torture/kills.py --kills $(or $(KILLS),1000) $(ARGS)

torture-functions: ## 200 functions that open and close all the time, for 600 s or SECONDS=N; ARGS=--kills kills and stops them
	@tools/install-packages test
	@test -f build/build.ninja || meson setup build
	@ninja -C build -j $(JOBS) product test/torture/functions
	@WADI_BUILD=build test/torture/functions.py --seconds $(or $(SECONDS),600) $(ARGS)

python: build/build.ninja ## the Python client's sdist and wheel, into build/dist
	@tools/install-packages test
	@tools/python-package build

python-asan: build/build.ninja ## its tests with address and undefined behavior sanitizer, and libwadi too
	@tools/install-packages test
	@$(MAKE) -s all
	@tools/python-asan build $(ARGS)

coverage: ## which lines of src/ the tests run; needs a few minutes
	@tools/install-packages test
	@tools/coverage $(ARGS)

mutate: ## break a line of src/ at a time, N=20 of them, and see whether a test fails
	@tools/install-packages test
	@tools/mutate --count $(or $(N),20) $(ARGS)

bench: ## latency, throughput and the sort beside floor and peers, in ten minutes; QUICK=1: in one
	@tools/install-packages test
	@$(MAKE) -s all
	@ninja -C build -j $(JOBS) $(BENCH_PROGRAMS)
	@bench/run $(if $(QUICK),--quick) $(ARGS)

bench-long: ## what takes longer: sorts of 8 GB, 50 million objects
	@tools/install-packages test
	@$(MAKE) -s all
	@ninja -C build -j $(JOBS) $(BENCH_PROGRAMS)
	@bench/run --long $(ARGS)

bench-attach: ## the ways to attach a function beside each other, into doc/attach.md, in a quarter of an hour
	@tools/install-packages test
	@$(MAKE) -s all
	@bench/run --attach $(ARGS)

bench-python: ## the Python client beside redis-py, into doc/python.md, in three minutes
	@tools/install-packages test
	@$(MAKE) -s all python
	@bench/run --python

format: ## lay out all C as .clang-format says
	@tools/format

install: prefix all ## install into PREFIX, /usr/local unless said otherwise; DESTDIR works
	@meson install -C build --no-rebuild

prefix: build/build.ninja
ifneq ($(origin PREFIX),file)
	@meson configure build --prefix $(PREFIX)
endif

clean: ## remove all that was built
	@rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / { printf "make %-40s %s\n", $$1, $$2 }' Makefile
