package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writes returns statements that would change something. Each is refused.
func writes() []string {
	return []string{
		"attach 'new.db' as n", "attach database ':memory:' as m", "attach 'file:new.db?mode=rwc' as n", "detach s1",
		"vacuum", "vacuum into 'new.db'", "vacuum s1 into 'new.db'", "vacuum s1",
		"create table t(a)", "create temp table t(a)", "create temp table t as select * from connections", "create table s1.t(a)", "create table temp.t(a)",
		"create temp view v as select 1", "create view v as select 1", "create temp trigger g after insert on connections begin select 1; end",
		"create virtual table temp.v using fts5(a)", "create virtual table v using dbstat", "create virtual table v using csv(filename='/etc/passwd')",
		"create index i on s1.connection(fd)", "create temp table t(a, b as (randomblob(1000000)))",
		"insert into s1.connection(id) values (1)", "insert into connections values (1)", "insert or replace into s1.segment(id) values (1)",
		"update s1.connection set fd = 0", "update s1.process set exe = 'x'", "delete from s1.connection", "delete from gaps", "replace into s1.gap(id) values (1)",
		"insert into s1.sqlite_schema values ('table', 'x', 'x', 0, 'create table x(a)')", "delete from temp.sqlite_temp_schema", "update sqlite_temp_schema set sql = ''",
		"drop table s1.connection", "drop view connections", "drop view temp.gaps", "alter table s1.connection add column x", "alter table s1.connection rename to y",
		"reindex", "reindex s1.endpoint", "analyze", "analyze s1",
		"begin", "begin immediate", "commit", "rollback", "savepoint x", "release x",
		"pragma query_only = 0", "pragma query_only(0)", "pragma writable_schema = 1", "pragma writable_schema = reset", "pragma journal_mode = wal", "pragma s1.journal_mode = delete",
		"pragma user_version = 7", "pragma s1.user_version = 7", "pragma application_id = 1", "pragma temp_store_directory = '/tmp'", "pragma temp_store = 2", "pragma cache_size = -10000000",
		"pragma mmap_size = 100000000000", "pragma hard_heap_limit = 0", "pragma soft_heap_limit = 0", "pragma trusted_schema = 1", "pragma defensive = 0", "pragma incremental_vacuum",
		"pragma wal_checkpoint(truncate)", "pragma optimize", "pragma shrink_memory", "pragma locking_mode = exclusive", "pragma page_size = 512", "pragma data_store_directory = '.'",
		"pragma threads = 100", "pragma key = 'x'", "pragma case_sensitive_like = 1", "pragma recursive_triggers = 1", "pragma ignore_check_constraints = 1",
		"select load_extension('./evil.so')", "select load_extension('./evil.so', 'init')", "select writefile('new.txt', 'x')", "select readfile('/etc/passwd')", "select edit('x', 'sh')",
		"select * from fsdir('/')", "select * from zipfile('x.zip')", "select * from sqlite_dbpage", "select * from dbstat", "select fts3_tokenizer('x', x'00')", "select fts3_tokenizer('simple')",
		"select sqlite_rename_column('x', 1)", "select * from pragma_query_only(0)", "select * from pragma_journal_mode('wal')", "select * from pragma_writable_schema(1)",
		"with x as (select 1) insert into s1.connection(id) select * from x", "with x as (select 1) delete from s1.connection", "explain attach 'new.db' as n", "explain delete from s1.connection",
		"insert into s1.connection(id) values (1) returning id", "update s1.connection set fd = 0 returning id", "delete from s1.connection returning id",
		"select 1; delete from s1.connection", "select 1; attach 'new.db' as n", "/* */ attach 'new.db' as n -- x", "\tATTACH 'new.db' AS n",
	}
}

