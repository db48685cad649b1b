package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// recorded writes 20,000 connections and returns the files of a recorder that was
// killed: a database, and a WAL with what was not checkpointed.
func recorded(t testing.TB) (db, wal []byte) {
	t.Helper()
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(999*second))
	l := newLoad(40, 300)
	conns := make([]Connection, 2000)
	for i := range 10 {
		if i == 7 { // what comes later is in the WAL alone
			if err := w.seg.query(nil, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
				t.Fatal(err)
			}
		}
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
	}
	left := crash(t, w)
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{"00000001.db", &db}, {"00000001.db-wal", &wal}} {
		data, err := os.ReadFile(filepath.Join(left, f.name))
		if err != nil {
			t.Fatal(err)
		}
		*f.to = data
	}
	return db, wal
}

// put writes a segment with its WAL and returns the path.
func put(t testing.TB, db, wal []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "00000001.db")
	if err := errors.Join(os.WriteFile(path, db, 0o600), os.WriteFile(path+"-wal", wal, 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// What is damaged costs what it held, and nothing else.
func TestSalvage(t *testing.T) {
	db, wal := recorded(t)
	pages := len(db) / pageSize
	t.Logf("%d pages, %d frames", pages, len(wal)/(pageSize+24))
	for name, c := range map[string]struct {
		damage func(db, wal []byte) ([]byte, []byte)
		least  int64 // connections
	}{
		"nothing":         {func(db, wal []byte) ([]byte, []byte) { return db, wal }, 20_000},
		"first page":      {func(db, wal []byte) ([]byte, []byte) { clear(db[:pageSize]); return db, wal }, 19_000},
		"a page":          {func(db, wal []byte) ([]byte, []byte) { clear(db[pages/2*pageSize:][:pageSize]); return db, wal }, 19_500},
		"zero-filled":     {func(db, wal []byte) ([]byte, []byte) { clear(db[len(db)*3/4:]); return db, nil }, 5_000},
		"torn":            {func(db, wal []byte) ([]byte, []byte) { return db[:len(db)*3/4+100], nil }, 5_000},
		"torn WAL":        {func(db, wal []byte) ([]byte, []byte) { return db, wal[:len(wal)*3/4] }, 10_000},
		"zero-filled WAL": {func(db, wal []byte) ([]byte, []byte) { clear(wal[len(wal)*3/4:]); return db, wal }, 10_000},
		"no WAL":          {func(db, wal []byte) ([]byte, []byte) { return db, nil }, 5_000},
	} {
		t.Run(name, func(t *testing.T) {
			db, wal := c.damage(bytes.Clone(db), bytes.Clone(wal))
			path := put(t, db, wal)
			to := filepath.Join(t.TempDir(), "00000001.db")
			result, err := proof.Salvage(t.Context(), path, to)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", *result)
			if result.Rows["connection"] < c.least || name == "nothing" && (result.Missing != 0 || result.Unknown != 0 || result.Broken != 0) {
				t.Errorf("%+v, want %d connections", *result, c.least)
			}
			tape := mustOpenTape(t, to)
			want := fmt.Sprintf("%d|%d", result.Rows["connection"], result.Rows["connection"])
			if got := one(t, tape.Conn(), "SELECT count(*), count(time) FROM connections"); got != want {
				t.Errorf("%s connections in the view, want %s", got, want)
			}
			if got := one(t, tape.Conn(), "SELECT count(*), max(lost) FROM gaps WHERE cause = 'salvaged'"); got != fmt.Sprintf("1|%d", max(0, result.Missing)) {
				t.Errorf("gap %s", got)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, db) || !tapedir.ClosedFile(to) {
				t.Error("the damaged segment was touched, or the new one is not sealed")
			}
		})
	}
}

// The same rows as SQLite reads, every table and column of them.
func TestSalvageIsExact(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	c := x.connection(101 * second)
	c.Count, c.LastBootTime, c.Local = 7, 102*second, x.v6
	x.curl.Argv = []string{strings.Repeat("long ", 5000)} // on pages of its own
	done := x.connection(103 * second)
	done.Shape = x.tcpPending
	mustAppend(t, w, Batch{Connections: []Connection{c, done}, Counters: segment.Counters{"seen": 2, "stored": 2},
		Gaps: []Gap{{From: 1, To: 2, Cause: "ring full", Lost: 3}}})
	done.Update, done.Shape = true, x.tcpRefused
	mustAppend(t, w, Batch{Connections: []Connection{done}})
	mustClose(t, w, 110*second)
	to := filepath.Join(t.TempDir(), "salvaged.db")
	if _, err := proof.Salvage(t.Context(), filepath.Join(dir, "00000001.db"), to); err != nil {
		t.Fatal(err)
	}
	was, is := mustOpenTape(t, dir), mustOpenTape(t, to)
	for _, query := range []string{
		"SELECT * FROM connections ORDER BY id", "SELECT * FROM processes ORDER BY process_id", "SELECT * FROM endpoints ORDER BY id",
		"SELECT * FROM gaps WHERE cause <> 'salvaged' ORDER BY id", "SELECT * FROM counter ORDER BY 1, 2", "SELECT * FROM clock", "SELECT * FROM run",
		"SELECT * FROM batch", "SELECT * FROM changed", "SELECT * FROM repeat", "SELECT seen, stored, from_time, to_time, host FROM segments",
	} {
		want, got := rows(t, connOf(t, was, 1), query), rows(t, connOf(t, is, 1), query)
		if len(want) == 0 || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s\ngot  %.300q\nwant %.300q", query, got, want)
		}
	}
	chainsOf(t, is, 1)
}

// Whenever it is told to, salvage ends at once, and leaves nothing behind.
func TestSalvageEnds(t *testing.T) {
	db, wal := recorded(t)
	from := put(t, db, wal)
	to := filepath.Join(t.TempDir(), "salvaged.db")
	for n := 0; ; n += 1 + n/2 { // in the WAL, between pages, in the log
		_, err := proof.Salvage(newCountdown(t, n), from, to)
		if err == nil {
			if n < 100 {
				t.Errorf("it asked %d times", n)
			}
			break
		}
		if !errors.Is(err, errEnded) || tapedir.IsThere(to) {
			t.Fatalf("after %d: %v", n, err)
		}
	}
	var slowest time.Duration
	for after := time.Millisecond; ; after += after / 2 { // in SQLite
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancelCause(t.Context())
		var ended time.Time
		timer := time.AfterFunc(after, func() { ended = time.Now(); end(errEnded) })
		_, err := proof.Salvage(ctx, from, to)
		if timer.Stop(); err == nil {
			break
		}
		slowest = max(slowest, time.Since(ended))
		if !errors.Is(err, errEnded) || tapedir.IsThere(to) {
			t.Fatalf("after %v: %v", after, err)
		}
	}
	if slowest > time.Second {
		t.Errorf("it ended %v later", slowest)
	}
}

// A recorder that is told to end while it salvages a damaged segment leaves it as it was.
func TestSalvagingEnds(t *testing.T) {
	db, wal := recorded(t)
	path := put(t, db, wal)
	w := mustOpenWriter(t, filepath.Join(t.TempDir(), "tape"), options(100*second))
	defer w.Close(Gap{}, nil)
	s := &stored{path: path, number: 1, stop: make(chan struct{})}
	time.AfterFunc(5*time.Millisecond, s.giveUp)
	if err := w.replaceDamaged(s, errors.New("damaged")); !errors.Is(err, segment.ErrGivenUp) {
		t.Errorf("it ended with %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, db) || tapedir.IsThere(path+tapedir.DamagedSuffix) || tapedir.IsThere(path+tapedir.SealingSuffix) {
		t.Errorf("the segment is not as it was: %v", err)
	}
}

func TestSalvageRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "text": strings.Repeat("not a database ", 999)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, "out.db")
		if _, err := proof.Salvage(t.Context(), filepath.Join(dir, name), to); !errors.Is(err, failure.ErrNotSegment) || failure.HintOf(err) == "" || tapedir.IsThere(to) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := proof.Salvage(t.Context(), filepath.Join(dir, "empty"), filepath.Join(dir, "text")); failure.HintOf(err) == "" {
		t.Errorf("the output exists: %v", err)
	}
	if _, err := proof.Salvage(t.Context(), filepath.Join(dir, "none"), filepath.Join(dir, "out.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
}

// Whatever bytes are there, salvage ends, harms nothing, and what it makes can be
// read, if it makes anything.
func FuzzSalvage(f *testing.F) {
	dir := f.TempDir()
	w := mustOpenWriter(f, dir, options(100*second))
	x := newWorld()
	mustAppend(f, w, Batch{Connections: []Connection{x.connection(101 * second), x.connection(102 * second)}})
	left := crash(f, w)
	var files [2][]byte
	for i, name := range []string{"00000001.db", "00000001.db-wal"} {
		data, err := os.ReadFile(filepath.Join(left, name))
		if err != nil {
			f.Fatal(err)
		}
		files[i] = data
	}
	for seed := range uint64(20) {
		f.Add(seed, 1<<seed%200)
	}
	f.Fuzz(func(t *testing.T, seed uint64, changes int) {
		db, wal := bytes.Clone(files[0]), bytes.Clone(files[1])
		random := rand.New(rand.NewPCG(seed, 0))
		for range min(max(0, changes), 2000) {
			data := db
			if random.IntN(3) == 0 {
				data = wal
			}
			at := random.IntN(len(data))
			data[at] = byte(random.Uint32())
			if random.IntN(50) == 0 {
				clear(data[at:min(len(data), at+random.IntN(3*pageSize))])
			}
		}
		to := filepath.Join(t.TempDir(), "out.db")
		if _, err := proof.Salvage(t.Context(), put(t, db, wal), to); err != nil {
			if tapedir.IsThere(to) {
				t.Errorf("left behind with %v", err)
			}
			return
		}
		tape, err := OpenTape(to)
		if err != nil {
			t.Fatal(err)
		}
		defer tape.Close()
		for _, view := range segment.Views {
			if err := segment.Exec(tape.Conn(), nil, "SELECT * FROM "+view); err != nil {
				t.Errorf("%s: %v", view, err)
			}
		}
	})
}

// A sealed file that ends in the middle of a page has lost the sums of its pages as well. The
// rows of that page have no end any more, and what is made up for it was never recorded.
func TestSalvageOfPageCutShort(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 2)
	path := filepath.Join(s.dir, tapedir.SegmentName(1))
	whole, _, err := answersOf(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	salvaged, cut := 0, len(data)/pageSize
	for n := 1; n < cut; n += 2 {
		from, to := put(t, data[:(n+1)*pageSize-1-n%30], nil), filepath.Join(t.TempDir(), "salvaged.db")
		result, err := proof.Salvage(t.Context(), from, to)
		if errors.Is(err, failure.ErrNotSegment) { // no connection was in what is left
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if result.Unread != 1 {
			t.Errorf("cut in page %d: %d pages are not readable, want 1", n+1, result.Unread)
		}
		checkSalvaged(t, fmt.Sprintf("cut in page %d", n+1), to, whole, true)
		salvaged++
	}
	if salvaged < 3 {
		t.Errorf("%d of %d cuts left something", salvaged, cut)
	}
}
