# The front door.  Everything a person or a CI machine needs is a target here.
#
#   make           build all (gcc and clang) and a ready environment in .venv
#   make demo      count the digits of pi on four engines
#   make test      unit tests and end-to-end tests
#   make help      the rest

SHELL := /bin/sh
VENV ?= .venv
PY := $(VENV)/bin/python
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)
# The real ipyparallel, each version in an environment of its own.
PEER_VERSION ?= 9.1.0
OLD_PEER_VERSION ?= 8.8.0
PEER := .cache/peer-$(PEER_VERSION)
OLD_PEER := .cache/peer-$(OLD_PEER_VERSION)
# What `make bench` compares with beside multiprocessing.Pool: ipyparallel dask ray
BENCH_PEERS ?= ipyparallel
BENCH_ENV_ipyparallel := $(PEER)
BENCH_ENV_dask := .cache/newest-distributed
BENCH_ENV_ray := .cache/newest-ray
PIP_INSTALL := -m pip install -q --disable-pip-version-check --retries 10 --timeout 60

C_SOURCES := $(shell find src include cmake tests/unit tests/fuzz -name '*.[ch]' -o -name '*.cmake' -o -name CMakeLists.txt) CMakeLists.txt
PY_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)
STAMP := $(VENV)/.stamps

.PHONY: all
all: build/gcc/.built build/clang/.built $(STAMP)/installed

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile; \
	sed -n 's/^\([a-z-]*\):.*## */    make \1	/p' Makefile | expand -t 24

# --- environment ------------------------------------------------------------

$(STAMP)/system: tools/setup.sh
	tools/setup.sh system
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/venv: tools/requirements.txt $(STAMP)/system
	tools/setup.sh venv $(VENV)
	@touch $@

$(STAMP)/installed: $(STAMP)/venv $(C_SOURCES) $(PY_SOURCES) pyproject.toml
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
	@touch $@

.PHONY: env
env: $(STAMP)/installed ## only the environment in .venv

# --- C builds ---------------------------------------------------------------

configure = cmake -S . -B $(@D) -G Ninja -DPython_EXECUTABLE=$(abspath $(PY)) $(1) >/dev/null

build/gcc/build.ninja: CMakeLists.txt $(STAMP)/venv
	$(call configure,-DCMAKE_C_COMPILER=gcc)
build/clang/build.ninja: CMakeLists.txt $(STAMP)/venv
	$(call configure,-DCMAKE_C_COMPILER=clang)
build/asan/build.ninja: CMakeLists.txt $(STAMP)/venv
	$(call configure,-DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=Debug -DRH_SANITIZE=address$(comma)undefined -DRH_PYTHON=OFF)
build/tsan/build.ninja: CMakeLists.txt $(STAMP)/venv
	$(call configure,-DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=Debug -DRH_SANITIZE=thread -DRH_PYTHON=OFF)
build/fuzz/build.ninja: CMakeLists.txt $(STAMP)/venv
	$(call configure,-DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DRH_SANITIZE=address$(comma)undefined -DRH_FUZZ=ON -DRH_PYTHON=OFF)
comma := ,

build/%/.built: build/%/build.ninja $(C_SOURCES)
	cmake --build $(@D) -j $(JOBS)
	@touch $@

# --- checks -----------------------------------------------------------------

.PHONY: test unit system
test: unit system ## everything below, also against the real ipyparallel

unit: build/gcc/.built ## C unit tests and corpus replay
	ctest --test-dir build/gcc --output-on-failure -j $(JOBS)

system: $(STAMP)/installed $(PEER)/.installed $(OLD_PEER)/.installed ## pytest: API and end to end through the real commands
	ROUNDHOUSE_PEER_PYTHON=$(abspath $(PEER))/bin/python \
	ROUNDHOUSE_MORE_PEERS=$(abspath $(OLD_PEER))/bin/python PATH="$(abspath $(VENV))/bin:$$PATH" \
	    $(PY) -m pytest $(PYTEST_ARGS)

.cache/peer-%/.installed:
	python3 -m venv $(@D)
	$(@D)/bin/python $(PIP_INSTALL) ipyparallel==$* numpy msgpack
	@touch $@

# May fail: then the bench says so, and the next one tries again.
.cache/newest-%/.installed:
	python3 -m venv $(@D)
	-$(@D)/bin/python $(PIP_INSTALL) $* numpy && touch $@

.PHONY: asan asan-unit
asan: asan-unit ## all tests with address and undefined-behaviour sanitizers
	tools/asan-system.sh $(PYTEST_ARGS)

asan-unit: build/asan/.built ## of these, the C unit tests
	ctest --test-dir build/asan --output-on-failure -j $(JOBS)

# ZeroMQ and OpenSSL are not instrumented: what they do is not looked at.
.PHONY: tsan
tsan: build/tsan/.built ## C unit tests that have threads, with the thread sanitizer
	TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" \
	    ctest --test-dir build/tsan --output-on-failure -j $(JOBS) --timeout 300 -R '^(base|net|client|engine|controller)\.'

COMPAT := .cache/compat
$(COMPAT)/.tools: tools/compat-requirements.txt
	python3 -m venv $(COMPAT)
	$(COMPAT)/bin/python $(PIP_INSTALL) -r $< ipyparallel==$(PEER_VERSION)
	@touch $@

.PHONY: compat
compat: $(COMPAT)/.tools $(STAMP)/installed ## ipyparallel's own test suite with our parts in place
	$(PY) -m pip --python $(COMPAT)/bin/python install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall . -C build-dir=build/compat-wheel
	$(PY) tests/compat/run_suite.py $(COMPAT)/bin/python --write docs/compatibility.md $(COMPAT_ARGS)

.PHONY: golden
golden: $(PEER)/.installed ## record traffic of the real ipyparallel for the unit tests
	$(PEER)/bin/python tests/compat/golden.py $(abspath $(PEER))/bin/python tests/unit/wire/golden

.PHONY: fuzz
FUZZ_SECONDS ?= 30
fuzz: build/fuzz/.built ## explore each fuzz target for FUZZ_SECONDS
	tools/fuzz.sh build/fuzz $(FUZZ_SECONDS)

.PHONY: lint
lint: build/gcc/build.ninja $(STAMP)/installed ## formatting, static analysis, house rules
	tools/lint.sh build/gcc $(VENV)

# --- use --------------------------------------------------------------------

.PHONY: demo
demo: $(STAMP)/installed ## examples/pi: digits of pi on four engines
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) examples/pi/parallelpi.py $(DEMO_ARGS)

.PHONY: bench
bench: $(STAMP)/installed $(foreach p,$(BENCH_PEERS),$(or $(BENCH_ENV_$(p)),$(p))/.installed) build/gcc/.built ## measure against multiprocessing and BENCH_PEERS
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) bench/run.py \
	    $(foreach p,$(BENCH_PEERS),--peer $(p)=$(abspath $(BENCH_ENV_$(p)))/bin/python) $(BENCH_ARGS)
	ninja -C build/gcc sched_core
	build/gcc/tests/unit/sched_core | tee bench/results/scheduler.jsonl

.PHONY: profile
profile: $(STAMP)/installed ## processor time of every thread per task
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) bench/profile.py $(PROFILE_ARGS)

.PHONY: install
install: build/gcc/.built ## programs, library, headers, man pages to PREFIX
	DESTDIR="$(DESTDIR)" cmake --install build/gcc --prefix $(PREFIX)

.PHONY: clean
clean: ## remove what was built (not the environments)
	rm -rf build
	rm -f $(STAMP)/installed
