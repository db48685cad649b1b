package sqlitefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// madeWAL returns a WAL of some commits, followed by frames of an earlier use of the file.
func madeWAL(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.db")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = sqlitex.ExecuteScript(conn, `PRAGMA locking_mode = EXCLUSIVE`, nil)
	for _, script := range []string{
		"PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0", "CREATE TABLE t (x)", "INSERT INTO t SELECT randomblob(100000)", "PRAGMA wal_checkpoint(RESTART)",
		"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (zeroblob(20000))", "INSERT INTO t VALUES (3)", "INSERT INTO t VALUES (4)",
	} {
		if err == nil {
			err = sqlitex.ExecuteTransient(conn, script, nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func frames(t testing.TB, data []byte) (all []Frame) {
	t.Helper()
	w, err := OpenWAL(bytes.NewReader(data), PageSize)
	if err != nil {
		t.Fatal(err)
	}
	for f := range w.Frames() {
		if w.End(f) > int64(len(data)) || w.PageSize() != PageSize {
			t.Fatalf("%+v of %d bytes", f, len(data))
		}
		all = append(all, f)
	}
	return all
}

func TestWAL(t *testing.T) {
	data := madeWAL(t)
	all := frames(t, data)
	commits := 0
	for _, f := range all {
		if !f.Whole || !f.Reached {
			t.Errorf("%+v", f)
		}
		if f.Commit > 0 {
			commits++
		}
	}
	if physical := (len(data) - WALHeaderSize) / (FrameHeaderSize + PageSize); commits != 4 || len(all) >= physical || len(all) < 9 {
		t.Errorf("%d commits in %d frames of %d", commits, len(all), physical)
	}
}

// One flipped bit damages at most one frame.
func TestDamagedWAL(t *testing.T) {
	data := madeWAL(t)
	sound := frames(t, data)
	end := int(sound[len(sound)-1].At) + PageSize
	try := func(at int) {
		data[at] ^= 0x10
		defer func() { data[at] ^= 0x10 }()
		found := map[int64]Frame{}
		for _, f := range frames(t, data) {
			found[f.At] = f
		}
		whole := 0
		for i, was := range sound {
			is := found[was.At]
			within := at >= int(was.At)-FrameHeaderSize && at < int(was.At)+PageSize
			if is.Whole {
				whole++
			}
			if is.Whole && (is.Page != was.Page || is.Commit != was.Commit) || is.Reached && int(was.At)+PageSize > at && within {
				t.Errorf("byte %d: frame %d is %+v, and was %+v", at, i, is, was)
			}
		}
		if len(found) > len(sound) || whole < len(sound)-1 {
			t.Errorf("byte %d: %d frames of %d, %d whole", at, len(found), len(sound), whole)
		}
	}
	for at := 4; at < WALHeaderSize; at++ { // byte 3 is the byte order
		try(at)
	}
	for at := WALHeaderSize; at < end; at += 13 {
		try(at)
	}
	for i := range sound {
		for at := range FrameHeaderSize {
			try(int(sound[i].At) - FrameHeaderSize + at)
		}
	}
}

func TestNoWAL(t *testing.T) {
	data := madeWAL(t)
	for name, data := range map[string][]byte{"empty": nil, "header": data[:WALHeaderSize], "zeros": make([]byte, 1<<20), "text": bytes.Repeat([]byte("not a WAL "), 9999)} {
		if _, err := OpenWAL(bytes.NewReader(data), PageSize); !errors.Is(err, ErrNoWAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Frames of any bytes lie in the file, in order, and end.
func FuzzWAL(f *testing.F) {
	data := madeWAL(f)
	f.Add(data[:WALHeaderSize+3*(FrameHeaderSize+PageSize)], uint16(100), byte(7))
	small := binary.BigEndian.AppendUint32(nil, 0x377f0682)
	f.Add(small, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, with byte) {
		if len(data) > 0 {
			data[int(at)%len(data)] ^= with
		}
		w, err := OpenWAL(bytes.NewReader(data), PageSize)
		if err != nil {
			return
		}
		last := int64(0)
		for f := range w.Frames() {
			if f.At <= last || w.End(f) > int64(len(data)) {
				t.Fatalf("%+v of %d bytes", f, len(data))
			}
			last = f.At
		}
	})
}
