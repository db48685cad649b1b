package store

import "github.com/conntape/conntape/store/failure"

// CheckPlace returns an error if the directory of the tape, or its lock, is not where it was when the tape was opened: somebody
// moved it away or put another in its place. It must not be called after Close.
func (w *Writer) CheckPlace() error {
	err := w.lock.CheckPlace()
	if err == nil {
		err = w.lock.CheckFile()
	}
	if err != nil {
		return &failure.Error{Op: "check tape", Path: w.dir, Err: err}
	}
	return nil
}
