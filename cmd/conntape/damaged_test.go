package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"

	"github.com/conntape/conntape/query/report"
)

// damageRounds is the number of random alterations: CONNTAPE_TAMPER_ROUNDS, or some seconds' worth.
func damageRounds(t testing.TB) int {
	text := os.Getenv("CONNTAPE_TAMPER_ROUNDS")
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CONNTAPE_TAMPER_ROUNDS=%s", text)
	}
	return n
}

// damagedTape is a tape whose segments 1 to 3 are sealed.
type damagedTape struct {
	dir     string
	sealed  map[int][]byte
	answers map[string]string // of the intact tape, or without a segment
	puts    int
}

func newDamagedTape(t testing.TB) *damagedTape {
	t.Helper()
	d := &damagedTape{dir: filepath.Join(t.TempDir(), "tape"), sealed: map[int][]byte{}, answers: map[string]string{}}
	o := generate.Options{Seed: 5, Connections: 6000, Processes: 60, Images: 12, Endpoints: 300, Begin: uint64(time.Hour), Span: 24 * time.Hour}
	if err := generate.WriteTape(d.dir, generate.New(o), 4); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		data, err := os.ReadFile(d.path(n))
		if err != nil {
			t.Fatal(err)
		}
		d.sealed[n] = data
	}
	return d
}

func (d *damagedTape) path(n int) string { return filepath.Join(d.dir, fmt.Sprintf("%08d.db", n)) }

// put writes a segment, by turns into the file that is there and into another one: readers know a sealed segment by its inode.
func (d *damagedTape) put(t testing.TB, n int, data []byte) {
	t.Helper()
	if d.puts++; d.puts%2 == 0 || os.Getuid() != 0 {
		os.Remove(d.path(n))
	}
	if err := os.WriteFile(d.path(n), data, 0o440); err != nil {
		t.Fatal(err)
	}
}

// ask runs a command line.
func (d *damagedTape) ask(line string) (code int, stdout, stderr string) {
	h, out, messages := world("")
	h.now = func() time.Time { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }
	code = h.report(h.run(context.Background(), append(words(line), "--dir", d.dir)))
	return code, roomOfDisk.ReplaceAllString(out.String(), ""), messages.String()
}

// roomOfDisk is the part of an answer that changes with what other processes write to the disk.
var roomOfDisk = regexp.MustCompile(`"room_bytes": [0-9]+,`)

// words splits a command line, in which %20 is a blank.
func words(line string) []string {
	list := strings.Fields(line)
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "%20", " ")
	}
	return list
}

// right returns the answer of the intact tape, without segment n unless n is 0.
func (d *damagedTape) right(t testing.TB, line string, n int) string {
	t.Helper()
	key := fmt.Sprint(n, " ", line)
	if answer, ok := d.answers[key]; ok {
		return answer
	}
	if n > 0 {
		if err := os.Remove(d.path(n)); err != nil {
			t.Fatal(err)
		}
	}
	code, answer, messages := d.ask(line)
	if code != exitDone && code != exitFound {
		t.Fatalf("%s: exit %d: %s", line, code, messages)
	}
	if n > 0 {
		d.put(t, n, d.sealed[n])
	}
	d.answers[key] = answer
	return answer
}

// questions returns all canned queries and other commands that read a tape.
func questions(t testing.TB) []string {
	t.Helper()
	library, err := report.Library()
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("10.0.0.0/9\n203.0.113.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := []string{
		"query sql --limit 0 select%20*%20from%20connections", "query match --indicators " + list, "status --format json",
		"query sql select%20count(*),sum(pid),max(cmdline)%20from%20connections", "query sql select%20remote_port,count(*)%20from%20connections%20group%20by%201%20order%20by%202,1",
		"query sql select%20*%20from%20processes", "query sql select%20*%20from%20endpoints%20order%20by%201,2,3", "query sql select%20*%20from%20connections%20where%20remote_port=443",
	}
	for _, c := range library {
		line := "query " + strings.TrimPrefix(c.Examples[0], "conntape query ")
		lines = append(lines, line)
		if c.Has("all") {
			lines = append(lines, line+" --all")
		}
	}
	return lines
}

