package bpf

// The objects are committed, so that a build needs no clang. They are built with clang 19.1 and libbpf's headers
// (Debian: clang-19 llvm-19 libbpf-dev); CI fails when they do not match their source.
//
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target amd64,arm64 connect connect.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3
