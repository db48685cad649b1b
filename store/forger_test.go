package store

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
	"github.com/conntape/conntape/store/tapelog/vault"
)

// playSteady records a segment that is never closed, with a checkpoint every 20 ms.
// Argument: directory.
func playSteady(args []string) error {
	o := options(0)
	o.Now = Anchor{}
	k := newLogKeeper(args[0], LogOptions{Host: o.Host, MachineID: o.MachineID, BootID: o.BootID, Version: o.Version, Backend: o.Backend,
		BlindSpots: o.BlindSpots, Begun: func(key string) { fmt.Println("key", key) }}, 20*time.Millisecond)
	o.Events = k.Listen
	w, err := OpenWriter(args[0], o)
	if err != nil {
		return err
	}
	l := newLoad(5, 5)
	conns := make([]Connection, 5)
	for stored := uint64(0); ; time.Sleep(20 * time.Millisecond) {
		now, err := ReadAnchor("")
		if err != nil {
			return err
		}
		l.boot = now.Boot
		l.fill(conns)
		stored += uint64(len(conns))
		if err := w.Append(Batch{Connections: conns, Now: now.Boot, Counters: segment.Counters{"seen": stored, "stored": stored}}); err != nil {
			return err
		}
	}
}

// Somebody has root, the files, the source, the memory of the recorder and its key
// file, and alters a row that a checkpoint has covered for a while. He signs the log
// anew from there on with whatever key he can find, pretends that it was pruned,
// begins another, claims damage. No key that he finds is old enough. CONNTAPE_TEST_LONG
// gives him a minute, of as many tapes as he likes.
func TestForger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the memory of another process")
	}
	for start, n := time.Now(), 0; n < 1 || os.Getenv(longVariable) != "" && time.Since(start) < time.Minute; n++ {
		forgeOnce(t)
	}
}

func forgeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	cmd := childCommand(t, "steady", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	key, ok := strings.CutPrefix(strings.TrimSpace(line), "key ")
	if err != nil || !ok {
		t.Fatalf("%q, %v", line, err)
	}
	time.Sleep(300 * time.Millisecond)
	early := keyOnDisk(t, dir) // a key that he must not have
	time.Sleep(1500 * time.Millisecond)
	found := keysInMemory(t, cmd, dir)
	cmd.Process.Kill()
	cmd.Wait()
	late := keyOnDisk(t, dir)
	before := readForged(t, dir)
	t.Logf("%d leaves; keys of leaves %d and %d from the disk, %d from memory", len(before.leaves), early.leaf, late.leaf, len(found))
	try := func(f func(dir string)) string {
		copied := copyTape(t, dir)
		f(copied)
		return problems((&sealedTape{dir: copied}).verify(t, proof.Options{Key: key}))
	}
	if text := try(func(string) {}); text != "" {
		t.Fatalf("the tape is not whole: %s", text)
	}
	// With a key from before the row he can do it: what follows would be found if it were there.
	if text := try(func(dir string) { alterOld(t, dir, before, early).signFrom(t, dir, early) }); text != "" {
		t.Errorf("the forger does not know his trade: %s", text)
	}
	for _, k := range append(found, late) {
		if text := try(func(dir string) { alterOld(t, dir, before, early).signFrom(t, dir, k) }); text == "" {
			t.Errorf("altered with the key of leaf %d, found in memory or on the disk", k.leaf)
		}
	}
	for name, f := range map[string]func(dir string){
		"the log begun anew": func(dir string) {
			forged := alterOld(t, dir, before, early)
			if err := os.RemoveAll(filepath.Join(dir, tapedir.LogDir)); err != nil {
				t.Fatal(err)
			}
			forge(t, dir, forged.leaves...)
		},
		"a log of his own after what was pruned": func(dir string) { alterOld(t, dir, before, early).pretendPruned(t, dir) },
		"checkpoints again": func(dir string) {
			forged := alterOld(t, dir, before, early)
			forge(t, dir, forged.leaves[len(forged.leaves)-1])
		},
		"a seal": func(dir string) {
			forged := alterOld(t, dir, before, early)
			seal := forged.leaves[len(forged.leaves)-1]
			seal.Kind, seal.SHA256 = tapelog.KindSeal, tapelog.Hash{1}
			forge(t, dir, seal)
		},
		"damage claimed": func(dir string) {
			forged := alterOld(t, dir, before, early)
			gap := forged.leaves[len(forged.leaves)-1]
			gap.Kind, gap.Cause, gap.Batches = tapelog.KindGap, segment.CauseStorage, -1
			forge(t, dir, gap)
		},
	} {
		if text := try(f); text == "" {
			t.Errorf("altered, with %s", name)
		}
	}
}

