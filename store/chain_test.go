package store

import (
	"fmt"
	"testing"

	"github.com/conntape/conntape/store/proof"
)

// chainsOf replays the chain of a segment and compares it with what the segment
// says of itself.
func chainsOf(t testing.TB, tape *Tape, place int) map[int64][32]byte {
	t.Helper()
	chains := map[int64][32]byte{}
	err := proof.ReplayChain(connOf(t, tape, place), func(batch int64, chain, said [32]byte) error {
		if chain != said {
			return fmt.Errorf("batch %d is %x, and says %x", batch, chain[:4], said[:4])
		}
		chains[batch] = chain
		return nil
	})
	if err != nil {
		t.Errorf("segment %d: %v", place, err)
	}
	return chains
}

// What was told when a batch was committed can be found in the segment later:
// though rows come late, get another shape, stand for several, and describe
// processes that were unknown at first; and over a restart.
func TestChainIsReplayed(t *testing.T) {
	dir := t.TempDir()
	told := map[string][32]byte{}
	listen := func(e Event) {
		if b, ok := e.(BatchCommitted); ok {
			told[fmt.Sprint(b.Segment, "/", b.Number)] = b.Chain
		}
	}
	o := options(100 * second)
	o.Events = listen
	w := mustOpenWriter(t, dir, o)
	x := newWorld()
	pending := func(boot, cookie uint64) Connection {
		c := x.connection(boot)
		c.Shape, c.Cookie = x.tcpPending, cookie
		return c
	}
	vague := x.connection(104 * second)
	vague.Task = &Task{Process: &Process{Key: ProcessKey{Tgid: 77}, Source: SourceUnknown}, LoginUID: -1, SessionID: -1}
	known := x.connection(105 * second)
	known.Task = &Task{Process: &Process{Key: ProcessKey{Tgid: 77}, Source: SourceProc, Exe: "/x"}, LoginUID: -1, SessionID: -1}
	several := x.connection(106 * second)
	several.Count, several.LastBootTime, several.FD, several.Cookie, several.Local = 3, 107*second, -1, 0, x.v6
	slow := pending(102*second, 5)
	done := slow
	done.Update, done.Shape = true, x.tcpRefused
	again := done
	again.Shape = &Shape{Via: "connect", Errno: 110}
	for _, conns := range [][]Connection{
		{x.connection(101 * second), slow},
		{vague, done},
		{},                             // nothing but a heartbeat
		{x.connection(101*second + 5)}, // late
		{known, several, again, x.connection(100 * second), x.connection(108 * second)},
	} {
		mustAppend(t, w, Batch{Connections: conns, Now: 110 * second})
	}
	mustClose(t, w, 111*second)
	o.Now = at(120 * second)
	w = mustOpenWriter(t, dir, o)
	w.now = func(string) (Anchor, error) { return at(121 * second), nil }
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(103 * second), x.connection(120 * second)}})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(122 * second)}})
	waitSealed(t, w)
	mustClose(t, w, 123*second)

	tape := mustOpenTape(t, dir)
	for i, want := range []int{5, 1} {
		chains := chainsOf(t, tape, i+1)
		if len(chains) != want {
			t.Errorf("segment %d: %d batches, want %d", i+1, len(chains), want)
		}
		for batch, chain := range chains {
			if told[fmt.Sprint(i+1, "/", batch)] != chain {
				t.Errorf("segment %d batch %d: not what was told", i+1, batch)
			}
		}
	}
	if told["1/3"] != told["1/2"] || told["1/2"] == told["1/1"] {
		t.Error("a batch without rows leaves the chain, and no other does")
	}
}

// Whatever is altered in the file, the chain shows it.
func TestChainShowsAlterations(t *testing.T) {
	for _, alter := range []string{
		"UPDATE connection SET fd = fd + 1 WHERE id = (SELECT min(id) FROM connection)",
		"UPDATE connection SET id = id - 1 WHERE id = (SELECT min(id) FROM connection)",
		"DELETE FROM connection WHERE id = (SELECT max(id) FROM connection)",
		"UPDATE connection SET local = 1, cookie = NULL",
		"UPDATE task SET uid = 0",
		"UPDATE process SET exe = '/bin/true' WHERE comm = 'curl'",
		"UPDATE process SET batch = 0",
		"UPDATE endpoint SET address = '192.0.2.8'",
		"UPDATE shape SET errno = 0",
		"INSERT INTO repeat SELECT id, 2, id FROM connection LIMIT 1",
		"UPDATE hash SET sha256 = zeroblob(32)",
		"UPDATE hash SET sha256 = NULL, source = 'gone'",
		"UPDATE hash SET inode = inode + 1",
		"DELETE FROM script",
		"UPDATE script SET hash = 0",
		"UPDATE process SET exe_file = 7 WHERE comm = 'curl'",
		"UPDATE endpoint SET names = 'b.example' WHERE names <> ''",
		"UPDATE renamed SET remote = remote + 1",
		"UPDATE renamed SET batch = batch - 1",
		"UPDATE renamed SET connection = (SELECT min(id) FROM connection)",
		"DELETE FROM renamed",
		"UPDATE connection SET remote = (SELECT remote FROM renamed) WHERE id = (SELECT connection FROM renamed)",
	} {
		w := mustOpenWriter(t, t.TempDir(), options(100*second))
		x := newWorld()
		x.curl.ExeFile, x.curl.Script = &File{Inode: 77}, "/run.sh"
		x.curl.ExeFile.SetDigests(known("curl", "exec"))
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(101 * second), x.connection(102 * second)}, Scripts: []Script{{x.curl, x.curl.ExeFile}}})
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(103 * second)}, Namings: []Naming{saying(x.connection(102*second), "a.example", NameSNI)}})
		want := w.seg.chainer.chain
		if err := w.seg.exec(alter); err != nil {
			t.Fatal(err)
		}
		var got [32]byte
		if err := proof.ReplayChain(w.seg.conn, func(_ int64, chain, _ [32]byte) error { got = chain; return nil }); err != nil {
			t.Fatal(err)
		}
		if got == want {
			t.Errorf("not shown: %s", alter)
		}
	}
}
