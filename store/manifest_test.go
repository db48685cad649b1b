package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// turnedTape records n segments, each sealed but for the last, with some endpoints that all have and some that one has.
func turnedTape(t testing.TB, n int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	for i := range n {
		var b Batch
		for j := range 40 {
			c := x.connection(uint64(101+100*i+j) * second)
			c.Remote = endpoint(2, fmt.Sprintf("192.0.2.%d", j), int32(80+j%3))
			if j%2 == 0 {
				c.Remote = endpoint(10, fmt.Sprintf("::ffff:198.51.%d.%d", i, j), 443)
			}
			b.Connections = append(b.Connections, c)
		}
		b.Counters = segment.Counters{"seen": uint64(40 * (i + 1)), "stored": uint64(40 * (i + 1))}
		if i != 2 {
			b.Gaps = []Gap{{From: uint64(150+100*i) * second, To: uint64(151+100*i) * second, Cause: "ring full", Lost: 1}}
		}
		mustAppend(t, w, b)
		if i < n-1 {
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
			waitSealed(t, w)
		}
	}
	mustClose(t, w, uint64(101+100*n)*second)
	return dir
}

// told returns what a tape tells of itself, and how many segments it opened for that.
func told(t testing.TB, dir string) (text string, opened int) {
	t.Helper()
	tape := mustOpenTape(t, dir)
	cov, err := tape.Coverage()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, info := range tape.Segments() {
		fmt.Fprintf(&b, "%+v\n", info)
	}
	fmt.Fprintf(&b, "%+v\n", cov)
	for _, query := range []string{"SELECT * FROM gaps", "SELECT * FROM segments", "SELECT * FROM gaps WHERE segment = 2"} {
		b.WriteString(strings.Join(rows(t, tape.Conn(), query), "\n"))
	}
	tape.Bound(segment.WallTime(epoch2026+int64(155*second)), segment.WallTime(epoch2026+int64(260*second)))
	b.WriteString(strings.Join(rows(t, tape.Conn(), "SELECT * FROM gaps"), "\n"))
	for i, seg := range tape.segs {
		if seg.reading != nil && i < len(tape.segs)-1 {
			opened++
		}
	}
	return b.String(), opened
}

// With the manifest a tape tells the same as without it, and opens none of the sealed segments. An entry counts for the
// file alone that it was made of, and a manifest that is torn or altered is no harm.
func TestManifest(t *testing.T) {
	dir := turnedTape(t, 5)
	manifest := filepath.Join(dir, segment.ManifestName)
	whole, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	got, opened := told(t, dir)
	if opened != 0 {
		t.Errorf("%d sealed segments were opened", opened)
	}
	os.Remove(manifest)
	want, opened := told(t, dir)
	if got != want || opened != 4 {
		t.Errorf("with the manifest\n%s\nwithout it, %d opened\n%s", got, opened, want)
	}
	for name, text := range map[string][]byte{
		"torn": whole[:len(whole)-9], "a bit": slices.Concat(whole[:200], []byte{whole[200] ^ 1}, whole[201:]), "empty": {}, "another version": append([]byte("conntape manifest 3\n"), whole[20:]...), "without its texts": withoutTexts(whole),
		"a huge length": append(whole[:20:20], 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5),
	} {
		if err := os.WriteFile(manifest, text, 0o640); err != nil {
			t.Fatal(err)
		}
		if got, _ := told(t, dir); got != want {
			t.Errorf("%s: it tells\n%s\nwant\n%s", name, got, want)
		}
	}
	if err := os.WriteFile(manifest, whole, 0o640); err != nil {
		t.Fatal(err)
	}
	// A copy of the tape, and a segment that a hold has linked, are the same files; another segment of that name is not, and is left out.
	first, second := filepath.Join(dir, tapedir.SegmentName(1)), filepath.Join(dir, tapedir.SegmentName(2))
	if err := os.Link(first, filepath.Join(t.TempDir(), "held")); err != nil {
		t.Fatal(err)
	}
	if _, opened := told(t, dir); opened != 0 {
		t.Errorf("after a hold %d sealed segments were opened", opened)
	}
	text, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	swapFile(t, first, text)
	tape := mustOpenTape(t, dir)
	if got := one(t, tape.Conn(), "SELECT group_concat(segment) FROM segments"); got != "2,3,4,5" {
		t.Errorf("segments %s", got)
	}
	if left := tape.LeftOut(); len(left) != 1 || left[0].Path != first {
		t.Errorf("left out: %v", left)
	}
}

