package capture

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hellosOfFlood is how many connections one process opens as fast as it can, to call its server by another name on each.
const hellosOfFlood = 5000

// floodHellos says another name on each of many connections, and resets them.
func floodHellos(address string) error {
	for i := range hellosOfFlood {
		c, err := net.Dial("tcp4", address)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: n%d.flood.example\r\n\r\n", i)
		if err := c.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFloodOfHellos: while a process says thousands of names on as many connections each of them is read or counted as lost, the memory of
// the recorder stays bounded, and each connection of another process has its name.
func TestFloodOfHellos(t *testing.T) {
	if env.inGuest {
		t.Skip("SKIPPED: shares are the same on every kernel")
	}
	dir := tempDir(t)
	tape := record(t, dir, "--names", "dns,sni,http")
	to, calm := swallow(t), 0
	done := make(chan error, 1)
	go func() {
		out, err := helperCommand("flood-hellos", to).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		done <- err
	}()
	for flooding := true; flooding; calm++ {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			flooding = false
		case <-time.After(20 * time.Millisecond):
		}
		say(t, to, []byte(fmt.Sprintf("GET / HTTP/1.1\r\nHost: calm%d.example\r\n\r\n", calm)))
	}
	peak := peakMemory(t, tape.cmd.Process.Pid)
	tape.stop(t)
	if spot := "which server a client names in what it sends first (TLS, HTTP): this kernel"; strings.Contains(blindSpots(t, dir), spot) {
		t.Skip("SKIPPED: " + spot)
	}
	port := to[strings.LastIndexByte(to, ':')+1:]
	named := number(t, dir, `SELECT count(DISTINCT remote_name) FROM connections WHERE pid = `+strconv.Itoa(os.Getpid())+` AND remote_port = `+port+` AND remote_name LIKE 'calm%'`)
	seen, read, lost := counter(t, dir, "lookup_seen"), counter(t, dir, "lookup_read"), counter(t, dir, "lookup_lost")
	stored, dropped, bad := counter(t, dir, "lookup_stored"), counter(t, dir, "lookup_dropped"), counter(t, dir, "lookup_bad")
	flooded := number(t, dir, `SELECT sum(count) FROM connections WHERE remote_port = `+port+` AND pid <> `+strconv.Itoa(os.Getpid()))
	t.Logf("%d hellos: %d read, %d lost, %d stored, %d dropped, %d bad; %d of %d connects of another process are named; at most %d MB", seen, read, lost, stored, dropped, bad, named, calm, peak>>20)
	if named != int64(calm) || flooded != hellosOfFlood {
		t.Errorf("%d of %d calm connections are named; the flood has %d of %d", named, calm, flooded, hellosOfFlood)
	}
	if seen != read+lost || read < stored+dropped+bad {
		t.Errorf("of %d hellos %d were read, %d lost; %d stored, %d dropped, %d bad", seen, read, lost, stored, dropped, bad)
	}
	if rows := number(t, dir, `SELECT sum(count) FROM lookups`); rows != int64(stored) {
		t.Errorf("rows stand for %d hellos, %d are stored", rows, stored)
	}
	if got := number(t, dir, `SELECT sum(count) FROM lookups WHERE pid = `+strconv.Itoa(os.Getpid())+` AND name LIKE 'calm%'`); got != int64(calm) {
		t.Errorf("lookups have %d of %d calm names", got, calm)
	}
	if lost == 0 && stored+dropped < hellosOfFlood+uint64(calm) {
		t.Errorf("%d hellos are stored, %d dropped, of %d", stored, dropped, hellosOfFlood+calm)
	}
	if peak > 160<<20 {
		t.Errorf("the recorder took %d MB", peak>>20)
	}
}
