# Two commands, each with all its set-up: `make run` stylises a clip, `make test` checks everything.
# Variables: IN=clip.mp4 LOOK="oil painting" OUT=out/result.mp4
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
TYPOS_VERSION := 1.52.0
TOOLS := target/tools
IN ?= app/assets/signing.mp4
OUT ?= out/stylised.mp4
LOOK ?=
PACKAGES := libvulkan1 mesa-vulkan-drivers ffmpeg
# One cache per subgroup width: Mesa's shader cache ignores the width.
WIDTHS := 128 256 512

.PHONY: run test setup setup-rust format lints spelling tests widths deny
.ONESHELL:

run: setup
	cargo build --release --package dreamglass
	mkdir -p "$(dir $(OUT))"
	target/release/dreamglass video "$(IN)" -o "$(OUT)" $(if $(LOOK),--look "$(LOOK)")
	echo "The stylised clip is $(OUT)"

test: setup format lints spelling tests widths

# System packages on Debian and Ubuntu; a hint elsewhere.
setup: setup-rust
	missing=()
	if command -v dpkg-query >/dev/null; then
		for package in $(PACKAGES); do
			dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing+=($$package)
		done
		if (( $${#missing[@]} )); then
			sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi
			$$sudo apt-get update -qq
			DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends "$${missing[@]}"
		fi
	else
		command -v ffmpeg >/dev/null || echo "ffmpeg is missing: dnf install ffmpeg-free (Fedora), pacman -S ffmpeg (Arch), brew install ffmpeg (macOS), winget install ffmpeg (Windows)"
		echo "A Vulkan driver is needed on Linux: dnf install mesa-vulkan-drivers vulkan-loader (Fedora), pacman -S vulkan-icd-loader and your GPU's vulkan-* driver (Arch); macOS uses Metal, Windows DX12"
	fi

setup-rust:
	command -v cargo >/dev/null || { echo "Rust 1.95 or later is missing: see https://rustup.rs"; exit 2; }

format:
	cargo fmt --all --check

lints:
	cargo clippy --workspace --all-targets -- -D warnings

spelling:
	if [ ! -x $(TOOLS)/typos/bin/typos ]; then
		python3 -m venv $(TOOLS)/typos
		$(TOOLS)/typos/bin/pip install -q --disable-pip-version-check typos==$(TYPOS_VERSION)
	fi
	$(TOOLS)/typos/bin/typos

tests:
	cargo test --workspace

# The kernels again with subgroups of 4, 8 and 16 lanes, where the adapter is Mesa's CPU driver.
widths:
	for width in $(WIDTHS); do
		echo "kernel tests at $$width bits"
		MESA_SHADER_CACHE_DIR="$$PWD/target/mesa-$$width" LP_NATIVE_VECTOR_WIDTH=$$width \
			cargo test --package dreamglass-tests --test kernels
	done

# Licences, bans and sources of every dependency.
deny:
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check bans licenses sources
