package sqlitefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite reads a database through a VFS. Ours is SQLite's own "unix" VFS, except that it compares each page of a
// database with sums with its sum, at every read. It has no memory mapping (methods of version 1), which would bypass
// the check.
//
// SQLite reserves memory for each open file. After the part of "unix" we keep the file's number in openFiles.

const vfsName = "conntape"

// headerSize is the length of the header of a database, in bytes.
const headerSize = 100

// SQLite's memory may not hold Go pointers, so a callback finds its Go value by a number.
var (
	lastNumber atomic.Uint64 // never used twice
	openFiles  sync.Map      // of databases with sums: number to *checkedFile
	watched    sync.Map      // number in a URI to *watchedFile
)

// Damage is damage found in a file.
type Damage struct {
	Path string // as passed to URI
	Err  error  // ErrDamaged; for a page, a *PageError
}

// Watch opens files for SQLite and remembers the damage found in them, because SQLite itself only returns
// SQLITE_CORRUPT. It is safe for concurrent use.
type Watch struct {
	mu      sync.Mutex
	damage  []Damage // the first of each file
	numbers []uint64 // in watched
}

// watchedFile is a file that may be opened by number.
type watchedFile struct {
	watch *Watch
	path  string
}

// URI returns the URI under which SQLite opens a file that nobody writes: without locks, without extra files, and with
// checked pages if the file has sums. It is valid until Close.
func (w *Watch) URI(path string) (string, error) {
	if err := registerVFS(); err != nil {
		return "", err
	}
	n := lastNumber.Add(1)
	watched.Store(n, &watchedFile{w, path})
	w.mu.Lock()
	w.numbers = append(w.numbers, n)
	w.mu.Unlock()
	return (&url.URL{Scheme: "file", Path: path}).String() + "?mode=ro&immutable=1&vfs=" + vfsName + "&watch=" + strconv.FormatUint(n, 10), nil
}

// Damage returns the first damage found in each file so far.
func (w *Watch) Damage() []Damage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Damage(nil), w.damage...)
}

// Close forgets the files. Open connections still work, but the Watch does not get their damage.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.numbers {
		watched.Delete(n)
	}
	w.numbers = nil
}

// Found adds damage found by other means.
func (w *Watch) Found(path string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, known := range w.damage {
		if known.Path == path {
			return
		}
	}
	w.damage = append(w.damage, Damage{path, err})
}

// unixVFS is SQLite's own VFS, the size of its file structure, and the file methods derived from it.
var unixVFS struct {
	open    openFunc
	size    uintptr
	watch   uintptr // "watch" as a C string
	mu      sync.Mutex
	methods map[uintptr]uintptr
}

type (
	openFunc  = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	readFunc  = func(tls *libc.TLS, file, buffer uintptr, n int32, at int64) int32
	closeFunc = func(tls *libc.TLS, file uintptr) int32
	sizeFunc  = func(tls *libc.TLS, file, size uintptr) int32
)

// registerVFS registers the VFS with SQLite, once.
var registerVFS = sync.OnceValue(func() error {
	tls := libc.NewTLS()
	defer tls.Close()
	name, err := libc.CString(vfsName)
	if err != nil {
		return fmt.Errorf("register VFS: %w", err)
	}
	if unixVFS.watch, err = libc.CString("watch"); err != nil {
		return fmt.Errorf("register VFS: %w", err)
	}
	unix := sqlite3.Xsqlite3_vfs_find(tls, 0)
	vfs := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	if unix == 0 || vfs == 0 {
		return errors.New("register VFS: out of memory")
	}
	own := at[sqlite3.Tsqlite3_vfs](vfs)
	*own = *at[sqlite3.Tsqlite3_vfs](unix)
	unixVFS.open, unixVFS.size, unixVFS.methods = function[openFunc](own.FxOpen), uintptr(own.FszOsFile+7)&^7, map[uintptr]uintptr{}
	own.FpNext, own.FzName, own.FszOsFile, own.FxOpen = 0, name, int32(unixVFS.size)+8, address(openDatabase)
	if code := sqlite3.Xsqlite3_vfs_register(tls, vfs, 0); code != sqlite3.SQLITE_OK {
		return fmt.Errorf("register VFS: code %d", code)
	}
	return nil
})

