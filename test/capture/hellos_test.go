package capture

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// helloOf is what crypto/tls says first to a server of this name.
func helloOf(t *testing.T, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, NextProtos: []string{"h2"}}).Handshake()
		client.Close()
	}()
	b := make([]byte, 32<<10)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// swallow accepts connections and reads from them until the test ends.
func swallow(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

// say connects and sends parts, one write each.
func say(t *testing.T, address string, parts ...[]byte) {
	t.Helper()
	c, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, part := range parts {
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// sayHellos has clients say what names a server, and what does not. It returns the names of their connections.
func sayHellos(t *testing.T, to string) (want []string) {
	t.Helper()
	whole, split := helloOf(t, "Whole.example"), helloOf(t, "split.example")
	say(t, to, whole)
	say(t, to, []byte("EHLO nothing.example\r\n"))
	say(t, to, split[:40], split[40:])
	say(t, to, []byte("GET / HTTP/1.1\r\nHost: host.example:8080\r\n\r\n"))
	say(t, to)
	return []string{"whole.example sni", " ", "split.example sni", "host.example http", " "}
}

// holdHellos compares connections and lookups with what sayHellos said.
func holdHellos(t *testing.T, dir, to string, want []string) {
	t.Helper()
	spot := "which server a client names in what it sends first (TLS, HTTP): this kernel"
	steps := []string{"sni", "", "sni-split", "http-host", ""}
	if strings.Contains(blindSpots(t, dir), spot) {
		nameCoverage(t, dir, steps, "blind", nil)
		return
	}
	port := to[strings.LastIndexByte(to, ':')+1:]
	var got []string
	for _, r := range rows(t, dir, `SELECT remote_name, name_source FROM connections WHERE pid = ? AND remote_port = CAST(? AS INTEGER) ORDER BY time_ns`, os.Getpid(), port) {
		got = append(got, r.text("remote_name")+" "+r.text("name_source"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("what clients said:\ngot  %q\nwant %q", got, want)
		nameCoverage(t, dir, steps, "failed", nil)
	} else {
		nameCoverage(t, dir, steps, "seen", want)
	}
	got = nil
	for _, r := range rows(t, dir, `SELECT name, type || ' ' || coalesce(rcode, '') || coalesce(answers, '') || ' ' || count || ' ' || protocol || ' ' || server_address || ':' || server_port AS what
		FROM lookups WHERE pid = ? AND type IN ('SNI', 'HOST') ORDER BY time_ns`, os.Getpid()) {
		got = append(got, r.text("name")+" "+r.text("what"))
	}
	want = []string{"whole.example SNI alpn:h2 1 tcp " + to, "split.example SNI alpn:h2 1 tcp " + to, "host.example HOST  1 tcp " + to}
	if !slices.Equal(got, want) {
		t.Errorf("lookups of what clients said:\ngot  %q\nwant %q", got, want)
	}
	if seen, read, lost := counter(t, dir, "lookup_seen"), counter(t, dir, "lookup_read"), counter(t, dir, "lookup_lost"); seen != read+lost {
		t.Errorf("%d were seen, %d read, %d lost", seen, read, lost)
	}
}

// nameCoverage prints lines for docs/coverage.md, for each step that has a name.
func nameCoverage(t *testing.T, dir string, steps []string, verdict string, said []string) {
	t.Helper()
	backend := rows(t, dir, `SELECT backend FROM connections ORDER BY time_ns LIMIT 1`)[0].text("backend")
	for i, step := range steps {
		detail := backend
		if said != nil {
			detail += " " + said[i]
		}
		if step != "" {
			coverage("names", step, verdict, detail)
		}
	}
}
