package main

import (
	"github.com/conntape/conntape/query/report"
	"github.com/urfave/cli/v2"
)

// queryCommand returns "query" with its subcommands: the canned queries and others.
func (h *host) queryCommand(library []*report.Canned) *cli.Command {
	command := &cli.Command{
		Name:  "query",
		Usage: "ask a tape: in SQL, or one of the canned queries",
		Description: "A tape can be asked while it is being recorded, without root by whoever may read its files, and\n" +
			"recording never waits for it.",
		Subcommands: []*cli.Command{h.sqlCommand(), h.explainCommand(), h.listCommand(library), h.showCommand(library), h.schemaCommand(), h.matchCommand(), h.shellCommand()},
	}
	for _, canned := range library {
		one := h.cannedCommand(canned)
		if canned.Name == "diff" {
			h.addAgainst(one)
		}
		command.Subcommands = append(command.Subcommands, one)
	}
	return command
}