// at returns the value at an address of C memory.
func at[T any](address uintptr) *T { return (*T)(*(*unsafe.Pointer)(unsafe.Pointer(&address))) }

// memory returns bytes of C memory. It is not inlined: go1.26 stops with an internal error if it sees bytes copied from
// a number.
//
//go:noinline
func memory(address uintptr, n int) []byte { return unsafe.Slice(at[byte](address), n) }

// function returns the Go function of a C method.
func function[F any](method uintptr) F { return *(*F)(unsafe.Pointer(&method)) }

// address returns the C address of a function. It must not be a closure: C keeps nothing alive.
func address[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// checkedFile is a database with sums, open in SQLite.
type checkedFile struct {
	methods *sqlite3.Tsqlite3_io_methods // of "unix"
	sums    *Sums
	err     error   // why the sums cannot be used
	page    uintptr // buffer for one page
	header  []byte  // the database's header, once its page was checked
	file    *watchedFile
}

// openDatabase is xOpen: it opens a file as "unix" does, with checked reads if the database has sums.
func openDatabase(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	code := unixVFS.open(tls, vfs, name, file, flags, outFlags)
	if code != sqlite3.SQLITE_OK || flags&sqlite3.SQLITE_OPEN_MAIN_DB == 0 {
		return code
	}
	methods := &at[sqlite3.Tsqlite3_file](file).FpMethods
	f := &checkedFile{methods: at[sqlite3.Tsqlite3_io_methods](*methods), file: &watchedFile{new(Watch), ""}}
	f.sums, f.err = f.readSums(tls, file)
	if errors.Is(f.err, ErrNoSums) {
		return sqlite3.SQLITE_OK
	}
	own, page := methodsOf(tls, *methods), libc.Xmalloc(tls, PageSize)
	if own == 0 || page == 0 {
		libc.Xfree(tls, page)
		f.close(tls, file)
		return sqlite3.SQLITE_NOMEM
	}
	if number := sqlite3.Xsqlite3_uri_parameter(tls, name, unixVFS.watch); number != 0 {
		n, _ := strconv.ParseUint(libc.GoString(number), 10, 64)
		if w, ok := watched.Load(n); ok {
			f.file = w.(*watchedFile)
		}
	}
	f.page = page
	number := lastNumber.Add(1)
	openFiles.Store(number, f)
	*at[uint64](file + unixVFS.size) = number
	*methods = own
	return sqlite3.SQLITE_OK
}

// methodsOf returns the methods of a checked file, 0 if there is no memory for them.
func methodsOf(tls *libc.TLS, unix uintptr) uintptr {
	unixVFS.mu.Lock()
	defer unixVFS.mu.Unlock()
	if own, ok := unixVFS.methods[unix]; ok {
		return own
	}
	own := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
	if own == 0 {
		return 0
	}
	methods := at[sqlite3.Tsqlite3_io_methods](own)
	*methods = *at[sqlite3.Tsqlite3_io_methods](unix)
	methods.FiVersion, methods.FxRead, methods.FxClose = 1, address(readDatabase), address(closeDatabase)
	unixVFS.methods[unix] = own
	return own
}

// fileOf returns our part of an open file.
func fileOf(file uintptr) (f *checkedFile, number uint64) {
	number = *at[uint64](file + unixVFS.size)
	found, _ := openFiles.Load(number)
	return found.(*checkedFile), number
}

// closeDatabase is xClose.
func closeDatabase(tls *libc.TLS, file uintptr) int32 {
	f, number := fileOf(file)
	openFiles.Delete(number)
	libc.Xfree(tls, f.page)
	return f.close(tls, file)
}

// readDatabase is xRead. It checks every page of the range.
func readDatabase(tls *libc.TLS, file, buffer uintptr, n int32, from int64) int32 {
	f, _ := fileOf(file)
	if f.err != nil {
		return f.damaged(f.err)
	}
	if n == PageSize && from%PageSize == 0 {
		return f.read(tls, file, buffer, from/PageSize)
	}
	into := memory(buffer, int(n))
	if end := from + int64(n); from >= 0 && end <= int64(len(f.header)) {
		// SQLite reads the header before each statement, to see changes.
		code := function[readFunc](f.methods.FxRead)(tls, file, buffer, n, from)
		if code == sqlite3.SQLITE_OK && string(into) != string(f.header[from:end]) {
			return f.damaged(&PageError{1})
		}
		return code
	}
	for len(into) > 0 {
		if code := f.read(tls, file, f.page, from/PageSize); code != sqlite3.SQLITE_OK {
			return code
		}
		page := memory(f.page, PageSize)
		if from < PageSize {
			f.header = bytes.Clone(page[:headerSize])
		}
		got := copy(into, page[from%PageSize:])
		into, from = into[got:], from+int64(got)
	}
	return sqlite3.SQLITE_OK
}

// read reads one page, counted from 0, and checks it.
func (f *checkedFile) read(tls *libc.TLS, file, buffer uintptr, page int64) int32 {
	if page < 0 || page >= int64(f.sums.Pages()) {
		return f.damaged(damaged("no page %d", page+1))
	}
	code := function[readFunc](f.methods.FxRead)(tls, file, buffer, PageSize, page*PageSize)
	if code == sqlite3.SQLITE_IOERR_SHORT_READ { // SQLite would take it for zeros
		return f.damaged(damaged("it ends in page %d", page+1))
	}
	if code != sqlite3.SQLITE_OK {
		return code
	}
	if err := f.sums.Check(uint32(page+1), memory(buffer, PageSize)); err != nil {
		return f.damaged(err)
	}
	return sqlite3.SQLITE_OK
}

func (f *checkedFile) damaged(err error) int32 {
	f.file.watch.Found(f.file.path, err)
	return sqlite3.SQLITE_CORRUPT
}

// close closes the file as "unix" does.
func (f *checkedFile) close(tls *libc.TLS, file uintptr) int32 {
	return function[closeFunc](f.methods.FxClose)(tls, file)
}

// readSums reads the sums through SQLite's descriptor, so that a renamed file cannot take its place.
func (f *checkedFile) readSums(tls *libc.TLS, file uintptr) (*Sums, error) {
	size := libc.Xmalloc(tls, 8)
	if size == 0 {
		return nil, errors.New("out of memory")
	}
	defer libc.Xfree(tls, size)
	if code := function[sizeFunc](f.methods.FxFileSize)(tls, file, size); code != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("read page sums: code %d", code)
	}
	return ReadSums(readerAt{tls, file, function[readFunc](f.methods.FxRead)}, *at[int64](size))
}

// readerAt reads a file that SQLite has open.
type readerAt struct {
	tls  *libc.TLS
	file uintptr
	read readFunc
}

// ReadAt reads into C memory, which does not move, and copies.
func (r readerAt) ReadAt(into []byte, from int64) (int, error) {
	buffer := libc.Xmalloc(r.tls, libc.Tsize_t(len(into)))
	if buffer == 0 {
		return 0, errors.New("out of memory")
	}
	defer libc.Xfree(r.tls, buffer)
	switch code := r.read(r.tls, r.file, buffer, int32(len(into)), from); code {
	case sqlite3.SQLITE_OK:
		return copy(into, memory(buffer, len(into))), nil
	case sqlite3.SQLITE_IOERR_SHORT_READ:
		return 0, io.ErrUnexpectedEOF
	default:
		return 0, fmt.Errorf("code %d", code)
	}
}
