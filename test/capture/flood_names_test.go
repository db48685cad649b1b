package capture

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answersASecond and answersOfFlood are what one process gets of answers that it did not ask for, each about another name.
const (
	answersASecond = 50_000
	answersOfFlood = 100_000
)

// floodAnswers sends answers from a server's address to a socket of this process, which reads none.
func floodAnswers() error {
	server, err := net.ListenPacket("udp4", "127.0.0.54:53")
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.54:53")))
	if err != nil {
		return err
	}
	defer client.Close()
	begin := time.Now()
	for i := range answersOfFlood {
		m := dnsmessage.Message{Header: dnsmessage.Header{Response: true}, Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(fmt.Sprintf("n%d.flood.example.", i)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
		}}}
		answer, err := m.Pack()
		if err != nil {
			return err
		}
		if _, err := server.WriteTo(answer, client.LocalAddr()); err != nil {
			return err
		}
		if ahead := time.Duration(i)*time.Second/answersASecond - time.Since(begin); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
	}
	return nil
}

// TestFloodOfAnswers: while a process gets 50,000 answers a second the memory of the recorder stays bounded, each answer is read or counted
// as lost, and another process's connects have their names.
func TestFloodOfAnswers(t *testing.T) {
	if env.inGuest {
		t.Skip("SKIPPED: shares are the same on every kernel")
	}
	dir := tempDir(t)
	tape := record(t, dir)
	calm := 0
	inOwnNetwork(t, func() {
		serveNames(t)
		flood := helperCommand("flood-answers")
		if err := flood.Start(); err != nil {
			t.Error(err)
			return
		}
		done := make(chan error, 1)
		go func(cmd *exec.Cmd) { done <- cmd.Wait() }(flood)
		for flooding := true; flooding; {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				flooding = false
			case <-time.After(50 * time.Millisecond):
			}
			if err := lookUp("udp4", fmt.Sprintf("n%d-calm%d.example.", calm%100+1, calm)); err != nil {
				t.Error(err)
			}
			knock(byte(calm%100 + 1))
			calm++
		}
	})
	peak := peakMemory(t, tape.cmd.Process.Pid)
	tape.stop(t)

	if spot := "names that processes look up"; strings.Contains(blindSpots(t, dir), spot) {
		t.Skip("SKIPPED: " + spot)
	}
	named := number(t, dir, `SELECT count(*) FROM connections WHERE pid = `+strconv.Itoa(os.Getpid())+` AND remote_port = 4433 AND remote_name LIKE 'n%-calm%'`)
	seen, read, lost := counter(t, dir, "lookup_seen"), counter(t, dir, "lookup_read"), counter(t, dir, "lookup_lost")
	stored, dropped := counter(t, dir, "lookup_stored"), counter(t, dir, "lookup_dropped")
	t.Logf("%d answers: %d read, %d lost, %d dropped; %d of %d connects of another process are named; at most %d MB", seen, read, lost, dropped, named, calm, peak>>20)
	if named != int64(calm) {
		t.Errorf("%d of %d connects are named", named, calm)
	}
	if seen < answersOfFlood || seen != read+lost || read != stored+dropped+counter(t, dir, "lookup_bad") {
		t.Errorf("of %d answers %d were read, %d lost; %d stored, %d dropped", seen, read, lost, stored, dropped)
	}
	if rows := number(t, dir, `SELECT sum(count) FROM lookups`); rows != int64(stored) {
		t.Errorf("rows stand for %d answers, %d are stored", rows, stored)
	}
	if gaps := number(t, dir, `SELECT count(*) FROM gaps WHERE cause = 'names lost'`); lost+dropped > 0 && gaps == 0 {
		t.Error("no gap says that names were lost")
	}
	if peak > 160<<20 {
		t.Errorf("the recorder took %d MB", peak>>20)
	}
}
