package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/conntape/conntape/query/input"
	"github.com/urfave/cli/v2"
)

// readFile reads a configuration file: TOML without tables, whose keys are names of flags. It refuses an unknown key and
// suggests the nearest.
func (s *settings) readFile(text string, flags []cli.Flag) error {
	var given map[string]any
	meta, err := toml.Decode(text, &given)
	if err != nil {
		return usagef("it is TOML: name = \"value\", one setting a line", "%s: %s", s.path, tomlProblem(err))
	}
	for _, key := range meta.Keys() {
		name := key[0]
		flag := findSetting(flags, name)
		value, err := settingText(given[name], flag)
		switch {
		case flag == nil:
			return s.unknownKey(name, given[name], flags)
		case err != nil:
			return usagef("", "%s in %s %v", name, s.path, err)
		}
		if err := s.put(flag, value, source{"file", name + " in " + s.path}); err != nil {
			return err
		}
	}
	return nil
}

// findSetting finds a flag by its long name.
func findSetting(flags []cli.Flag, name string) cli.Flag {
	if flag := findFlag(flags, name); flag != nil && flag.Names()[0] == name {
		return flag
	}
	return nil
}

// unknownKey returns the error for a key that is no setting.
func (s *settings) unknownKey(name string, value any, flags []cli.Flag) error {
	if _, ok := value.(map[string]any); ok {
		return usagef("take the line in brackets out: settings stand in no table", "%s has a table [%s]", s.path, name)
	}
	var names []string
	for _, flag := range flags {
		names = append(names, flag.Names()[0])
	}
	hint := "conntape config lists the settings"
	if near := input.Nearest(strings.ReplaceAll(name, "_", "-"), names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return usagef(hint, "%s has an unknown setting %q", s.path, name)
}

// settingText converts a value of the file to a flag's text.
func settingText(value any, flag cli.Flag) (string, error) {
	_, number := flag.(*cli.Int64Flag)
	_, truth := flag.(*cli.BoolFlag)
	switch v := value.(type) {
	case bool:
		if truth {
			return strconv.FormatBool(v), nil
		}
	case int64:
		if !truth {
			return strconv.FormatInt(v, 10), nil
		}
	case string:
		if !truth && !number {
			return v, nil
		}
	}
	switch {
	case truth:
		return "", errors.New("must be true or false, without quotes")
	case number:
		return "", errors.New("must be a whole number, without quotes")
	}
	return "", errors.New("must be a text in quotes")
}

// tomlProblem describes an error and its place in one line.
func tomlProblem(err error) string {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return fmt.Sprintf("line %d: %s", parse.Position.Line, parse.Message)
	}
	return err.Error()
}
