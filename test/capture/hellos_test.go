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

// TestHellos: a connection has the name by which its client calls the server: in TLS, in one piece or two, or as the Host of a request; and
// no other connection of the process has it. The names are in lookups too.
func TestHellos(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir, "--names", "sni,http")
	to := swallow(t)
	whole, split, long := helloOf(t, "Whole.example"), helloOf(t, "split.example"), helloOf(t, strings.Repeat("l.", 100)+"example")
	say(t, to, whole)
	say(t, to, []byte("EHLO nothing.example\r\n"))
	say(t, to, split[:40], split[40:])
	say(t, to, []byte("GET / HTTP/1.1\r\nHost: host.example:8080\r\n\r\n"))
	say(t, to)
	say(t, to, long)
	tape.stop(t)

	if spot := "which server a client names in what it sends first (TLS, HTTP): this kernel"; strings.Contains(blindSpots(t, dir), spot) {
		t.Skip("SKIPPED: " + spot)
	}
	port := to[strings.LastIndexByte(to, ':')+1:]
	var got []string
	for _, r := range rows(t, dir, `SELECT remote_name, name_source FROM connections WHERE pid = ? AND remote_port = CAST(? AS INTEGER) ORDER BY time_ns`, os.Getpid(), port) {
		got = append(got, r.text("remote_name")+" "+r.text("name_source"))
	}
	name := strings.Repeat("l.", 100) + "example"
	want := []string{"whole.example sni", " ", "split.example sni", "host.example http", " ", name + " sni"}
	if !slices.Equal(got, want) {
		t.Errorf("connects:\ngot  %q\nwant %q", got, want)
	}
	got = nil
	for _, r := range rows(t, dir, `SELECT name, type || ' ' || coalesce(rcode, '') || coalesce(answers, '') || ' ' || count || ' ' || protocol || ' ' || server_address || ':' || server_port AS what
		FROM lookups WHERE pid = ? ORDER BY time_ns`, os.Getpid()) {
		got = append(got, r.text("name")+" "+r.text("what"))
	}
	want = []string{"whole.example SNI alpn:h2 1 tcp " + to, "split.example SNI alpn:h2 1 tcp " + to, "host.example HOST  1 tcp " + to, name + " SNI alpn:h2 1 tcp " + to}
	if !slices.Equal(got, want) {
		t.Errorf("lookups:\ngot  %q\nwant %q", got, want)
	}
	if seen, read := counter(t, dir, "lookup_seen"), counter(t, dir, "lookup_read"); seen != read || seen < 5 {
		t.Errorf("%d were seen, %d read", seen, read)
	}
}
