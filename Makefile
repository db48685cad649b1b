# conntape records who connects to what. `make record` and `make test` are all that a newcomer needs.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
OUT ?= conntape

PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: install packages build record test setup generate matrix coverage bench clean

# Nothing here works without Go: say so once, and how to go without it.
NEED_GO = @command -v go >/dev/null || { echo 'conntape: error: building needs Go 1.26 or later: install it from https://go.dev/dl, or install a deb or rpm package instead' >&2; exit 1; }

# One static binary, and beside it those that speak HTTP, to witnesses and to Prometheus. No clang: the BPF objects are committed.
build:
	$(NEED_GO)
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(OUT) ./cmd/conntape
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(OUT)-witness ./cmd/conntape-witness
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(OUT)-metrics ./cmd/conntape-metrics

# Records this host into /var/lib/conntape until Ctrl-C.
record: build
	@if [ "$$(id -u)" != 0 ]; then echo 'conntape: error: recording needs root: run sudo ./$(OUT) record' >&2; exit 1; fi
	@./$(OUT) record

# Programs, unit, group, manual, completions; the service is not started. make install DESTDIR=/tmp/root PREFIX=/usr for a package.
install:
	$(NEED_GO)
	go run ./packaging/build -install '$(DESTDIR)/' -prefix '$(PREFIX)'

# deb and rpm for amd64 and arm64, in dist/. The same commit makes the same bytes.
packages:
	$(NEED_GO)
	go run ./packaging/build -out dist

# Everything: linters, unit tests, fuzzing, capture on this kernel and on those of the matrix (test/guest).
# Part of it: go run ./test/suite -only unit,native
test: setup
	go run ./test/suite

setup:
	test/setup

# Builds the BPF objects anew, with clang 19.
generate:
	go generate ./bpf

# The kernels alone, or some of them: make matrix ONLY=amd64-6.1/fexit
matrix:
	go run ./test/guest -matrix $(ONLY)

# Writes docs/coverage.md from what the guests see.
coverage:
	go run ./test/guest -matrix -coverage docs/coverage.md

# Writes docs/performance.md.
bench:
	test/setup --bench
	go run ./bench

clean:
	rm -rf $(OUT) $(OUT)-witness $(OUT)-metrics dist
