# Everything a developer, a packager or CI does here. `make` lists the targets.

SHELL := /bin/sh
GO ?= go
ARCH ?= $(shell $(GO) env GOHOSTARCH)
PREFIX ?= /usr
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CACHE := $(or $(STRATA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/strata)
HOST := $(shell $(GO) env GOHOSTARCH)

# Reproducible: no paths of this machine, no build id of the linker, the commit as version.
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION)
BUILD := $(GO) build -trimpath -ldflags '$(LDFLAGS)'

# The glibc that a gateway image must at least have; ONNX Runtime itself asks for 2.27.
GLIBC := 2.28
# The cap on the stripped ARM64 binary, of the design's budget table (25 MB, 2026-07).
SIZE_CAP := 25000000

CLANG := clang-19
LINT_VERSION := v2.15.0
LINT := $(CACHE)/bin/golangci-lint-$(LINT_VERSION)

# Packages whose tests need no cgo, no sockets and no kernel of their own: what can differ
# on ARM64 is in them (sizes, alignment, float arithmetic, ioctl numbers). The rest runs in
# the ARM64 guest as part of the binary.
PURE := ./edge/diag ./edge/dissect ./edge/matrix ./edge/window ./edge/graph ./edge/cause ./edge/source/... \
	./edge/budget ./smart/... ./canbus/... ./model ./model/train ./internal/capture
GENERATED = $(shell git ls-files '*_gen.go' '*_bpfel.go' '*_bpfel.o' docs/CODES.md docs/CAUSES.md THIRD_PARTY_NOTICES.md)

.DEFAULT_GOAL := help
.PHONY: help setup generate generate-check build install run demo lab-smoke test unit test-arm64 \
	floor bench fuzz lint vet nightly train clean notices

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing (as root), or say what to install
	scripts/setup

generate: ## write all generated files anew (BPF objects, vocabulary)
	@$(CLANG) --version | head -n 1 | grep -q 'version 19\.' || { echo "generate needs clang 19: another one gives other BPF objects" >&2; exit 1; }
	$(GO) generate ./...

generate-check: generate notices ## regenerate and fail where the result differs from what is committed
	git diff --exit-code --stat -- $(GENERATED)
	@test -z "$$(git ls-files --others --exclude-standard -- '*_gen.go' '*_bpfel.go' '*_bpfel.o')" || \
		{ echo "generated files that are not committed:" >&2; git ls-files --others --exclude-standard -- '*_gen.go' '*_bpfel.*' >&2; exit 1; }

ifeq ($(ARCH),$(HOST))
build: ## build strata and strata-lab [ARCH=arm64: strata for gateways]
	@mkdir -p build
	@scripts/fetch-ort $(HOST) >/dev/null || true
	CGO_ENABLED=1 $(BUILD) -o build/strata ./cmd/strata
	CGO_ENABLED=0 $(BUILD) -o build/strata-lab ./cmd/strata-lab
else
build:
	@mkdir -p build/$(ARCH)
	@scripts/fetch-ort $(ARCH) >/dev/null || true
	scripts/$(ARCH) $(BUILD) -o build/$(ARCH)/strata ./cmd/strata
	@scripts/check-glibc $(GLIBC) build/$(ARCH)/strata
	@size=$$(stat -c %s build/$(ARCH)/strata); echo "build/$(ARCH)/strata: $$size bytes (cap $(SIZE_CAP))"; test $$size -le $(SIZE_CAP)
endif

install: ## put strata and ONNX Runtime under DESTDIR and PREFIX (a packager's step)
	install -D -m 0755 build$(if $(filter-out $(HOST),$(ARCH)),/$(ARCH))/strata $(DESTDIR)$(PREFIX)/bin/strata
	install -D -m 0644 THIRD_PARTY_NOTICES.md $(DESTDIR)$(PREFIX)/share/doc/strata/THIRD_PARTY_NOTICES.md
	test ! -f build/lib/$(ARCH)/libonnxruntime.so.1 || \
		install -D -m 0644 build/lib/$(ARCH)/libonnxruntime.so.1 $(DESTDIR)$(PREFIX)/lib/strata/libonnxruntime.so.1

