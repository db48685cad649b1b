// Command duckdb measures conntape's answers over ten million connections beside DuckDB's, over the same rows. It is a
// separate module because DuckDB needs cgo and the product has none.
//
//	go run . -dir /var/tmp/bench > table.md
//	go run . -dir /var/tmp/bench -before DIR > table.md
//
// The directory of -before has another version of the program, conntape, and its own tape of the same rows. The bench
// asks both versions in turns.
//
// The directory of -dir keeps the tape between runs. A new process asks each question, and its start counts. Before, the
// program is dropped from the page cache, the tape is not. DuckDB has a copy of the rows in a file: one flat table of
// eleven columns with all names in each row. Opening this file does not count.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/generate"
)

func main() {
	dir := flag.String("dir", "", "directory that keeps the tape and the copy of DuckDB")
	rounds := flag.Int("rounds", 3, "how often each question is asked; the median counts")
	connections := flag.Int("connections", generate.Issue5().Connections, "connections on the tape")
	before := flag.String("before", "", "directory with another version of the program, and its tape")
	only := flag.String("only", "", "a part of it: questions, segments")
	flag.Parse()
	if err := run(*dir, *before, *only, *rounds, *connections, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "duckdb: error:", err)
		os.Exit(1)
	}
}

func run(dir, before, only string, rounds, connections int, out io.Writer) error {
	if dir == "" {
		return fmt.Errorf("give a directory that has room: -dir")
	}
	tape, program, indicators := filepath.Join(dir, "tape"), filepath.Join(dir, "conntape"), filepath.Join(dir, "indicators.txt")
	if _, err := os.Stat(tape); err != nil {
		o := generate.Issue5()
		o.Connections = connections
		progress("writing the tape")
		if err := generate.WriteTape(tape, generate.New(o), 8); err != nil {
			return err
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/conntape")
	build.Dir, build.Stderr = "../..", os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := build.Run(); err != nil {
		return fmt.Errorf("build conntape: %w", err)
	}
	if err := writeIndicators(indicators); err != nil {
		return err
	}
	b := &bench{dir: dir, asked: asked{program, tape}, rounds: rounds}
	if before != "" {
		b.before = &asked{filepath.Join(before, "conntape"), filepath.Join(before, "tape")}
	}
	if only != "segments" {
		if err := b.questions(out, connections, indicators); err != nil {
			return err
		}
	}
	if only != "questions" {
		return b.manySegments(out)
	}
	return nil
}

// questions asks all questions.
func (b *bench) questions(out io.Writer, connections int, indicators string) error {
	duck, err := openDuck(b, filepath.Join(b.dir, "copy.duckdb"), indicators)
	if err != nil {
		return err
	}
	defer duck.Close()
	end, err := b.newest()
	if err != nil {
		return err
	}
	since := end.Add(-24 * time.Hour).Truncate(time.Hour).Format(time.RFC3339)

	fmt.Fprintf(out, "%d connections in 8 segments; %d processors, load %s; the median of %d. Beside it DuckDB with a flat copy.\n\n", connections, runtime.NumCPU(), load(), b.rounds)
	fmt.Fprintln(out, "| question | budget | conntape | kept | CPU | memory | before, CPU | DuckDB | CPU | conntape / DuckDB, CPU |")
	fmt.Fprintln(out, "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, q := range questions(indicators, since) {
		progress("%s", q.name)
		row, err := b.measure(q, duck)
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		fmt.Fprintln(out, row)
	}
	fmt.Fprintln(out)
	return nil
}

// bench is one run.
type bench struct {
	dir string
	asked
	before *asked // the version of -before; nil: none
	rounds int
}

// asked is a program and its tape.
type asked struct{ program, tape string }

// measure asks conntape and DuckDB one question in turns, and returns its row of the table.
func (b *bench) measure(q question, duck *sql.DB) (string, error) {
	var ours, theirs, ourCPU, theirCPU, before, beforeCPU []time.Duration
	var memory int64
	words := strings.Split(strings.ReplaceAll(q.words, "OUTPUT", filepath.Join(b.dir, "export.csv")), "|")
	for range b.rounds {
		if b.before != nil && !strings.Contains(q.words, "contacts") {
			took, cpu, _, err := b.before.ask(words...)
			if err != nil {
				return "", fmt.Errorf("version of -before: %w", err)
			}
			before, beforeCPU = append(before, took), append(beforeCPU, cpu)
		}
		took, cpu, rss, err := b.ask(words...)
		if err != nil {
			return "", err
		}
		ours, ourCPU, memory = append(ours, took), append(ourCPU, cpu), max(memory, rss)
		if q.duck != "" {
			started, before := time.Now(), usedCPU()
			if err := drain(duck, strings.ReplaceAll(q.duck, "OUTPUT", filepath.Join(b.dir, "export-duckdb.csv"))); err != nil {
				return "", err
			}
			theirs, theirCPU = append(theirs, time.Since(started)), append(theirCPU, usedCPU()-before)
		}
	}
	rows := 0
	if q.rows {
		var err error
		if rows, err = countLines(filepath.Join(b.dir, "export.csv")); err != nil {
			return "", err
		}
	}
	took := median(ours)
	budget, kept := q.budget.String(), "yes"
	shown := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	switch {
	case q.rows:
		const least = 400_000
		rate := func(d time.Duration) float64 { return float64(rows) / d.Seconds() }
		budget = "400,000 rows/s"
		if rate(took) < least {
			kept = fmt.Sprintf("**no: %.1f ×**", least/rate(took))
		}
		shown = func(d time.Duration) string { return fmt.Sprintf("%.0f rows/s", rate(d)) }
	case took > q.budget:
		kept = fmt.Sprintf("**no: %.1f ×**", took.Seconds()/q.budget.Seconds())
	}
	cpu := func(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
	duckShown, duckCPU, ratio, beforeShown := "–", "–", "–", "–"
	if len(before) > 0 {
		beforeShown = shown(median(before)) + ", " + cpu(median(beforeCPU))
	}
	if q.budget == 0 && !q.rows {
		budget, kept = "–", "–"
	}
	if len(theirs) > 0 {
		duckShown, duckCPU = shown(median(theirs)), cpu(median(theirCPU))
		ratio = fmt.Sprintf("%.2f", median(ourCPU).Seconds()/median(theirCPU).Seconds())
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %d MB | %s | %s | %s | %s |", q.name, budget, shown(took), kept, cpu(median(ourCPU)), memory>>20, beforeShown, duckShown, duckCPU, ratio), nil
}

// usedCPU returns the CPU time of this process.
func usedCPU() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// ask runs the program once and returns its elapsed time, CPU time and peak memory in bytes.
func (b *asked) ask(words ...string) (took, cpu time.Duration, memory int64, err error) {
	if err := dropFromCache(b.program); err != nil {
		return 0, 0, 0, err
	}
	args := append(words, "--dir", b.tape, "--quiet", "--format", "csv")
	if words[0] == "query" && words[1] == "list" {
		args = words
	}
	cmd := exec.Command(b.program, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	most := make(chan int64)
	ended := make(chan struct{})
	go func() { most <- watchMemory(cmd.Process.Pid, ended) }()
	err = cmd.Wait()
	took = time.Since(started)
	close(ended)
	memory = <-most
	if code := cmd.ProcessState.ExitCode(); err != nil && code != 3 {
		return 0, 0, 0, fmt.Errorf("conntape %s: %w: %s", strings.Join(words, " "), err, &stderr)
	}
	return took, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), memory, nil
}

// watchMemory samples a process's memory every few milliseconds and returns the peak in bytes. The peak from wait4 would
// include this process's memory, from before the exec.
func watchMemory(pid int, ended <-chan struct{}) int64 {
	var most int64
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			if _, rest, ok := strings.Cut(string(text), "VmHWM:"); ok {
				var kilobytes int64
				if _, err := fmt.Sscan(rest, &kilobytes); err == nil {
					most = max(most, kilobytes<<10)
				}
			}
		}
		select {
		case <-ended:
			tick.Stop()
			return most
		case <-tick.C:
		}
	}
}

// newest returns the time of the newest connection.
func (b *asked) newest() (time.Time, error) {
	out, err := exec.Command(b.program, "query", "recent", "--limit", "1", "--quiet", "--format", "csv", "--dir", b.tape).Output()
	if err != nil {
		return time.Time{}, err
	}
	_, row, _ := strings.Cut(string(out), "\n")
	cell, _, _ := strings.Cut(row, ",")
	end, err := time.Parse(time.RFC3339Nano, cell)
	if err != nil {
		return end, fmt.Errorf("read the end of the tape: %w", err)
	}
	return end, nil
}

// dropFromCache drops the pages of a file from the page cache.
func dropFromCache(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // dirty pages are not dropped
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// writeIndicators writes 100,000 addresses; a few of them are on the tape.
func writeIndicators(name string) error {
	var b strings.Builder
	for i := range 100_000 - 2 {
		fmt.Fprintf(&b, "%d.%d.%d.%d\n", 198+i>>16, i>>8&255, i&255, 1)
	}
	b.WriteString("45.155.205.233\n203.0.113.99\n")
	return os.WriteFile(name, []byte(b.String()), 0o600)
}

// openDuck opens DuckDB with the rows of the tape. The first time, it loads them from a CSV exported by conntape.
func openDuck(b *bench, name, indicators string) (*sql.DB, error) {
	_, missing := os.Stat(name)
	db, err := sql.Open("duckdb", name)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if missing != nil {
		progress("copying the rows to DuckDB")
		export := filepath.Join(b.dir, "export.csv")
		if _, _, _, err := b.ask("query", "sql", flatSQL, "--output", export); err != nil {
			return nil, err
		}
		if _, err := db.Exec("create table c as select * from read_csv('" + export + "', header = true)"); err != nil {
			return nil, fmt.Errorf("read rows: %w", err)
		}
	}
	_, err = db.Exec("create or replace temp table i as select column0 address from read_csv('" + indicators + "', header = false, columns = {'column0': 'VARCHAR'})")
	return db, err
}

// drain reads every row of an answer.
func drain(db *sql.DB, query string) error {
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	cells := make([]any, len(columns))
	for i := range cells {
		cells[i] = new(any)
	}
	for rows.Next() {
		if err := rows.Scan(cells...); err != nil {
			return err
		}
	}
	return rows.Err()
}

// countLines returns the number of rows of a CSV file, without the header.
func countLines(name string) (int, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, part := -1, make([]byte, 1<<20)
	for {
		got, err := f.Read(part)
		n += bytes.Count(part[:got], []byte("\n"))
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.Fields(string(text) + " ?")[0]
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
