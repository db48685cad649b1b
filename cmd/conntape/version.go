package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version string

// buildInfo is the output of conntape version.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// readBuild returns the build information in the binary.
func readBuild() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	if ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.Revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				b.Revision += "+changes"
			}
		}
	}
	return b
}

func (h *host) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of this program",
		Flags: []cli.Flag{formatFlag([]string{"text", "json"}, "text")},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			format, err := readReportFormat(c)
			if err != nil {
				return err
			}
			b := readBuild()
			if format == "json" {
				return json.NewEncoder(h.stdout).Encode(b)
			}
			line := "conntape " + b.Version
			if b.Revision != "" {
				line += " (" + b.Revision + ")"
			}
			_, err = fmt.Fprintf(h.stdout, "%s, %s, %s\n", line, b.Go, b.Platform)
			return err
		},
	}
}
