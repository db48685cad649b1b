package report

import (
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// A tunnel that never connects is found by what it sent, though nobody knows what came back, and counted by its sends.
func TestTunnelWithoutConnectIsFound(t *testing.T) {
	task := testtape.Task(7, "/tmp/iodine")
	shape := &store.Shape{SocketFamily: 2, Type: 2, Protocol: 17, Via: "sendto", AddressSource: "kernel", Backend: "fexit", HookErrno: store.Unknown, Errno: store.Unknown, Addrlen: 16}
	remote := &store.Endpoint{Family: 2, Address: "198.51.100.7", Port: 53, Raw: []byte("remote")}
	sent := func(bytes int64) *store.Outcome {
		o := testtape.Unmeasured()
		o.Sent = bytes
		return &o
	}
	tape := testtape.Opened(t, testtape.Recorded(t, func(now store.Anchor) []store.Batch {
		at := now.Boot + 1000
		return []store.Batch{{Now: at + 1000, Connections: []store.Connection{
			{BootTime: at, Task: task, Remote: remote, Shape: shape, FD: 3, Cookie: 9, Outcome: sent(200)},
			{BootTime: at + 10, LastBootTime: at + 900, Count: 20_000, Task: task, Remote: remote, Shape: shape, FD: 3, Cookie: 9, Outcome: sent(4_000_000)},
		}}}
	}))
	c, window := cannedNamed(t, "exfiltration"), input.Window{Since: time.Now().Add(-time.Hour)}
	params, err := c.Bind(nil, input.Clock{Now: time.Now()}, window)
	if err != nil {
		t.Fatal(err)
	}
	found := testtape.CSVOf(t, "exfiltration", func(out format.RowWriter) (ask.Result, error) {
		return NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, window).Run(t.Context(), out)
	})
	if !strings.Contains(found, ",20001,4000200,,") || !strings.Contains(found, ",198.51.100.7:53,/tmp/iodine,") {
		t.Errorf("exfiltration finds %s", found)
	}
	if got := answerOf(t, tape, `SELECT sum(count) || ' ' || sum(bytes_sent) FROM connections WHERE via = 'sendto' AND remote_ip = '198.51.100.7'`); strings.TrimSpace(got) != "20001 4000200" {
		t.Errorf("connections has %s", got)
	}
	if got := answerOf(t, tape, `SELECT connects FROM contacts WHERE exe = '/tmp/iodine'`); strings.TrimSpace(got) != "20001" {
		t.Errorf("contacts counts %s", got)
	}
}
