package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// powerBatches is how many batches playPower records, powerBatch the number of
// connections in each.
const (
	powerBatches = 42
	powerBatch   = 60
)

// playPower records with a log whose keys evolve all the time, closes, seals, holds
// and removes segments, and stops. It says which connections are safe, the key and
// each signed checkpoint. Arguments: directory, boot id, batches, number of connections that were there before.
func playPower(args []string) error {
	o, k := powerOptions(args[0], args[1])
	k.o.Begun = func(key string) { fmt.Println("key", key) }
	k.o.Checkpoint = func(head []byte) { fmt.Println("head", tapelog.HeadLine(head)) }
	o.Limits, o.step = powerLimits(), stepHook()
	batches, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	w, err := OpenWriter(args[0], o)
	if err != nil {
		return err
	}
	l, before := newLoad(10, 40), uint64(0)
	if len(args) > 3 {
		if before, err = strconv.ParseUint(args[3], 10, 64); err != nil {
			return err
		}
		l.n = before
	}
	conns := make([]Connection, powerBatch)
	for i := range batches {
		now, err := ReadAnchor("")
		if err != nil {
			return err
		}
		l.boot = now.Boot
		l.fill(conns)
		b := Batch{Connections: conns, Now: now.Boot, Counters: segment.Counters{"seen": l.n - before, "stored": l.n - before}}
		if err := w.Append(b); err != nil {
			return err
		}
		fmt.Println("safe", l.n)
		if i%3 == 2 {
			if err := w.Rotate(); err != nil {
				return err
			}
			for segments(w) > 6 && w.expireOldest(tapelog.ExpiredFull) {
			}
		}
		if i == 7 {
			if _, err := w.hold(Request{Reason: "x"}); err != nil {
				return err
			}
		}
		time.Sleep(10 * time.Millisecond) // for the one who seals
	}
	if err := w.Close(Gap{}, nil); err != nil {
		return err
	}
	return k.Close()
}

// powerReserve is the variable of the environment that has the tape reserved in slots.
const powerReserve = "CONNTAPE_TEST_RESERVE"

func powerLimits() retain.Limits {
	if os.Getenv(powerReserve) != "" {
		return retain.Limits{MaxBytes: minSlotted, Reserve: true}
	}
	return retain.Limits{MaxBytes: retain.MinMaxBytes}
}

// powerOptions are options of a recorder with the real clocks whose log has a
// checkpoint every few milliseconds.
func powerOptions(dir, boot string) (WriterOptions, *LogKeeper) {
	o := options(0)
	o.Now, o.BootID = Anchor{}, boot
	k := newLogKeeper(dir, LogOptions{Host: o.Host, MachineID: o.MachineID, BootID: o.BootID, Version: o.Version,
		Backend: o.Backend, BlindSpots: o.BlindSpots}, 15*time.Millisecond)
	o.Events = k.Listen
	return o, k
}

// tracePower returns what playPower did with the tape in root. Keys are in ordinary
// memory, or strace could not read what is written to the key file.
func tracePower(t *testing.T, root, boot string, batches int) []operation {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	child := childCommand(t, "power", filepath.Join(root, "tape"), boot, strconv.Itoa(batches))
	cmd := exec.Command(strace, append([]string{"-f", "-qq", "-xx", "-s", strconv.Itoa(64 << 20), "-o", trace,
		"-e", "signal=none", "-e", "trace=memfd_secret," + powerCalls,
		"-e", "inject=memfd_secret:error=ENOSYS"}, child.Args...)...)
	cmd.Env = child.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "error:") {
			t.Fatalf("%s", out)
		}
		t.Skipf("strace does not work here: %v %s", err, out)
	}
	return readTrace(t, trace)
}

// promised is what a recorder had said when the power went off.
type promised struct {
	safe  int64 // number of the last connection
	key   string
	head  []byte
	again bool // it went off while a recorder recovered
	clean bool // all recorders stopped but for one that had not begun
}

func promisedIn(said string) (p promised) {
	for line := range strings.Lines(said) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		what, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch what {
		case "safe":
			p.safe, _ = strconv.ParseInt(text, 10, 64)
		case "key":
			p.key = text
		}
	}
	p.head, _ = proof.FindCheckpoint(strings.NewReader(said))
	return p
}

