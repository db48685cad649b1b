package store

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/tapedir"
)

// What must survive a power loss is on the disk before what rests on it is done:
// the sealed copy before it takes the name of the segment, the name before anybody
// is told and the write bits go; a new segment with its name before it takes a
// batch; a hold before it is answered. Leaving out one of these syncs fails here.
func TestOrderOfSyncs(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	dir := filepath.Join(t.TempDir(), "tape")
	trace := filepath.Join(t.TempDir(), "trace")
	child := childCommand(t, "turn", dir, "12")
	cmd := exec.Command(strace, append([]string{"-f", "-y", "-qq", "-s", "300", "-o", trace,
		"-e", "trace=fsync,fdatasync,renameat,renameat2,fchmodat,linkat,openat,unlinkat"}, child.Args...)...)
	cmd.Env = child.Env
	if out, err := cmd.Output(); err != nil {
		t.Skipf("strace does not work here: %v %s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	// A call that another thread interrupts is in two lines; its end is what counts.
	var calls []string
	begun := map[string]string{}
	for line := range strings.Lines(string(text)) {
		pid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if head, ok := strings.CutSuffix(call, "<unfinished ...>"); ok {
			begun[pid] = head
			continue
		}
		if resumed.MatchString(call) {
			call = begun[pid] + resumed.ReplaceAllString(call, "")
		}
		calls = append(calls, call)
	}
	find := func(after int, what string) int {
		for i := max(after, 0); i < len(calls); i++ {
			if strings.Contains(strings.ReplaceAll(calls[i], " ", ""), strings.ReplaceAll(what, " ", "")) {
				return i
			}
		}
		return -1
	}
	syncOf := func(path string) string { return "<" + path + ">)" }
	sealedSegments := 0
	for n := 1; n <= 3; n++ {
		path := filepath.Join(dir, tapedir.SegmentName(n))
		renamed := find(0, fmt.Sprintf(`%q, AT_FDCWD`, path+tapedir.SealingSuffix))
		if renamed < 0 {
			continue
		}
		sealedSegments++
		synced := find(0, syncOf(path+tapedir.SealingSuffix))
		named := find(renamed, syncOf(dir))
		readOnly := find(0, fmt.Sprintf(`%q, 0440`, path))
		kept := find(readOnly, syncOf(path))
		if !(0 <= synced && synced < renamed && renamed < named && named < readOnly && readOnly < kept) {
			t.Errorf("%s: copy synced %d, renamed %d, directory synced %d, read-only %d, synced %d", path, synced, renamed, named, readOnly, kept)
		}
		if !strings.HasPrefix(calls[synced], "fsync(") || !strings.HasPrefix(calls[named], "fsync(") {
			t.Errorf("not a sync: %q, %q", calls[synced], calls[named])
		}
	}
	if sealedSegments == 0 {
		t.Fatalf("no segment was sealed in\n%s", text)
	}
	for n := 2; n <= 3; n++ {
		path := filepath.Join(dir, tapedir.SegmentName(n))
		made := find(0, fmt.Sprintf(`%q, O_RDWR|O_CREAT|O_EXCL`, path))
		first := find(made, syncOf(path+"-wal"))
		named := find(first, syncOf(dir))
		next := find(named, syncOf(path+"-wal"))
		if !(0 <= made && made < first && first < named && named < next) {
			t.Errorf("%s: made %d, first commit %d, directory synced %d, batch %d", path, made, first, named, next)
		}
	}
	linked := slices.IndexFunc(calls, func(call string) bool { return strings.HasPrefix(call, "linkat(") })
	if linked < 0 || find(linked, syncOf(filepath.Dir(heldIn(calls[linked])))) < 0 {
		t.Errorf("a held segment is not named durably: %d", linked)
	}
}

var resumed = regexp.MustCompile(`^<\.\.\. [a-z0-9_]+ resumed>`)

// heldIn returns the second path of a linkat.
func heldIn(call string) string {
	paths := regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(call, -1)
	if len(paths) < 2 {
		return ""
	}
	return paths[1][1]
}
