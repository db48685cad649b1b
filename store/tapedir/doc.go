// Package tapedir knows what lies where in the directory of a tape: the names of its files, their modes and group, its lock,
// the legal holds, and which directories and file systems are fit for one. It makes names durable.
//
// It does not know what is in a segment or in the log, and opens neither with anything but os.
package tapedir