// checkPower says what is wrong with a tape that a power loss left: it verifies
// with the key and the head that were given away, the next recorder goes on with
// it, and what was said to be safe is there, at most one batch more, and a gap.
func checkPower(t *testing.T, dir string, p promised) error {
	verified := func(when string) error {
		v, err := proof.Verify(context.Background(), dir, proof.Options{Key: p.key, Head: p.head})
		if err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		if len(v.Problems) > 0 || p.key != "" && !v.KeyMatched || p.head != nil && !v.HeadMatched || v.Proven != v.Leaves {
			return fmt.Errorf("%s: %skey %v, head %v, %d of %d leaves proven", when, problems(v), v.KeyMatched, v.HeadMatched, v.Proven, v.Leaves)
		}
		return nil
	}
	if p.safe > 0 && p.key != "" && !p.again {
		if err := verified("before recovery"); err != nil {
			return err
		}
	}
	o, k := powerOptions(dir, "boot-after")
	o.Limits = powerLimits()
	w, err := OpenWriter(dir, o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	now, err := ReadAnchor("")
	if err != nil {
		return err
	}
	err = w.Append(Batch{Now: now.Boot})
	if err == nil {
		waitSealed(t, w)
	}
	if cerr := w.Close(Gap{}, nil); err == nil {
		err = cerr
	}
	if cerr := k.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("go on: %w", err)
	}
	if err := verified("after recovery"); err != nil {
		return err
	}
	tape, err := OpenTape(dir)
	if err != nil {
		return err
	}
	defer tape.Close()
	if cov, err := tape.Coverage(); err != nil || len(cov.LeftOut) > 0 {
		return fmt.Errorf("coverage: %+v, %w", cov.LeftOut, err)
	}
	const query = `SELECT count(*), count(DISTINCT cookie), coalesce(min(cookie), 0), coalesce(max(cookie), 0),
		(SELECT count(*) FROM gaps WHERE cause = 'crash') FROM connections`
	var stored, distinct, first, last, gaps int64
	fmt.Sscan(strings.ReplaceAll(one(t, tape.Conn(), query), "|", " "), &stored, &distinct, &first, &last, &gaps)
	if stored != distinct || stored > 0 && stored != last-first+1 {
		return fmt.Errorf("%d rows, %d connections, %d to %d", stored, distinct, first, last)
	}
	if low := p.safe + 100_000; p.safe > 0 && (last < low || last > low+powerBatch) {
		return fmt.Errorf("up to %d, safe was %d", last, low)
	}
	if p.safe > 0 && p.safe < powerBatches*powerBatch && gaps == 0 && !p.clean { // after the last it may have stopped
		return fmt.Errorf("no gap tells of the power loss: %q", rows(t, tape.Conn(), "SELECT cause FROM gaps"))
	}
	return nil
}

