package main

import "context"

const defaultModules = "vsock_loopback,dummy,veth,sctp,overlay"

func runMatrix(ctx context.Context, only []string) (int, error) { return 1, nil }
