package segment

import (
	"hash/crc32"
	"os"
	"testing"
)

// Whatever a manifest has, it is read to an end.
func FuzzManifest(f *testing.F) {
	stat, err := os.Lstat(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	seg := &Segment{Runs: []Recorder{{Version: "v", counters: map[string]Counted{"seen": {1, 2}}}}, Boots: []Boot{{BootID: "b"}}}
	seg.Gaps = PackRows([][]Cell{{{Kind: 1, Number: 5}, {Kind: 3, Text: "y"}}})
	r := Describing(1, MarkOf(stat), seg, &Details{Roots: PackRoots(map[string]uint32{"x": 3}), Segments: seg.Gaps})
	var w ManifestWriter
	f.Add(w.encode(nil, r.Entry()), r.entry.text, r.details)
	f.Fuzz(func(t *testing.T, records []byte, text string, details []byte) {
		m := &Manifest{details: detailsOf(details)}
		m.addAll(records)
		for at := 0; at+recordHead < len(records); at++ { // bodies behind a sum that fits
			m.add(string(records[at:]), 1, &texts{})
		}
		m.sort()
		entry := m.Of(1)
		entry.HasDetails()
		entry = Entry{Number: 1, Mark: MarkOf(stat), text: text, texts: r.entry.texts, details: m.details,
			place: detailsPlace{length: int64(len(details)), sum: int64(crc32.ChecksumIEEE(details))}}
		seg := &Segment{Stat: stat}
		entry.Fill(seg)
		seg.TableRoots()
		seg.SmallRows("gaps")
		seg.SmallRows("segments")
		for i := range seg.Runs {
			seg.Runs[i].Counters()
		}
	})
}
