package generate

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// foldTime is how long connections of one peer are counted in one row (docs/capture.md).
const foldTime = 10 * time.Minute

// listen tells which sockets listened when recording began.
func (d *day) listen() {
	for _, l := range []struct {
		server *store.Process
		port   uint16
	}{{d.web.Parent, 80}, {d.web.Parent, 443}, {d.sshd, 22}} {
		d.event(store.SocketEvent{
			BootTime: d.o.Begin, Task: d.taskOf(l.server), Local: d.address("0.0.0.0", l.port), Count: 1, Shape: d.served("listen", store.AddressFound),
		})
	}
}

// serve tells who came in: clients of the web server, an administrator, and the requests by which the intruder got his shell.
func (d *day) serve() {
	for at := d.o.Begin; at+uint64(foldTime) < d.end(); at += uint64(foldTime) {
		for i := range 1 + d.random.IntN(4) {
			client := fmt.Sprintf("192.0.2.%d", 10+50*i+d.random.IntN(50))
			d.accept(d.web, client, 443, at+d.random.Uint64N(uint64(foldTime/2)), 1+d.random.Uint64N(30), 31_000, 900, 4*time.Second)
		}
	}
	for _, part := range []float64{0.36, 0.41, 0.83} {
		d.accept(d.sshd, "10.0.0.8", 22, d.at(part), 1, 61_000, 24_000, 20*time.Minute)
	}
	d.accept(d.web, storyControl, 443, d.at(storyStart)-uint64(8*time.Second), 12, 780, 260, 300*time.Millisecond)
}

// accept tells of connections of one client, each with so many bytes.
func (d *day) accept(server *store.Process, client string, port uint16, at, count uint64, sent, received float64, longest time.Duration) {
	last := at + (count-1)*d.random.Uint64N(uint64(10*time.Second))
	d.event(store.SocketEvent{
		BootTime: at, LastBootTime: last, Task: d.taskOf(server), Local: d.address(hostAddress, port), Remote: d.address(client, 0), Count: count, Ended: count,
		Sent: count * uint64(d.about(sent, 0.5)), Received: count * uint64(d.about(received, 0.3)), Longest: uint64(d.lasting(longest)),
		Shape: d.served("accept", "kernel"),
	})
}

// event adds a row of a socket of a server.
func (d *day) event(e store.SocketEvent) {
	d.describe(e.Task.Process)
	e.Window = e.BootTime
	d.events += e.Count
	d.sockets = append(d.sockets, e)
}

// served is the shape of what is done to a server's socket.
func (d *day) served(via, source string) *store.Shape {
	return d.host.shape(store.Shape{SocketFamily: unix.AF_INET, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP, Via: via, AddressSource: source, Backend: "fexit", HookErrno: store.Unknown})
}

// taskOf returns the first thread of a server.
func (d *day) taskOf(p *store.Process) *store.Task {
	if d.tasks[p] == nil {
		d.tasks[p] = (&process{Process: p}).task(0)
	}
	return d.tasks[p]
}
