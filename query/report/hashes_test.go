package report

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// hashedTape records a program that was replaced, one whose hash comes in the next segment, a script, and one that was not read.
func hashedTape(t *testing.T) string {
	t.Helper()
	return testtape.Recorded(t, hashedBatches)
}

// hashedBatches are the batches of hashedTape.
func hashedBatches(now store.Anchor) []store.Batch {
	shape, at, n := testtape.TCP(), now.Boot+1000, uint32(0)
	file := func(body, source string) *store.File {
		f := &store.File{Inode: uint64(len(body)) + 1, Ctime: uint64(len(source)) + uint64(n)}
		if body != "" || source != "" {
			f.SetDigests(&store.Digests{Known: body != "", SHA256: sha256.Sum256([]byte(body)), SHA1: sha1.Sum([]byte(body)), MD5: md5.Sum([]byte(body)), Source: source})
		}
		return f
	}
	run := func(exe, script string, f *store.File) store.Connection {
		n++
		p := &store.Process{Key: store.ProcessKey{Tgid: 100 + n, StartBoot: uint64(n)}, Comm: "c", Exe: exe, Script: script, ExeFile: f, LoginUID: -1, SessionID: -1, Source: store.SourceExec}
		return store.Connection{
			BootTime: at + uint64(n)*1000, Task: &store.Task{Process: p, Tid: 100 + n, Comm: "c", LoginUID: -1, SessionID: -1}, Shape: shape, FD: 3, Cookie: uint64(n),
			Remote: &store.Endpoint{Family: 2, Address: fmt.Sprint("198.51.100.", n), Port: 443, Raw: fmt.Append(nil, n)},
		}
	}
	late := file("", "")
	python := file("python", "later")
	script := run("/usr/bin/python3", "/opt/run.py", python)
	first := store.Batch{Now: at + 1_000_000,
		Connections: []store.Connection{
			run("/usr/bin/tool", "", file("old tool", "exec")), run("/usr/bin/tool", "", file("new tool", "exec")),
			run("/tmp/late", "", late), run("/tmp/gone", "", file("", "gone")), script,
		}, Scripts: []store.Script{{Process: script.Task.Process, File: file("script", "later")}}}
	read := &store.File{Inode: late.Inode, Ctime: late.Ctime}
	read.SetDigests(&store.Digests{Known: true, SHA256: sha256.Sum256([]byte("late")), SHA1: sha1.Sum([]byte("late")), MD5: md5.Sum([]byte("late")), Source: "exec"})
	return []store.Batch{first, {Now: at + 1_000_000, Connections: []store.Connection{run("/usr/bin/other", "", nil)}, Files: []*store.File{read}}}
}

func TestProgramsAreFoundByTheirHash(t *testing.T) {
	tape := testtape.Opened(t, hashedTape(t))
	window := input.Window{Since: time.Now().Add(-time.Hour)}
	asked := func(name string, args map[string]string) string {
		t.Helper()
		c := cannedNamed(t, name)
		params, err := c.Bind(args, input.Clock{Now: time.Now()}, window)
		if err != nil {
			t.Fatal(err)
		}
		return testtape.CSVOf(t, name, func(out format.RowWriter) (ask.Result, error) {
			return NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, window).Run(t.Context(), out)
		})
	}
	sha := func(body string) string { s := sha256.Sum256([]byte(body)); return hex.EncodeToString(s[:]) }
	one := func(body string) string { s := sha1.Sum([]byte(body)); return hex.EncodeToString(s[:]) }
	five := func(body string) string { s := md5.Sum([]byte(body)); return hex.EncodeToString(s[:]) }
	for digest, remote := range map[string]string{
		sha("old tool"): "198.51.100.2:443", one("new tool"): "198.51.100.3:443", strings.ToUpper(five("late")): "198.51.100.4:443", sha("script"): "198.51.100.1:443", sha("python"): "198.51.100.1:443",
	} {
		found := asked("who", map[string]string{"indicator": digest})
		if strings.Count(found, ":443,") != 1 || !strings.Contains(found, remote) {
			t.Errorf("who %s: %s, not %s alone", digest, found, remote)
		}
	}
	programs := asked("programs", nil)
	for _, want := range []string{"/usr/bin/tool," + sha("old tool") + ",exec,", "/usr/bin/tool," + sha("new tool") + ",exec,", "/tmp/late," + sha("late") + ",exec,", "/tmp/gone,,gone,", "/usr/bin/other,,unknown,", "/usr/bin/python3," + sha("python") + ",later," + sha("script")} {
		if !strings.Contains(programs, want) {
			t.Errorf("programs has no %s: %s", want, programs)
		}
	}
	var set indicator.Set
	for i, digest := range []string{sha("old tool"), one("late"), five("script"), sha("nobody's"), strings.Repeat("0", 128)} {
		set.Add(&indicator.Indicator{Kind: indicator.Hash, Text: digest, Line: i})
	}
	found := testtape.CSVOf(t, "match", func(out format.RowWriter) (ask.Result, error) {
		return Match(t.Context(), tape, &set, MatchRequest{Window: window}, out)
	})
	for _, want := range []string{sha("old tool") + ",hash,,program,", one("late") + ",hash,,program,", five("script") + ",hash,,script,"} {
		if !strings.Contains(found, want) {
			t.Errorf("match has no %s: %s", want, found)
		}
	}
	if n := strings.Count(found, ",hash,"); n != 3 {
		t.Errorf("match has %d hits: %s", n, found)
	}
	if got, err := Unhashed(t.Context(), tape); err != nil || !slices.Equal(got, []coverage.Unhashed{{Source: "gone", Programs: 1, Processes: 1}, {Source: "unknown", Programs: 1, Processes: 1}}) {
		t.Errorf("%+v, %v", got, err)
	}
	if set.OtherHashes() != 1 {
		t.Errorf("%d hashes of other kinds", set.OtherHashes())
	}
}

// View programs has the processes of each program with a hash, and of each script; a hash that came in a later segment too.
func TestProgramsOfProcesses(t *testing.T) {
	tape := testtape.Opened(t, hashedTape(t))
	const columns = "exe, comm, script, exe_sha256, exe_md5, hash_source, script_sha1, script_hash_source, segment"
	got := answerOf(t, tape, "SELECT "+columns+", sum(processes), min(first_time) FROM programs GROUP BY "+columns+" ORDER BY "+columns)
	want := answerOf(t, tape, "SELECT "+columns+", count(*), min(exec_time) FROM (SELECT *, iif(exe IS NULL, c, NULL) AS comm FROM (SELECT exe, comm AS c, script, exe_sha256, exe_md5, hash_source, script_sha1, script_hash_source, segment, exec_time FROM processes)) GROUP BY "+columns+" ORDER BY "+columns)
	if got != want || strings.Count(got, "\n") != 6 {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	late := sha256.Sum256([]byte("late"))
	if got := answerOf(t, tape, "SELECT exe, processes, pid FROM programs WHERE exe_sha256 = '"+hex.EncodeToString(late[:])+"'"); got != "/tmp/late,1,104\n" {
		t.Errorf("the program with a hash that came later is %q", got)
	}
}
