package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// installWitnessProgram builds conntape-witness into PATH.
func installWitnessProgram(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir, module+"/cmd/conntape-witness")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// runConntape runs a command, and returns its exit code and what it said.
func runConntape(words ...string) (code int, stdout, stderr string) {
	h, out, complaint := world("")
	code = h.report(h.run(context.Background(), words))
	return code, out.String(), complaint.String()
}

// A witness written by others (litewitness of filippo.io/torchwood) cosigns a tape, and the cosigned part cannot be
// taken back.
func TestLitewitness(t *testing.T) {
	installWitnessProgram(t)
	dir := filepath.Join(t.TempDir(), "tape")
	if err := writeLogged(dir); err != nil {
		t.Fatal(err)
	}
	code, key, said := runConntape("checkpoint", "--verifier-key", "--dir", dir)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, said)
	}
	w := startLitewitness(t)
	push := []string{"checkpoint", "--dir", dir, "--push", w.url, "--witness", w.key}
	if code, _, said := runConntape(push...); code != exitFailed || !strings.Contains(said, "does not know the key") || !strings.Contains(said, "--verifier-key") {
		t.Errorf("a log that the witness does not know: exit %d, %s", code, said)
	}
	w.know(t, strings.TrimSpace(key))
	for round := range 3 {
		if code, out, said := runConntape(push...); code != exitDone || out+said != "" {
			t.Fatalf("round %d: exit %d, %s%s", round, code, out, said)
		}
		code, out, _ := runConntape("verify", dir, "--witness", w.key)
		if code != exitDone || !regexp.MustCompile(`(?m)^cosigned +[0-9]+ leaves by witness.example/lite, 20.*Z; 0 leaves since then$`).MatchString(out) {
			t.Errorf("round %d: exit %d, %s", round, code, out)
		}
		if err := appendRun(dir, time.Duration(round+2)*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	code, out, _ := runConntape("verify", dir, "--witness", w.key)
	if code != exitDone || !regexp.MustCompile(`; [1-9][0-9]* leaves since then`).MatchString(out) {
		t.Errorf("exit %d, %s", code, out)
	}

	// A second witness is asked beside the first one, and both cosign one checkpoint.
	other := startLitewitness(t)
	other.know(t, strings.TrimSpace(key))
	heads := filepath.Join(t.TempDir(), "heads")
	if code, out, said := runConntape(append(push, "--push", heads, "--push", other.url, "--witness", other.key)...); code != exitDone || out+said != "" {
		t.Fatalf("two at once: exit %d, %s%s", code, out, said)
	}
	code, out, _ = runConntape("verify", dir, "--witness", w.key, "--witness", other.key)
	if code != exitDone || strings.Count(out, "; 0 leaves since then") != 2 {
		t.Errorf("two at once: exit %d, %s", code, out)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, "log", "cosigned")); err != nil || bytes.Count(kept, []byte("\n\n")) != 1 || bytes.Count(kept, []byte("— witness.example/lite ")) != 2 {
		t.Errorf("%s, %v", kept, err)
	}
	if line, err := os.ReadFile(heads); err != nil || !bytes.HasPrefix(line, []byte("checkpoint conntape/")) {
		t.Errorf("%s, %v", line, err)
	}

	// Root takes back what was recorded since, and more.
	for range 12 {
		if err := cutLine(filepath.Join(dir, "log", "00000001.log")); err != nil {
			t.Fatal(err)
		}
	}
	if code, out, _ := runConntape("verify", dir); code != exitFound || !strings.Contains(out, "the end was cut off, or the tape rolled back") {
		t.Errorf("cut off: exit %d, %s", code, out)
	}
	if err := os.Remove(filepath.Join(dir, "log", "cosigned")); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := runConntape("verify", dir, "--witness", w.key); code != exitFound || !strings.Contains(out, "there is no cosignature of witness.example/lite") {
		t.Errorf("without the cosignature: exit %d, %s", code, out)
	}
	if code, out, _ := runConntape(push...); code != exitFound || !strings.Contains(out, "PROBLEM      log: witness.example/lite has cosigned") {
		t.Errorf("pushed again: exit %d, %s", code, out)
	}
}

