package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapelog"
)

// playLogged records with a log, as fast as it can, and begins a new segment
// every few batches, so that there is always one that is sealed and one that
// expires. It says each signed checkpoint. Arguments: directory, and boot id if it is
// another than that of the tests.
func playLogged(args []string) error {
	o := options(0)
	o.Now = Anchor{}
	if len(args) > 1 {
		o.BootID = args[1]
	}
	k := newLogKeeper(args[0], LogOptions{
		Host: o.Host, MachineID: o.MachineID, BootID: o.BootID, Version: o.Version, Backend: o.Backend, BlindSpots: o.BlindSpots,
		Begun:      func(key string) { fmt.Println("key", key) },
		Checkpoint: func(head []byte) { fmt.Println("head", tapelog.HeadLine(head)) },
	}, 5*time.Millisecond)
	o.Events = k.Listen
	w, err := OpenWriter(args[0], o)
	if err != nil {
		return err
	}
	l := newLoad(50, 500)
	conns := make([]Connection, 200)
	stored := uint64(0)
	for n := 1; ; n++ {
		now, err := ReadAnchor("")
		if err != nil {
			return err
		}
		l.boot = now.Boot
		l.fill(conns)
		stored += uint64(len(conns))
		b := Batch{Connections: conns, Now: now.Boot, Counters: segment.Counters{"seen": stored, "stored": stored}}
		if err := w.Append(b); err != nil {
			return err
		}
		if n%4 == 0 {
			if err := w.Rotate(); err != nil {
				return err
			}
		}
	}
}

// kill -9 at any instant, while segments are written, sealed and removed and keys
// evolve: nothing is wrong with the tape, and it has every checkpoint that was
// given away.
func TestKillLogged(t *testing.T) {
	rounds := tamperRounds(t, 15)
	if testing.Short() {
		rounds = 5
	}
	dir := filepath.Join(t.TempDir(), "tape")
	key := ""
	var head []byte
	for round := range rounds {
		cmd := childCommand(t, "logged", dir, bootNumber(round/2)) // every other time the host is restarted too
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		delay := time.Duration(rand.Int64N(int64(500 * time.Millisecond)))
		timer := time.AfterFunc(delay, func() { cmd.Process.Kill() })
		var said bytes.Buffer
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // what is left is no line
			}
			if text, ok := strings.CutPrefix(line, "key "); ok {
				if key != "" && round > 0 {
					t.Errorf("round %d: the log was begun anew", round)
				}
				key = strings.TrimSpace(text)
			}
			said.WriteString(line)
		}
		cmd.Wait()
		timer.Stop()
		if strings.Contains(said.String(), "error") {
			t.Fatalf("round %d: %s", round, said.String())
		}
		if found, err := proof.FindCheckpoint(&said); err == nil {
			head = found
		}
		if key == "" {
			continue // killed before there was anything
		}
		v, err := proof.Verify(context.Background(), dir, proof.Options{Key: key, Head: head})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if len(v.Problems) > 0 || !v.KeyMatched || head != nil && !v.HeadMatched || v.Proven != v.Leaves {
			t.Fatalf("round %d: %s%+v", round, problems(v), v)
		}
	}
	if key == "" || head == nil {
		t.Skip("no round lived long enough")
	}
}

// A tape is verified while it is recorded, closed, sealed and removed as fast as
// that goes: never an alarm.
func TestVerifyWhileRecording(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	cmd := childCommand(t, "logged", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := proof.ReadCheckpoint(dir); err == nil {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatal("no log")
		}
	}
	for range 10 {
		v, err := proof.Verify(context.Background(), dir, proof.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Problems) > 0 {
			t.Fatalf("%s%+v", problems(v), v.Segments)
		}
	}
}
