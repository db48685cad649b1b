package ask

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"zombiezen.com/go/sqlite"
)

// Request is one question in SQL.
type Request struct {
	SQL     string
	Params  map[string]format.Value // by name without the leading ':', '@' or '$'
	Limit   int64                   // most rows to write, 0 for no limit
	Timeout time.Duration           // longest time to run, 0 for no limit
	Clock   input.Clock             // what the functions ago and ns read times against
}

// Result says how an answer ended.
type Result struct {
	Rows int64
	Cut  string // why rows are missing from the end, "" when none are

	Advice string // how to ask the same in less time, "" none
}

// depthLimit is how deep SQL may be nested: what SQLite allows unless told
// otherwise.
const depthLimit = 1000

// OutOfTime reports whether the answer was cut by its time limit.
func (r Result) OutOfTime() bool { return strings.HasPrefix(r.Cut, ErrTimeLimit.Error()) }

// ErrTimeLimit is the error of a question whose time limit passed before there was
// any answer, and the cause with which a context ends at Request.Timeout.
var ErrTimeLimit = errors.New("time limit")

// WithTimeLimit returns a context that ends at the limit too, 0: at none.
func WithTimeLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, ErrTimeLimit)
}

// nothingInTime says that the limit came before any answer.
func nothingInTime(limit time.Duration) error {
	return fmt.Errorf("%w of %s: nothing was answered in that time", ErrTimeLimit, limit)
}

// ExplainLimit returns the error that kept a question from any answer: that it was the time
// limit, where it was.
func ExplainLimit(ctx context.Context, limit time.Duration, err error) error {
	if context.Cause(ctx) == ErrTimeLimit {
		return nothingInTime(limit)
	}
	return err
}

// Run asks conn one question and writes the answer to out. The connection
// enforces by itself that nothing is written to the tape. When ctx ends, the
// statement is stopped in the middle and the cause of ctx is returned; when the
// time limit ends, what there is by then is a proper answer that is cut.
//
// An error of writing is returned as it is. What is wrong with the SQL is a
// [UsageError].
func Run(ctx context.Context, conn *sqlite.Conn, r Request, out format.RowWriter) (Result, error) {
	ctx, cancel := WithTimeLimit(ctx, r.Timeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	before := conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(before)
	conn.Limit(sqlite.LimitExprDepth, depthLimit)
	functions := &Functions{Clock: r.Clock, Stop: stop}
	if err := functions.Add(conn); err != nil {
		return Result{}, err
	}

	stmt, err := Prepare(conn, r.SQL)
	if err != nil {
		return Stopped(ctx, r, Result{}, out, nil, err)
	}
	defer stmt.Finalize()
	if err := bind(stmt, r.Params); err != nil {
		return Result{}, err
	}
	columns := ColumnNames(conn, stmt, r.SQL)
	if len(columns) == 0 {
		return Result{}, input.Usagef("ask with SELECT; the tape is read-only", "the statement gives no rows")
	}
	return step(ctx, stmt, r, columns, functions, out)
}

// step writes the rows of a statement that is ready to run. Nothing is written
// before the first of them is there, so that an error comes alone.
func step(ctx context.Context, stmt *sqlite.Stmt, r Request, columns []string, functions *Functions, out format.RowWriter) (Result, error) {
	var result Result
	row := NewRowReader(len(columns))
	for begun := false; ; begun = true {
		more, err := stmt.Step()
		if functions.failed != nil {
			return result, functions.failed
		}
		if !begun && (err == nil || errors.Is(context.Cause(ctx), ErrTimeLimit)) {
			if err := out.Begin(columns); err != nil {
				return result, err
			}
		}
		if err != nil {
			return Stopped(ctx, r, result, out, columns, err)
		}
		if !more {
			break
		}
		if r.Limit > 0 && result.Rows == r.Limit {
			result.Cut = RowLimitText(r.Limit)
			break
		}
		if err := out.Row(row.Read(stmt)); err != nil {
			return result, err
		}
		result.Rows++
	}
	return result, out.End(result.Cut)
}

// RowLimitText says that an answer was cut at its row limit.
func RowLimitText(limit int64) string {
	return "row limit of " + strconv.FormatInt(limit, 10) + ", there are more"
}

// timeLimitText says that an answer was cut at its time limit.
func timeLimitText(limit time.Duration) string {
	return ErrTimeLimit.Error() + " of " + limit.String() + ", there may be more"
}

// Stopped completes an answer that an error ended: as a cut one when it was the
// time limit, and not at all otherwise.
func Stopped(ctx context.Context, r Request, result Result, out format.RowWriter, columns []string, err error) (Result, error) {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return result, Explain(err)
	case !errors.Is(cause, ErrTimeLimit):
		return result, cause
	case columns == nil:
		return result, nothingInTime(r.Timeout)
	}
	result.Cut = timeLimitText(r.Timeout)
	return result, out.End(result.Cut)
}

