package capture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
)

// A testCase is one way to connect, with its expected rows.
type testCase struct {
	name string
	args []string // of connects; without them the name alone

	// command returns another command line than connects with args; dir is the case's own directory.
	command func(t *testing.T, dir string) *exec.Cmd
	// run makes the connects instead of command.
	run func(t *testing.T, dir string) (outcome, error)

	// all says how the case's rows differ from the reports; steps does so for the rows of a step.
	all   expectation
	steps map[string]expectation
	// check checks properties that are not in a column.
	check func(t *testing.T, c *caseRun)
}

// An expectation says how rows differ from a report.
type expectation struct {
	want     want                 // columns of connections
	process  want                 // columns of processes, of the row's process
	rows     []want               // the attempt makes these rows instead of one
	counted  bool                 // the last of rows may be several, one for each interval of counting: their counts and bytes are summed up
	blind    func() (spot string) // if it returns a word: no row, and the backend's blind_spots must have this word
	never    bool                 // no backend sees it: it is not a connection
	neverBut string               // as never, save on this backend
}

// caseRun is a testCase that has run.
type caseRun struct {
	*testCase
	outcome
	dir        string
	argv       []string
	err        error
	found      []found
	tape       *store.Tape
	blindSpots string
}

// found is an attempt and the rows that it made.
type found struct {
	report report
	rows   []row
}

// of returns the only row of a step.
func (c *caseRun) of(t *testing.T, step string) row {
	t.Helper()
	for _, f := range c.found {
		if f.report.Step == step && len(f.rows) == 1 {
			return f.rows[0]
		}
	}
	t.Fatalf("no row of step %s", step)
	return nil
}

func (c *testCase) start(t *testing.T) *caseRun {
	t.Helper()
	run := &caseRun{testCase: c, dir: tempDir(t)}
	if c.run != nil {
		run.outcome, run.err = c.run(t, run.dir)
		return run
	}
	cmd := exec.Command(env.connects, c.args...)
	switch {
	case c.command != nil:
		cmd = c.command(t, run.dir)
	case c.args == nil:
		cmd = exec.Command(env.connects, c.name)
	}
	cmd.Dir = run.dir
	run.argv = cmd.Args
	run.outcome, run.err = runConnects(cmd)
	return run
}

// verify finds the rows of a case that has run, when the recorder has ended.
func (c *caseRun) verify(t *testing.T) {
	if errors.Is(c.err, errNotHere) {
		coverage(c.name, "", "n/a", c.na)
		t.Skip(c.na)
	}
	if c.err != nil {
		coverage(c.name, "", "failed", c.err.Error())
		t.Fatal(c.err)
	}
	if len(c.reports) == 0 {
		t.Fatal("the case reported no attempt")
	}
	c.find(t)
	for _, f := range c.found {
		c.verifyAttempt(t, f)
	}
	if c.check != nil && !t.Failed() {
		c.check(t, c)
	}
}

func (c *caseRun) expected(step string) expectation {
	if e, ok := c.steps[step]; ok {
		return e
	}
	return c.all
}

func (e expectation) count() int {
	switch {
	case e.isNever(), e.blindHere() != "":
		return 0
	case e.rows != nil:
		return len(e.rows)
	}
	return 1
}

func (e expectation) isNever() bool { return e.never || e.neverBut != "" && e.neverBut != env.seenBy }

func (e expectation) blindHere() string {
	if e.blind == nil {
		return ""
	}
	return e.blind()
}

// find pairs the attempts of each process with the rows of its pid, both in time order. A missing or additional row
// fails the test.
func (c *caseRun) find(t *testing.T) {
	t.Helper()
	byPID := map[int64][]report{}
	for _, r := range c.reports {
		byPID[r.PID] = append(byPID[r.PID], r)
	}
	for pid, reports := range byPID {
		got := rowsOf(t, c.tape, pid, reports)
		n := 0
		for _, r := range reports {
			n += c.expected(r.Step).count()
			if c.expected(r.Step).counted {
				got = summedUp(got, n)
			}
		}
		if n != len(got) {
			t.Errorf("process %d: want %d rows, got %d:\n%s", pid, n, len(got), list(got))
			for _, r := range reports {
				coverage(c.name, r.Step, "failed", fmt.Sprintf("%d rows for %d attempts of the process", len(got), n))
			}
			continue
		}
		for _, r := range reports {
			k := c.expected(r.Step).count()
			c.found = append(c.found, found{r, got[:k]})
			got = got[k:]
		}
	}
}