// litewitness is the running program.
type litewitness struct {
	url, key, db string
}

// startLitewitness builds and starts the witness, with a key in an agent of our own.
func startLitewitness(t *testing.T) *litewitness {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "litewitness")
	build := exec.Command("go", "build", "-modfile=../../test/tools.mod", "-o", program, "filippo.io/torchwood/cmd/litewitness")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	agent := filepath.Join(dir, "agent")
	serveAgent(t, agent, private)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	w := &litewitness{url: "http://" + address, db: filepath.Join(dir, "db")}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-name", "witness.example/lite", "-db", w.db, "-ssh-agent", agent, "-listen", address, "-key", fmt.Sprintf("%x", sha256.Sum256(public)))
	said := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); cmd.Wait() })
	for range 200 {
		if found := regexp.MustCompile(`vkey=(\S+)`).FindStringSubmatch(said.String()); found != nil {
			w.key = strings.Trim(found[1], `"`)
		}
		if conn, err := net.Dial("tcp", address); err == nil && w.key != "" {
			conn.Close()
			return w
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("litewitness does not listen: %s", said)
	return nil
}

// know has the witness accept a log.
func (w *litewitness) know(t *testing.T, key string) {
	t.Helper()
	db, err := sqlite.OpenConn(w.db, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	origin, _, _ := strings.Cut(key, "+")
	for statement, args := range map[string][]any{
		"insert into log values (?, 0, '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=')": {origin}, // of no leaves
		"insert into key values (?, ?)": {origin, key},
	} {
		if err := sqlitex.Execute(db, "pragma foreign_keys = off", nil); err != nil {
			t.Fatal(err)
		}
		if err := sqlitex.Execute(db, statement, &sqlitex.ExecOptions{Args: args}); err != nil {
			t.Fatal(err)
		}
	}
}

// lockedBuffer is written by a process while it is read.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// serveAgent is an ssh-agent with one Ed25519 key (draft-miller-ssh-agent): it lists the
// key and signs with it.
func serveAgent(t *testing.T, path string, key ed25519.PrivateKey) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	text := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	blob := append(text([]byte("ssh-ed25519")), text(key.Public().(ed25519.PublicKey))...)
	answer := func(request []byte) []byte {
		switch request[0] {
		case 11: // list
			return bytes.Join([][]byte{{12, 0, 0, 0, 1}, text(blob), text(nil)}, nil)
		case 13: // sign
			rest := request[1+4+len(blob):]
			message := rest[4:][:binary.BigEndian.Uint32(rest)]
			return append([]byte{14}, text(append(text([]byte("ssh-ed25519")), text(ed25519.Sign(key, message))...))...)
		}
		return []byte{5} // failure
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					var size [4]byte
					if _, err := io.ReadFull(conn, size[:]); err != nil {
						return
					}
					request := make([]byte, binary.BigEndian.Uint32(size[:]))
					if _, err := io.ReadFull(conn, request); err != nil {
						return
					}
					conn.Write(text(answer(request)))
				}
			}()
		}
	}()
}

