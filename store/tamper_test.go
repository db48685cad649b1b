package store

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// tamperRounds returns how many rounds of chance a test plays.
func tamperRounds(t testing.TB, usual int) int {
	text := os.Getenv("CONNTAPE_TAMPER_ROUNDS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CONNTAPE_TAMPER_ROUNDS=%s", text)
	}
	return n
}

// copyTape copies a tape, modes included.
func copyTape(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "tape")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, n := range files(t, from) {
		if info, err := os.Stat(filepath.Join(from, n)); err != nil {
			t.Fatal(err)
		} else if err := os.Chmod(filepath.Join(to, n), info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// alter runs SQL on a segment, as root could, and leaves its mode as it was.
func alter(t testing.TB, dir string, number int, script string) {
	t.Helper()
	alterWith(t, dir, number, func(conn *sqlite.Conn) {
		if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
	})
}

// alterWith is alter by a function.
func alterWith(t testing.TB, dir string, number int, change func(*sqlite.Conn)) {
	t.Helper()
	path := filepath.Join(dir, tapedir.SegmentName(number))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	change(conn)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		os.Remove(path + suffix)
	}
	if err := os.Chmod(path, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}

// forge appends a leaf with the key that lies on the host.
func forge(t testing.TB, dir string, leaves ...tapelog.Leaf) {
	t.Helper()
	l, err := tapelog.Open(filepath.Join(dir, tapedir.LogDir), tapelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range leaves {
		if _, err := l.Append(leaf); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func replaceFile(t testing.TB, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	another := to + ".another" // while the old one is there: else it might have its inode, which readers know it by
	if err := errors.Join(os.WriteFile(another, text, info.Mode().Perm()), os.Rename(another, to)); err != nil {
		t.Fatal(err)
	}
}

func editLog(t testing.TB, dir string, change func(lines []string) []string) {
	t.Helper()
	path := filepath.Join(dir, tapedir.LogDir, "00000001.log")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := change(strings.SplitAfter(string(text), "\n"))
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o640); err != nil {
		t.Fatal(err)
	}
}

// Whatever is done to a tape is reported, with the segment that it was done to.
// Segments 1 to 3 are sealed, 4 is not.
func TestTamper(t *testing.T) {
	base := t.TempDir()
	s := recordTape(t, filepath.Join(base, "tape"), 3)
	old := copyTape(t, s.dir)
	s.record(t, 2, 2000*second, func(_ *WriterOptions, k *LogKeeper) { k.o.MaxAge = 90 * 24 * time.Hour })
	other := recordTape(t, filepath.Join(base, "other"), 4)
	elsewhere := &sealedTape{dir: filepath.Join(base, "elsewhere")}
	elsewhere.record(t, 4, 100*second, func(o *WriterOptions, k *LogKeeper) {
		o.BootID, o.Host = strings.Replace(testBoot, "1", "9", 1), "db7"
		k.o.BootID, k.o.Host = o.BootID, o.Host
	})
	segment := func(dir string, n int) string { return filepath.Join(dir, tapedir.SegmentName(n)) }
	real := time.Now().UnixNano()
	boot := func() uint64 {
		c, err := tapelog.ReadClocks()
		if err != nil {
			t.Fatal(err)
		}
		return c.Boot + 1<<52
	}

	for _, c := range []struct {
		name   string
		tamper func(t *testing.T, dir string)
		want   []string
		head   bool // it takes a head that was kept
	}{
		{"truncate", func(t *testing.T, dir string) {
			if err := os.Truncate(segment(dir, 2), 8192); err != nil {
				t.Fatal(err)
			}
		}, []string{"2 00000002.db: it has 8192 bytes and had"}, false},
		{"delete a sealed segment", func(t *testing.T, dir string) { os.Remove(segment(dir, 2)) },
			[]string{"2 00000002.db: the segment was removed, and the log tells of no expiry"}, false},
		{"delete the newest segment", func(t *testing.T, dir string) { os.Remove(segment(dir, 4)) },
			[]string{"4 00000004.db: the segment was removed"}, false},
		{"swap two segments", func(t *testing.T, dir string) {
			tmp := segment(dir, 2) + "x"
			os.Rename(segment(dir, 1), tmp)
			os.Rename(segment(dir, 2), segment(dir, 1))
			os.Rename(tmp, segment(dir, 2))
		}, []string{"1 00000001.db: its hash is not", "2 00000002.db: its hash is not", "it says that it is segment 2: it was renamed"}, false},
		{"replay a segment", func(t *testing.T, dir string) { replaceFile(t, segment(dir, 1), segment(dir, 2)) },
			[]string{"2 00000002.db: its hash is not", "2 00000002.db: it says that it is segment 1"}, false},
		{"a segment of another tape", func(t *testing.T, dir string) { replaceFile(t, segment(other.dir, 2), segment(dir, 2)) },
			[]string{"2 00000002.db: its hash is not", "2 00000002.db: it is of another tape"}, false},
		{"the newest of another tape", func(t *testing.T, dir string) { replaceFile(t, segment(other.dir, 4), segment(dir, 4)) },
			[]string{"4 00000004.db: it is of another tape", "4 00000004.db: its rows up to batch 1 are not those"}, false},
		{"of another boot and host", func(t *testing.T, dir string) { replaceFile(t, segment(elsewhere.dir, 4), segment(dir, 4)) },
			[]string{"4 00000004.db: it is of another host: db7, and the log says h", "4 00000004.db: it was not recorded in the boot "}, false},
		{"one segment more", func(t *testing.T, dir string) { replaceFile(t, segment(other.dir, 2), segment(dir, 9)) },
			[]string{"9 00000009.db: the log does not know this segment"}, false},
		{"rows altered after sealing", func(t *testing.T, dir string) { alter(t, dir, 2, "UPDATE connection SET remote = 1 WHERE remote = 2") },
			[]string{"2 00000002.db: its hash is not", "2 00000002.db: its rows up to batch 1 are not those"}, false},
		{"an index alone", func(t *testing.T, dir string) { falseIndexes()["a row left out"].tamper(t, dir, 2) },
			[]string{"2 00000002.db: its hash is not", "2 00000002.db: its index posting does not agree with its rows: it has 999 entries"}, false},
		{"a summary alone", func(t *testing.T, dir string) { falseIndexes()["the seal"].tamper(t, dir, 2) },
			[]string{"2 00000002.db: its hash is not", "2 00000002.db: its summary seal does not agree with its rows"}, false},

		{"a batch that says that it reaches further", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE batch SET newest = newest + 1 WHERE id = 2")
		}, []string{"4 00000004.db: the stored hash of batch 2 is not that of its rows"}, false},
		{"a row altered", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE connection SET fd = 99 WHERE id = (SELECT max(id) FROM connection)")
		},
			[]string{"4 00000004.db: its rows up to batch 5 are not those that the log saw"}, false},
		{"a row removed", func(t *testing.T, dir string) {
			alter(t, dir, 4, "DELETE FROM connection WHERE id = (SELECT id FROM connection LIMIT 1 OFFSET 300)")
		},
			[]string{"4 00000004.db: it has 999 connections, and 1000 were stored"}, false},
		{"a row added", func(t *testing.T, dir string) {
			alter(t, dir, 4, "INSERT INTO connection (id, task, remote, shape) SELECT id + 1, task, remote, shape FROM connection LIMIT 1")
		}, []string{"4 00000004.db: it has 1001 connections", "4 00000004.db: its rows up to batch 1 are not those"}, false},
		{"a program renamed", func(t *testing.T, dir string) { alter(t, dir, 4, "UPDATE process SET exe = '/usr/bin/true'") },
			[]string{"4 00000004.db: its rows up to batch 1 are not those"}, false},
		{"an address altered", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE endpoint SET address = '192.0.2.1' WHERE id = 3")
		},
			[]string{"4 00000004.db: its rows up to batch 1 are not those"}, false},
		{"a batch that reaches further than any row", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE batch SET endpoint = endpoint + 1 WHERE id = (SELECT max(id) FROM batch)")
		},
			[]string{"4 00000004.db: the stored hash of batch 5 is not that of its rows"}, false},
		{"a count altered", func(t *testing.T, dir string) { alter(t, dir, 4, "UPDATE repeat SET count = 2") },
			[]string{"4 00000004.db: its connect count is 5 higher than its rows account for, and 10 were coalesced"}, false},
		{"a counter altered", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE counter SET value = value - 1 WHERE name = 'lost'")
		},
			[]string{"4 00000004.db: its counters do not add up"}, false},
		{"two counters altered", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE counter SET value = value - 1 WHERE name IN ('lost', 'seen')")
		}, []string{"4 00000004.db: its counter seen is"}, false},
		{"a gap removed", func(t *testing.T, dir string) { alter(t, dir, 4, "DELETE FROM gap WHERE cause = 'ring full'") },
			[]string{"4 00000004.db: a gap that the log tells of is not there: ring full, 2 lost"}, false},
		{"a gap made smaller", func(t *testing.T, dir string) { alter(t, dir, 4, "UPDATE gap SET lost = 1 WHERE cause = 'ring full'") },
			[]string{"4 00000004.db: the gap ring full says 1 lost, and the log 2"}, false},
		{"a block that hides an endpoint", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE block SET remotes = x'01' WHERE id = (SELECT max(id) FROM block)")
		}, []string{"4 00000004.db: its block up to ", " has other endpoints than its rows"}, false},
		{"a block that hides a thread", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE block SET tasks = x'' WHERE id = (SELECT min(id) FROM block)")
		}, []string{"4 00000004.db: its block up to ", " has other threads than its rows"}, false},
		{"another predecessor", func(t *testing.T, dir string) { alter(t, dir, 4, "UPDATE segment SET previous_hash = zeroblob(32)") },
			[]string{"4 00000004.db: the hash that it has of 00000003.db is not the one that the log has"}, false},
		{"a backend claimed", func(t *testing.T, dir string) { alter(t, dir, 4, "UPDATE run SET blind_spots = ''") },
			[]string{"4 00000004.db: a recorder that the log does not know: v1, fexit"}, false},
		{"a row altered, and what the segment says of it", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE connection SET fd = 99 WHERE id = (SELECT max(id) FROM connection)")
			rechain(t, dir, 4)
		}, []string{"4 00000004.db: its rows up to batch 5 are not those that the log saw"}, false},
		{"a row altered, and a recorder that goes on", func(t *testing.T, dir string) {
			alter(t, dir, 4, "UPDATE connection SET fd = 99 WHERE id = (SELECT min(id) FROM connection)")
			chain := rechain(t, dir, 4)
			forge(t, dir, tapelog.Leaf{Kind: tapelog.KindCheckpoint, Boot: boot(), Real: real, Segment: 4, Batches: 6, Chain: chain})
		}, []string{"4 00000004.db: its rows up to batch 1 are not those that the log saw"}, false},
		{"an old copy of the newest segment", func(t *testing.T, dir string) { replaceFile(t, segment(old, 3), segment(dir, 3)) },
			[]string{"3 00000003.db: it has"}, false},

		{"reseal with today's key", func(t *testing.T, dir string) {
			alter(t, dir, 2, "UPDATE connection SET remote = 1 WHERE remote = 2")
			text, err := os.ReadFile(segment(dir, 2))
			if err != nil {
				t.Fatal(err)
			}
			forge(t, dir, tapelog.Leaf{Kind: tapelog.KindSeal, Boot: boot(), Real: real, Segment: 2, SHA256: sha256.Sum256(text), Size: int64(len(text))})
		}, []string{"2 00000002.db: it was sealed again with another hash", "2 00000002.db: its hash is not"}, false},
		{"claim an expiry", func(t *testing.T, dir string) {
			os.Remove(segment(dir, 2))
			forge(t, dir, tapelog.Leaf{Kind: tapelog.KindExpiry, Boot: boot(), Real: real, Segment: 2, Cause: tapelog.ExpiredSize})
		}, []string{"2 00000002.db: the log claims that retention removed it while the older 00000001.db was still there"}, false},
		{"claim an expiry of the oldest", func(t *testing.T, dir string) {
			os.Remove(segment(dir, 1))
			forge(t, dir, tapelog.Leaf{Kind: tapelog.KindExpiry, Boot: boot(), Real: real, Segment: 1, Cause: tapelog.ExpiredAge, To: real - int64(time.Hour)})
		}, []string{"1 00000001.db: the log claims that retention removed it for its age of 1h0m0s, and the limit was 2160h0m0s"}, false},
		{"claim an expiry for no reason", func(t *testing.T, dir string) {
			os.Remove(segment(dir, 1))
			forge(t, dir, tapelog.Leaf{Kind: tapelog.KindExpiry, Boot: boot(), Real: real, Segment: 1, Cause: "tidied up"})
		}, []string{"1 00000001.db: the log claims that retention removed it for \"tidied up\""}, false},

		{"edit the log", func(t *testing.T, dir string) {
			editLog(t, dir, func(lines []string) []string {
				i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, " checkpoint ") && strings.Contains(l, "segment=2") })
				lines[i] = strings.Replace(lines[i], "lost=", "lost=1", 1)
				return lines
			})
		}, []string{"2 log/00000001.log: leaf", "is not signed by the key that the leaf before it names"}, false},
		{"drop an idle period", func(t *testing.T, dir string) {
			editLog(t, dir, func(lines []string) []string { return slices.Delete(lines, 13, 15) })
		}, []string{"log/00000001.log: leaf 8 stands where leaf 6 should be"}, false},
		{"remove the log", func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, tapedir.LogDir)) },
			[]string{"there is no log"}, false},
		{"remove the tail of the log", func(t *testing.T, dir string) {
			editLog(t, dir, func(lines []string) []string { return lines[:len(lines)-2] })
		}, []string{"log: the log ends with leaf", "the end was cut off, or the tape rolled back"}, true},
		{"roll the directory back", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(copyTape(t, old), dir); err != nil {
				t.Fatal(err)
			}
		}, []string{"log: the log ends with leaf", "the end was cut off, or the tape rolled back"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tape := &sealedTape{dir: copyTape(t, s.dir), key: s.key}
			c.tamper(t, tape.dir)
			found := problems(tape.verify(t, proof.Options{Key: s.key}))
			if c.head {
				if c.name == "roll the directory back" && found != "" {
					t.Errorf("found without a head: %s", found)
				}
				found = problems(tape.verify(t, proof.Options{Key: s.key, Head: s.lastHead()}))
			}
			for _, want := range c.want {
				if !strings.Contains(found, want) {
					t.Errorf("found\n%swant %q", found, want)
				}
			}
		})
	}
}

