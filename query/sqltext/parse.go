package sqltext

import (
	"fmt"
	"strings"
)

// Parse reads a SELECT. The error says where the text leaves the grammar.
func Parse(sql string) (s *Select, err error) {
	tokens, err := Tokens(sql)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	defer p.recovered(&err)
	s = p.selects()
	p.takes(";")
	if p.now().Kind != End {
		p.refuse()
	}
	return s, nil
}

// parser goes through tokens. A text that is not of the grammar makes it panic with a refusal, which Parse returns.
type parser struct {
	tokens []Token
	at     int
	depth  int
}

// mostDeep is how deep expressions may lie in one another: less than SQLite allows.
const mostDeep = 200

// refusal is the error of a token that does not fit.
type refusal struct{ Token }

// Error names the token.
func (r *refusal) Error() string {
	if r.Kind == End {
		return "it ends too early for the grammar"
	}
	return fmt.Sprintf("it has %.40q in a place that is not of the grammar", r.Text)
}

func (p *parser) refuse() { panic(&refusal{p.now()}) }

func (p *parser) recovered(err *error) {
	if r := recover(); r != nil {
		refused, ok := r.(*refusal)
		if !ok {
			panic(r)
		}
		*err = refused
	}
}

func (p *parser) now() Token { return p.tokens[p.at] }

// is reports whether words or signs come next.
func (p *parser) is(words ...string) bool {
	for i, w := range words {
		at := min(p.at+i, len(p.tokens)-1)
		if t := p.tokens[at]; t.Text != w || t.Kind != Word && t.Kind != Sign {
			return false
		}
	}
	return true
}

// takes goes past words or signs if they come next.
func (p *parser) takes(words ...string) bool {
	if !p.is(words...) {
		return false
	}
	p.at += len(words)
	return true
}

func (p *parser) must(words ...string) {
	if !p.takes(words...) {
		p.refuse()
	}
}

// ends is where the token before ended.
func (p *parser) ends() int { return p.tokens[p.at-1].To }

// reserved are the words that are no name where one may follow.
var reserved = func() map[string]bool {
	all := make(map[string]bool)
	for _, w := range strings.Fields(`select distinct all from where group by having order limit offset union intersect except window values with as on using join
		left right full inner cross natural outer and or not is in like glob match regexp between isnull notnull escape collate case when then else end cast exists
		asc desc nulls filter over indexed null returning`) {
		all[w] = true
	}
	return all
}()

// name takes a name, and returns it in small letters.
func (p *parser) name() string {
	t := p.now()
	if t.Kind != Quoted && (t.Kind != Word || reserved[t.Text]) {
		p.refuse()
	}
	p.at++
	return t.Text
}

// alias takes [[AS] name], "" if there is none.
func (p *parser) alias() string {
	t := p.now()
	if p.takes("as") || t.Kind == Quoted || t.Kind == Word && !reserved[t.Text] {
		return p.name()
	}
	return ""
}

func (p *parser) selects() *Select {
	p.must("select")
	s := &Select{Distinct: p.takes("distinct")}
	p.takes("all")
	for more := true; more; more = p.takes(",") {
		e := p.expr(0)
		s.Results = append(s.Results, Result{e, p.alias()})
	}
	p.must("from")
	s.From = append(s.From, p.table())
	for p.joins(s) {
	}
	if p.takes("where") {
		s.Where = p.expr(0)
	}
	if p.takes("group", "by") {
		s.GroupBy = p.exprs()
	}
	if p.takes("having") {
		s.Having = p.expr(0)
	}
	if p.takes("order", "by") {
		for more := true; more; more = p.takes(",") {
			s.OrderBy = append(s.OrderBy, p.expr(0))
			_ = p.takes("asc") || p.takes("desc")
			_ = p.takes("nulls", "first") || p.takes("nulls", "last")
		}
	}
	if p.takes("limit") {
		s.Limit = append(s.Limit, p.expr(0))
		if p.takes("offset") || p.takes(",") {
			s.Limit = append(s.Limit, p.expr(0))
		}
	}
	return s
}

func (p *parser) table() Table {
	t := Table{From: p.now().From}
	t.Name = p.name()
	t.Alias = p.alias()
	t.To = p.ends()
	return t
}

// joins takes a join, and reports whether there is one.
func (p *parser) joins(s *Select) bool {
	left := false
	switch {
	case p.takes(","), p.takes("join"), p.takes("inner", "join"), p.takes("cross", "join"):
	case p.takes("left", "join"), p.takes("left", "outer", "join"):
		left = true
	default:
		return false
	}
	t := p.table()
	t.Left = left
	switch {
	case p.takes("on"):
		t.On = p.expr(0)
	case p.takes("using", "("):
		for more := true; more; more = p.takes(",") {
			t.Using = append(t.Using, p.name())
		}
		p.must(")")
	}
	s.From = append(s.From, t)
	return true
}

func (p *parser) exprs() []*Expr {
	list := []*Expr{p.expr(0)}
	for p.takes(",") {
		list = append(list, p.expr(0))
	}
	return list
}
