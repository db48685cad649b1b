package store

import (
	"path/filepath"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/tapedir"
)

// sharesName is the file in which a recorder leaves to the next one who wrote how much of the tape. Nothing else depends on it.
const sharesName = "shares"

// KeepShares replaces the text that the next recorder of the tape finds, durably. At most 64 KiB can be read again. Any goroutine may
// call it.
func (w *Writer) KeepShares(text []byte) error {
	path := filepath.Join(w.dir, sharesName)
	err := w.CheckPlace()
	if err == nil {
		err = w.withRoom(func() error { return tapedir.WriteWhole(path, text, tapedir.BirthMode) })
	}
	if err != nil {
		return &failure.Error{Op: "keep shares", Path: path, Err: failure.Bare(err)}
	}
	return nil
}

// KeptShares returns the text that the last recorder kept, nil if there is none.
func (w *Writer) KeptShares() []byte {
	text, err := tapedir.ReadSmall(filepath.Join(w.dir, sharesName))
	if err != nil {
		return nil
	}
	return text
}
