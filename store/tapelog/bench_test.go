package tapelog

import (
	"path/filepath"
	"testing"
)

// checkpointLeaf is a typical leaf of a busy recorder.
func checkpointLeaf(n int) Leaf {
	return Leaf{Kind: KindCheckpoint, Boot: 3093873849864 + uint64(n)*tick, Real: epoch + int64(n)*int64(tick), Sync: "synchronized", Segment: 12,
		Batches: int64(n) * 10, Chain: Hash{byte(n), 1}, Seen: uint64(n) * 1000, Stored: uint64(n) * 900, Coalesced: uint64(n) * 100}
}

// BenchmarkAppend measures a checkpoint: mostly three syncs.
func BenchmarkAppend(b *testing.B) {
	l, err := Open(filepath.Join(b.TempDir(), "log"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; b.Loop(); n++ {
		if _, err := l.Append(checkpointLeaf(n)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.end)/float64(l.state.tree.size), "bytes/leaf")
}

// BenchmarkAppendMemory is the same without a disk.
func BenchmarkAppendMemory(b *testing.B) {
	l, err := open(newMemory(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	l.perPart = 1000 // memory copies its content with each write
	for n := 0; b.Loop(); n++ {
		if _, err := l.Append(checkpointLeaf(n)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify measures verifying a day of checkpoints.
func BenchmarkVerify(b *testing.B) {
	const day = 8640
	m := newMemory()
	l, err := open(m, Options{})
	if err != nil {
		b.Fatal(err)
	}
	l.perPart = 1000
	for n := range day {
		if _, err := l.Append(checkpointLeaf(n)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		r, err := verify(m, VerifyOptions{})
		if err != nil || len(r.Findings) > 0 || r.Leaves != day {
			b.Fatal(err, r.Findings)
		}
	}
}
