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
	record, err := segment.NewRecord(path, number)
	w.step("segment sealed, manifest not written")
	if err == nil {
		err = w.withRoom(func() error { return w.manifest.Append(w.dir, record) })
	}
	w.step("manifest written")
	if err != nil {
		w.log.Warn("segment not noted in the manifest", "path", path, "error", err)
	}
}

// mendManifest adds entries for sealed segments without a valid one, and drops entries of removed segments.
func (w *Writer) mendManifest() {
	w.mu.Lock()
	var list []stored
	for _, s := range w.catalog.list {
		if s.state == sealed {
			list = append(list, stored{number: s.number, path: s.path})
		}
	}
	w.mu.Unlock()
	records, isWhole := w.missingRecords(list)
	if !isWhole {
		for _, name := range []string{segment.ManifestName, segment.DetailsName} {
			if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				w.log.Warn("manifest not written anew", "error", err)
				return
			}
		}
		w.step("manifest removed")
	}
	if len(records) > 0 {
		if err := w.manifest.Append(w.dir, records...); err != nil {
			w.log.Warn("manifest not mended", "error", err)
		}
	}
}

// missingRecords makes the records that the manifest lacks; all of them if it is not to be used any more.
func (w *Writer) missingRecords(list []stored) (records []*segment.Record, isWhole bool) {
	manifest := segment.ReadManifest(w.dir)
	defer manifest.Close()
	isWhole = manifest.Whole && manifest.Len() <= 2*len(list)+100
	for _, s := range list {
		info, err := os.Lstat(s.path)
		entry := manifest.Of(s.number)
		if errors.Is(err, fs.ErrNotExist) || err == nil && isWhole && entry.Mark == segment.MarkOf(info) && entry.HasDetails() {
			continue
		}
		record, err := segment.NewRecord(s.path, s.number)
		if err != nil {
			w.log.Warn("segment not noted in the manifest", "path", s.path, "error", err)
			continue
		}
		records = append(records, record)
	}
	return records, isWhole
}
