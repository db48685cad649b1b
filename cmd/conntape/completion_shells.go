package main

import (
	"fmt"
	"strings"
)

// Each script finds the command among the words before the cursor and offers the words that may follow it.

// writeChoices writes the shell's cases for flags with a choice of values; offer has %s for these.
func writeChoices(b *strings.Builder, all []completed, offer string) {
	for _, c := range all {
		for _, f := range c.flags {
			if f.choices != nil {
				fmt.Fprintf(b, "        '%s --%s') "+offer+"; return ;;\n", c.path, f.word, strings.Join(f.choices, " "))
			}
		}
	}
}

func bashCompletion(all []completed) string {
	files, others := valueFlags(all)
	b := &strings.Builder{}
	fmt.Fprintf(b, `_conntape() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at= word words=
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "${at:+$at }$word" in
            %s) at="${at:+$at }$word" ;;
        esac
    done
    case "$at $prev" in
`, paths(all))
	writeChoices(b, all, `COMPREPLY=($(compgen -W '%s' -- "$cur"))`)
	fmt.Fprintf(b, "    esac\n    case \"$prev\" in\n        %s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n        %s) return ;;\n    esac\n    case \"$at\" in\n", files, others)
	for _, c := range all {
		var words []string
		for _, w := range c.commands {
			words = append(words, w.word)
		}
		for _, f := range c.flags {
			words = append(words, "--"+f.word)
		}
		fmt.Fprintf(b, "        '%s') words='%s' ;;\n", c.path, strings.Join(words, " "))
	}
	fmt.Fprint(b, "    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o filenames -o bashdefault -F _conntape conntape\n")
	return b.String()
}

func zshCompletion(all []completed) string {
	files, others := valueFlags(all)
	b := &strings.Builder{}
	fmt.Fprintf(b, `#compdef conntape
_conntape() {
    local at= word prev=${words[CURRENT-1]}
    local -a below flags
    for word in ${words[2,CURRENT-1]}; do
        case "${at:+$at }$word" in
            %s) at="${at:+$at }$word" ;;
        esac
    done
    case "$at $prev" in
`, paths(all))
	writeChoices(b, all, "compadd -- %s")
	fmt.Fprintf(b, "    esac\n    case \"$prev\" in\n        %s) _files; return ;;\n        %s) return ;;\n    esac\n    case \"$at\" in\n", files, others)
	for _, c := range all {
		fmt.Fprintf(b, "        '%s')\n            below=(", c.path)
		for _, w := range c.commands {
			fmt.Fprintf(b, "'%s:%s' ", w.word, w.means)
		}
		fmt.Fprint(b, ")\n            flags=(")
		for _, f := range c.flags {
			fmt.Fprintf(b, "'--%s:%s' ", f.word, f.means)
		}
		fmt.Fprint(b, ") ;;\n")
	}
	fmt.Fprint(b, `    esac
    (( $#below )) && _describe -t commands command below
    _describe -t options flag flags
    (( $#below )) || _files
}
if [[ $funcstack[1] == _conntape ]]; then
    _conntape "$@"
else
    compdef _conntape conntape
fi
`)
	return b.String()
}

func fishCompletion(all []completed) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, `function __conntape_at
    set -l at
    for word in (commandline -opc)[2..]
        switch (string join -- ' ' $at $word)
            case %s
                set -a at $word
        end
    end
    test "$argv" = "$at"
end
`, strings.ReplaceAll(paths(all), "|", " "))
	for _, c := range all {
		on := fmt.Sprintf(`complete -c conntape -n "__conntape_at %s"`, c.path)
		for _, w := range c.commands {
			fmt.Fprintf(b, "%s -f -a %s -d '%s'\n", on, w.word, w.means)
		}
		for _, f := range c.flags {
			fmt.Fprintf(b, "%s -l %s", on, f.word)
			if f.short != "" {
				fmt.Fprintf(b, " -s %s", f.short)
			}
			switch {
			case f.choices != nil:
				fmt.Fprintf(b, " -x -a '%s'", strings.Join(f.choices, " "))
			case f.takes && f.file:
				fmt.Fprint(b, " -r")
			case f.takes:
				fmt.Fprint(b, " -x")
			}
			fmt.Fprintf(b, " -d '%s'\n", f.means)
		}
	}
	return b.String()
}
