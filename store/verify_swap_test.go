package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// What has the name of a segment and is no regular file is told by verify, and
// left out of answers: the segment that it stands for was removed. A link to the
// segment itself is no segment either.
func TestNameOfASegment(t *testing.T) {
	base := t.TempDir()
	s := recordTape(t, filepath.Join(base, "tape"), 4)
	for name, make := range map[string]func(path string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o750) },
		"a pipe":      func(path string) error { return unix.Mkfifo(path, 0o640) },
		"a socket": func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err == nil {
				l.SetUnlinkOnClose(false)
				l.Close()
			}
			return err
		},
		"a device": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o640, int(unix.Mkdev(1, 3))) },
		"a link":   func(path string) error { return os.Symlink("/nowhere", path) },
		"a link to it": func(path string) error {
			return os.Symlink(filepath.Join(s.dir, filepath.Base(path)), path)
		},
		"nothing": func(string) error { return nil },
	} {
		for _, number := range []int{1, 2, 3, 4, 9} {
			t.Run(fmt.Sprint(name, " ", number), func(t *testing.T) {
				dir := copyTape(t, s.dir)
				path := filepath.Join(dir, tapedir.SegmentName(number))
				os.Remove(path)
				if err := make(path); err != nil {
					if os.Geteuid() != 0 && name == "a device" {
						t.Skip("needs root")
					}
					t.Fatal(err)
				}
				if number == 9 && name == "nothing" {
					return
				}
				v := (&sealedTape{dir: dir}).verify(t, proof.Options{Key: s.key, Head: s.lastHead()})
				if text := problems(v); !strings.Contains(text, fmt.Sprintf("%d %s: ", number, tapedir.SegmentName(number))) {
					t.Errorf("problems: %s", text)
				}
				if name == "nothing" && (number == 1 || number == 4) {
					return // as if it had expired, or were not begun yet
				}
				tape := mustOpenTape(t, dir)
				c, err := tape.Coverage()
				if err != nil {
					t.Fatal(err)
				}
				if len(c.LeftOut) != 1 || c.LeftOut[0].Path != path {
					t.Errorf("left out: %v", c.LeftOut)
				}
			})
		}
	}
}

// A segment that was removed from between, of which the log says nothing.
func TestBreakInTheChain(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 4)
	if err := os.Remove(filepath.Join(s.dir, tapedir.SegmentName(2))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.dir, tapedir.LogDir)); err != nil {
		t.Fatal(err)
	}
	if text := problems(s.verify(t, proof.Options{})); !strings.Contains(text, "3 00000003.db: it says that it follows 00000002.db, which is neither") {
		t.Errorf("problems: %s", text)
	}
}

// While the tape is verified the log is replaced by another that agrees with a
// forged segment: it is not signed by the keys of the first, or not at all.
func TestLogSwappedWhileVerified(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	forgeries := map[string]func(t *testing.T, dir, was, is string){
		"unsigned": func(t *testing.T, dir, was, is string) {
			editLog(t, dir, func(lines []string) []string {
				seal, last := "", int64(0)
				for i, line := range lines {
					lines[i] = strings.Replace(line, was, is, 1)
					if number, _, ok := strings.Cut(line, " seal "); ok && strings.Contains(line, was) {
						seal = strings.TrimPrefix(lines[i], number)
					}
					fmt.Sscan(line, &last)
				}
				return append(lines, fmt.Sprint(last+1, seal)) // told again: something happened
			})
		},
		"begun anew": func(t *testing.T, dir, was, is string) {
			var leaves []tapelog.Leaf
			var seal tapelog.Leaf
			if _, err := tapelog.Verify(filepath.Join(dir, tapedir.LogDir), tapelog.VerifyOptions{Leaf: func(l tapelog.Leaf) error {
				if hex.EncodeToString(l.SHA256[:]) == was {
					sum, _ := hex.DecodeString(is)
					copy(l.SHA256[:], sum)
					seal = l
				}
				leaves = append(leaves, l)
				return nil
			}}); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, tapedir.LogDir)); err != nil {
				t.Fatal(err)
			}
			forge(t, dir, append(leaves, seal)...)
		},
		"removed": func(t *testing.T, dir, was, is string) { os.RemoveAll(filepath.Join(dir, tapedir.LogDir)) },
	}
	for name, forgeLog := range forgeries {
		t.Run(name, func(t *testing.T) {
			dir := copyTape(t, s.dir)
			was := s.verify(t, proof.Options{}).Segments[1].SHA256
			// Nothing but the hash tells: a counter in the header that nothing reads.
			path := filepath.Join(dir, tapedir.SegmentName(2))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[27]++ // file change counter
			data[95]++ // version-valid-for
			os.Remove(path)
			if err := os.WriteFile(path, data, tapedir.ClosedMode); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(data)
			swapped := false
			v := (&sealedTape{dir: dir}).verify(t, proof.Options{Progress: func(int64, int64) {
				if !swapped {
					swapped = true
					forgeLog(t, dir, was, hex.EncodeToString(sum[:]))
				}
			}})
			if len(v.Problems) == 0 {
				t.Error("a forged log is believed")
			}
			t.Log(problems(v))
		})
	}
}

// A segment is replaced between the look at its hash and the look at its rows.
func TestSegmentSwappedWhileVerified(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 2)
	path := filepath.Join(s.dir, tapedir.SegmentName(1))
	n := 0
	v := s.verify(t, proof.Options{Progress: func(int64, int64) {
		n++
		other := filepath.Join(s.dir, "other")
		replaceFile(t, path, other)
		if err := os.Rename(other, path); err != nil {
			t.Error(err)
		}
	}})
	if text := problems(v); !strings.Contains(text, "1 00000001.db: the file was changed or replaced again and again") || n < 5 {
		t.Errorf("%d times: %s", n, text)
	}
}

// The directory is replaced by a copy while it is verified.
func TestDirectorySwappedWhileVerified(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 2)
	for _, sub := range []string{"", tapedir.LogDir} {
		dir := copyTape(t, s.dir)
		other, swapped := copyTape(t, s.dir), false
		v := (&sealedTape{dir: dir}).verify(t, proof.Options{Progress: func(int64, int64) {
			if swapped {
				return
			}
			swapped = true
			if err := os.Rename(filepath.Join(dir, sub), dir+".was"); err != nil {
				t.Error(err)
			}
			if err := os.Rename(filepath.Join(other, sub), filepath.Join(dir, sub)); err != nil {
				t.Error(err)
			}
		}})
		if text := problems(v); !strings.Contains(text, "was replaced while it was verified") {
			t.Errorf("%q: %s", sub, text)
		}
	}
}
