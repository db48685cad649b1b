// Package tapedir knows the directory of a tape: names of files, their modes and group, the lock, the legal holds, and
// which directories and file systems are suitable. It makes names durable.
//
// It does not know the content of segments or of the log, and opens them only with package os.
package tapedir
