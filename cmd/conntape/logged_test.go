package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
)

// writeLogged writes a tape of two segments with its log, and beside it the first
// key and the last head, as their owner would keep them: DIR.key, DIR.head and,
// as lines of a system log, DIR.syslog.
func writeLogged(dir string) error {
	noon, err := time.Parse(time.RFC3339, fixtureNoon)
	if err != nil {
		return err
	}
	const boot = "00000000-0000-4000-8000-000000000001"
	var key, syslog string
	var head []byte
	connections := manyConnections(400)
	// The second run has nothing to seal, so that the log ends with its stop.
	for run := range 2 {
		keeper := store.NewLogKeeper(dir, store.LogOptions{
			Host: "web1", MachineID: "m", BootID: boot, Version: "1.2.3", Backend: "cgroup",
			Begun: func(k string) { key = k },
			Checkpoint: func(h []byte) {
				head = h
				syslog += "Jul  1 12:00:00 web1 conntape[12]: checkpoint " + proof.CheckpointLine(h) + "\n"
			},
		})
		since := time.Duration(run) * time.Minute
		w, err := store.OpenWriter(dir, store.WriterOptions{
			Version: "1.2.3", Backend: "cgroup", BootID: boot, Kernel: "6.1.0", Host: "web1", MachineID: "m", Events: keeper.Listen,
			Now: store.Anchor{Boot: fixtureBoot + uint64(since), Real: noon.Add(since).UnixNano(), Kind: "start", Sync: "synchronized"},
		})
		if err != nil {
			return err
		}
		write := func(list []store.Connection, stored uint64) error {
			last := list[len(list)-1].BootTime
			return w.Append(store.Batch{Connections: list, Now: last, Counters: segment.Counters{"seen": stored, "stored": stored}})
		}
		if run == 0 {
			err = errors.Join(write(connections[:200], 200), w.RotateAndSeal(), write(connections[200:], 400))
		}
		stop := store.Gap{From: fixtureBoot + uint64(since+time.Second), Cause: segment.CauseStopped}
		if err := errors.Join(err, w.Close(stop, nil), keeper.Close()); err != nil {
			return err
		}
	}
	for suffix, text := range map[string]string{".key": "key: " + key + "\n", ".head": string(head), ".syslog": syslog} {
		err = errors.Join(err, os.WriteFile(filepath.Clean(dir)+suffix, []byte(text), 0o600))
	}
	return err
}

// flipByte changes a byte in the middle of a file.
func flipByte(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text[len(text)/2] ^= 1
	return os.WriteFile(path, text, 0o600)
}

// cutLine removes the last line of a file.
func cutLine(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	end := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	return os.WriteFile(path, text[:end], 0o600)
}

// appendRun records a run without a connection on a tape of writeLogged.
func appendRun(dir string, since time.Duration) error {
	noon, err := time.Parse(time.RFC3339, fixtureNoon)
	if err != nil {
		return err
	}
	const boot = "00000000-0000-4000-8000-000000000001"
	keeper := store.NewLogKeeper(dir, store.LogOptions{Host: "web1", MachineID: "m", BootID: boot, Version: "1.2.3", Backend: "cgroup"})
	w, err := store.OpenWriter(dir, store.WriterOptions{
		Version: "1.2.3", Backend: "cgroup", BootID: boot, Kernel: "6.1.0", Host: "web1", MachineID: "m", Events: keeper.Listen,
		Now: store.Anchor{Boot: fixtureBoot + uint64(since), Real: noon.Add(since).UnixNano(), Kind: "start", Sync: "synchronized"},
	})
	if err != nil {
		return err
	}
	stop := store.Gap{From: fixtureBoot + uint64(since+time.Second), Cause: segment.CauseStopped}
	return errors.Join(w.Close(stop, nil), keeper.Close())
}
