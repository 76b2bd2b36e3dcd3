# Two commands, each with all its set-up: `make run` shows a live window, or stylises a clip where there
# is no display; `make test` checks everything.
# Variables of `make run`: IN=clip.mp4 LOOK="oil painting", and OUT=out/result.mp4 for the file;
# MODE=file writes it though there is a display.
IN ?=
OUT ?= out/stylised.mp4
LOOK ?=
CLIP := app/assets/signing.mp4
# macOS and Windows always have a display.
MODE ?= $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter-out Linux,$(shell uname -s))),window,file)

# Subgroups of 4, 8 and 16 lanes on Mesa's CPU driver.
WIDTHS := 128 256 512
TOOLS := $(CURDIR)/target/tools
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: run test test-full compare compare-test setup setup-test format lints spelling licences widths tests peers browser
.SILENT:

run: setup
	cargo build --release --package dreamglass
ifeq ($(MODE),window)
	target/release/dreamglass live $(if $(IN),--source "$(IN)") $(if $(LOOK),--look "$(LOOK)")
else
	mkdir -p "$(dir $(OUT))"
	target/release/dreamglass video "$(or $(IN),$(CLIP))" -o "$(OUT)" $(if $(LOOK),--look "$(LOOK)")
	echo "The stylised clip is $(OUT)"
endif

# One after the other, also under `make -j`: they share a target folder. All build the whole workspace: a package alone
# would want dependencies with other features, and so all of them once more.
test: setup-test
	$(MAKE) format
	$(MAKE) spelling
	$(MAKE) licences
	$(MAKE) lints
	$(MAKE) widths
	$(MAKE) tests
	$(MAKE) compare-test
	$(MAKE) peers
	$(MAKE) browser

# Dreamglass beside its peers: ARGS="--models sd-turbo --steps 1". benches/compare/README.md says what is needed.
compare: setup
	test -d target/compare/venv || python3 -m venv target/compare/venv
	target/compare/venv/bin/python -m pip install -q --disable-pip-version-check numpy
	target/compare/venv/bin/python -m pip install -q --disable-pip-version-check -r benches/compare/requirements.txt \
		|| echo "not all of benches/compare/requirements.txt could be installed: those peers will be skipped"
	target/compare/venv/bin/python benches/compare/compare.py --build $(ARGS)

compare-test:
	echo "== the comparison's own tests"
	cd benches/compare && $(TOOLS)/bin/python -m unittest

setup:
	.ci/setup run

setup-test:
	.ci/setup test

format:
	echo "== format"
	cargo fmt --all --check

lints:
	echo "== lints"
	cargo clippy --workspace --all-targets -- -D warnings

spelling:
	echo "== spelling"
	$(TOOLS)/bin/typos

# Advisories are left to those who can reach their database: `cargo deny check advisories`.
licences:
	echo "== licences, bans and sources of dependencies"
	PATH="$(TOOLS)/bin:$$PATH" cargo deny check bans licenses sources

# A shader cache each: Mesa's does not know the width.
widths:
	for width in $(WIDTHS); do \
		echo "== kernel tests at $$width bits"; \
		MESA_SHADER_CACHE_DIR="$(CURDIR)/target/mesa-$$width" LP_NATIVE_VECTOR_WIDTH=$$width \
			cargo test --workspace --test kernels || exit 1; \
	done

tests:
	echo "== every test"
	cargo test --workspace

# Full sizes: files of gigabytes are made below target/ and kept.
test-full:
	cargo test --workspace --test full -- --ignored --test-threads=1 --nocapture

peers:
	echo "== WebRTC peers of another make"
	cargo build --workspace
	for part in check api joins hostile; do $(TOOLS)/bin/python tests/peers/$$part.py || exit 1; done

browser:
	echo "== a browser"
	cargo build --workspace
	cd tests/browser && node --test --test-concurrency=1
