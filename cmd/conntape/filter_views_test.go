package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// socketEvents are what two programs did to sockets, beside connecting.
func socketEvents() (events []store.SocketEvent) {
	at := uint64(fixtureBoot)
	for i, exe := range []string{"/usr/sbin/nginx", "/usr/sbin/sshd"} {
		pid, user, container := uint32(700+i), "www-data", "docker:abc"
		if i == 1 {
			user, container = "root", ""
		}
		p := &store.Process{Key: store.ProcessKey{Tgid: pid, StartBoot: at, Exec: 1}, Exe: exe, Comm: filepath.Base(exe), Argv: []string{exe}, UID: uint32(33 * (1 - i)), User: user, Container: container, Source: store.SourceExec, LoginUID: -1, SessionID: -1}
		task := &store.Task{Process: p, Tid: pid, Comm: p.Comm, UID: p.UID, User: user, Container: container, LoginUID: -1, SessionID: -1}
		inet := func(family uint16, address string, port int32) *store.Endpoint {
			return &store.Endpoint{Family: family, Address: address, Port: port, Raw: []byte(address)}
		}
		add := func(via string, local, remote *store.Endpoint, lookup *store.Lookup) {
			at += uint64(time.Second)
			s := &store.Shape{SocketFamily: unix.AF_INET, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP, Via: via, AddressSource: "kernel", Backend: "cgroup", HookErrno: store.Unknown}
			if via == "socket" {
				s.Type, s.Protocol = unix.SOCK_RAW, unix.IPPROTO_RAW
			}
			events = append(events, store.SocketEvent{BootTime: at, Window: at, Task: task, Local: local, Remote: remote, Shape: s, Count: 1, Lookup: lookup})
		}
		port := int32([]int{443, 22}[i])
		add("listen", inet(unix.AF_INET, "0.0.0.0", port), nil, nil)
		add("accept", inet(unix.AF_INET, "10.0.0.12", port), inet(unix.AF_INET, []string{"192.0.2.7", "10.0.0.8"}[i], 0), nil)
		add("accept", inet(unix.AF_INET6, "::ffff:10.0.0.13", port), inet(unix.AF_INET6, []string{"2001:db8::7", "::ffff:192.0.2.7"}[i], 50000), nil)
		add("socket", nil, nil, nil)
		add("lookup", nil, inet(unix.AF_INET, "10.0.0.2", 53), &store.Lookup{Name: []string{"a.example", "b.example"}[i], Type: 1, Answers: "192.0.2.1", TTL: 60})
	}
	return events
}

// A query about another view than connections gives with a filter the same answer as without it on a tape of what passes alone.
func TestFiltersOnOtherViews(t *testing.T) {
	write := func(pass func(e *store.SocketEvent) bool) (dir string, n int) {
		t.Helper()
		dir = filepath.Join(t.TempDir(), "tape")
		noon, err := time.Parse(time.RFC3339, fixtureNoon)
		if err != nil {
			t.Fatal(err)
		}
		w, err := store.OpenWriter(dir, store.WriterOptions{Version: "1.2.3", Backend: "cgroup", Host: "web1", BootID: "00000000-0000-4000-8000-000000000001",
			Now: store.Anchor{Boot: fixtureBoot, Real: noon.UnixNano(), Kind: "start"}})
		if err != nil {
			t.Fatal(err)
		}
		batch := store.Batch{Now: fixtureBoot + uint64(time.Hour)}
		for _, e := range socketEvents() {
			if pass(&e) {
				batch.Sockets = append(batch.Sockets, e)
			}
		}
		err = w.Append(batch)
		if err := errors.Join(err, w.Close(store.Gap{From: batch.Now, Cause: segment.CauseStopped}, nil)); err != nil {
			t.Fatal(err)
		}
		return dir, len(batch.Sockets)
	}
	whole, all := write(func(*store.SocketEvent) bool { return true })
	isSSH := func(e *store.SocketEvent) bool { return e.Task.Process.Exe == "/usr/sbin/sshd" }
	each := []string{"inbound", "listeners", "names", "sniffers"}
	for flags, c := range map[string]struct {
		of   []string
		pass func(e *store.SocketEvent) bool
	}{
		"--exe sshd":           {each, isSSH},
		"--exe /usr/sbin/sshd": {each, isSSH},
		"--user root":          {each, isSSH},
		"--user 0":             {each, isSSH},
		"--pid 701":            {each, isSSH},
		"--container docker":   {each, func(e *store.SocketEvent) bool { return !isSSH(e) }},
		"--port 22":            {[]string{"inbound", "listeners"}, isSSH},
		"--to 10.0.0.12":       {[]string{"inbound"}, func(e *store.SocketEvent) bool { return e.Local != nil && e.Local.Address == "10.0.0.12" }},
		"--to 10.0.0.13:22": {[]string{"inbound"}, func(e *store.SocketEvent) bool {
			return isSSH(e) && e.Local != nil && e.Local.Address == "::ffff:10.0.0.13"
		}},
		"--from 192.0.2.7": {[]string{"inbound"}, func(e *store.SocketEvent) bool {
			return e.Remote != nil && strings.HasSuffix(e.Remote.Address, "192.0.2.7")
		}},
		"--from 192.0.2.0/24": {[]string{"inbound"}, func(e *store.SocketEvent) bool {
			return e.Remote != nil && strings.HasSuffix(e.Remote.Address, "192.0.2.7")
		}},
		"--from 2001:db8::/32":             {[]string{"inbound"}, func(e *store.SocketEvent) bool { return e.Remote != nil && e.Remote.Address == "2001:db8::7" }},
		"--from 192.0.2.7 --to 10.0.0.13":  {[]string{"inbound"}, func(e *store.SocketEvent) bool { return e.Remote != nil && e.Remote.Address == "::ffff:192.0.2.7" }},
		"--from [2001:db8::7]:50000 -n 10": {[]string{"inbound"}, func(e *store.SocketEvent) bool { return e.Remote != nil && e.Remote.Address == "2001:db8::7" }},
	} {
		some, n := write(c.pass)
		if n == 0 || n == all {
			t.Fatalf("%s: %d of %d pass", flags, n, all)
		}
		for _, query := range c.of {
			line := "conntape query " + query + " --quiet --format csv"
			got, _ := askAt(t, whole, line+" "+flags)
			want, _ := askAt(t, some, line)
			if got != want || strings.Count(want, "\n") < 2 {
				t.Errorf("%s %s:\n%s\nwant\n%s", query, flags, got, want)
			}
		}
	}
}
