package tapelog

import (
	"bufio"
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"filippo.io/edwards25519"
	"golang.org/x/sys/unix"
)

// Environment of the child process, and the number of rounds.
const (
	secretsDir    = "CONNTAPE_SECRETS_DIR"
	secretsRounds = "CONNTAPE_SECRETS_ROUNDS"
	secretsOld    = "CONNTAPE_SECRETS_OLD_KERNEL" // without memfd_secret
)

// canary is found in the memory of the child, or the scan proves nothing.
const canary = "a scan that does not find this finds nothing"

// A second after a key was erased, no form of it is in the memory of the busy process that used it: no seed, scalar or
// nonce. With crypto/ed25519 the test finds most of 200 keys.
func TestErasedKeysAreNotInMemory(t *testing.T) {
	if dir := os.Getenv(secretsDir); dir != "" {
		useKeys(t, dir)
		return
	}
	times := 2
	if text := os.Getenv(secretsRounds); text != "" {
		var err error
		if times, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for n := range times {
		lookForKeys(t, n)
	}
}

// useKeys is the child: it appends a leaf for each line of stdin, under load.
func useKeys(t *testing.T, dir string) {
	if os.Getenv(secretsOld) != "" {
		forbidSecretMemory(t)
	}
	l, err := Open(dir, Options{PartLeaves: 40})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("memory for keys:", l.vault.Protection())
	kept := []byte(strings.Clone(canary))
	for range 2 {
		go makeGarbage()
	}
	go func() {
		for { // makes the runtime preempt by a signal
			syscall.Kill(os.Getpid(), syscall.SIGURG)
			time.Sleep(50 * time.Microsecond)
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if _, err := l.Append(Leaf{Kind: KindCheckpoint, Boot: 1, Real: 1}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("done")
	}
	runtime.KeepAlive(kept)
	l.Close()
}

// forbidSecretMemory emulates a kernel without memfd_secret.
func forbidSecretMemory(t *testing.T) {
	const memfdSecret = 447
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: memfdSecret, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		t.Fatal(errno)
	}
}

// makeGarbage makes the runtime reuse memory and grow and shrink stacks.
func makeGarbage() {
	for n := 0; ; n++ {
		deep(n % 200)
		garbage := make([][]byte, 50)
		for i := range garbage {
			garbage[i] = make([]byte, 10+n%5000)
		}
		if n%20 == 0 {
			runtime.GC()
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func deep(n int) (sum int) {
	var frame [512]byte
	frame[n%512] = 1
	if n > 0 {
		sum = deep(n - 1)
	}
	for _, b := range frame {
		sum += int(b)
	}
	return sum
}

// lookForKeys starts a child, collects its keys, and scans its memory.
func lookForKeys(t *testing.T, round int) {
	dir := filepath.Join(t.TempDir(), "log")
	child := exec.Command(os.Args[0], "-test.run=^TestErasedKeysAreNotInMemory$", "-test.v")
	child.Env = append(os.Environ(), secretsDir+"="+dir)
	if round%2 == 1 {
		child.Env = append(child.Env, secretsOld+"=1")
	}
	if round%4 > 1 {
		child.Env = append(child.Env, "GOGC=20")
	}
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer stdin.Close()
	out := bufio.NewScanner(stdout)
	// Keys are collected while in use, and searched for after erasing.
	erased := &secrets{words: map[uint64][]secret{}}
	var leaf, part []byte
	const epochs = 200
	for n := range epochs {
		fmt.Fprintln(stdin, n)
		for out.Scan() && out.Text() != "done" {
			t.Log(out.Text())
		}
		nowLeaf, nowPart := keysOnDisk(t, dir, int64(n+1))
		if leaf != nil {
			erased.addKey(n, leaf, messageOf(t, dir))
		}
		if part != nil && !bytes.Equal(part, nowPart) {
			erased.addKey(n, part, nil)
		}
		leaf, part = nowLeaf, nowPart
	}
	if erased.keys < epochs-1+epochs/40-1 {
		t.Fatalf("only %d keys were noted", erased.keys)
	}
	time.Sleep(time.Second)
	found := erased.scan(t, child.Process.Pid)
	if !slices.Contains(found, "canary") {
		t.Fatal("the scan did not find what is there")
	}
	for _, what := range found {
		if what != "canary" {
			t.Errorf("round %d: %s", round, what)
		}
	}
}

// keysOnDisk returns the seeds in the key file; n is the next leaf.
func keysOnDisk(t *testing.T, dir string, n int64) (leaf, part []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, keyName))
	if err != nil {
		t.Fatal(err)
	}
	slot := data[slotOf(n)*slotSize:]
	return slot[:32], slot[32:64]
}

// messageOf returns the message signed for the last leaf.
func messageOf(t *testing.T, dir string) []byte {
	t.Helper()
	head, _, err := Head(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := ParseHead(head)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(c.String())
}

// secrets indexes the forbidden values by their first eight bytes.
type secrets struct {
	keys  int
	words map[uint64][]secret
	maybe [1 << 13]uint64 // filter: a bit for some bits of each word
}

type secret struct {
	what string
	rest []byte // the bytes that follow
}

// add adds each eight bytes of data, in both byte orders.
func (s *secrets) add(what string, data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		forwards := binary.LittleEndian.Uint64(data)
		backwards := binary.BigEndian.Uint64(data)
		s.addWord(forwards, secret{what: what})
		s.addWord(backwards, secret{what: what + ", bytes swapped"})
	}
}

// addText adds text in pieces of sixteen bytes: eight would be found by chance.
func (s *secrets) addText(what, text string) {
	for ; len(text) >= 16; text = text[8:] {
		s.addWord(binary.LittleEndian.Uint64([]byte(text)), secret{what, []byte(text[8:16])})
	}
}

func (s *secrets) addWord(word uint64, as secret) {
	s.words[word] = append(s.words[word], as)
	bit := word >> 13 & (1<<19 - 1)
	s.maybe[bit/64] |= 1 << (bit % 64)
}

// addKey adds a seed and all values derived from it by signing.
func (s *secrets) addKey(n int, seed, message []byte) {
	s.keys++
	what := func(name string) string { return fmt.Sprintf("%s of epoch %d", name, n) }
	hash := sha512.Sum512(seed)
	s.add(what("seed"), seed)
	s.addText(what("seed in base64"), base64.StdEncoding.EncodeToString(seed))
	s.addText(what("seed in hex"), hex.EncodeToString(seed))
	s.add(what("scalar"), hash[:32])
	s.add(what("prefix"), hash[32:])
	scalar, err := edwards25519.NewScalar().SetBytesWithClamping(hash[:32])
	if err != nil {
		panic(err)
	}
	s.addScalar(what("scalar"), scalar)
	if message == nil {
		return
	}
	wide := sha512.Sum512(append(bytes.Clone(hash[32:]), message...))
	s.add(what("nonce"), wide[:])
	nonce, err := edwards25519.NewScalar().SetUniformBytes(wide[:])
	if err != nil {
		panic(err)
	}
	s.addScalar(what("nonce"), nonce)
	public := new(edwards25519.Point).ScalarBaseMult(scalar).Bytes()
	r := new(edwards25519.Point).ScalarBaseMult(nonce).Bytes()
	mark := sha512.Sum512(slices.Concat(r, public, message))
	k, err := edwards25519.NewScalar().SetUniformBytes(mark[:])
	if err != nil {
		panic(err)
	}
	s.addScalar(what("product"), k.Multiply(k, scalar))
}

// addScalar adds a number modulo the group's order, in its written and its in-memory form.
func (s *secrets) addScalar(what string, scalar *edwards25519.Scalar) {
	s.add(what+", reduced", scalar.Bytes())
	s.add(what+", in memory", unsafe.Slice((*byte)(unsafe.Pointer(scalar)), unsafe.Sizeof(*scalar)))
	digits := big.NewInt(0).SetBytes(reversed(scalar.Bytes())).String()
	s.addText(what+", decimal", digits)
}

func reversed(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

// scan searches all memory of a process.
func (s *secrets) scan(t *testing.T, pid int) (found []string) {
	t.Helper()
	s.addText("canary", canary)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	total := 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			continue
		}
		n, hits := s.scanRange(memory, from, to)
		total += n
		for _, hit := range hits {
			if hit != "canary" {
				hit += " at " + strings.TrimSpace(line)
			}
			found = append(found, hit)
		}
	}
	t.Logf("%d keys, %d words, %d MB scanned", s.keys, len(s.words), total>>20)
	return found
}

// scanRange searches one mapping and skips unreadable pages.
func (s *secrets) scanRange(memory *os.File, from, to int64) (total int, found []string) {
	const piece, overlap = 1 << 20, 16
	buffer := make([]byte, piece+overlap)
	for at := from; at < to; at += piece {
		n, err := memory.ReadAt(buffer[:min(int64(len(buffer)), to-at)], at)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EFAULT) {
			continue
		}
		total += n
		for i := 0; i+8 <= n; i++ {
			word := binary.LittleEndian.Uint64(buffer[i:])
			if bit := word >> 13 & (1<<19 - 1); s.maybe[bit/64]&(1<<(bit%64)) == 0 {
				continue
			}
			for _, m := range s.words[word] {
				if bytes.HasPrefix(buffer[i+8:n], m.rest) {
					found = append(found, m.what)
				}
			}
		}
	}
	return total, found
}
