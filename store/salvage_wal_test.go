package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// One bit of a WAL costs what its frame held, and the log says how much that was: what is salvaged and what is missing come
// to what was recorded, whatever the bit.
func TestSalvageDamagedWAL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o, k := loggedOptions(dir, 999*second)
	w := mustOpenWriter(t, dir, o)
	l := newLoad(20, 50)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	const batches, each = 12, 150
	conns := make([]Connection, each)
	for i := range batches {
		l.fill(conns)
		b := l.batch(conns)
		n := uint64((i + 1) * each)
		b.Counters = segment.Counters{"seen": n, "stored": n}
		mustAppend(t, w, b)
	}
	k.checkpoint()
	left := crashWithLog(t, w, k)
	path := filepath.Join(left, "00000001.db")
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	frames := (len(wal) - sqlitefile.WALHeaderSize) / (sqlitefile.FrameHeaderSize + pageSize)
	salvage := func(name string, wal []byte) *proof.Salvaged {
		t.Helper()
		if err := os.WriteFile(path+"-wal", wal, 0o640); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "salvaged.db")
		result, err := proof.Salvage(t.Context(), path, to)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return &proof.Salvaged{}
		}
		return result
	}
	if got := salvage("nothing", wal); got.Rows["connection"] != batches*each || got.Missing != 0 || got.Frames != 0 {
		t.Fatalf("undamaged: %+v", got)
	}
	r := rand.New(rand.NewPCG(13, 9))
	for i := range tamperRounds(t, 60) {
		altered, at := bytes.Clone(wal), r.IntN(len(wal))
		if i < sqlitefile.WALHeaderSize+sqlitefile.FrameHeaderSize {
			at = i
		}
		altered[at] ^= 1 << r.IntN(8)
		got := salvage("a bit", altered)
		if n := got.Rows["connection"]; n+got.Missing != batches*each || n < batches*each*3/4 || got.Frames > 1 {
			t.Errorf("byte %d of %d, %d frames: %+v", at, len(wal), frames, got)
		}
	}
	// The end is lost, and with it what the counters said.
	cut := wal[:sqlitefile.WALHeaderSize+frames/2*(sqlitefile.FrameHeaderSize+pageSize)]
	if got := salvage("half", cut); got.Missing <= 0 || got.Rows["connection"]+got.Missing != batches*each {
		t.Errorf("half of it: %+v", got)
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(left, tapedir.LogDir))); err != nil {
		t.Fatal(err)
	}
	if got := salvage("half", cut); got.Missing != 0 {
		t.Errorf("half of it without a log: %+v", got) // nobody knows of more
	}
}

// A page of a sealed segment that is not as it was sealed is left out, and told.
func TestSalvageSealed(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 2)
	path := filepath.Join(s.dir, tapedir.SegmentName(1))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range len(data) / pageSize {
		page := data[at*pageSize:][:pageSize]
		if page[0] == byte(sqlitefile.TableLeaf) && page[4] > 100 { // of connections
			page[pageSize-5] ^= 4
			break
		}
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	got, err := proof.Salvage(t.Context(), path, filepath.Join(t.TempDir(), "salvaged.db"))
	if err != nil {
		t.Fatal(err)
	}
	if n := got.Rows["connection"]; got.Altered != 1 || n >= 1000 || n < 700 || n+got.Missing != 1000 {
		t.Errorf("%+v", got)
	}
}
