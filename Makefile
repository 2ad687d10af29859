# Two commands on a fresh machine: `make run` and `make test`. Everything else is for people who work on Bolide.

CARGO ?= cargo

.PHONY: run test build needs check isa loom races fuzz miri rage crash judge peers differential installed clean

## Installs what is missing, builds, and does the main job on real registries: plan, install, use and undo.
run: needs build
	deploy/demo

## Installs what is missing and runs every test. Tests that use a registry say so and need `BOLIDE_TEST_REGISTRY=1`.
test:
	deploy/needs tests
	$(CARGO) test --workspace --locked
	$(MAKE) loom
	$(MAKE) races

build:
	$(CARGO) build --release --locked -p runtime
	$(CARGO) build --release --locked -p ipc --example sibling
	$(CARGO) build --release --locked -p ipc-c

needs:
	deploy/needs

## What CI checks before the tests.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

## No instruction in the release build that an ordinary processor lacks.
isa: build
	BOLIDE_ISA_PROGRAM="$(CURDIR)/target/release/bolide:$(CURDIR)/target/release/libbolide.so" $(CARGO) test --locked -p tests --test isa

## The rings, the wait protocol and what else the bus orders, under every interleaving (reduced sizes).
loom:
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom $(CARGO) test --locked -p ipc --release --lib loom_

## ThreadSanitizer over what the bus hands from thread to thread, and the proof that it would find a missing ordering.
races:
	CARGO="$(CARGO)" .ci/races

## Every fuzz target for so long, from a start of its own: `make fuzz SECONDS=600`. A failure prints the variable that repeats it.
SECONDS ?= 60
fuzz:
	BOLIDE_FUZZ_SECONDS=$(SECONDS) $(CARGO) test --locked -p ipc --lib fuzz:: -- --nocapture
	BOLIDE_FUZZ_SECONDS=$(SECONDS) $(CARGO) test --locked -p runtime --bin bolide fuzz:: -- --nocapture
	BOLIDE_FUZZ_SECONDS=$(SECONDS) $(CARGO) test --locked -p agents-packager --lib fuzz:: -- --nocapture

## For toolchains that have miri.
miri:
	MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) miri test -p ipc --lib ring

## Deaths at every named point and at random moments, stopped processes and the hostile one, all for longer than in `test`.
rage:
	BOLIDE_KILL_ROUNDS=10 BOLIDE_STOP_SECONDS=30 $(CARGO) test --locked -p runtime --test kills -- --nocapture
	BOLIDE_SCRIBBLE_SECONDS=60 $(CARGO) test --locked -p runtime --test scribbler -- --nocapture

## A death, an error, a half-made write at every single change of the disk that the whole program makes in transactions over three
## ecosystems, and 100 random sequences of them; an hour. `test` strikes a sample. `make crash WORKERS=2` says how many at once.
WORKERS ?= 2
crash:
	$(CARGO) build --locked -p runtime
	BOLIDE_CRASH=all BOLIDE_CRASH_WORKERS=$(WORKERS) BOLIDE_SEQUENCES=100 $(CARGO) test --locked -p tests --test crash -- --nocapture --test-threads 1

## Asks the installed clients of npm, PyPI, Debian, RPM, Maven, RubyGems and Composer whether versions and ranges are read as they read
## them: `make judge JUDGES=npm,gem COUNT=10000`. `make test` has their answers on record. Debian's packages are dpkg, python3-rpm,
## libmaven3-core-java with a JDK, ruby, php-cli with php-composer-semver; npm brings its own, PyPI's is `packaging` 26 or later.
JUDGES ?= all
COUNT ?= 10000
judge:
	BOLIDE_JUDGES=$(JUDGES) BOLIDE_JUDGE_COUNT=$(COUNT) $(CARGO) test --locked -p agents-versions --test judges -- --nocapture

## Installs what the benchmarks compare with into `.peers`.
peers: needs
	deploy/peers

## Compares answers with the real tools' on the same recorded registry: `make differential ECOSYSTEM=npm`. Recordings stay in `.recordings`.
ECOSYSTEM ?= npm
differential: build
	tests/differential/$(ECOSYSTEM)/run

## Installs real sets and asks npm and node, pip and Python, or cargo whether they are right: `make installed ECOSYSTEM=pypi SETS="flask docs"`.
## Recordings stay in `.recordings`; `bolide bench install` serves them.
SETS ?=
installed: build
	tests/installed/run $(ECOSYSTEM) $(SETS)

clean:
	$(CARGO) clean