// Wrong answers of a witness, or of another server, give one line and a hint each, and nothing is kept.
func TestWitnessRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	if err := writeLogged(dir); err != nil {
		t.Fatal(err)
	}
	public := append([]byte{4}, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)...)
	keyOf := func(name string) (key string, hash [32]byte) {
		hash = sha256.Sum256(append([]byte(name+"\n"), public...))
		return fmt.Sprintf("%s+%x+%s", name, hash[:4], base64.StdEncoding.EncodeToString(public)), hash
	}
	key, hash := keyOf("witness.example/w1")
	secondKey, _ := keyOf("witness.example/w2")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/403/add-checkpoint":
			http.Error(w, "no", http.StatusForbidden)
		case "/ahead/add-checkpoint":
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintln(w, 1000000)
		case "/junk/add-checkpoint":
			w.Write([]byte("\x1b[31m\x00\xff"))
		case "/other/add-checkpoint":
			fmt.Fprintf(w, "— witness.example/w1 %s\n", base64.StdEncoding.EncodeToString(append(hash[:4:4], make([]byte, 8+ed25519.SignatureSize)...)))
		case "/moved/add-checkpoint":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusMovedPermanently)
		case "/huge/add-checkpoint":
			for range 100 {
				w.Write(make([]byte, 1<<20))
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	push := func(address string) (int, string, string) {
		return runConntape("checkpoint", "--dir", dir, "--witness", key, "--push", address)
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	if code, _, said := push(server.URL); code != exitFailed || !strings.Contains(said, "conntape-witness is neither beside conntape nor in PATH") {
		t.Errorf("without the program: exit %d, %s", code, said)
	}
	t.Setenv("PATH", path)
	installWitnessProgram(t)
	for address, want := range map[string]string{
		"ftp://witness.example":     "a witness is asked by https or http",
		"https://":                  "the address of a witness has a scheme",
		"https://u:p@h/":            "the address of a witness has a scheme",
		closed.URL:                  "connection refused",
		server.URL:                  "does not know this log",
		server.URL + "/403":         "does not know the key of this log",
		server.URL + "/junk":        "has no cosignature of witness.example/w1",
		server.URL + "/other":       "did not cosign this checkpoint",
		server.URL + "/moved":       "answered with status 301",
		server.URL + "/huge":        "longer than",
		"https" + server.URL[4:]:    "ask https",
		"http://nowhere.invalid:1/": "ask http",
	} {
		code, out, said := push(address)
		if code != exitFailed && code != exitUsage || out != "" || !strings.Contains(said, want) || strings.Count(said, "\n") > 2 || strings.Contains(said, "\x1b") {
			t.Errorf("%s: exit %d, %q, %q, want %q", address, code, out, said, want)
		}
	}
	if code, out, said := push(server.URL + "/ahead"); code != exitFound || said != "" || !strings.Contains(out, "its end was cut off, or the tape rolled back") {
		t.Errorf("a witness that has seen more: exit %d, %q, %q", code, out, said)
	}
	if code, out, said := runConntape("checkpoint", "--dir", dir, "--push", server.URL+"/ahead", "--witness", key, "--push", closed.URL, "--witness", secondKey); code != exitFound ||
		!strings.Contains(out, "its end was cut off, or the tape rolled back") || !strings.Contains(said, "witness.example/w2: ask http") {
		t.Errorf("one that has seen more, one that does not answer: exit %d, %q, %q", code, out, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "log", "cosigned")); err == nil {
		t.Error("something was kept")
	}
	for _, words := range [][]string{
		{"checkpoint", "--dir", dir, "--push", server.URL}, {"checkpoint", "--dir", dir, "--push", server.URL, "--witness", "x"},
		{"checkpoint", "--dir", dir, "--witness", key}, {"checkpoint", "--dir", dir, "--push", "syslog", "--witness", key},
		{"checkpoint", "--dir", dir, "--push", server.URL, "--push", closed.URL, "--witness", key},
		{"checkpoint", "--dir", dir, "--push", server.URL, "--witness", key, "--witness", secondKey},
		{"checkpoint", "--dir", dir, "--push", server.URL, "--push", closed.URL, "--witness", key, "--witness", key},
		{"checkpoint", "--dir", dir, "--verifier-key", "--line"}, {"verify", dir, "--witness", "x"}, {"verify", dir, "--witness", ""},
	} {
		if code, out, said := runConntape(words...); code != exitUsage && code != exitFailed || out != "" || said == "" {
			t.Errorf("%v: exit %d, %q, %q", words, code, out, said)
		}
	}
}
