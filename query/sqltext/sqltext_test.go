package sqltext

import (
	"strings"
	"testing"
)

// Tokens are cut as SQLite cuts them.
func TestTokens(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT a,b":               "select a , b",
		"'it''s' x'00' X'ff'":      "'it''s' x'00' X'ff'",
		"\"A\"\"b\" `c` [D e]":     "a\"b c d e",
		"a--b\n-c /* d */ - /* e":  "a - c -",
		"1 1.5 .5 1e-3 0xFF 1_000": "1 1.5 .5 1e-3 0xFF 1_000",
		"a<=b<>c||d->>e!=f==g":     "a <= b <> c || d ->> e != f == g",
		":p @q $r ?1 ?":            ":p @q $r ?1 ?",
		"gr\u00fc\u00dfe_1$":       "gr\u00fc\u00dfe_1$",
		"\ufeffselect\t1":          "select 1",
	} {
		list, err := Tokens(sql)
		if err != nil {
			t.Errorf("%q: %v", sql, err)
			continue
		}
		var texts []string
		for _, token := range list[:len(list)-1] {
			texts = append(texts, token.Text)
		}
		if got := strings.Join(texts, " "); got != want {
			t.Errorf("%q: %q, want %q", sql, got, want)
		}
	}
	for _, sql := range []string{"'a", "\"a", "[a", "x'00", "1a", "#", "a ! b", ":"} {
		if list, err := Tokens(sql); err == nil {
			t.Errorf("%q: %v", sql, list)
		}
	}
}

// Operators bind as in SQLite.
func TestPrecedence(t *testing.T) {
	for text, want := range map[string]string{
		"a or b and c":                    "(a or (b and c))",
		"not a = b and c":                 "((not (a = b)) and c)",
		"a + b * c || d = e":              "((a + (b * (c || d))) = e)",
		"a between 1 and 2 and b":         "((a between 1 2) and b)",
		"a not in (1, 2) or b is null":    "((a in 1 2) or (b is null))",
		"a < b = c":                       "((a < b) = c)",
		"- a like b":                      "((- a) like b)",
		"a collate nocase = b":            "((collate a) = b)",
		"case when a then b else c end":   "(case a b c)",
		"lower(a) is not distinct from b": "((lower a) is not b)",
	} {
		s, err := Parse("select " + text + " from t")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := bracketed(text, s.Results[0].Expr); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// bracketed writes an expression of a SELECT with its brackets.
func bracketed(text string, e *Expr) string {
	const before = len("select ")
	if len(e.Args) == 0 {
		return text[e.From-before : e.To-before]
	}
	var args []string
	for _, arg := range e.Args {
		args = append(args, bracketed(text, arg))
	}
	name := map[Op]string{And: "and", Or: "or", Not: "not", Between: "between", In: "in", IsNull: "isnull", Collate: "collate", Concat: e.Name, Case: "case"}[e.Op]
	if name == "" {
		name = e.Name
	}
	if e.Op == List {
		return strings.Join(args, " ")
	}
	if len(args) == 2 && (e.Op == And || e.Op == Or || e.Op == Compare || e.Op == Math || e.Op == Concat || e.Op == In || e.Op == Like) {
		return "(" + args[0] + " " + name + " " + args[1] + ")"
	}
	if e.Op == Between {
		return "(" + args[0] + " between " + args[1] + " " + args[2] + ")"
	}
	return "(" + name + " " + strings.Join(args, " ") + ")"
}

// No text makes the parser panic, or hang, and what it reads has places in the text.
func FuzzParse(f *testing.F) {
	for _, sql := range []string{
		"select a, count(*) from t where b in (select c from d) group by 1 having x > 2 order by 1 desc nulls last limit 5 offset 2;",
		"select " + strings.Repeat("(", 5000), "select case when a then b end from t left join u using (a, b) on c", "select a from t where exists (with x as (select 1) select * from x)",
		"select a.b as [c d] from \"e\" f where not g glob 'x' escape 'y' and h not between -1 and +2", "/*", "select 'a", "explain",
	} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		s, err := Parse(sql)
		if err != nil {
			return
		}
		for _, r := range s.Results {
			r.Walk(func(e *Expr) bool {
				if e.From < 0 || e.To > len(sql) || e.From > e.To {
					t.Errorf("%q: from %d to %d", sql, e.From, e.To)
				}
				return true
			})
		}
	})
}
