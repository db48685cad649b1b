package store

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// crash returns a directory that holds what kill -9 would leave of the tape now.
// (In one process SQLite keeps the locks of a connection that is not closed, so
// the writer is left to itself, and a copy of its files gone on with.)
func crash(t testing.TB, w *Writer) string {
	t.Helper()
	for range 1000 {
		dir := t.TempDir()
		before := states(t, w.dir)
		for name, state := range before {
			if state.dir {
				continue // the log
			}
			data, err := os.ReadFile(filepath.Join(w.dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		if maps.Equal(before, states(t, w.dir)) {
			return dir
		}
		time.Sleep(time.Millisecond) // the keeper was at work: that copy is of no single moment
	}
	t.Fatal("the tape never stood still")
	return ""
}

// fileState changes when a file is written or replaced.
type fileState struct {
	inode    uint64
	dir      bool
	size     int64
	modified time.Time
}

func states(t testing.TB, dir string) map[string]fileState {
	t.Helper()
	all := map[string]fileState{}
	for _, name := range files(t, dir) {
		info, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		all[name] = fileState{info.Sys().(*syscall.Stat_t).Ino, info.IsDir(), info.Size(), info.ModTime()}
	}
	return all
}

const gapColumns = `SELECT segment, from_time, to_time, cause, lost FROM gaps ORDER BY segment, id`

func TestGapsOfStartStopAndCrash(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Now: 110 * second})
	mustClose(t, w, 120*second)

	w = mustOpenWriter(t, dir, options(150*second))
	mustAppend(t, w, Batch{Now: 160 * second, Gaps: []Gap{{From: 155 * second, Cause: "ring full", Lost: 3}}})
	dir = crash(t, w)

	w = mustOpenWriter(t, dir, options(200*second))
	dir = crash(t, w) // before it could write a batch

	w = mustOpenWriter(t, dir, options(300*second))
	if err := w.Close(Gap{From: 310 * second, Detail: "SIGTERM"}, segment.Counters{"seen": 7}); err != nil {
		t.Fatal(err)
	}
	tape := mustOpenTape(t, dir)
	want := []string{
		"1|NULL|2026-01-01T00:01:40.000000000Z|start|0",
		"1|2026-01-01T00:02:00.000000000Z|2026-01-01T00:02:30.000000000Z|stopped|0",
		"1|2026-01-01T00:02:35.000000000Z|2026-01-01T00:02:40.000000000Z|ring full|3", // ended with the last sign of life
		"1|2026-01-01T00:02:40.000000000Z|2026-01-01T00:03:20.000000000Z|crash|NULL",
		"1|2026-01-01T00:03:20.000000000Z|2026-01-01T00:05:00.000000000Z|crash|NULL",
		"1|2026-01-01T00:05:10.000000000Z|NULL|stopped|0",
	}
	if got := rows(t, tape.Conn(), gapColumns); !slices.Equal(got, want) {
		t.Errorf("gaps:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := one(t, tape.Conn(), "SELECT detail FROM gaps WHERE to_time IS NULL"); got != "SIGTERM" {
		t.Errorf("detail: %s", got)
	}
	cov, err := tape.Coverage()
	if err != nil {
		t.Fatal(err)
	}
	if cov.Lost != (Loss{Known: 3, Unknown: true}) || len(cov.Gaps) != 6 || !cov.Gaps[0].From.IsZero() || !cov.Gaps[5].To.IsZero() || cov.Counters["seen"] != 7 {
		t.Errorf("coverage: %+v", cov)
	}
	if got := cov.From.Unix(); got != 1767225700 {
		t.Errorf("from %v", cov.From)
	}
	if !slices.Equal(cov.BlindSpots, []string{"MSG_FASTOPEN", `second\x0aline`}) {
		t.Errorf("blind spots: %q", cov.BlindSpots)
	}
}

// A gap grows and is closed under its from and cause.
// What a killed recorder had counted and not written is lost, and nothing but lost.
func TestCrashLosesInFlight(t *testing.T) {
	w := mustOpenWriter(t, t.TempDir(), options(100*second))
	mustAppend(t, w, Batch{Now: 110 * second, Counters: segment.Counters{"seen": 20, "stored": 12, "lost": 1, "in_flight": 7}})
	dir := crash(t, w)

	w = mustOpenWriter(t, dir, options(200*second))
	mustAppend(t, w, Batch{Now: 210 * second, Counters: segment.Counters{"seen": 5, "stored": 3, "lost": 0, "in_flight": 2}})
	mustClose(t, w, 220*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT cause, lost FROM gaps WHERE cause IN ('crash', 'unwritten') ORDER BY id")
	if want := []string{"unwritten|7", "crash|NULL"}; !slices.Equal(got, want) { // and what came after the last batch
		t.Errorf("gaps %q, want %q", got, want)
	}
	c := tape.Segments()[0].Counters
	if c["seen"] != 25 || c["stored"] != 15 || c["lost"] != 8 || c["lost_crash"] != 7 || c["in_flight"] != 2 {
		t.Errorf("counters %v", c)
	}
}

func TestGapReplaced(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Gaps: []Gap{{From: 101 * second, Cause: "ring full", Lost: 1}}})
	mustAppend(t, w, Batch{Gaps: []Gap{{From: 101 * second, Cause: "ring full", Lost: 9}, {From: 101 * second, Cause: "other"}}})
	mustAppend(t, w, Batch{Gaps: []Gap{{From: 101 * second, To: 104 * second, Cause: "ring full", Lost: 12, Detail: "d"}}})
	mustClose(t, w, 110*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT (from_ns - 1767225600000000000) / 1000000000, (to_ns - from_ns) / 1000000000, cause, lost, detail FROM gaps WHERE cause NOT IN ('start', 'stopped')")
	if want := []string{"101|3|ring full|12|d", "101|NULL|other|0|NULL"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
}

// A restart of the host is a boot in the same segment, and a gap.
func TestReboot(t *testing.T) {
	for name, crashed := range map[string]bool{"stopped": false, "crash": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := newWorld()
			w := mustOpenWriter(t, dir, options(100*second))
			mustAppend(t, w, Batch{Connections: []Connection{x.connection(105 * second)}, Now: 110 * second, Counters: segment.Counters{"seen": 1, "stored": 1}})
			if crashed {
				dir = crash(t, w)
			} else {
				mustClose(t, w, 110*second)
			}
			o := options(0)
			o.BootID, o.Kernel = "another-boot", "6.13.0"
			o.Now = Anchor{Boot: 20 * second, Real: epoch2026 + int64(500*second)}
			w = mustOpenWriter(t, dir, o)
			mustAppend(t, w, Batch{Connections: []Connection{x.connection(25 * second)}, Now: 30 * second, Counters: segment.Counters{"seen": 1, "stored": 1}})
			mustClose(t, w, 30*second)

			if names := files(t, dir); !slices.Equal(names, []string{"00000001.db", "lock"}) {
				t.Errorf("files: %v", names)
			}
			tape := mustOpenTape(t, dir)
			want := []string{
				"1|NULL|2026-01-01T00:01:40.000000000Z|start|0",
				"1|2026-01-01T00:01:50.000000000Z|2026-01-01T00:08:20.000000000Z|" + name + "|0",
				"1|2026-01-01T00:08:30.000000000Z|NULL|stopped|0",
			}
			if crashed {
				want[1] = strings.TrimSuffix(want[1], "0") + "NULL"
			}
			if got := rows(t, tape.Conn(), gapColumns); !slices.Equal(got, want) {
				t.Errorf("gaps:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			got := rows(t, tape.Conn(), "SELECT time FROM connections ORDER BY time_ns DESC")
			if want := []string{"2026-01-01T00:08:25.000000000Z", "2026-01-01T00:01:45.000000000Z"}; !slices.Equal(got, want) {
				t.Errorf("connections %q", got)
			}
			got = rows(t, tape.Conn(), "SELECT segment, state, boot_id, kernel, seen, stored, runs, boots, path FROM segments")
			if want := []string{"1|stopped|another-boot|6.13.0|2|2|2|2|00000001.db"}; !slices.Equal(got, want) {
				t.Errorf("segments %q", got)
			}
			// The same pid and start in two boots are two processes, each with the times of its boot.
			got = rows(t, tape.Conn(), "SELECT boot_id, start_time, exec_time FROM processes WHERE comm = 'curl' ORDER BY start_time")
			if want := []string{testBoot + "|2026-01-01T00:00:00.000000900Z|2026-01-01T00:00:00.000000950Z",
				"another-boot|2026-01-01T00:08:00.000000900Z|2026-01-01T00:08:00.000000950Z"}; !slices.Equal(got, want) {
				t.Errorf("processes %q", got)
			}
		})
	}
}

// A step of the wall clock moves the text and nothing else.
func TestClockStep(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	before, after := x.connection(110*second), x.connection(130*second)
	step := Anchor{Boot: 120 * second, Real: epoch2026 + int64(120*second) - int64(3600*second), Kind: "step", Sync: "unsynchronized"}
	mustAppend(t, w, Batch{Connections: []Connection{before}})
	mustAppend(t, w, Batch{Connections: []Connection{after}, Anchors: []Anchor{step}})
	mustClose(t, w, 140*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT time, time_ns FROM connections ORDER BY time_ns")
	want := []string{"2026-01-01T00:01:50.000000000Z|1767225710000000000", "2025-12-31T23:02:10.000000000Z|1767225730000000000"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := one(t, tape.Conn(), "SELECT to_time FROM segments"); got != "2025-12-31T23:02:20.000000000Z" {
		t.Errorf("to_time %s", got)
	}
}

// Counters are of the recorder's life; a segment shows what happened in it.
func TestCounters(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Counters: segment.Counters{"seen": 10, "stored": 8, "lost": 2}})
	mustAppend(t, w, Batch{Counters: segment.Counters{"seen": 20, "stored": 18}})
	mustClose(t, w, 110*second)
	w = mustOpenWriter(t, dir, options(120*second)) // begins at 0 again
	mustAppend(t, w, Batch{Counters: segment.Counters{"seen": 5, "stored": 4, "lost": 1}})
	mustClose(t, w, 130*second)
	tape := mustOpenTape(t, dir)
	if got := one(t, tape.Conn(), "SELECT seen, stored, coalesced, lost FROM segments"); got != "25|22|0|3" {
		t.Errorf("counters %s", got)
	}
}

// Somebody has the newest segment locked when the recorder starts: it is left,
// and the gap says who has it.
func TestSegmentHeld(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Now: 105 * second})
	mustClose(t, w, 110*second)
	path := filepath.Join(dir, "00000001.db")
	holder := startChild(t, "hold-lock", path)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w = mustOpenWriter(t, dir, options(150*second))
	if n, _ := w.Segment(); n != 2 {
		t.Errorf("segment %d, want 2", n)
	}
	mustClose(t, w, 160*second)
	if is, err := os.ReadFile(path); err != nil || !slices.Equal(is, was) {
		t.Error("the held segment was touched")
	}
	defer func() { // when nobody holds it any more it is sealed
		if err := holder.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		holder.Wait()
		w := mustOpenWriter(t, dir, options(170*second))
		waitSealed(t, w)
		mustClose(t, w, 180*second)
		if !tapedir.ClosedFile(path) {
			t.Error("the segment was not sealed")
		}
	}()
	tape := mustOpenTape(t, dir)
	got := one(t, tape.Conn(), "SELECT from_time, to_time, cause, detail FROM gaps WHERE segment = 2 AND to_time IS NOT NULL")
	want := "2026-01-01T00:01:50.000000000Z|2026-01-01T00:02:30.000000000Z|stopped|00000001.db was left as it is: held by store.test (pid " + itoa(int64(holder.Process.Pid)) + ")"
	if got != want {
		t.Errorf("gap %s\nwant %s", got, want)
	}
	if ids := one(t, tape.Conn(), "SELECT count(DISTINCT tape_id) FROM segments"); ids != "1" {
		t.Error("the tape id changed")
	}
}

// A newest segment that is no database, or torn, or empty, does not stop anyone.
func TestUnusableNewest(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"foreign": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("not a database ", 999)), 0o640)
		},
		"torn": func(path string) error { return os.Truncate(path, 3*pageSize+100) },
		"link": func(path string) error { os.Remove(path); return os.Symlink("/etc/passwd", path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustClose(t, mustOpenWriter(t, dir, options(100*second)), 110*second)
			if err := spoil(filepath.Join(dir, "00000001.db")); err != nil {
				t.Fatal(err)
			}
			w := mustOpenWriter(t, dir, options(150*second))
			mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(151 * second)}})
			if n, _ := w.Segment(); n != 2 {
				t.Errorf("segment %d, want 2", n)
			}
			mustClose(t, w, 160*second)
			tape := mustOpenTape(t, dir)
			cov, err := tape.Coverage()
			if err != nil {
				t.Fatal(err)
			}
			if got := one(t, tape.Conn(), "SELECT count(*) FROM connections"); got != "1" {
				t.Errorf("%s connections", got)
			}
			if name == "torn" { // what was left of it took its place
				if got := one(t, tape.Conn(), "SELECT count(*) FROM gaps WHERE segment = 1 AND cause = 'salvaged'"); got != "1" || len(cov.LeftOut) != 0 {
					t.Errorf("%s gaps, left out %+v", got, cov.LeftOut)
				}
			} else if name != "link" && (len(cov.LeftOut) != 1 || failure.HintOf(cov.LeftOut[0].Err) == "") {
				t.Errorf("left out: %+v", cov.LeftOut)
			}
			want := "crash|1"
			if name == "link" { // no segment, so no history that we know of; but its number is not used again
				want = "start|0"
			}
			if got := one(t, tape.Conn(), "SELECT cause, detail LIKE '00000001.db was left as it is: %' FROM gaps WHERE to_time IS NOT NULL AND segment = 2"); got != want {
				t.Errorf("gap %s", got)
			}
		})
	}
}