// stolen is a key that somebody has, of the leaf that it signs.
type stolen struct {
	leaf int64
	seed []byte
}

// keyOnDisk returns the key in the key file: the one whose leaf is not written.
func keyOnDisk(t *testing.T, dir string) stolen {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, tapedir.LogDir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	best := stolen{leaf: -1}
	for ; len(data) >= vault.SlotSize; data = data[vault.SlotSize:] {
		_, text, ok := strings.Cut(string(data[:vault.SlotSize]), "\nsize ")
		digits, _, _ := strings.Cut(text, "\n")
		if n, err := strconv.ParseInt(digits, 10, 64); ok && err == nil && n > best.leaf {
			best = stolen{n, bytes.Clone(data[:32])}
		}
	}
	if best.leaf < 0 {
		t.Fatal("no key on the disk")
	}
	return best
}

// keysInMemory looks for keys of the log in the memory of the recorder: the 32 bytes
// before the public half, as in crypto/ed25519, and what lies anywhere in a stretch of
// writable memory next to what looks random.
func keysInMemory(t *testing.T, cmd *exec.Cmd, dir string) (found []stolen) {
	t.Helper()
	leafOf := map[string]int64{}
	for _, l := range readForged(t, dir).leaves {
		leafOf[string(l.Next[:])] = l.Seq + 1
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		data := make([]byte, to-from)
		n, _ := memory.ReadAt(data, from)
		for at := 32; at+32 <= n; at += 8 {
			leaf, ok := leafOf[string(data[at:at+32])]
			if !ok {
				continue
			}
			for _, back := range []int{32, 64, 96} {
				if at < back {
					continue
				}
				seed := data[at-back : at-back+32]
				if bytes.Equal(ed25519.NewKeyFromSeed(seed)[32:], data[at:at+32]) {
					found = append(found, stolen{leaf, bytes.Clone(seed)})
				}
			}
		}
	}
	return found
}

// forgedLog is a log that somebody rewrites.
type forgedLog struct {
	header string // of its first part
	origin string
	lines  []string // of its leaves, signatures included
	leaves []tapelog.Leaf
}

func readForged(t *testing.T, dir string) *forgedLog {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, tapedir.LogDir, "00000001.log"))
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := strings.Cut(string(text), "\n\n")
	f := &forgedLog{header: header + "\n\n"}
	_, origin, _ := strings.Cut(header, "\norigin ")
	f.origin, _, _ = strings.Cut(origin, "\n")
	for line := range strings.Lines(rest) {
		words, _, ok := strings.Cut(line, " sig=")
		l, err := tapelog.ParseLeaf(words)
		if !ok || err != nil || !strings.HasSuffix(line, "\n") {
			break
		}
		f.lines, f.leaves = append(f.lines, line), append(f.leaves, l)
	}
	return f
}

