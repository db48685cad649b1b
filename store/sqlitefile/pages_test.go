package sqlitefile

import (
	"bytes"
	"os"
	"testing"
)

// A file that is cut anywhere in its sums has all its pages, and no page more.
func TestCutInSums(t *testing.T) {
	path, data := withSums(t)
	sums, err := ReadSums(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	pages := int(sums.Pages())
	for _, cut := range []struct{ length, unread int }{
		{len(data), 0}, {len(data) - 1, 0}, {len(data) - SumsEnd, 0}, {pages*PageSize + 1, 0}, {pages * PageSize, 0}, {pages*PageSize - 1, 1},
	} {
		if err := os.WriteFile(path, data[:cut.length], 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := OpenPages(t.Context(), file, nil)
		if err != nil {
			t.Fatal(err)
		}
		page := make([]byte, p.Size)
		for n := uint32(1); n <= p.Count; n++ {
			p.Read(n, page)
		}
		if int(p.Count) != pages || p.Unread != cut.unread || p.Altered > 0 {
			t.Errorf("%d of %d bytes: %d pages of %d, %d unread, %d altered", cut.length, len(data), p.Count, pages, p.Unread, p.Altered)
		}
		p.Close()
	}
}
