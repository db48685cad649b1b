package bpf

import (
	"encoding/binary"
	"errors"
	"testing"
)

func TestJoinPath(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"\x00":                       "/",
		"curl\x00bin\x00usr\x00":     "/usr/bin/curl",
		"a b\nc\x00tmp\x00":          "/tmp/a b\nc",
		"\xff\xfe\x00d\x00":          "/d/\xff\xfe",
		"cut":                        "/cut",
		"x\x00\x00":                  "/x",
		"memfd:payload\x00":          "/memfd:payload",
		"..\x00.\x00" /* hostile */ : "/./..",
	} {
		if got := joinPath([]byte(in), false); got != want {
			t.Errorf("joinPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestJoinPathCut(t *testing.T) {
	if got := joinPath([]byte("program\x00directory\x00"), true); got != "…/directory/program" {
		t.Errorf("cut path: %q", got)
	}
}

// A name that a task had before leaves its end behind the NUL: two events of one thread must not differ by it.
func TestCommEndsAtNUL(t *testing.T) {
	b := make([]byte, connectSize+2*sockaddrSmall)
	copy(b[96:], "sh\x00leftover")
	c := Connect{Comm: [commLen]byte{3: 'z', 15: 'z'}}
	if err := c.decode(b); err != nil {
		t.Fatal(err)
	}
	if c.Comm != [commLen]byte{'s', 'h'} {
		t.Errorf("comm %q", c.Comm)
	}
}

func TestShortRecords(t *testing.T) {
	whole := make([]byte, connectSize+2*sockaddrSmall)
	for n := range whole {
		var c Connect
		if err := c.decode(whole[:n]); !errors.Is(err, ErrShortRecord) {
			t.Errorf("connect of %d bytes: %v", n, err)
		}
	}
	long := append([]byte(nil), whole...)
	binary.NativeEndian.PutUint16(long[92:], sockaddrSmall+1)
	var c Connect
	if err := c.decode(long); !errors.Is(err, ErrShortRecord) {
		t.Errorf("remote address longer than its room: %v", err)
	}
	process := make([]byte, processSize)
	binary.NativeEndian.PutUint16(process[140:], 1)
	var p Process
	if _, err := p.decode(process); !errors.Is(err, ErrShortRecord) {
		t.Errorf("argv beyond the record: %v", err)
	}
}

func FuzzConnect(f *testing.F) {
	f.Add(make([]byte, connectSize+2*sockaddrSmall))
	f.Add(make([]byte, connectSize+sockaddrLarge+localLarge))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Connect
		if err := c.decode(b); err != nil {
			if !errors.Is(err, ErrShortRecord) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		if len(c.Remote) > sockaddrLarge || len(c.Local) > localLarge || len(c.Remote)+len(c.Local)+connectSize > len(b) {
			t.Fatalf("addresses of %d and %d bytes from a record of %d", len(c.Remote), len(c.Local), len(b))
		}
	})
}

func FuzzProcess(f *testing.F) {
	f.Add(make([]byte, processSize))
	f.Add(make([]byte, processSize+64))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Process
		n, err := p.decode(b)
		if err != nil {
			if !errors.Is(err, ErrShortRecord) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		if n < processSize || n > len(b) || len(p.Argv) > n-processSize {
			t.Fatalf("took %d bytes of %d", n, len(b))
		}
	})
}