// crashPoints returns at most n operations after which to cut the power: half of
// them right after a name changed or something was synced.
func crashPoints(operations []operation, r *rand.Rand, n int) []int {
	var turns []int
	for i, o := range operations {
		if strings.HasPrefix(o.call, "rename") || strings.HasPrefix(o.call, "unlink") || strings.HasPrefix(o.call, "link") ||
			strings.HasPrefix(o.call, "mkdir") || strings.Contains(o.call, "sync") {
			turns = append(turns, i)
		}
	}
	var points []int
	for i := range n {
		if i%2 == 0 {
			points = append(points, turns[r.IntN(len(turns))])
		} else {
			points = append(points, r.IntN(len(operations)))
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}

// cutPower plays the operations and cuts the power at n points. It returns how
// many tapes that left were not as promised, and the first reason. Operations of
// which mutant says so are left out.
func cutPower(t *testing.T, p *player, operations []operation, seed uint64, points []int, mutant func(*player, operation) bool) (failed int, first error) {
	t.Helper()
	again := p.said != ""
	r := rand.New(rand.NewPCG(seed, 7))
	next := 0
	for i, o := range operations {
		if mutant == nil || !mutant(p, o) {
			p.play(t, i, o)
		}
		for next < len(points) && points[next] == i {
			var chance *rand.Rand
			if next%3 > 0 {
				chance = r
			}
			next++
			to, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			p.disk.crash(t, chance, p.root, to)
			said := promisedIn(p.said)
			said.again = again
			if err := checkPower(t, filepath.Join(to, "tape"), said); err != nil {
				failed++
				if first == nil {
					first = fmt.Errorf("power lost after operation %d of %d (%s), any part of the rest kept %v: %w",
						i, len(operations), o.call, chance != nil, err)
				}
			}
			os.RemoveAll(to)
		}
	}
	p.disk.compare(t)
	return failed, first
}

// The power goes off, and again while the next recorder makes good what is left.
// What two recorders had begun and not told the log may be a problem to verify
// until the third one has; then the tape is whole.
func TestPowerLossWhileRecovering(t *testing.T) {
	t.Run("no reserve", func(t *testing.T) { testPowerLossWhileRecovering(t, rounds(1, 3, 30)) })
	t.Run("slots", func(t *testing.T) { t.Setenv(powerReserve, "1"); testPowerLossWhileRecovering(t, rounds(1, 1, 15)) })
}

func testPowerLossWhileRecovering(t *testing.T, times int) {
	root := t.TempDir()
	operations := tracePower(t, root, testBoot, powerBatches)
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	again := 0
	for _, first := range crashPoints(operations, r, times) {
		p := newPlayer(root)
		for i, o := range operations[:first+1] {
			p.play(t, i, o)
		}
		left := t.TempDir()
		p.disk.crash(t, r, root, left)
		next := newPlayer(left)
		next.load(t)
		next.said = p.said
		recovery := tracePower(t, left, "boot-between", 0)
		points := crashPoints(recovery, r, rounds(5, 10, 20))
		failed, err := cutPower(t, next, recovery, r.Uint64(), points, nil)
		if err != nil {
			t.Errorf("the power lost after operation %d of %d; then %d of %d, the first: %v", first, len(operations), failed, len(points), err)
		}
		again += len(points)
	}
	t.Logf("the power went off %d times in a recovery", again)
}

// mutants are recorders that leave out what makes their promises hold. A sync
// changes nothing else that a program does: their operations are those of the true
// one without it.
var mutants = map[string]func(*player, operation) bool{
	"no sync of directories": func(p *player, o operation) bool {
		f := p.open[o.args[0]]
		return strings.HasSuffix(o.call, "sync") && f != nil && f.node.dir
	},
	"no sync of files": func(p *player, o operation) bool {
		f := p.open[o.args[0]]
		return strings.HasSuffix(o.call, "sync") && f != nil && !f.node.dir
	},
	"sealed copy renamed without a sync": func(p *player, o operation) bool {
		f := p.open[o.args[0]]
		return strings.HasSuffix(o.call, "sync") && f != nil && strings.HasSuffix(f.path, tapedir.SealingSuffix)
	},
}

// A disk that keeps any part of what was not synced must find each of them, or
// TestPowerLoss proves nothing.
func TestPowerLossOfMutants(t *testing.T) {
	root := t.TempDir()
	operations := tracePower(t, root, testBoot, powerBatches)
	var points []int // each sync after a name changed, which is of the directory
	for i, o := range operations {
		if strings.HasSuffix(o.call, "sync") && named(operations[max(i-20, 0):i]) {
			points = append(points, i)
		}
	}
	for name, leaves := range mutants {
		t.Run(name, func(t *testing.T) {
			failed, err := cutPower(t, newPlayer(root), operations, 2, points, leaves)
			if failed == 0 {
				t.Error("it passes")
			}
			t.Logf("%d of %d failed, as they must, the first: %v", failed, len(points), err)
		})
	}
}

// named reports whether the last of the operations that change or sync anything
// gave a file another name.
func named(operations []operation) bool {
	for _, o := range slices.Backward(operations) {
		if strings.HasSuffix(o.call, "sync") {
			return false
		}
		if strings.HasPrefix(o.call, "rename") {
			return true
		}
	}
	return false
}

// The power goes off at any instant, and the disk keeps what was synced and any
// part of the rest: the tape verifies with the key and the last checkpoint that
// were given away, the next recorder goes on with it, and no more than the open
// batch is lost.
func TestPowerLoss(t *testing.T) {
	t.Run("no reserve", testPowerLoss)
	t.Run("slots", func(t *testing.T) { t.Setenv(powerReserve, "1"); testPowerLoss(t) })
}

func testPowerLoss(t *testing.T) {
	root := t.TempDir()
	operations := tracePower(t, root, testBoot, powerBatches)
	seed := rand.Uint64()
	points := crashPoints(operations, rand.New(rand.NewPCG(seed, 1)), rounds(10, 30, 600))
	failed, err := cutPower(t, newPlayer(root), operations, seed, points, nil)
	if err != nil {
		t.Errorf("seed %d: %d of %d, the first: %v", seed, failed, len(points), err)
	}
	t.Logf("%d operations, the power went off %d times", len(operations), len(points))
}
