package sqltext

// Select is a SELECT that was read. Places are bytes of its text.
type Select struct {
	Distinct bool
	Results  []Result
	From     []Table // the first, and what is joined to it
	Where    *Expr   // nil: none
	GroupBy  []*Expr
	Having   *Expr // nil: none
	OrderBy  []*Expr
	Limit    []*Expr // none, one, or two with OFFSET
}

// Result is a column of the answer.
type Result struct {
	*Expr
	Alias string // in small letters, "" none
}

// Table is a table that is read.
type Table struct {
	Name, Alias string // in small letters
	From, To    int    // the name, with the alias
	Left        bool   // LEFT JOIN
	On          *Expr  // nil: none
	Using       []string
}

// Op is what an expression is.
type Op int

// The forms of expressions. Args are their operands in the order of the text.
const (
	Literal Op = iota
	Parameter
	Column  // Table and Name
	Call    // Name, Args, Distinct, Filter
	And     // two
	Or      // two
	Not     // one
	Compare // two; Name is the operator
	Between // three
	In      // the left side and a list, or a subquery
	Like    // Name is LIKE, GLOB, MATCH or REGEXP; ESCAPE is the third
	IsNull  // one; Name is "not" for NOT NULL
	Math    // two, or one with a sign; Name is the operator
	Concat
	Collate
	Case // [base] {when then} [else]; Name is "base" if it has a base
	Cast
	Subquery // Select, nil: it is of a form that is not known
	Exists
	List // a row value, or the right side of IN
)

// Expr is an expression.
type Expr struct {
	Op       Op
	Name     string // in small letters
	Table    string // of a column, "" none
	Quoted   bool   // the name of a column is in quotes: SQLite takes it for a text if there is no such column
	Star     bool   // count(*)
	Distinct bool
	Args     []*Expr
	Filter   *Expr
	Select   *Select
	Negated  bool // NOT IN, NOT LIKE, NOT BETWEEN
	From, To int
}

// Walk calls fn for an expression and, if that returns true, for what it is made of; not for subqueries.
func (e *Expr) Walk(fn func(*Expr) bool) {
	if e == nil || !fn(e) {
		return
	}
	for _, arg := range e.Args {
		arg.Walk(fn)
	}
	e.Filter.Walk(fn)
}
