package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// Questions whose answers the log covers, so that verify vouches for them.
var mutantQuestions = []string{
	"SELECT cookie, count, pid, tid, comm, exe, cmdline, uid, remote_address, remote_port, errno FROM connections ORDER BY cookie",
	"SELECT exe, remote_address, count(*), sum(count) FROM connections GROUP BY 1, 2 ORDER BY 1, 2",
	"SELECT count(*) FROM connections WHERE remote_address = '10.0.0.7'",
	"SELECT DISTINCT process_id, exe, cmdline FROM processes ORDER BY 1",
}

// mutantTape is a tape with a sealed segment, 1, and one that is not sealed, 2.
type mutantTape struct {
	*sealedTape
	whole   string
	without map[int]string
}

func newMutantTape(t testing.TB) *mutantTape {
	t.Helper()
	m := &mutantTape{sealedTape: recordTape(t, filepath.Join(t.TempDir(), "tape"), 2), without: map[int]string{}}
	var err error
	if m.whole, _, err = answersOf(m.dir); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		aside := filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(m.path(n), aside); err != nil {
			t.Fatal(err)
		}
		if m.without[n], _, err = answersOf(m.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, m.path(n)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mutantTape) path(n int) string { return filepath.Join(m.dir, tapedir.SegmentName(n)) }

// answersOf asks a tape. left says that the answers tell of segments that are left out.
func answersOf(dir string) (answers string, left bool, err error) {
	tape, err := OpenTape(dir)
	if err != nil {
		return "", false, err
	}
	defer tape.Close()
	var b strings.Builder
	for _, question := range mutantQuestions {
		stmt, _, err := tape.Conn().PrepareTransient(question)
		if err != nil {
			return "", false, err
		}
		for more := true; more; {
			if more, err = stmt.Step(); err != nil {
				stmt.Finalize()
				return "", false, err
			}
			for i := 0; more && i < stmt.ColumnCount(); i++ {
				fmt.Fprintf(&b, "%s|", stmt.ColumnText(i))
			}
			b.WriteByte('\n')
		}
		if err := stmt.Finalize(); err != nil {
			return "", false, err
		}
	}
	coverage, err := tape.Coverage()
	return b.String(), len(coverage.LeftOut) > 0, err
}

// mutate alters the file of a segment, and says how.
func mutate(r *rand.Rand, data []byte) ([]byte, string) {
	data = bytes.Clone(data)
	pages := max(len(data)/sqlitefile.PageSize, 2)
	page := func() []byte {
		at := r.IntN(pages) * sqlitefile.PageSize
		return data[min(at, len(data)):min(at+sqlitefile.PageSize, len(data))]
	}
	switch r.IntN(14) {
	case 0, 1, 2, 3:
		at := r.IntN(len(data) * 8)
		data[at/8] ^= 1 << (at % 8)
		return data, fmt.Sprintf("bit %d", at)
	case 4:
		at := r.IntN(len(data))
		n := min(1+r.IntN(64), len(data)-at)
		for i := range n {
			data[at+i] = byte(r.Uint32())
		}
		return data, fmt.Sprintf("%d bytes at %d", n, at)
	case 5:
		clear(page())
		return data, "a page of zeros"
	case 6:
		a, b := page(), page()
		was := bytes.Clone(a)
		copy(a, b)
		copy(b, was)
		return data, "two pages swapped"
	case 7:
		copy(page(), page())
		return data, "a page twice"
	case 8:
		n := r.IntN(len(data))
		return data[:n], fmt.Sprintf("cut to %d bytes", n)
	case 9:
		more := make([]byte, 1+r.IntN(3*sqlitefile.PageSize))
		return append(data, more...), fmt.Sprintf("%d zeros more", len(more))
	case 10: // the header: sizes, schema format, free pages
		at := 16 + r.IntN(84)
		data[at] = byte(r.Uint32())
		return data, fmt.Sprintf("header byte %d", at)
	case 11: // the number of cells, where they begin
		p := page()
		if len(p) > 8 {
			p[3+r.IntN(5)] = byte(r.Uint32())
		}
		return data, "the header of a page"
	case 12: // pointers to cells
		p := page()
		if len(p) > 256 {
			binary.BigEndian.PutUint16(p[8+2*r.IntN(100):], uint16(r.Uint32()))
		}
		return data, "a pointer to a cell"
	default: // a child, an overflow page
		p := page()
		if len(p) > 12 {
			binary.BigEndian.PutUint32(p[8:], uint32(r.IntN(2*pages)))
		}
		return data, "a pointer to a page"
	}
}

// Segments that chance altered, 3,000 of them when CONNTAPE_TEST_LONG is set. No reader
// panics or hangs. An answer about the sealed segment is right, or the segment is
// left out and said to be; what salvage reads of it was recorded; verify names it. An
// answer about the one that is not sealed may be wrong, and never without verify
// finding it.
func TestMutatedSegments(t *testing.T) {
	m := newMutantTape(t)
	good := map[int][]byte{}
	for n := 1; n <= 2; n++ {
		text, err := os.ReadFile(m.path(n))
		if err != nil {
			t.Fatal(err)
		}
		good[n] = text
	}
	r := rand.New(rand.NewPCG(13, 3000))
	told, wrong, slowest := 0, 0, time.Duration(0)
	for round := range rounds(30, 120, 3000) {
		n := 1 + r.IntN(2)
		altered, how := mutate(r, good[n])
		if bytes.Equal(altered, good[n]) {
			continue
		}
		m.put(t, n, altered)
		start := time.Now()
		answers, left, err := answersOf(m.dir)
		v := m.verify(t, proof.Options{Key: m.key})
		salvaged := filepath.Join(t.TempDir(), "salvaged.db")
		result, salvageErr := proof.Salvage(t.Context(), m.path(n), salvaged)
		slowest = max(slowest, time.Since(start))
		what := fmt.Sprintf("round %d, segment %d: %s", round, n, how)

		silent := err == nil && !left && answers != m.whole
		if left && answers != m.without[n] {
			t.Errorf("%s: the answer without the segment is wrong", what)
		}
		if err != nil || left {
			told++
		}
		named := false
		for _, p := range v.Problems {
			named = named || p.Segment == n
		}
		switch {
		case n == 1 && !named:
			t.Errorf("%s: verify does not find it: %s", what, problems(v))
		case n == 1 && silent:
			t.Errorf("%s: another answer, and nothing is said", what)
		case silent && len(v.Problems) == 0:
			t.Errorf("%s: another answer, and verify finds nothing", what)
		case silent:
			wrong++
		}
		if n == 1 && salvageErr == nil {
			checkSalvaged(t, what, salvaged, m.whole, result.Altered+result.Unread > 0)
		}
		os.Remove(salvaged)
		m.put(t, n, good[n])
	}
	t.Logf("told %d times; of the segment that is not sealed %d wrong answers, all found by verify; the slowest took %v", told, wrong, slowest)
	if slowest > time.Minute {
		t.Errorf("a mutant took %v", slowest)
	}
	if v := m.verify(t, proof.Options{Key: m.key}); len(v.Problems) > 0 {
		t.Errorf("at the end: %s", problems(v))
	}
}

// put writes the file of a segment, with the mode that it had.
func (m *mutantTape) put(t testing.TB, n int, data []byte) {
	t.Helper()
	info, err := os.Stat(m.path(n))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(m.path(n)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path(n), data, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}

// checkSalvaged makes sure that each connection that was salvaged was recorded. lost says
// that pages were left out, and that this was said: then how often a connection was made,
// which is in another page, may be lost, and so may its process, address or result.
func checkSalvaged(t *testing.T, what, path, whole string, lost bool) {
	t.Helper()
	tape, err := OpenTape(path)
	if err != nil {
		t.Errorf("%s: what was salvaged cannot be opened: %v", what, err)
		return
	}
	defer tape.Close()
	recorded, cookies := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(whole) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		recorded[strings.Join(cells, "|")], cookies[cells[0]] = true, true
		if lost && len(cells) > 1 {
			cells[1] = "1"
			recorded[strings.Join(cells, "|")] = true
		}
	}
	for _, line := range rows(t, tape.Conn(), mutantQuestions[0]) {
		cells := strings.Split(line, "|")
		unknown := false
		for _, i := range []int{5, 8, 10} { // exe, remote_address, errno
			unknown = unknown || cells[i] == "NULL" || cells[i] == "?"
		}
		if !cookies[cells[0]] || !unknown && !recorded[line+"|"] {
			t.Errorf("%s: salvaged, and never recorded: %s", what, line)
			return
		}
	}
}