// The manifest tells of each address of a segment, in both forms of IPv4, and of few others. Without it any may be there.
func TestManifestTellsAddresses(t *testing.T) {
	dir := turnedTape(t, 4)
	tape := mustOpenTape(t, dir)
	others := 0
	for i := range tape.segs[:3] {
		for j := range 40 {
			in := fmt.Sprintf("192.0.2.%d", j)
			if j%2 == 0 {
				in = fmt.Sprintf("198.51.%d.%d", i, j)
			}
			for _, form := range []string{in, "::ffff:" + in} {
				if !tape.MayHave(i, netip.MustParseAddr(form)) {
					t.Errorf("segment %d does not have %s", i+1, form)
				}
			}
			if tape.MayHave(i, netip.AddrFrom4([4]byte{203, 0, 113, byte(j)})) {
				others++
			}
		}
	}
	if others > 120/4 {
		t.Errorf("%d of 120 other addresses", others)
	}
	if err := os.Remove(filepath.Join(dir, segment.ManifestName)); err != nil {
		t.Fatal(err)
	}
	if !mustOpenTape(t, dir).MayHave(0, netip.MustParseAddr("203.0.113.1")) {
		t.Error("a segment without an entry does not have an address")
	}
}

// readManifest returns the number of a manifest's entries, and whether it is whole.
func readManifest(t testing.TB, dir string) (entries int, whole bool) {
	m := segment.ReadManifest(dir)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return m.Len(), m.Whole
}

func mustReadFile(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// withoutTexts leaves out of a manifest the first record, which has the texts that the others refer to.
func withoutTexts(manifest []byte) []byte {
	head := len(segment.ManifestMagic)
	return slices.Concat(manifest[:head], manifest[head+8+int(binary.BigEndian.Uint32(manifest[head:])):])
}

// Details that are altered or missing are no harm: the segment is asked instead. The next recorder makes them anew.
func TestManifestWithoutDetails(t *testing.T) {
	dir := turnedTape(t, 5)
	details := filepath.Join(dir, segment.DetailsName)
	whole := mustReadFile(t, details)
	want, _ := told(t, dir)
	for name, text := range map[string][]byte{"missing": nil, "torn": whole[:len(whole)-9], "a bit": append(slices.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1),
		"moved": whole[1:], "empty": {}} {
		os.Remove(details)
		if text != nil {
			if err := os.WriteFile(details, text, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		got, opened := told(t, dir)
		if got != want || opened == 0 {
			t.Errorf("%s: %d segments are opened. It tells\n%s\nwant\n%s", name, opened, got, want)
		}
		w := mustOpenWriter(t, dir, options(9000*second))
		waitSealed(t, w)
		mustClose(t, w, 9001*second)
		if _, opened := told(t, dir); opened != 0 {
			t.Errorf("%s: after a recorder %d segments are opened", name, opened)
		}
		want, _ = told(t, dir)
	}
}

// A recorder makes the entries that are missing, and leaves out those of segments that are gone.
func TestManifestIsMended(t *testing.T) {
	dir := turnedTape(t, 6)
	want, err := os.ReadFile(filepath.Join(dir, segment.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{nil, want[:len(want)/2], slices.Concat(want, want[20:]), []byte("x")} {
		if err := os.WriteFile(filepath.Join(dir, segment.ManifestName), text, 0o640); err != nil {
			t.Fatal(err)
		}
		w := mustOpenWriter(t, dir, options(9000*second))
		waitSealed(t, w)
		mustClose(t, w, 9001*second)
		if entries, whole := readManifest(t, dir); entries < 5 || !whole {
			t.Errorf("of %d bytes: %d entries, whole: %t", len(text), entries, whole)
		}
		if _, opened := told(t, dir); opened != 0 {
			t.Errorf("of %d bytes: %d segments are opened", len(text), opened)
		}
	}
}

// What is found by the index is what SQLite finds, of any range, in segments of a leaf and of branches.
func TestFindEndpoints(t *testing.T) {
	for _, endpoints := range []int{40, 900, 4000} {
		w := mustOpenWriter(t, filepath.Join(t.TempDir(), "tape"), options(100*second))
		l := newLoad(20, endpoints)
		conns := make([]Connection, 6*endpoints)
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		tape := mustOpenTape(t, w.dir)
		conn := connOf(t, tape, len(tape.segs))
		all := rows(t, conn, "SELECT address FROM endpoint ORDER BY random() LIMIT 12")
		if len(all) < 5 {
			t.Fatalf("%d endpoints", len(all))
		}
		for _, r := range [][2]string{{"", "\xff"}, {"1", "2"}, {"192.0.2.1", "192.0.2.1"}, {"z", "zz"}, {"9", "1"}, {all[0], all[0]}, {all[1], all[1] + "~"}, {all[2][:3], all[2][:3] + "~"}, {min(all[3], all[4]), max(all[3], all[4])}} {
			r := segment.TextRange{From: r[0], To: r[1]}
			want := rows(t, conn, "SELECT id, family, address, port FROM endpoint WHERE address BETWEEN ? AND ? ORDER BY id", r.From, r.To)
			var got []string
			err := tape.FindEndpoints(context.Background(), len(tape.segs)-1, []segment.TextRange{r}, func(id, family int64, address []byte, port int64) error {
				got = append(got, fmt.Sprintf("%d|%d|%s|%d", id, family, address, port))
				return nil
			})
			slices.SortFunc(got, func(a, b string) int {
				var x, y int
				fmt.Sscan(strings.Split(a, "|")[0], &x)
				fmt.Sscan(strings.Split(b, "|")[0], &y)
				return x - y
			})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%q: %d, want %d: %v", r, len(got), len(want), err)
			}
		}
	}
}
