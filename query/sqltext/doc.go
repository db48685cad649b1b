// Package sqltext reads the text of SQL: its tokens as SQLite cuts them, and the form of a SELECT. It knows no table, no
// column and no type, and takes less than SQLite takes: text that Parse refuses may be right SQL.
//
// The grammar of Parse is:
//
//	select   = SELECT [DISTINCT | ALL] result {"," result} FROM table {join} [WHERE expr]
//	           [GROUP BY expr {"," expr}] [HAVING expr] [ORDER BY term {"," term}]
//	           [LIMIT expr [("," | OFFSET) expr]] [";"]
//	result   = expr [[AS] name]
//	table    = name [[AS] name]
//	join     = ("," | [LEFT [OUTER] | INNER | CROSS] JOIN) table [ON expr | USING "(" name {"," name} ")"]
//	term     = expr [ASC | DESC] [NULLS (FIRST | LAST)]
//
// An expr is made of literals, parameters, [table "."] column, calls with DISTINCT and FILTER, CASE, CAST, subqueries, and
// the operators of SQLite with their precedence. There is no WITH, compound SELECT, window or "*" but in count(*).
package sqltext
