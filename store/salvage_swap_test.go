package store

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
)

// Who owns the directory that a segment is salvaged into swaps it, again and again, for one where the name of
// the new segment is a link to a file of somebody else: that file is never written.
func TestSalvageIntoSwappedDirectory(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(101 * second)}})
	mustClose(t, w, 110*second)
	from := filepath.Join(dir, tapedir.SegmentName(1))

	base := t.TempDir()
	his, trap, victim := filepath.Join(base, "his"), filepath.Join(base, "trap"), filepath.Join(base, "victim")
	for _, dir := range []string{his, trap} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	arm := func() {
		if err := os.Symlink(victim, filepath.Join(trap, "out.db")); err != nil {
			t.Fatal(err)
		}
	}
	arm()
	done := 0
	for range 60 {
		if err := os.WriteFile(victim, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, his, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE)
				}
			}
		}()
		_, err := proof.Salvage(t.Context(), from, filepath.Join(his, "out.db"))
		close(stop)
		<-stopped
		if err == nil {
			done++
		}
		if info, err := os.Stat(victim); err != nil || info.Size() > 0 || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v: somebody else's file was written: %v", err, info)
		}
		for _, dir := range []string{his, trap} { // also the link may be gone: what was made in its place is removed
			os.Remove(filepath.Join(dir, "out.db"))
		}
		arm()
	}
	t.Logf("%d were salvaged", done)
}
