package indicator

import (
	"regexp"
	"sync"
)

// expression is a regular expression that is compiled when it is first used. Every command of the program has this package in it and
// few read a list: to compile all of them took a quarter of a start.
type expression struct {
	text string
	once sync.Once
	re   *regexp.Regexp
}

// expressions are all of them, for the test that compiles each.
var expressions []*expression

func expr(text string) *expression {
	e := &expression{text: text}
	expressions = append(expressions, e)
	return e
}

func (e *expression) compiled() *regexp.Regexp {
	e.once.Do(func() { e.re = regexp.MustCompile(e.text) })
	return e.re
}

func (e *expression) MatchString(s string) bool              { return e.compiled().MatchString(s) }
func (e *expression) FindAllString(s string, n int) []string { return e.compiled().FindAllString(s, n) }
func (e *expression) FindAllStringIndex(s string, n int) [][]int {
	return e.compiled().FindAllStringIndex(s, n)
}
func (e *expression) FindAllStringSubmatch(s string, n int) [][]string {
	return e.compiled().FindAllStringSubmatch(s, n)
}
func (e *expression) FindStringSubmatch(s string) []string { return e.compiled().FindStringSubmatch(s) }
func (e *expression) FindStringSubmatchIndex(s string) []int {
	return e.compiled().FindStringSubmatchIndex(s)
}
func (e *expression) ReplaceAllString(s, by string) string {
	return e.compiled().ReplaceAllString(s, by)
}
func (e *expression) ReplaceAllStringFunc(s string, by func(string) string) string {
	return e.compiled().ReplaceAllStringFunc(s, by)
}
func (e *expression) Split(s string, n int) []string { return e.compiled().Split(s, n) }
