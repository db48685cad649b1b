package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/urfave/cli/v2"
)

// A setting is a flag that also has an environment variable and a key in the configuration file: every flag of record,
// and --tz and --format of commands that answer. The order is flag, variable, file, default.

const (
	// defaultConfig is the default configuration file.
	defaultConfig  = "/etc/conntape.toml"
	configVariable = "CONNTAPE_CONFIG"
	variablePrefix = "CONNTAPE_"
)

// variableOf returns the environment variable of a setting.
func variableOf(name string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// settingFlags returns the flags that are settings, in help's order.
func (h *host) settingFlags() []cli.Flag {
	return append(h.recordCommand().Flags, tzFlag(), formatFlag(format.Names(), "table on a terminal, else csv"))
}

// A source is the origin of a setting's value.
type source struct {
	kind string // flag, environment, file, default
	name string // shown to the user: CONNTAPE_RING in the environment, ring in /etc/conntape.toml
}

// settings are the values from environment and file.
type settings struct {
	path   string // of the file
	read   bool   // the file exists
	values map[string]string
	from   map[string]source
}

// get returns a setting's value, "" if neither environment nor file has one.
func (s *settings) get(name string) string {
	if s == nil {
		return ""
	}
	return s.values[name]
}

// readSettings reads the environment and the configuration file. path is --config's value, "" for none.
func (h *host) readSettings(path string) (*settings, error) {
	named := source{"flag", "--config"}
	if path == "" {
		path, named = h.getenv(configVariable), source{"environment", configVariable}
	}
	if path == "" {
		path, named = h.config, source{kind: "default"}
	}
	s := &settings{path: path, values: make(map[string]string), from: make(map[string]source)}
	if path != "" {
		text, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist) && named.kind == "default":
		case err != nil:
			return nil, &hintedError{fmt.Errorf("read configuration: %w", err), "conntape config --config /dev/null shows what is in force without a file"}
		default:
			s.read = true
			if err := s.readFile(string(text), h.settingFlags()); err != nil {
				return nil, err
			}
		}
	}
	for _, flag := range h.settingFlags() {
		name := flag.Names()[0]
		if value := h.getenv(variableOf(name)); value != "" {
			if err := s.put(flag, value, source{"environment", variableOf(name) + " in the environment"}); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// settle reads the settings of a command, and fills in record's flags that are not on the command line. A command
// without a tape ignores a broken file.
func (h *host) settle(c *call) error {
	command := c.path[len(c.path)-1]
	asks := findFlag(command.Flags, "dir") != nil || findFlag(command.Flags, "table") != nil
	if c.config == "" && (!asks || command.Name == "demo" && h.getenv(dirVariable) == "") {
		h.settings = nil
		return nil
	}
	var err error
	if h.settings, err = h.readSettings(c.config); err != nil {
		return err
	}
	if findFlag(command.Flags, "max-size") != nil {
		h.settings.fill(c)
	}
	return nil
}

// put sets a value of the flag's type.
func (s *settings) put(flag cli.Flag, value string, from source) error {
	name := flag.Names()[0]
	if err := checkValue(flag, flagGiven{name, value}); err != nil {
		return blame(err, name, value, from)
	}
	s.values[name], s.from[name] = value, from
	return nil
}

// fill sets the flags of a command from the settings, except those on the command line.
func (s *settings) fill(c *call) {
	for _, flag := range c.path[len(c.path)-1].Flags {
		name := flag.Names()[0]
		if name == "format" { // config has its own --format
			continue
		}
		value, ok := s.values[name]
		given := slices.ContainsFunc(c.flags, func(g flagGiven) bool { return slices.Contains(flag.Names(), g.name) })
		if ok && !given {
			c.flags = append(c.flags, flagGiven{name, value})
		} else {
			delete(s.values, name) // the command line overrides it
		}
	}
}

// blame adds the source of a setting to an error about its value.
func (s *settings) blame(err error) error {
	if s == nil || !errors.Is(err, input.ErrUsage) {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		if told := blame(err, name, s.values[name], s.from[name]); told != err {
			return told
		}
	}
	return err
}

// blame adds the source to err if err is about this setting's value; otherwise it returns err.
func blame(err error, name, value string, from source) error {
	message, flag := err.Error(), dashed(name)
	switch {
	case strings.HasPrefix(message, flag+" "):
		message = from.name + ": " + strings.TrimPrefix(message, flag+" ")
	case strings.Contains(message, fmt.Sprintf("%q", value)):
		message = from.name + ": " + message
	default:
		return err
	}
	return usagef(hintOf(err), "%s", message)
}

// strayVariables returns variables that look like settings but are not, with the nearest setting, "" for none.
func (h *host) strayVariables() map[string]string {
	known := []string{configVariable}
	for _, flag := range h.settingFlags() {
		known = append(known, variableOf(flag.Names()[0]))
	}
	stray := make(map[string]string)
	for _, variable := range h.environ {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, variablePrefix) && !slices.Contains(known, name) {
			stray[name] = input.Nearest(name, known)
		}
	}
	return stray
}
