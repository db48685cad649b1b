package main

import (
	"github.com/conntape/conntape/query/report"
	"github.com/urfave/cli/v2"
)

// newApp returns all commands with their flags.
func (h *host) newApp() (*cli.App, error) {
	library, err := report.Library()
	if err != nil {
		return nil, err
	}
	app := &cli.App{
		Name:  "conntape",
		Usage: "record every connect on this host, with the process that made it, and ask about it later",
		Description: "On a terminal an answer is a table, in a pipe it is CSV. -t, or CONNTAPE_FORMAT=table in the\n" +
			"environment, gives the table to less and grep too: conntape query recent -t | less\n\n" +
			"To begin:\n" +
			"  conntape demo && conntape query beacons --dir conntape-demo\n" +
			"  sudo conntape record --dir ./tape\n" +
			"  conntape query recent --dir ./tape\n" +
			"  conntape query sql \"select time, exe, remote_address from connections\" --dir ./tape\n\n" +
			"Every command takes --config PATH, the file of settings in place of /etc/conntape.toml; conntape\n" +
			"config shows what is in force.\n\n" +
			"stdout carries data only; everything else is on stderr. Exit codes: 0 done, 1 failed,\n" +
			"2 wrong usage, 3 found (by commands that look for something), 4 cut by --timeout,\n" +
			"5 part of the tape is damaged, or was removed while it was read.",
		Commands: []*cli.Command{
			h.recordCommand(),
			h.queryCommand(library),
			h.tailCommand(),
			h.exportCommand(),
			h.statusCommand(),
			h.verifyCommand(),
			h.metricsCommand(),
			h.checkpointCommand(),
			h.proveCommand(),
			h.rotateCommand(),
			h.unpinCommand(),
			h.holdCommand(),
			h.releaseCommand(),
			h.salvageCommand(),
			h.configCommand(),
			h.doctorCommand(),
			h.demoCommand(),
			h.completionCommand(),
			h.manCommand(),
			h.versionCommand(),
		},
		Writer:                    h.stdout,
		ErrWriter:                 h.stderr,
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // else a comma would end the value of --param
		ExitErrHandler:            func(*cli.Context, error) {},
	}
	prepareCommands(app.Commands)
	return app, nil
}

// prepareCommands turns off cli's own help and error messages.
func prepareCommands(commands []*cli.Command) {
	for _, command := range commands {
		command.HideHelp = true
		command.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usagef("", "%v", err) }
		prepareCommands(command.Subcommands)
	}
}
