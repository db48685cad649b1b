package store

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/conntape/conntape/store/proof"
)

// Whatever comes in between, a block names what the rows up to it are about, and
// few rows are in none.
func TestBlocks(t *testing.T) {
	const size = 500
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(1000*second))
	l := newLoad(40, 900)
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 60 {
		w.seg.blocks.size = size
		conns := make([]Connection, r.IntN(200))
		l.fill(conns)
		if i%3 == 0 { // some of this batch come late
			conns = append(conns, Connection{BootTime: l.boot - 400_000 + uint64(r.IntN(300_000)), Task: l.tasks[i%40], Remote: l.endpoints[899-i], Shape: l.shapes[0]})
		}
		b := l.batch(conns)
		if i%7 == 6 { // and some are rolled back
			bad := b
			bad.Connections = append(slices.Clone(conns), Connection{BootTime: l.boot})
			if err := w.Append(bad); err == nil {
				t.Fatal("a connection of nobody was written")
			}
			w.seg.blocks.size = size
		}
		if i%20 == 19 {
			mustClose(t, w, l.boot)
			w = mustOpenWriter(t, dir, options(l.boot+1))
			l.boot++
			w.seg.blocks.size = size
		}
		mustAppend(t, w, b)
		blocks, problem, err := proof.CheckBlocks(w.seg.conn)
		if err != nil || problem != "" {
			t.Fatalf("batch %d: %s, %v", i, problem, err)
		}
		got := one(t, w.seg.conn, `SELECT count(*), (SELECT count(*) FROM connection c WHERE id > (SELECT coalesce(max(id), 0) FROM block)
			AND NOT EXISTS (SELECT 1 FROM late l WHERE l.id = c.id)) FROM block WHERE remotes IS NULL OR tasks IS NULL`)
		if got != fmt.Sprintf("0|%d", w.seg.blocks.rows) || w.seg.blocks.rows >= size {
			t.Fatalf("batch %d: without lists and in no block %s; the writer counts %d", i, got, w.seg.blocks.rows)
		}
		if i == 59 && (blocks < 8 || one(t, w.seg.conn, "SELECT count(*) > 5 FROM late") != "1") {
			t.Errorf("%d blocks", blocks)
		}
	}
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, l.boot+second)
	if got := one(t, connOf(t, mustOpenTape(t, filepath.Join(dir, "00000001.db")), 1), "SELECT count(*) FROM block"); got != "0" {
		t.Errorf("%s blocks in a sealed segment", got)
	}
}