// slack is the allowed difference between the tape's clock and the wall clock during a test: they are read separately,
// and one is slewed.
const slack = 50 * time.Millisecond

// summedUp adds what the rows behind the first n counted to the last of these.
func summedUp(got []row, n int) []row {
	for len(got) > n {
		last, next := got[n-1], got[n]
		if last["remote_raw"] != next["remote_raw"] || last["cookie"] != next["cookie"] || last["via"] != next["via"] {
			break
		}
		last["count"], last["bytes_sent"] = last.int("count")+next.int("count"), last.int("bytes_sent")+next.int("bytes_sent")
		got = slices.Delete(got, n, n+1)
	}
	return got
}

func rowsOf(t *testing.T, tape *store.Tape, pid int64, reports []report) []row {
	t.Helper()
	from, to := reports[0].Real0, reports[0].Real1
	for _, r := range reports {
		from, to = min(from, r.Real0), max(to, r.Real1)
	}
	return ask(t, tape, `SELECT * FROM connections WHERE pid = ? AND time_ns BETWEEN ? AND ? ORDER BY time_ns`,
		pid, from-int64(slack), to+int64(slack))
}

func (c *caseRun) verifyAttempt(t *testing.T, f found) {
	t.Helper()
	e := c.expected(f.report.Step)
	backend := env.seenBy
	switch spot := e.blindHere(); {
	case e.isNever():
		coverage(c.name, f.report.Step, "n/a", backend+": fails before it is a connect; not recorded")
		return
	case spot != "":
		if !strings.Contains(c.blindSpots, spot) {
			t.Errorf("%s cannot see this, and its blind spots do not say %q:\n%s", backend, spot, c.blindSpots)
		}
		coverage(c.name, f.report.Step, "blind", backend)
		return
	}
	wants := e.rows
	if wants == nil {
		wants = []want{e.want}
	}
	good := true
	for i, w := range wants {
		got := f.rows[i]
		good = match(t, f.report.Step, got, c.usual(f.report).but(w.resolve(c))) && good
		good = c.verifyProcess(t, f, got, e.process) && good
	}
	if !good {
		coverage(c.name, f.report.Step, "failed", backend)
		return
	}
	r := f.rows[0]
	coverage(c.name, f.report.Step, "seen", fmt.Sprintf("%s via=%s address=%s hook_errno=%v errno=%v outcome=%s", backend,
		r.text("via"), r.text("address_source"), show(r["hook_errno"]), show(r["errno"]), outcomes(c.usual(f.report).but(wants[0].resolve(c)), r)))
}

// outcomes returns the row's outcome, or all possible ones if it depends on which end closes first: else
// docs/coverage.md would change by chance.
func outcomes(w want, r row) string {
	expected, ok := norm(w["outcome"]).(test)
	if !ok || expected.values == nil {
		return strconv.Quote(r.text("outcome"))
	}
	var all []string
	for _, v := range expected.values {
		all = append(all, strconv.Quote(fmt.Sprint(v)))
	}
	return strings.Join(all, " or ")
}

func (c *caseRun) verifyProcess(t *testing.T, f found, got row, w want) bool {
	t.Helper()
	all := ask(t, c.tape, `SELECT * FROM processes WHERE process_id = ?`, got["process_id"])
	if len(all) != 1 {
		t.Errorf("%s: want one process %v, got %d", f.report.Step, got["process_id"], len(all))
		return false
	}
	usual := want{"pid": got["pid"], "parent_id": got["parent_id"], "exe": got["exe"], "cmdline": got["cmdline"], "cwd": got["cwd"],
		"ppid": got["ppid"], "cmdline_truncated": int64(0), "exe_deleted": int64(0), "exe_memfd": int64(0), "script": nil,
		"ancestry": got["ancestry"]}
	return match(t, f.report.Step+": process", all[0], usual.but(w.resolve(c)))
}

// coverage prints a line for docs/coverage.md.
func coverage(name, step, verdict, detail string) {
	if step != "" && step != "connect" {
		name += "/" + step
	}
	fmt.Printf("COVERAGE %s %s %s\n", name, verdict, strings.ReplaceAll(detail, "\n", " "))
}

func list(all []row) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "  %s tid=%v fd=%v via=%v %v %v:%v from %v hook_errno=%v errno=%v cookie=%v count=%v %v\n", r.text("time"), r["tid"],
			r["fd"], r["via"], r["family"], r["remote_address"], r["remote_port"], r["address_source"], r["hook_errno"], r["errno"],
			r["cookie"], r["count"], r["cmdline"])
	}
	return b.String()
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
