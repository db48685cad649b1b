package main

import (
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/report"
	"github.com/urfave/cli/v2"
)

// filterFlags adds to the flags of a command those that filter a view, except those that the command has itself.
func filterFlags(own []cli.Flag, view string) []cli.Flag {
	what := "only connections to this "
	if view == "listeners" {
		what = "only this "
	}
	flags := map[string]string{
		"exe":       "`NAME` only this program: its path, or the last part of it, or the name of the thread",
		"user":      "`NAME` only this user: name or uid",
		"pid":       "`N` only this process",
		"port":      "`N` " + what + "port",
		"to":        "`ADDRESS` " + what + "address, CIDR, address:port or UNIX socket",
		"from":      "`ADDRESS` only connections from this address or CIDR",
		"container": "`TEXT` only containers with this text in their name",
		"outcome":   "`WORD` only this outcome: " + strings.Join(format.Outcomes(), ", "),
		"name":      "`HOST` only connections that this name led to, in which * stands for anything",
	}
	for _, name := range report.FiltersOf(view) {
		if findFlag(own, name) == nil {
			own = append(own, &cli.StringFlag{Name: name, Usage: flags[name]})
		}
	}
	return own
}

// readFilter reads filterFlags. It refuses an empty filter, which would match everything.
func readFilter(c *cli.Context, view string) (report.Filter, error) {
	f := report.Filter{View: view}
	to := map[string]*string{"exe": &f.Exe, "user": &f.User, "pid": &f.PID, "port": &f.Port, "to": &f.To, "from": &f.From, "container": &f.Container, "outcome": &f.Outcome, "name": &f.Name}
	for _, name := range report.FiltersOf(view) {
		if *to[name] = c.String(name); c.IsSet(name) && *to[name] == "" {
			return f, usagef("leave --"+name+" out to see everything", "--%s is empty", name)
		}
	}
	_, err := f.Apply(ask.Request{})
	return f, err
}
