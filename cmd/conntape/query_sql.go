package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

// mostSQL is the longest SQL read from a file or stdin, in bytes.
const mostSQL = 1 << 20

func (h *host) sqlCommand() *cli.Command {
	return &cli.Command{
		Name:      "sql",
		Usage:     "ask in SQL, over connections, contacts, processes, endpoints, gaps and segments",
		ArgsUsage: `"SELECT …" | - | --file PATH`,
		Description: `One statement that reads. The tape cannot be written to, whatever the SQL says. With - the SQL is
read from stdin. --since and --until narrow the views: connections to those that were issued in the
window, gaps to those that overlap it; processes, endpoints and segments stay whole. Questions that count
connections are answered from the table contacts where the answer is the same: conntape query explain
says of a statement whether it is.

Examples:
  conntape query sql "select time, exe, remote_address, remote_port from connections where remote_port = 22"
  conntape query sql "select exe, sum(connects) n from contacts group by exe order by n desc" --since 2h
  conntape query sql "select * from connections where pid = :pid" --param pid=4711 --format jsonl
  conntape query sql --file question.sql --format csv > answer.csv`,
		Flags:  append(answerFlags(limitFlag("`N` most rows to write; 0 for all", 0)), sqlFlags()...),
		Action: h.querySQL,
	}
}

// explainCommand returns the command that says how SQL is answered.
func (h *host) explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say how SQL would be answered: over contacts or row by row, and why",
		ArgsUsage: `"SELECT …" | - | --file PATH`,
		Description: `Statements that count connections are answered from the table contacts, which takes a fraction of the time, if
docs/schema.md's grammar has them; all others row by row. This says which way is taken and why, the
statement that is run, SQLite's plan of it and, where it helps, how to ask contacts by hand.

Examples:
  conntape query explain "select exe, count(*) from connections group by exe"
  conntape query explain --file question.sql`,
		Flags:  append(answerFlags(limitFlag("`N` most rows to write; 0 for all", 0)), sqlFlags()...),
		Action: func(c *cli.Context) error { return h.askSQL(c, table.ExplainSQL) },
	}
}

// sqlFlags are the flags of a command that takes SQL.
func sqlFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Usage: "`PATH` read the SQL from this file"},
		&cli.StringSliceFlag{Name: "param", Usage: "`NAME=VALUE` value of the parameter :NAME in the SQL; may be repeated"},
	}
}

func (h *host) querySQL(c *cli.Context) error { return h.askSQL(c, table.RunSQL) }

// askSQL puts the SQL of a command's arguments to the tape, by query.RunSQL or query.ExplainSQL.
func (h *host) askSQL(c *cli.Context, run func(context.Context, *store.Tape, ask.Request, format.RowWriter) (ask.Result, error)) error {
	q, timeout, err := h.readQuestion(c)
	if err != nil {
		return err
	}
	request := ask.Request{Params: map[string]format.Value{}, Limit: c.Int64("limit"), Timeout: timeout, Clock: input.Clock{Now: h.now(), Zone: q.zone}}
	for _, text := range c.StringSlice("param") {
		name, value, err := ask.ParseParam(text)
		if err != nil {
			return err
		}
		request.Params[name] = value
	}
	if request.SQL, err = h.readSQL(c); err != nil {
		return err
	}
	_, err = h.answerWith(c.Context, q, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		return run(c.Context, tape, request, out)
	})
	return err
}

// readSQL returns the SQL from the argument, the file or stdin.
func (h *host) readSQL(c *cli.Context) (string, error) {
	const example = `try: conntape query sql "select * from connections limit 5"`
	switch {
	case c.IsSet("file") && c.NArg() > 0:
		return "", usagef("leave out one of the two", "the SQL is given both as an argument and with --file")
	case c.IsSet("file"):
		file, err := os.Open(c.String("file"))
		if err != nil {
			return "", usagef("name the file with the SQL, or give - to read it from stdin", "read SQL: %v", err)
		}
		defer file.Close()
		return readAll(file)
	case c.NArg() == 0:
		return "", usagef(example, "no SQL was given")
	case c.NArg() > 1:
		return "", usagef("put the SQL in quotes, as one argument", "conntape query sql takes one argument, but was given %d", c.NArg())
	case c.Args().First() == "-":
		return readAll(h.stdin)
	}
	return c.Args().First(), nil
}

func readAll(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostSQL+1))
	if err != nil {
		return "", usagef("name the file with the SQL, or give - to read it from stdin", "read SQL: %v", err)
	}
	if len(text) > mostSQL {
		return "", usagef("for long lists there is query match --indicators", "the SQL is longer than %s", fmt.Sprintf("%d bytes", mostSQL))
	}
	return string(text), nil
}
