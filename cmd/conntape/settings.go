package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/conntape/conntape/query"
	"github.com/urfave/cli/v2"
)

// A setting is a flag that the environment and the configuration file can stand for:
// every flag of record, and --tz and --format of the commands that answer. The flag
// comes first, then the variable, then the file, then the default.

const (
	// defaultConfig is the configuration file unless --config or its variable names another.
	defaultConfig  = "/etc/conntape.toml"
	configVariable = "CONNTAPE_CONFIG"
	variablePrefix = "CONNTAPE_"
)

// variableOf returns the environment variable of a setting.
func variableOf(name string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// settingFlags returns the flags that are settings, in the order of help.
func (h *host) settingFlags() []cli.Flag {
	return append(h.recordCommand().Flags, tzFlag(), formatFlag(query.FormatNames(), "table on a terminal, else csv"))
}

// A source is where the value of a setting comes from.
type source struct {
	kind string // flag, environment, file, default
	name string // for people: CONNTAPE_RING in the environment, ring in /etc/conntape.toml
}

// settings are the values that environment and file give.
type settings struct {
	path   string // of the file
	read   bool   // there is such a file
	values map[string]string
	from   map[string]source
}

// get returns the value of a setting, "" when neither environment nor file gives one.
func (s *settings) get(name string) string {
	if s == nil {
		return ""
	}
	return s.values[name]
}

// readSettings reads the environment and the configuration file. path is that of --config,
// "" without one.
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

// settle reads the settings that a command asks for, and gives record those that its
// command line leaves open. Without a tape to find, a broken file disturbs nobody.
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

// put takes a value that is of the flag's type.
func (s *settings) put(flag cli.Flag, value string, from source) error {
	name := flag.Names()[0]
	if err := checkValue(flag, flagGiven{name, value}); err != nil {
		return blame(err, name, value, from)
	}
	s.values[name], s.from[name] = value, from
	return nil
}

// fill gives a command whose flags are settings the values that its command line does
// not give.
func (s *settings) fill(c *call) {
	for _, flag := range c.path[len(c.path)-1].Flags {
		name := flag.Names()[0]
		if name == "format" { // that of config itself
			continue
		}
		value, ok := s.values[name]
		given := slices.ContainsFunc(c.flags, func(g flagGiven) bool { return slices.Contains(flag.Names(), g.name) })
		if ok && !given {
			c.flags = append(c.flags, flagGiven{name, value})
		} else {
			delete(s.values, name) // it is overruled
		}
	}
}

// blame has errors about values that no flag gave name the place where they stand.
func (s *settings) blame(err error) error {
	if s == nil || !errors.Is(err, query.ErrUsage) {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		if told := blame(err, name, s.values[name], s.from[name]); told != err {
			return told
		}
	}
	return err
}

// blame returns an error that says where the value of a setting comes from, or err
// itself if it is not about that one.
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

// strayVariables returns the variables that look like settings and are none, each with
// the one that was meant, "" when none is near.
func (h *host) strayVariables() map[string]string {
	known := []string{configVariable}
	for _, flag := range h.settingFlags() {
		known = append(known, variableOf(flag.Names()[0]))
	}
	stray := make(map[string]string)
	for _, variable := range h.environ {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, variablePrefix) && !slices.Contains(known, name) {
			stray[name] = query.Nearest(name, known)
		}
	}
	return stray
}
