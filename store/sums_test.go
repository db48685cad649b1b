package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// readEverything reads that a tape has, in every way that there is.
func readEverything(t testing.TB, dir string) (answer string, err error) {
	t.Helper()
	tape, err := OpenTape(dir)
	if err != nil {
		return "", err
	}
	defer tape.Close()
	for _, l := range tape.leftOut {
		err = errors.Join(err, l.Err)
	}
	var b strings.Builder
	for i := range tape.segs {
		err = errors.Join(err,
			tape.ScanEndpoints(context.Background(), i, func(id, family int64, address []byte, port int64) error {
				fmt.Fprintf(&b, "e%d %d %s %d\n", id, family, address, port)
				return nil
			}),
			tape.ScanConnections(context.Background(), i, 0, 1<<62, segment.Wanted{}, func(id, task, remote, shape int64) error {
				fmt.Fprintf(&b, "c%d %d %d %d\n", id, task, remote, shape)
				return nil
			}))
		r, release, opened := tape.borrow(i)
		if opened != nil {
			err = errors.Join(err, opened)
			continue
		}
		sealed := r.Tables.Roots["posting"] != 0
		release()
		if sealed {
			err = errors.Join(err, tape.ScanPostings(context.Background(), i, nil, 0, 1<<62, func(remote int64, list []byte) error {
				fmt.Fprintf(&b, "p%d %x\n", remote, list)
				return nil
			}))
		}
	}
	for _, query := range []string{"SELECT * FROM connections", "SELECT * FROM processes", "SELECT * FROM endpoints", "SELECT * FROM gaps", "SELECT * FROM segments"} {
		sqlErr := segment.Exec(tape.conn, func(q *sqlite.Stmt) error {
			for i := range q.ColumnCount() {
				fmt.Fprintf(&b, "%s|", q.ColumnText(i))
			}
			return nil
		}, query)
		if sqlErr != nil {
			err = errors.Join(err, tape.Explain(sqlErr))
		}
	}
	return b.String(), err
}

// A sealed segment with one bit altered, or pages moved about, is never read as if it were right, and the page is named.
func TestDamagedPageIsTold(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	want, err := readEverything(t, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, tapedir.SegmentName(2))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pages := int(binary.BigEndian.Uint32(data[28:]))
	root := rootsOf(t, path)
	r := rand.New(rand.NewPCG(12, 13))
	flip := func(data []byte) { data[r.IntN(len(data))] ^= 1 << r.IntN(8) }
	changes := map[string]func([]byte){
		"two roots swapped": func(data []byte) {
			a, b := data[(root["task"]-1)*pageSize:][:pageSize], data[(root["shape"]-1)*pageSize:][:pageSize]
			was := bytes.Clone(a)
			copy(a, b)
			copy(b, was)
		},
		"fewer cells": func(data []byte) { data[(root["endpoint"]-1)*pageSize+4]-- },
		"no sums":     func(data []byte) { data[len(data)-16]++ },
	}
	for i := range tamperRounds(t, 100) {
		changes[fmt.Sprintf("a bit, round %d", i)] = flip
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	named := 0
	for name, change := range changes {
		altered := bytes.Clone(data)
		change(altered)
		if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, altered, 0o600), os.Chmod(path, tapedir.ClosedMode)); err != nil {
			t.Fatal(err)
		}
		got, err := readEverything(t, s.dir)
		switch {
		case err == nil && got != want:
			t.Errorf("%s: another answer, in silence", name)
		case err == nil:
			t.Logf("%s: not met", name)
		case !errors.Is(err, failure.ErrDamaged):
			t.Errorf("%s: %v", name, err)
		case !strings.Contains(err.Error(), tapedir.SegmentName(2)):
			t.Errorf("%s: which segment? %v", name, err)
		case strings.Contains(err.Error(), " is not as it was sealed"):
			named++
		}
	}
	if named < len(changes)/2 {
		t.Errorf("%d of %d times a page was named, of %d", named, len(changes), pages)
	}
}

// rootsOf returns the first page of each table.
func rootsOf(t testing.TB, path string) map[string]int {
	t.Helper()
	roots := map[string]int{}
	tables, err := segment.OpenTables(path)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	if err := segment.PeekAt(path, func(conn *sqlite.Conn) error { return tables.Find(conn) }); err != nil {
		t.Fatal(err)
	}
	for name, n := range tables.Roots {
		roots[name] = int(n)
	}
	return roots
}

// The log has the hash of the sums, so that verify finds other sums, or none, even where the hash of the file is right.
func TestVerifyPageSums(t *testing.T) {
	changes := []struct {
		name, want string
		change     func(t testing.TB, path string, e *SegmentSealed)
	}{
		{"none", "its page sums cannot be used: it has no sums of its pages", func(t testing.TB, path string, e *SegmentSealed) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, info.Size()/pageSize*pageSize); err != nil {
				t.Fatal(err)
			}
		}},
		{"of other pages", "1 of its pages are not as they were sealed: page 2", func(t testing.TB, path string, e *SegmentSealed) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[2*pageSize-1] ^= 1
			if err := errors.Join(os.WriteFile(path, data, 0o600), sqlitefile.AppendSums(path, 0)); err != nil {
				t.Fatal(err)
			}
			if e.PageSums, err = segment.HashOfSums(path); err != nil {
				t.Fatal(err)
			}
			if data, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			data[2*pageSize-1] ^= 1
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"that the log does not know", "its page sums are not those that the log has", func(t testing.TB, path string, e *SegmentSealed) { e.PageSums[0] ^= 1 }},
	}
	for _, c := range changes {
		s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
		s.record(t, 2, 100*second, func(o *WriterOptions, k *LogKeeper) {
			o.Events = func(e Event) {
				if sealed, ok := e.(SegmentSealed); ok {
					path := filepath.Join(s.dir, sealed.File)
					c.change(t, path, &sealed)
					var err error
					if sealed.SHA256, sealed.Bytes, err = segment.HashFile(path, nil); err != nil {
						t.Error(err)
					}
					e = sealed
				}
				k.Listen(e)
			}
		})
		found := problems(s.verify(t, proof.Options{}))
		if !strings.Contains(found, "1 00000001.db: "+c.want) {
			t.Errorf("%s: %s", c.name, found)
		}
	}
}
