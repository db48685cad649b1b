package sqltext

// binary are the operators between two operands by how strongly they bind, the weakest first, as
// https://sqlite.org/lang_expr.html has them. NOT stands between AND and the comparisons, COLLATE behind all of them.
var binary = []struct {
	op    Op
	signs []string
}{
	{Or, []string{"or"}},
	{And, []string{"and"}},
	{Compare, []string{"=", "==", "<>", "!="}}, // with IS, IN, LIKE, BETWEEN and the tests for NULL
	{Compare, []string{"<", "<=", ">", ">="}},
	{Math, []string{"&", "|", "<<", ">>"}},
	{Math, []string{"+", "-"}},
	{Math, []string{"*", "/", "%"}},
	{Concat, []string{"||", "->", "->>"}},
}

// equality is the level of the comparisons that are words.
const equality = 2

// expr reads an expression whose operators bind as strongly as a level, or more.
func (p *parser) expr(level int) *Expr {
	if p.depth++; p.depth > mostDeep*len(binary) {
		p.refuse()
	}
	defer func() { p.depth-- }()
	if level == len(binary) {
		return p.collated()
	}
	from := p.now().From
	if level == equality && !p.is("not", "exists") && p.takes("not") {
		e := p.expr(level)
		return &Expr{Op: Not, Args: []*Expr{e}, From: from, To: p.ends()}
	}
	left := p.expr(level + 1)
	for {
		sign := p.takesOne(binary[level].signs)
		switch {
		case sign != "":
			left = &Expr{Op: binary[level].op, Name: sign, Args: []*Expr{left, p.expr(level + 1)}}
		case level == equality:
			e := p.compared(left)
			if e == nil {
				return left
			}
			left = e
		default:
			return left
		}
		left.From, left.To = from, p.ends()
	}
}

// takesOne goes past one of several words or signs, and returns it; "" if none comes next.
func (p *parser) takesOne(signs []string) string {
	for _, sign := range signs {
		if p.takes(sign) {
			return sign
		}
	}
	return ""
}

// compared reads a comparison that is a word behind its left side, nil: there is none.
func (p *parser) compared(left *Expr) *Expr {
	switch {
	case p.takes("isnull"):
		return &Expr{Op: IsNull, Args: []*Expr{left}}
	case p.takes("notnull"), p.takes("not", "null"):
		return &Expr{Op: IsNull, Name: "not", Args: []*Expr{left}}
	case p.takes("is"):
		name := "is"
		if p.takes("not") {
			name = "is not"
		}
		p.takes("distinct", "from")
		return &Expr{Op: Compare, Name: name, Args: []*Expr{left, p.expr(equality + 1)}}
	}
	at := p.at
	negated := p.takes("not")
	switch pattern := p.takesOne([]string{"like", "glob", "match", "regexp"}); {
	case pattern != "":
		e := &Expr{Op: Like, Name: pattern, Negated: negated, Args: []*Expr{left, p.expr(equality + 1)}}
		if p.takes("escape") {
			e.Args = append(e.Args, p.expr(equality+1))
		}
		return e
	case p.takes("between"):
		low := p.expr(equality + 1)
		p.must("and")
		return &Expr{Op: Between, Negated: negated, Args: []*Expr{left, low, p.expr(equality + 1)}}
	case p.takes("in"):
		if !p.is("(") {
			p.refuse()
		}
		return &Expr{Op: In, Negated: negated, Args: []*Expr{left, p.primary()}}
	}
	p.at = at
	return nil
}

// collated reads what an operator has on a side.
func (p *parser) collated() *Expr {
	from := p.now().From
	if sign := p.takesOne([]string{"-", "+", "~"}); sign != "" {
		e := p.expr(len(binary))
		return &Expr{Op: Math, Name: sign, Args: []*Expr{e}, From: from, To: p.ends()}
	}
	e := p.primary()
	for p.takes("collate") {
		e = &Expr{Op: Collate, Name: p.name(), Args: []*Expr{e}, From: from, To: p.ends()}
	}
	return e
}

// primary reads a literal, parameter, column or call, or what is in brackets.
func (p *parser) primary() *Expr {
	t := p.now()
	e := &Expr{From: t.From}
	switch {
	case t.Kind == Number || t.Kind == String || t.Kind == Blob || p.is("null") || p.is("true") || p.is("false"):
		p.at++
	case t.Kind == Param:
		e.Op = Parameter
		p.at++
	case p.takes("("):
		e = p.inBrackets(t.From)
	case p.takes("not", "exists", "("), p.takes("exists", "("):
		e.Op, e.Args = Exists, []*Expr{p.subquery(t.From)}
	case p.takes("case"):
		p.cases(e)
	case p.takes("cast", "("):
		e.Op, e.Args = Cast, []*Expr{p.expr(0)}
		p.must("as")
		for !p.takes(")") {
			p.name()
		}
	default:
		p.columnOrCall(e)
	}
	e.To = p.ends()
	return e
}

// inBrackets reads what follows a bracket, up to the other one.
func (p *parser) inBrackets(from int) *Expr {
	switch {
	case p.is("select"), p.is("with"), p.is("values"):
		return p.subquery(from)
	case p.takes(")"):
		return &Expr{Op: List, From: from}
	}
	list := p.exprs()
	p.must(")")
	if len(list) == 1 {
		inside := *list[0]
		inside.From = from
		return &inside
	}
	return &Expr{Op: List, Args: list, From: from}
}

// subquery reads a subquery, up to the bracket behind it. One that is not of the grammar is passed over.
func (p *parser) subquery(from int) *Expr {
	e := &Expr{Op: Subquery, From: from}
	at := p.at
	inner := &parser{tokens: p.tokens, at: at, depth: p.depth}
	var err error
	func() {
		defer inner.recovered(&err)
		e.Select = inner.selects()
		inner.must(")")
	}()
	if err == nil {
		p.at = inner.at
		e.To = p.ends()
		return e
	}
	e.Select = nil
	for open := 1; open > 0; p.at++ {
		switch {
		case p.now().Kind == End:
			p.refuse()
		case p.is("("):
			open++
		case p.is(")"):
			open--
		}
	}
	e.To = p.ends()
	return e
}

// cases reads a CASE behind its first word.
func (p *parser) cases(e *Expr) {
	e.Op = Case
	if !p.is("when") {
		e.Name, e.Args = "base", append(e.Args, p.expr(0))
	}
	for p.takes("when") {
		e.Args = append(e.Args, p.expr(0))
		p.must("then")
		e.Args = append(e.Args, p.expr(0))
	}
	if p.takes("else") {
		e.Args = append(e.Args, p.expr(0))
	}
	p.must("end")
}

// columnOrCall reads a name, and what belongs to it.
func (p *parser) columnOrCall(e *Expr) {
	e.Op, e.Quoted = Column, p.now().Kind == Quoted
	e.Name = p.name()
	switch {
	case p.takes("."):
		e.Table, e.Quoted = e.Name, false
		e.Name = p.name()
		return
	case !p.takes("("):
		return
	}
	e.Op = Call
	switch {
	case p.takes("*"):
		e.Star = true
		p.must(")")
	case p.takes(")"):
	default:
		e.Distinct = p.takes("distinct")
		e.Args = p.exprs()
		p.must(")")
	}
	if p.takes("filter", "(", "where") {
		e.Filter = p.expr(0)
		p.must(")")
	}
	if p.is("over") {
		p.refuse()
	}
}
