package store

import "errors"

// Escape returns raw as printable text, reversibly. See Unescape.
func Escape(raw []byte) string { return string(raw) }

// Unescape returns the raw bytes of an escaped text.
func Unescape(text string) ([]byte, error) { return nil, errors.ErrUnsupported }

// Cmdline joins escaped arguments to one line.
func Cmdline(argv []string) string { return "" }
