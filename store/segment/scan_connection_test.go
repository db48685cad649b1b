package segment

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/sqlitefile"
)

// A row with a short id, and so shifted columns, is not read in the usual form.
func TestShortIDsAreNotReadFast(t *testing.T) {
	for round := range 100_000 {
		bytes := 1 + round%9
		row := []byte{60}
		for range bytes - 1 {
			row = append(row, byte(rand.Uint32())|0x80)
		}
		row = append(row, byte(rand.IntN(0x80)), connectionHeader, 0)
		for range 6 {
			row = append(row, byte([]int{1, 2, 3, 4, 5, 6, 8, 9}[rand.IntN(8)]))
		}
		for range 60 {
			row = append(row, byte(rand.Uint32()))
		}
		if _, _, _, _, _, ok := connectionAt(row, 0, &Wanted{}); ok != (bytes == 9) {
			t.Fatalf("an id of %d bytes: % x", bytes, row[:20])
		}
	}
}

// A connection shorter than its columns is damaged, even if its columns seem unwanted.
func TestShortConnectionIsNotPassedOver(t *testing.T) {
	row := append([]byte{connectionHeader + 6}, 0x80|1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, connectionHeader, 0, 2, 2, 2, 8, 8, 8, 0)
	row = append(row, 0, 5, 0, 6, 0, 7)
	row = append(row, make([]byte, 40)...)
	nobody := Wanted{Tasks: []bool{}, Remotes: []bool{}}
	if _, _, _, _, wanted, ok := connectionAt(row, 0, &nobody); wanted || !ok {
		t.Fatal("a whole one is not passed over")
	}
	for _, w := range []Wanted{{}, nobody, {Tasks: []bool{5: true}, Remotes: []bool{}}} {
		for length := range byte(connectionHeader + 6) {
			row[0] = length
			passable := w.Tasks != nil && len(w.Tasks) == 0 && length >= connectionHeader+2 || len(w.Tasks) > 5 && length >= connectionHeader+4
			if _, _, _, _, _, ok := connectionAt(row, 0, &w); ok != passable {
				t.Errorf("length %d of 15, %v: %t", length, w, ok)
			}
		}
	}
}

// The fast and the slow way read a connection alike, for any numbers, length and end of page.
func TestFastConnection(t *testing.T) {
	fast := 0
	for round := range 200_000 {
		cell := make([]byte, 10+connectionHeader+24+rand.IntN(8))
		for i := range cell {
			cell[i] = byte(rand.Uint32())
		}
		for i := 1; i < 9; i++ {
			cell[i] |= 0x80
		}
		cell[0] = byte(rand.IntN(50))
		cell[10], cell[11] = connectionHeader, 0
		for i := 12; i < 15; i++ {
			cell[i] = byte(rand.IntN(11))
		}
		if round%50 == 0 {
			cell[rand.IntN(18)] = byte(rand.Uint32())
		}
		page := append(make([]byte, 100), cell...)
		id, task, remote, shape, _, ok := connectionAt(page, 100, &Wanted{})
		if !ok {
			continue
		}
		fast++
		length, at, _ := sqlitefile.Varint(page, 100)
		slowID, at, _ := sqlitefile.Varint(page, at)
		if int(length) > len(page)-at {
			t.Fatalf("% x: read beyond the page", cell)
		}
		a, b, c, slow := references(page[at : at+int(length)])
		if !slow || slowID != id || a != task || b != remote || c != shape {
			t.Fatalf("% x: %d %d %d %d, the long way %d %d %d %d %t", cell, id, task, remote, shape, slowID, a, b, c, slow)
		}
	}
	if fast < 20_000 {
		t.Errorf("%d were read fast", fast)
	}
}

// Nearly all connections of a recorder have the form that is read fast.
func TestNearlyAllAreReadFast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "00000001.db")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	script, err := migrations.Script(migrations.Version)
	if err == nil {
		err = sqlitex.ExecuteScript(conn, script, nil)
	}
	for i := 0; i < 5000 && err == nil; i++ {
		var local any
		if i%3 == 0 {
			local = i % 9
		}
		err = Exec(conn, nil, `INSERT INTO connection (id, task, remote, shape, local, fd, cookie) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			1_700_000_000_000_000_000+int64(i)*1_000_003, i%300, i%70_000, i%4, local, i%200, int64(i)<<24)
	}
	var roots map[string]uint32
	if err == nil {
		roots, err = readRoots(conn)
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	tables, err := OpenTables(path)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	all, slow := 0, 0
	err = tables.Leaves(t.Context(), roots["connection"], -1<<63, 1<<63-1, func(l *sqlitefile.Leaf) error {
		for i := range l.Len() {
			all++
			if _, _, _, _, _, ok := connectionAt(l.Page, l.Offset(i), &Wanted{}); !ok {
				slow++
			}
		}
		return nil
	})
	if err != nil || all != 5000 || slow > 100 {
		t.Errorf("%d of %d were read the long way: %v", slow, all, err)
	}
}