// alterOld alters a row that was committed after the early key was stolen, and long
// before anything else, and the log with it, but for the signatures.
func alterOld(t *testing.T, dir string, before *forgedLog, early stolen) *forgedLog {
	t.Helper()
	forged := *before
	forged.leaves = slices.Clone(before.leaves)
	batch := before.leaves[early.leaf].Batches + 1
	alter(t, dir, 1, fmt.Sprintf("UPDATE connection SET fd = fd + 1 WHERE id = (SELECT newest FROM batch WHERE id = %d)", batch))
	rechain(t, dir, 1)
	chains := map[int64][32]byte{}
	err := segment.Peek(t.Context(), filepath.Join(dir, tapedir.SegmentName(1)), func(conn *sqlite.Conn) error {
		return proof.ReplayChain(conn, func(n int64, chain, _ [32]byte) error { chains[n] = chain; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range forged.leaves {
		if l := &forged.leaves[i]; l.Batches > 0 {
			l.Chain = chains[l.Batches]
		}
	}
	return &forged
}

// signFrom writes the log with leaves from that of a key on signed anew, each with a
// key that the one before names; what is before stays.
func (f *forgedLog) signFrom(t *testing.T, dir string, k stolen) {
	t.Helper()
	at := min(k.leaf, int64(len(f.lines))) // the recorder may have been killed before it wrote the leaf
	text := f.header + strings.Join(f.lines[:at], "")
	tree := newForgedTree(f.origin)
	for _, line := range f.lines[:at] {
		words, _, _ := strings.Cut(line, " sig=")
		tree.add(t, words)
	}
	text += tree.sign(t, ed25519.NewKeyFromSeed(k.seed), f.leaves[at:])
	if err := os.WriteFile(filepath.Join(dir, tapedir.LogDir, "00000001.log"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// forgedTree is the Merkle tree of a log, all of it.
type forgedTree struct {
	origin string
	hashes []tlog.Hash
	size   int64
}

func newForgedTree(origin string) *forgedTree { return &forgedTree{origin: origin} }

// ReadHashes is for package tlog.
func (f *forgedTree) ReadHashes(at []int64) (out []tlog.Hash, err error) {
	for _, i := range at {
		out = append(out, f.hashes[i])
	}
	return out, nil
}

func (f *forgedTree) add(t *testing.T, leaf string) tlog.Hash {
	t.Helper()
	hashes, err := tlog.StoredHashes(f.size, []byte(leaf), f)
	if err != nil {
		t.Fatal(err)
	}
	f.hashes, f.size = append(f.hashes, hashes...), f.size+1
	root, err := tlog.TreeHash(f.size, f)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// sign returns the lines of leaves, the first of them signed by key.
func (f *forgedTree) sign(t *testing.T, key ed25519.PrivateKey, leaves []tapelog.Leaf) string {
	t.Helper()
	var text strings.Builder
	for _, l := range leaves {
		_, next, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Seq = f.size
		copy(l.Next[:], next[32:])
		root := f.add(t, l.String())
		signature := ed25519.Sign(key, []byte(tapelog.Checkpoint{Origin: f.origin, Size: f.size, Root: root}.String()))
		fmt.Fprintf(&text, "%s sig=%s\n", l.String(), base64.StdEncoding.EncodeToString(signature))
		key = next
	}
	return text.String()
}

// pretendPruned leaves the first leaf of the log, and has a second part, with a
// header signed by the key on the disk, tell the rest.
func (f *forgedLog) pretendPruned(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, tapedir.LogDir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	slot := data
	if bytes.Equal(slot[:32], make([]byte, 32)) {
		slot = data[vault.SlotSize:]
	}
	part := ed25519.NewKeyFromSeed(slot[32:64])
	tree := newForgedTree(f.origin)
	for range 8 { // a tree of one hash, whatever it is
		tree.add(t, "x")
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewEd25519VerifierKey(f.origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	root, err := tlog.TreeHash(8, tree)
	if err != nil {
		t.Fatal(err)
	}
	header := fmt.Sprintf("conntape log 1\norigin %s\nfirst 8\nkey %s\ntree %s\n", f.origin, verifier, root)
	header += "sig " + base64.StdEncoding.EncodeToString(ed25519.Sign(part, []byte(header))) + "\n\n"
	prune := f.leaves[0]
	prune.Kind, prune.From, prune.To = tapelog.KindPrune, 1, 7
	text := header + tree.sign(t, key, append([]tapelog.Leaf{prune}, f.leaves[1:]...))
	for name, text := range map[string]string{"00000001.log": f.header + f.lines[0], "00000002.log": text} {
		if err := os.WriteFile(filepath.Join(dir, tapedir.LogDir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}
