// Package wire is the protocol between a guest and its host: frames over a virtio serial port. The port carries nothing
// else, so that kernel messages or output of the payload are never taken for a result.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Port is the name of the virtio port.
const Port = "conntape.guest"

// ConfigPath is where the host leaves the Config, as JSON, in the guest's file system.
const ConfigPath = "/etc/guest.json"

// Config tells the guest's init what to do.
type Config struct {
	Nonce   string   // returned with the result, to identify the boot
	Args    []string // the payload
	Env     []string
	Modules []string // kernel modules, in the order in which to load them
	Get     []string // files to send back when the payload has ended
}

// Kind is the kind of a frame.
type Kind byte

// The frames, all from guest to host.
const (
	Output Kind = 'o' // bytes the payload wrote to stdout or stderr
	File   Kind = 'f' // a File, as JSON
	Log    Kind = 'k' // the kernel's log
	Done   Kind = 'd' // a Result, as JSON: the last frame
)

// A GuestFile is a file brought back. Error is set, and Data empty, when it could not be read.
type GuestFile struct {
	Name  string
	Data  []byte
	Error string `json:",omitempty"`
}

// A Result says how the payload ended.
type Result struct {
	Nonce  string
	Exit   int // exit status, 128+n for signal n, 127 when it could not be started
	Error  string
	Uptime float64 // seconds since boot when the payload was started
}

const maxFrame = 1 << 30

// Write sends one frame.
func Write(w io.Writer, kind Kind, data []byte) error {
	frame := make([]byte, 5, 5+len(data))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(data)))
	_, err := w.Write(append(frame, data...))
	return err
}

// Read receives one frame. It returns io.EOF when the guest ended between two frames.
func Read(r io.Reader) (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("read frame: %w", err)
	}
	return Kind(head[0]), data, nil
}
