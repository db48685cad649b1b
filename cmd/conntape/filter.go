package main

import (
	"slices"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/report"
	"github.com/urfave/cli/v2"
)

// filterFlags are the flags that filter connections, except those that the command has itself.
func filterFlags(own []cli.Flag) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "exe", Usage: "`NAME` only this program: its path, or the last part of it, or the name of the thread"},
		&cli.StringFlag{Name: "user", Usage: "`NAME` only this user: name or uid"},
		&cli.StringFlag{Name: "pid", Usage: "`N` only this process"},
		&cli.StringFlag{Name: "port", Usage: "`N` only connections to this port"},
		&cli.StringFlag{Name: "to", Usage: "`ADDRESS` only connections to this address, CIDR, address:port or UNIX socket"},
		&cli.StringFlag{Name: "container", Usage: "`TEXT` only containers with this text in their name"},
		&cli.StringFlag{Name: "outcome", Usage: "`WORD` only this outcome: " + strings.Join(format.Outcomes(), ", ")},
		&cli.StringFlag{Name: "name", Usage: "`HOST` only connections that this name led to, in which * stands for anything"},
	}
	return append(own, slices.DeleteFunc(flags, func(f cli.Flag) bool { return findFlag(own, f.Names()[0]) != nil })...)
}

// readFilter reads filterFlags. It refuses an empty filter, which would match everything.
func readFilter(c *cli.Context) (report.Filter, error) {
	var f report.Filter
	for name, to := range map[string]*string{"exe": &f.Exe, "user": &f.User, "pid": &f.PID, "port": &f.Port, "to": &f.To, "container": &f.Container, "outcome": &f.Outcome, "name": &f.Name} {
		if *to = c.String(name); c.IsSet(name) && *to == "" {
			return f, usagef("leave --"+name+" out to see everything", "--%s is empty", name)
		}
	}
	_, err := f.Apply(ask.Request{})
	return f, err
}
