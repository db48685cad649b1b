package sqlitefile

import (
	"bytes"
	"errors"
	"io"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// openFile is a file that SQLite has open through our VFS.
type openFile struct {
	*watchedFile
	size   int64
	sums   *Sums  // nil: it has none, or they are not looked at
	err    error  // why the sums that it has cannot be used
	page   []byte // room for one
	header []byte // of the database, once its page was checked
}

// fileMethods returns what SQLite can do with a file: read it.
func fileMethods() sqlite3.Tsqlite3_io_methods {
	type (
		file   = func(tls *libc.TLS, file uintptr) int32
		number = func(tls *libc.TLS, file uintptr, n int32) int32
		out    = func(tls *libc.TLS, file, out uintptr) int32
	)
	return sqlite3.Tsqlite3_io_methods{
		FiVersion:  1,
		FxClose:    address(closeFile),
		FxRead:     address(readFile),
		FxFileSize: address(fileSize),

		FxWrite:    address(func(_ *libc.TLS, _, _ uintptr, _ int32, _ int64) int32 { return sqlite3.SQLITE_READONLY }),
		FxTruncate: address(func(_ *libc.TLS, _ uintptr, _ int64) int32 { return sqlite3.SQLITE_READONLY }),
		FxSync:     address[number](func(*libc.TLS, uintptr, int32) int32 { return sqlite3.SQLITE_OK }),

		// Nobody writes it.
		FxLock:              address[number](func(*libc.TLS, uintptr, int32) int32 { return sqlite3.SQLITE_OK }),
		FxUnlock:            address[number](func(*libc.TLS, uintptr, int32) int32 { return sqlite3.SQLITE_OK }),
		FxCheckReservedLock: address[out](func(_ *libc.TLS, _, is uintptr) int32 { *at[int32](is) = 0; return sqlite3.SQLITE_OK }),

		FxFileControl:           address(func(_ *libc.TLS, _ uintptr, _ int32, _ uintptr) int32 { return sqlite3.SQLITE_NOTFOUND }),
		FxSectorSize:            address[file](func(*libc.TLS, uintptr) int32 { return PageSize }),
		FxDeviceCharacteristics: address[file](func(*libc.TLS, uintptr) int32 { return sqlite3.SQLITE_IOCAP_IMMUTABLE }),
	}
}

// fileOf returns what there is of a file that SQLite has open.
func fileOf(file uintptr) (f *openFile, number uint64) {
	number = *at[uint64](file + unixVFS.size)
	found, _ := openFiles.Load(number)
	return found.(*openFile), number
}

// closeFile is xClose. The file belongs to who has asked for the URI.
func closeFile(_ *libc.TLS, file uintptr) int32 {
	_, number := fileOf(file)
	openFiles.Delete(number)
	return sqlite3.SQLITE_OK
}

// fileSize is xFileSize.
func fileSize(_ *libc.TLS, file, size uintptr) int32 {
	f, _ := fileOf(file)
	*at[int64](size) = f.size
	return sqlite3.SQLITE_OK
}

// readFile is xRead. Every page that any of the bytes are on is checked.
func readFile(_ *libc.TLS, file, buffer uintptr, n int32, from int64) int32 {
	f, _ := fileOf(file)
	into := memory(buffer, int(n))
	switch {
	case f.err != nil:
		return f.damaged(f.err)
	case f.sums == nil:
		return f.read(into, from)
	case n == PageSize && from%PageSize == 0:
		return f.readPage(into, from/PageSize)
	}
	if end := from + int64(n); from >= 0 && end <= int64(len(f.header)) {
		// Before each statement SQLite looks whether the header has changed.
		code := f.read(into, from)
		if code == sqlite3.SQLITE_OK && string(into) != string(f.header[from:end]) {
			return f.damaged(&PageError{1})
		}
		return code
	}
	if f.page == nil {
		f.page = make([]byte, PageSize)
	}
	for len(into) > 0 {
		if code := f.readPage(f.page, from/PageSize); code != sqlite3.SQLITE_OK {
			return code
		}
		if from < PageSize {
			f.header = bytes.Clone(f.page[:headerSize])
		}
		got := copy(into, f.page[from%PageSize:])
		into, from = into[got:], from+int64(got)
	}
	return sqlite3.SQLITE_OK
}

// readPage reads one page, counted from 0, and checks it.
func (f *openFile) readPage(into []byte, page int64) int32 {
	if page < 0 || page >= int64(f.sums.Pages()) {
		return f.damaged(damaged("no page %d", page+1))
	}
	code := f.read(into, page*PageSize)
	if code == sqlite3.SQLITE_IOERR_SHORT_READ { // SQLite would take it for zeros
		return f.damaged(damaged("it ends in page %d", page+1))
	}
	if code != sqlite3.SQLITE_OK {
		return code
	}
	if err := f.sums.Check(uint32(page+1), into); err != nil {
		return f.damaged(err)
	}
	return sqlite3.SQLITE_OK
}

// read fills into from the file, and with zeros where that ends.
func (f *openFile) read(into []byte, from int64) int32 {
	got, err := f.file.ReadAt(into, from)
	switch {
	case err == nil:
		return sqlite3.SQLITE_OK
	case errors.Is(err, io.EOF):
		clear(into[got:])
		return sqlite3.SQLITE_IOERR_SHORT_READ
	default:
		return sqlite3.SQLITE_IOERR_READ
	}
}

func (f *openFile) damaged(err error) int32 {
	f.watch.Found(f.path, err)
	return sqlite3.SQLITE_CORRUPT
}
