package capture

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// A connection that was open before anybody recorded has one row, and so has one that was open when the recorder was killed: the next
// one goes on with it, and tells its end. A UDP socket to which an ICMP error comes back is refused.
func TestOpenConnections(t *testing.T) {
	listens, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	connect := func() (ours, theirs net.Conn) {
		t.Helper()
		ours, err := net.Dial("tcp4", listens.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		theirs, err = listens.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return ours, theirs
	}
	send := func(from, to net.Conn, n int) {
		t.Helper()
		if _, err := from.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	before, beforePeer := connect()
	send(before, beforePeer, 100)
	send(beforePeer, before, 7)
	dir := tempDir(t)
	killed := record(t, dir)
	later, laterPeer := connect()
	send(later, laterPeer, 30)
	datagrams, err := net.Dial("udp4", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	datagrams.Write([]byte("x"))
	const sql = `SELECT via, outcome, outcome_source, bytes_sent, bytes_received, established_ns, duration_ns, open_ns, closed_by, local_port FROM connections
		WHERE exe = ? AND protocol = ? ORDER BY time_ns`
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rows are there", func() bool { return len(rows(t, dir, sql, exe, "tcp")) == 2 && len(rows(t, dir, sql, exe, "udp")) == 1 })
	if r := rows(t, dir, sql, exe, "tcp"); r[0].text("via") != "snapshot" || r[0].text("outcome") != "established" || r[0].text("outcome_source") != "open" ||
		r[0].int("bytes_sent") != 100 || r[0].int("bytes_received") != 7 || r[0]["duration_ns"] != nil || r[0].int("open_ns") == 0 {
		t.Errorf("of before: %v", r[0])
	}
	byKprobe := strings.Contains(killed.said(), "kprobe")
	if !env.kernelBefore(5, 14) && !byKprobe { // of which the one has no tracepoint, and the other no cookie
		eventually(t, "the error came back", func() bool { return rows(t, dir, sql, exe, "udp")[0].text("outcome") == "refused" })
	}
	killed.kill(t)
	again := record(t, dir)
	send(later, laterPeer, 5)
	for _, c := range []net.Conn{before, later} {
		c.Close()
	}
	for _, c := range []net.Conn{beforePeer, laterPeer} {
		io.Copy(io.Discard, c)
		c.Close()
	}
	again.stop(t)
	got := rows(t, dir, sql, exe, "tcp")
	if byKprobe || env.kernelBefore(5, 12) { // they know only the cookies that somebody asked for
		return
	}
	if len(got) != 2 {
		t.Fatalf("want a row of each connection: %v", got)
	}
	for i, sent := range []int64{100, 35} {
		r := got[i]
		if r.text("outcome") != "established" || r.text("outcome_source") != "kernel" || r.int("bytes_sent") != sent || r.text("closed_by") != "local" ||
			r.int("duration_ns") == 0 || r["open_ns"] != nil || (r["established_ns"] == nil) != (i == 0) {
			t.Errorf("connection %d: %v", i, r)
		}
	}
}
