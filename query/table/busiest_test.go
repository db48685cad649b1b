package table

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/store"
)

// A process that wrote over half of the history is named, over sealed segments and the
// one that is recorded.
func TestBusiest(t *testing.T) {
	for name, c := range map[string]struct {
		mine, others int
		want         bool
	}{"flood": {700, 600, true}, "half": {600, 600, false}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			now, err := store.ReadAnchor("start")
			if err != nil {
				t.Fatal(err)
			}
			w, err := store.OpenWriter(dir, store.WriterOptions{Version: "test", Backend: "fexit", BootID: "b", Now: now})
			if err != nil {
				t.Fatal(err)
			}
			shape := &store.Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "connect", AddressSource: "kernel", Backend: "fexit", Addrlen: 16}
			remote := &store.Endpoint{Family: 2, Address: "192.0.2.1", Port: 80, Raw: []byte{2}}
			task := func(tgid uint32, exe string) *store.Task {
				return &store.Task{Process: &store.Process{Key: store.ProcessKey{Tgid: tgid, StartBoot: 1}, Exe: exe, Source: store.SourceExec, LoginUID: -1, SessionID: -1},
					Tid: tgid, LoginUID: -1, SessionID: -1}
			}
			mine, second := task(1000, "/tmp/flood"), task(1000, "/tmp/flood")
			second.Process, second.Tid = mine.Process, 1001 // another thread of it
			at := now.Boot
			for part := range 2 {
				var conns []store.Connection
				add := func(n int, pick func(int) *store.Task) {
					for i := range n / 2 {
						at++
						conns = append(conns, store.Connection{BootTime: at, Task: pick(i), Remote: remote, Shape: shape, FD: -1})
					}
				}
				add(c.mine, func(i int) *store.Task { return []*store.Task{mine, second}[i%2] })
				add(c.others, func(i int) *store.Task { return task(uint32(2000+i%20), "/usr/bin/other") })
				if err := w.Append(store.Batch{Connections: conns, Now: at}); err != nil {
					t.Fatal(err)
				}
				if part == 0 {
					if err := w.Rotate(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(store.Gap{From: at}, nil); err != nil {
				t.Fatal(err)
			}
			tape, err := store.OpenTape(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer tape.Close()
			b, err := FindBusiest(context.Background(), tape, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if b == nil || b.PID != 1000 || b.Program != "/tmp/flood" || b.Connections != int64(c.mine) || b.Of != int64(c.mine+c.others) {
				t.Fatalf("%+v", b)
			}
			var out bytes.Buffer
			begin := time.Unix(1, 0)
			s := &coverage.Status{From: &begin, Busiest: b}
			if err := s.WriteText(&out, time.UTC, time.Unix(2, 0)); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), "WARNING      process 1000 (/tmp/flood) wrote 54% of the history: 700 of 1,300 connections") != c.want {
				t.Errorf("%s", &out)
			}
		})
	}
}
