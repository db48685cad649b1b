package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/conntape/conntape/store/segment"
)

// noteSealed appends an entry to the manifest. A failure is harmless: readers then open the segment.
func (w *Writer) noteSealed(path string, number int) {
	record, err := segment.NewEntry(path, number)
	w.step("segment sealed, manifest not written")
	if err == nil {
		err = w.withRoom(func() error { return segment.AppendManifest(w.dir, record) })
	}
	w.step("manifest written")
	if err != nil {
		w.log.Warn("segment not noted in the manifest", "path", path, "error", err)
	}
}

// mendManifest adds entries for sealed segments without a valid one, and drops entries of removed segments.
func (w *Writer) mendManifest() {
	entries, isWhole := segment.ReadManifest(w.dir)
	var records []byte
	w.mu.Lock()
	var list []stored
	for _, s := range w.catalog.list {
		if s.state == sealed {
			list = append(list, stored{number: s.number, path: s.path})
		}
	}
	w.mu.Unlock()
	isWhole = isWhole && len(entries) <= 2*len(list)+100
	for _, s := range list {
		info, err := os.Lstat(s.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && isWhole && entries[s.number].Mark.IsOf(&segment.Segment{File: s.path, Stat: info}) {
			continue
		}
		record, err := segment.NewEntry(s.path, s.number)
		if err != nil {
			w.log.Warn("segment not noted in the manifest", "path", s.path, "error", err)
			continue
		}
		records = append(records, record...)
	}
	if !isWhole {
		if err := os.Remove(filepath.Join(w.dir, segment.ManifestName)); err != nil {
			w.log.Warn("manifest not written anew", "error", err)
			return
		}
		w.step("manifest removed")
	}
	if len(records) > 0 {
		if err := segment.AppendManifest(w.dir, records); err != nil {
			w.log.Warn("manifest not mended", "error", err)
		}
	}
}