// A sealed segment is altered in any bit, or its pages are moved. Each answer is right, or it reports the damaged
// segment and is the answer of the other segments.
func TestAnswersOfDamagedTape(t *testing.T) {
	d := newDamagedTape(t)
	lines := questions(t)
	r := rand.New(rand.NewPCG(12, 14))
	told := 0
	rounds := damageRounds(t)
	for round := range rounds {
		n, line := 1+r.IntN(3), lines[r.IntN(len(lines))]
		whole, without := d.right(t, line, 0), d.right(t, line, n)
		altered := bytes.Clone(d.sealed[n])
		what := damage(r, altered)
		d.put(t, n, altered)
		code, answer, messages := d.ask(line)
		said := strings.Contains(messages, "LEFT OUT "+d.path(n)+": ")
		switch {
		case (code == exitDone || code == exitFound) && !said && answer == whole:
		case code == exitDamaged && said && answer == without:
			told++
		case code == exitDamaged && strings.HasPrefix(line, "status"):
			told++
		case code == exitDamaged && len(answer) >= mostHeld && strings.Contains(messages, "the answer ends here") && strings.HasPrefix(whole, answer):
			told++
		default:
			t.Errorf("round %d: %s; %s: exit %d, said %t, as it was %t, without it %t\n%s", round, what, line, code, said, answer == whole, answer == without, messages)
		}
		d.put(t, n, d.sealed[n])
	}
	if told < rounds/20 {
		t.Errorf("damage was met %d times of %d", told, rounds)
	}
}

// damage alters a segment and says how.
func damage(r *rand.Rand, data []byte) string {
	const page = 4096
	pages := int(binary.BigEndian.Uint32(data[28:]))
	switch r.IntN(8) {
	case 0:
		a, b := r.IntN(pages), r.IntN(pages)
		was := bytes.Clone(data[a*page:][:page])
		copy(data[a*page:][:page], data[b*page:][:page])
		copy(data[b*page:], was)
		return fmt.Sprintf("pages %d and %d swapped", a+1, b+1)
	case 1:
		a := 1 + r.IntN(pages-1)
		data[a*page+4]--
		return fmt.Sprintf("page %d has one cell fewer", a+1)
	}
	at, bit := r.IntN(len(data)), r.IntN(8)
	data[at] ^= 1 << bit
	return fmt.Sprintf("bit %d of byte %d (page %d)", bit, at, at/page+1)
}

// A file is written completely, without the damaged segment.
func TestFileOfDamagedTape(t *testing.T) {
	d := newDamagedTape(t)
	line := "query sql --limit 0 select%20*%20from%20connections"
	altered := bytes.Clone(d.sealed[3])
	connections := 0
	for at := 4096; at < len(altered)-4096; at += 4096 {
		if altered[at] == 0x0d && binary.BigEndian.Uint16(altered[at+3:]) > 100 { // a leaf with short rows
			connections++
			altered[at+4000] ^= 1
		}
	}
	d.put(t, 3, altered)
	file := filepath.Join(t.TempDir(), "answer.csv")
	code, _, messages := d.ask(line + " --quiet --output " + file)
	answer, err := os.ReadFile(file)
	d.put(t, 3, d.sealed[3])
	if err != nil || code != exitDamaged || connections == 0 || string(answer) != d.right(t, line, 3) || !strings.Contains(messages, "LEFT OUT "+d.path(3)) {
		t.Errorf("exit %d, %v, %d bytes: %s", code, err, len(answer), messages)
	}
}

// failing is a stream whose reader has gone away.
type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

func TestHeldAnswer(t *testing.T) {
	gone := errors.New("gone")
	for _, size := range []int{10, mostHeld + 1} {
		err := writeHeld(failing{gone}, func(w io.Writer) error {
			_, err := w.Write(make([]byte, size))
			return err
		})
		if !errors.Is(err, gone) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	var got bytes.Buffer
	err := writeHeld(&got, func(w io.Writer) error {
		for _, part := range [][]byte{[]byte("a"), slices.Repeat([]byte("b"), mostHeld), []byte("c")} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || got.Len() != mostHeld+2 || got.Bytes()[0] != 'a' || got.Bytes()[got.Len()-1] != 'c' {
		t.Errorf("%v, %d bytes", err, got.Len())
	}
	for _, size := range []int{mostHeld, mostHeld + 1} {
		got.Reset()
		err := writeHeld(&got, func(w io.Writer) error {
			if _, err := w.Write(make([]byte, size)); err != nil {
				return err
			}
			return &damageMet{error: gone}
		})
		shown := size > mostHeld
		var met *damageMet
		if !errors.Is(err, gone) || !errors.As(err, &met) || met.shown != shown || strings.Contains(err.Error(), "the answer ends here") != shown || (got.Len() > 0) != shown {
			t.Errorf("%d bytes: %v, %d written", size, err, got.Len())
		}
	}
}