// rechain writes into the table batch what the rows come to, as an intruder would.
func rechain(t testing.TB, dir string, number int) (last [32]byte) {
	t.Helper()
	script := ""
	err := segment.Peek(t.Context(), filepath.Join(dir, tapedir.SegmentName(number)), func(conn *sqlite.Conn) error {
		return proof.ReplayChain(conn, func(n int64, chain, _ [32]byte) error {
			script += fmt.Sprintf("UPDATE batch SET chain = x'%x' WHERE id = %d;\n", chain, n)
			last = chain
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	alter(t, dir, number, script)
	return last
}

// A damaged segment of which the recorder salvaged what could be read: that is
// said, once, and nothing else of what then does not agree.
func TestVerifySalvaged(t *testing.T) {
	s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
	s.record(t, 2, 100*second, func(o *WriterOptions, k *LogKeeper) {
		o.Events = func(e Event) {
			if sealed, ok := e.(SegmentSealed); ok {
				k.Listen(SegmentSetAside{Segment: 1, Batches: -1, Cause: "database disk image is malformed"})
				alter(t, s.dir, 1, "DELETE FROM connection WHERE id IN (SELECT id FROM connection LIMIT 1); DELETE FROM seal; DELETE FROM posting; DELETE FROM reach;")
				conn, err := sqlite.OpenConn(filepath.Join(s.dir, sealed.File), sqlite.OpenReadWrite)
				if err != nil {
					t.Fatal(err)
				}
				if err := segment.Pack(conn, t.TempDir()); err != nil {
					t.Error(err)
				}
				conn.Close()
				e = sealAgain(t, s.dir, sealed)
			}
			k.Listen(e)
		}
	})
	v := s.verify(t, proof.Options{})
	v.Problems = slices.DeleteFunc(v.Problems, func(p proof.Problem) bool { return p.Segment == 2 }) // it has the hash of before
	if len(v.Problems) != 1 || !strings.Contains(problems(v), "1 00000001.db: it was found damaged, and this is what could be read of it") || v.Problems[0].Since.IsZero() {
		t.Errorf("%s%+v", problems(v), v.Problems)
	}
}

// One bit anywhere. In a sealed segment and in the log it is always found. In the
// segment that is not sealed it is found when it is in what was recorded: else
// all that can be asked of it is as it was.
func TestFlipBits(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 2)
	want := contents(t, s.dir, 2)
	r := rand.New(rand.NewPCG(8, 15))
	harmless := map[string]int{}
	for range tamperRounds(t, 80) {
		number := 1 + r.IntN(2)
		path := filepath.Join(s.dir, tapedir.SegmentName(number))
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		bit := r.IntN(len(bad) * 8)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
		v := s.verify(t, proof.Options{})
		named := slices.ContainsFunc(v.Problems, func(p proof.Problem) bool { return p.Segment == number })
		switch {
		case named:
		case number == 1 || len(v.Problems) > 0:
			t.Errorf("bit %d of segment %d: %s", bit, number, problems(v))
		default:
			for table, text := range contents(t, s.dir, 2) {
				if text != want[table] {
					harmless[table]++
				}
			}
		}
		os.Chmod(path, 0o600)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"connection", "repeat", "task", "process", "endpoint", "shape", "counter", "run", "batch", "late", "changed", "renamed", "block"} {
		if harmless[table] > 0 {
			t.Errorf("%d bits that altered the table %s were not found", harmless[table], table)
		}
	}
	t.Logf("not found, in what the log does not cover: %v", harmless)
}

// contents returns the rows of each table of a segment as text, of what the log
// covers in part that part.
func contents(t testing.TB, dir string, number int) map[string]string {
	t.Helper()
	all := map[string]string{}
	hashed := map[string]string{"run": "id, version, backend, blind_spots"}
	err := segment.Peek(t.Context(), filepath.Join(dir, tapedir.SegmentName(number)), func(conn *sqlite.Conn) error {
		for _, table := range []string{"connection", "repeat", "task", "process", "endpoint", "shape", "counter", "run", "gap", "clock", "segment", "batch", "late", "changed", "renamed", "block"} {
			var b strings.Builder
			err := segment.Exec(conn, func(q *sqlite.Stmt) error {
				for i := range q.ColumnCount() {
					fmt.Fprintf(&b, "%s|", q.ColumnText(i))
				}
				b.WriteByte('\n')
				return nil
			}, "SELECT "+cmp.Or(hashed[table], "*")+" FROM "+table)
			if err != nil {
				return err
			}
			all[table] = b.String()
		}
		return nil
	})
	if err != nil {
		return maps.Clone(all)
	}
	return all
}