run: ## watch this machine, print findings
	scripts/setup run
	$(MAKE) --no-print-directory build
	build/strata run

demo: ## break a network made of namespaces in many ways and see what strata says (root)
	scripts/setup run test
	$(MAKE) --no-print-directory build
	build/strata-lab demo

lab-smoke: ## boot an ARM64 gateway under QEMU, break its disk and CAN bus
	scripts/setup lab arm64
	$(MAKE) --no-print-directory build
	$(MAKE) --no-print-directory build ARCH=arm64
	CGO_ENABLED=0 GOARCH=arm64 $(BUILD) -o build/arm64/lab-init ./cmd/strata-lab/internal/guest/init
	build/strata-lab smoke

test: ## all tests of this machine: vet, floors, race detector, ARM64 under qemu-user
	scripts/setup run test arm64
	$(MAKE) --no-print-directory build
	scripts/test
	$(MAKE) --no-print-directory test-arm64

unit: ## go test ./... without preparations; what lacks a need is skipped
	$(GO) test ./...

test-arm64: ## ARM64 tests under qemu-user: pure packages, then the ONNX scorer with cgo
	@echo "== ARM64, without cgo"
	CGO_ENABLED=0 GOARCH=arm64 $(GO) test -short -vet=off -exec $(CURDIR)/scripts/arm64-exec $(PURE)
	@# Two tests of the buffer start themselves again, which only an ARM64 kernel can do.
	CGO_ENABLED=0 GOARCH=arm64 $(GO) test -short -vet=off -exec $(CURDIR)/scripts/arm64-exec -skip '^(TestKill|TestBitFlips)$$' ./buffer
	@echo "== ARM64, with cgo and ONNX Runtime"
	STRATA_ORT_LIB=$(CURDIR)/build/lib/arm64/libonnxruntime.so.1 \
		scripts/arm64 $(GO) test -short -vet=off -exec $(CURDIR)/scripts/arm64-exec ./model/ort/...

floor: ## check that imports only go down the floors
	$(GO) test -count=1 ./internal/floor/...

bench: ## benchmarks of all packages, once each
	$(GO) test -run '^$$' -bench . -benchtime 200ms ./...

FUZZTIME ?= 10s
fuzz: ## every fuzz target for FUZZTIME (10s)
	scripts/fuzz $(FUZZTIME)

vet: ## gofmt and go vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...

lint: vet $(LINT) ## golangci-lint and shell syntax
	nice $(LINT) run
	@for f in $$(git ls-files scripts .ci); do case $$(head -n 1 $$f) in '#!/bin/sh'*) sh -n $$f ;; '#!'*bash*) bash -n $$f ;; esac || exit 1; done

$(LINT):
	@mkdir -p $(CACHE)/bin/tmp
	GOBIN=$(CACHE)/bin/tmp nice $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(CACHE)/bin/tmp/golangci-lint $@

train: ## train the model from the committed rows and sign it
	$(GO) run ./model/train -rows model/train/data/rows.jsonl.gz -out model/builtin

notices: ## write THIRD_PARTY_NOTICES.md anew
	$(GO) run ./scripts/notices -o THIRD_PARTY_NOTICES.md ./cmd/strata

nightly: ## what takes too long for each change: fuzzing for minutes, the guest on 6.1, all faults
	$(MAKE) --no-print-directory fuzz FUZZTIME=2m
	scripts/guest 6.1
	$(MAKE) --no-print-directory lab-smoke
	build/strata-lab smoke -kernel $(CACHE)/guest/kernel-6.1
	build/strata-lab demo --all

clean: ## remove what was built; the download cache stays
	rm -rf build