// Prepare compiles exactly one statement.
func Prepare(conn *sqlite.Conn, sql string) (*sqlite.Stmt, error) {
	const example = `try: conntape query sql "select time, exe, remote_address from connections limit 5"`
	if strings.IndexByte(sql, 0) >= 0 {
		return nil, input.Usagef(example, "the SQL holds a NUL byte")
	}
	if SkipBlank(sql) == "" {
		return nil, input.Usagef(example, "the SQL is empty")
	}
	stmt, trailing, err := conn.PrepareTransient(sql)
	if err != nil {
		return nil, explainSQL(conn, sql, err)
	}
	if SkipBlank(sql[len(sql)-trailing:]) != "" {
		stmt.Finalize()
		return nil, input.Usagef("ask one question at a time", "the SQL is more than one statement")
	}
	return stmt, nil
}

// ColumnNames returns the names of the columns of an answer. Of columns that
// share a name, the driver tells that of the last one only; SQLite tells all of
// them when the statement is asked as a subquery, numbered from the second on.
func ColumnNames(conn *sqlite.Conn, stmt *sqlite.Stmt, sql string) []string {
	names := make([]string, stmt.ColumnCount())
	missing := false
	for i := range names {
		names[i] = stmt.ColumnName(i)
		missing = missing || names[i] == ""
	}
	if !missing {
		return names
	}
	outer, _, err := conn.PrepareTransient("SELECT * FROM (\n" + strings.TrimRight(sql, " \t\r\n;") + "\n)")
	if err == nil {
		defer outer.Finalize()
	}
	for i := range names {
		switch {
		case names[i] != "":
		case err == nil && i < outer.ColumnCount():
			base, number, ok := cutLast(outer.ColumnName(i), ":")
			if _, err := strconv.Atoi(number); !ok || err != nil {
				base = outer.ColumnName(i)
			}
			names[i] = base
		default:
			names[i] = "column" + strconv.Itoa(i+1)
		}
	}
	return names
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// SkipBlank returns what follows the white space, comments and semicolons at the
// start of sql.
func SkipBlank(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f;\ufeff")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql[2:], "*/")
		default:
			return sql
		}
	}
}

// bind gives every parameter of the statement its value, and refuses one
// without a value and a value without a parameter.
func bind(stmt *sqlite.Stmt, params map[string]format.Value) error {
	used := make(map[string]bool)
	for i := 1; i <= stmt.BindParamCount(); i++ {
		name := stmt.BindParamName(i)
		if name == "" || name[0] == '?' {
			return input.Usagef("name it, as in :port, and give --param port=443", "the SQL has a parameter without a name")
		}
		v, ok := params[name[1:]]
		if !ok {
			return input.Usagef(fmt.Sprintf("give it with --param %s=VALUE", name[1:]), "the SQL has a parameter %s without a value", name)
		}
		used[name[1:]] = true
		switch v.Kind {
		case format.Null:
			stmt.BindNull(i)
		case format.Integer:
			stmt.BindInt64(i, v.Int)
		case format.Real:
			stmt.BindFloat(i, v.Real)
		case format.Text:
			stmt.BindText(i, string(v.Bytes))
		case format.Blob:
			stmt.BindBytes(i, v.Bytes)
		}
	}
	for name := range params {
		if !used[name] {
			return input.Usagef("write :"+name+" in the SQL where the value belongs", "the SQL has no parameter :%s", name)
		}
	}
	return nil
}

// ParseParam reads NAME=VALUE. A value that looks like an integer or a real is
// one, NULL in capitals is NULL, anything else is text.
func ParseParam(text string) (name string, v format.Value, err error) {
	name, value, ok := strings.Cut(text, "=")
	name = strings.TrimLeft(name, ":@$")
	if !ok || name == "" {
		return "", format.Value{}, input.Usagef("write --param port=443", "cannot read parameter %q", text)
	}
	return name, ParseValue(value), nil
}

// ParseValue reads the text of a parameter: see [ParseParam].
func ParseValue(text string) format.Value {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(n, 10) == text {
		return format.Value{Kind: format.Integer, Int: n}
	}
	if text == "NULL" {
		return format.Value{Kind: format.Null}
	}
	return format.Value{Kind: format.Text, Bytes: []byte(text)}
}

// rowReader copies rows out of a statement into memory that it uses again.
type rowReader struct {
	values []format.Value
	memory []byte
}

func NewRowReader(columns int) *rowReader { return &rowReader{values: make([]format.Value, columns)} }

// Read returns the current row, valid until the next read.
func (r *rowReader) Read(stmt *sqlite.Stmt) []format.Value {
	need := 0
	for i := range r.values {
		v := &r.values[i]
		*v = format.Value{}
		switch stmt.ColumnType(i) {
		case sqlite.TypeInteger:
			v.Kind, v.Int = format.Integer, stmt.ColumnInt64(i)
		case sqlite.TypeFloat:
			v.Kind, v.Real = format.Real, stmt.ColumnFloat(i)
		case sqlite.TypeText:
			v.Kind, v.Int = format.Text, int64(stmt.ColumnLen(i))
			need += int(v.Int)
		case sqlite.TypeBlob:
			v.Kind, v.Int = format.Blob, int64(stmt.ColumnLen(i))
			need += int(v.Int)
		}
	}
	if need > cap(r.memory) {
		r.memory = make([]byte, need+need/2)
	}
	free := r.memory[:cap(r.memory)]
	for i := range r.values {
		v := &r.values[i]
		if v.Kind == format.Text || v.Kind == format.Blob {
			v.Int = 0
			n := stmt.ColumnBytes(i, free)
			v.Bytes, free = free[:n:n], free[n:]
		}
	}
	return r.values
}
