package sqlitefile

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite opens a file by its name, which may lead to another file by then. So our VFS opens no database: it reads files
// that the caller has opened and checked. It compares each page of a database with sums with its sum, at every read. It
// has no memory mapping (methods of version 1), which would bypass the check. Other files, such as those SQLite sorts in,
// it leaves to SQLite's own VFS, "unix".
//
// SQLite reserves memory for each open file. After the part of "unix" we keep the file's number in openFiles.

const vfsName = "conntape"

// headerSize is the length of the header of a database, in bytes.
const headerSize = 100

// SQLite's memory may not hold Go pointers, so a callback finds its Go value by a number.
var (
	lastNumber atomic.Uint64 // never used twice
	openFiles  sync.Map      // number to *openFile
	watched    sync.Map      // number in a URI to *watchedFile
)

// Damage is damage found in a file.
type Damage struct {
	Path string // as passed to URI
	Err  error  // ErrDamaged; for a page, a *PageError
}

// Watch hands files to SQLite and remembers the damage found in them, because SQLite itself only returns
// SQLITE_CORRUPT. It is safe for concurrent use.
type Watch struct {
	mu      sync.Mutex
	damage  []Damage // the first of each file
	numbers []uint64 // in watched
}

// watchedFile is a file that SQLite may read.
type watchedFile struct {
	file      *os.File
	watch     *Watch
	path      string
	unchecked bool
}

// URI returns the URI under which SQLite reads a file that nobody writes: without locks, without opening it again, and
// with checked pages if the file has sums. Damage calls the file path. The caller keeps the file open until the
// connection is closed. The URI is valid until Close.
func (w *Watch) URI(file *os.File, path string) (string, error) {
	return w.uri(&watchedFile{file, w, path, false})
}

// UncheckedURI is URI for a file that is known to be altered: its sums are ignored.
func (w *Watch) UncheckedURI(file *os.File, path string) (string, error) {
	return w.uri(&watchedFile{file, w, path, true})
}

func (w *Watch) uri(f *watchedFile) (string, error) {
	if err := registerVFS(); err != nil {
		return "", err
	}
	n := lastNumber.Add(1)
	watched.Store(n, f)
	w.mu.Lock()
	w.numbers = append(w.numbers, n)
	w.mu.Unlock()
	// SQLite wants a name. Nothing has this one.
	return fmt.Sprintf("file:/%s-%d?mode=ro&immutable=1&vfs=%s&watch=%d", vfsName, n, vfsName, n), nil
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

// unixVFS is SQLite's own VFS, the size of its file structure, and the methods of our files.
var unixVFS struct {
	open    openFunc
	size    uintptr
	watch   uintptr // "watch" as a C string
	methods uintptr
}

type openFunc = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32

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
	unixVFS.methods = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
	if unix == 0 || vfs == 0 || unixVFS.methods == 0 {
		return errors.New("register VFS: out of memory")
	}
	*at[sqlite3.Tsqlite3_io_methods](unixVFS.methods) = fileMethods()
	own := at[sqlite3.Tsqlite3_vfs](vfs)
	*own = *at[sqlite3.Tsqlite3_vfs](unix)
	unixVFS.open, unixVFS.size = function[openFunc](own.FxOpen), uintptr(own.FszOsFile+7)&^7
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

// openDatabase is xOpen: a database is the file registered under the number in its URI; "unix" opens other files.
func openDatabase(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	if flags&sqlite3.SQLITE_OPEN_MAIN_DB == 0 {
		return unixVFS.open(tls, vfs, name, file, flags, outFlags)
	}
	*at[uintptr](file) = 0 // no methods: SQLite does not call xClose
	number, _ := strconv.ParseUint(libc.GoString(sqlite3.Xsqlite3_uri_parameter(tls, name, unixVFS.watch)), 10, 64)
	found, ok := watched.Load(number)
	if !ok {
		return sqlite3.SQLITE_CANTOPEN
	}
	f := &openFile{watchedFile: found.(*watchedFile)}
	info, err := f.file.Stat()
	if err != nil {
		return sqlite3.SQLITE_IOERR_FSTAT
	}
	if f.size = info.Size(); !f.unchecked {
		if f.sums, f.err = ReadSums(f.file, f.size); errors.Is(f.err, ErrNoSums) {
			f.err = nil
		}
	}
	number = lastNumber.Add(1)
	openFiles.Store(number, f)
	*at[uint64](file + unixVFS.size) = number
	*at[uintptr](file) = unixVFS.methods
	if outFlags != 0 {
		*at[int32](outFlags) = flags
	}
	return sqlite3.SQLITE_OK
}