// A file that a killed recorder had only begun to make is removed.
func TestStillborn(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpenWriter(t, dir, options(100*second)), 110*second)
	if err := os.WriteFile(filepath.Join(dir, "00000002.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tape := mustOpenTape(t, dir)
	if cov, err := tape.Coverage(); err != nil || len(cov.LeftOut) != 0 {
		t.Errorf("coverage: %+v, %v", cov, err)
	}
	w := mustOpenWriter(t, dir, options(120*second))
	if n, _ := w.Segment(); n != 1 {
		t.Errorf("segment %d, want 1", n)
	}
	mustClose(t, w, 130*second)
	if names := files(t, dir); !slices.Equal(names, []string{"00000001.db", "lock"}) {
		t.Errorf("files: %v", names)
	}
}

// The recorder is killed between marking a segment closed and leaving WAL mode:
// the next one finishes that, and writes no second gap.
func TestClosingIsFinished(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Now: 105 * second})
	if err := w.seg.exec("UPDATE segment SET state = 'closed', closed_ns = heartbeat_ns"); err != nil {
		t.Fatal(err)
	}
	dir = crash(t, w)
	for i := range uint64(2) {
		w = mustOpenWriter(t, dir, options((150+50*i)*second))
		if n, _ := w.Segment(); n != 2 {
			t.Errorf("segment %d, want 2", n)
		}
		mustClose(t, w, (160+50*i)*second)
	}
	if names := files(t, dir); !slices.Equal(names, []string{"00000001.db", "00000002.db", "lock", segment.ManifestName, segment.DetailsName}) || !tapedir.ClosedFile(filepath.Join(dir, "00000001.db")) {
		t.Errorf("files: %v", names)
	}
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, cause FROM gaps ORDER BY segment, id")
	if want := []string{"1|start", "2|stopped", "2|stopped"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q", got)
	}
}