// bombs returns endless questions and huge ones.
func bombs() []string {
	const forever = "with recursive n(i) as (select 1 union all select i + 1 from n) "
	return []string{
		forever + "select max(i) from n",
		forever + "select i from n order by i desc",
		forever + "select count(distinct i) from n",
		forever + "select group_concat(i) from n",
		forever + "select json_group_array(i) from n",
		forever + "select sum(length(hex(randomblob(1000000)))) from n",
		forever + "select i, count(*) from n group by hex(randomblob(16))",
		forever + "select max(i) over (order by i desc) from n",
		"with recursive n(i) as (select 1 union select i + 1 from n) select count(*) from n",
		"with recursive s(x) as (select 'a' union all select x || x from s) select max(length(x)) from s",
		"select count(*) from connections a, connections b, connections c, connections d, connections e, connections f, connections g",
		"select printf('%.*c', 2000000000, 'x')", "select zeroblob(2000000000)", "select hex(zeroblob(1000000000))", "select randomblob(2000000000)",
		"select replace(hex(zeroblob(30000000)), '0', 'xxxxxxxxxxxxxxxxxxxx')",
		"select group_concat(hex(zeroblob(1000000)), hex(zeroblob(1000000))) from connections a, connections b",
		"select 1 where '" + strings.Repeat("a", 40) + "b' like '" + strings.Repeat("%a", 400) + "'",
		"select 1 where '" + strings.Repeat("a", 40) + "' glob '" + strings.Repeat("*a", 60) + "b'",
		"select " + strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000),
		"select " + strings.Repeat("abs(", 900) + "1" + strings.Repeat(")", 900),
		"select 1" + strings.Repeat(" union all select 1", 5000),
		"select * from " + strings.TrimSuffix(strings.Repeat("connections,", 200), ","),
		"select " + strings.TrimSuffix(strings.Repeat("1,", 40000), ","),
		forever + "select json(printf('[%.*c]', i, '[')) from n",
		forever + "select cidr_match('10.0.0.' || i, '10.0.0.0/8') from n where i < 0",
	}
}

// No question changes a tape or creates a file.
func TestNothingIsWritten(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	t.Chdir(work)
	t.Setenv("TMPDIR", t.TempDir())
	before := snapshotOf(t, tape)
	for _, sql := range writes() {
		h, stdout, stderr := world("")
		code := h.report(h.run(context.Background(), []string{"query", "sql", sql, "--dir", tape, "--timeout", "5s"}))
		if code != exitUsage && code != exitFailed || !strings.Contains(stderr.String(), "conntape: error: ") || stdout.Len() > 0 {
			t.Errorf("%s: exit %d, %q, %q", sql, code, stdout, stderr)
		}
	}
	if after := snapshotOf(t, tape); after != before {
		t.Errorf("the tape was\n%s\nand is\n%s", before, after)
	}
	for _, dir := range []string{work, os.Getenv("TMPDIR")} {
		if left := snapshotOf(t, dir); left != "" {
			t.Errorf("files were made: %s", left)
		}
	}
}

// An endless or huge question ends at its time limit, with bounded memory. Each runs in its own process.
func TestBombsEnd(t *testing.T) {
	tape, program := filepath.Join(t.TempDir(), "tape"), filepath.Join(t.TempDir(), "conntape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, program)
	t.Setenv("TMPDIR", t.TempDir())
	const limit, grace, memory = 300 * time.Millisecond, 20 * time.Second, 512 << 20
	for _, sql := range bombs() {
		var stderr bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), limit+grace)
		cmd := exec.CommandContext(ctx, program, "query", "sql", "-", "--dir", tape, "--timeout", limit.String(), "--quiet")
		cmd.Stdin, cmd.Stderr = strings.NewReader(sql), &stderr
		err := cmd.Run()
		cancel()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		code := cmd.ProcessState.ExitCode()
		switch {
		case code < 0:
			t.Errorf("%.80s: did not end: %v", sql, err)
		case code == exitDone && strings.Contains(sql, "recursive"):
			t.Errorf("%.80s: ended: %s", sql, &stderr)
		case code == exitCut && strings.HasPrefix(stderr.String(), "conntape: cut after"):
		case code != exitDone && !strings.HasPrefix(stderr.String(), "conntape: error: "):
			t.Errorf("%.80s: exit %d: %.300s", sql, code, &stderr)
		}
		if used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); !ok || used.Maxrss<<10 > memory {
			t.Errorf("%.80s: %d MiB", sql, used.Maxrss>>10)
		}
	}
	if left := snapshotOf(t, os.Getenv("TMPDIR")); left != "" {
		t.Errorf("files are left: %s", left)
	}
}

// snapshotOf lists the files below a directory with their size, time and content.
func snapshotOf(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		sum := ""
		if entry.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(text))
		}
		fmt.Fprintln(&all, path, info.Mode(), info.Size(), info.ModTime().UnixNano(), sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
