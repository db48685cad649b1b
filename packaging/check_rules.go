//go:build ignore

// Command check_rules has Prometheus' own parser read a file of alert rules and the expressions of a Grafana dashboard, and prints
// the names of the metrics that both use. It is of another module: Prometheus is no dependency of conntape.
//
//	go run -modfile=packaging/prometheus.mod packaging/check_rules.go RULES DASHBOARD
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: check_rules RULES DASHBOARD")
		os.Exit(2)
	}
	if err := check(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(rules, dashboard string) error {
	p := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.ParseFile(rules, false, model.UTF8Validation, p, slog.Default())
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	var expressions []string
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			expressions = append(expressions, r.Expr)
		}
	}
	text, err := os.ReadFile(dashboard)
	if err != nil {
		return err
	}
	var board any
	if err := json.Unmarshal(text, &board); err != nil {
		return fmt.Errorf("%s: %w", dashboard, err)
	}
	asked := expressionsOf(board)
	if len(asked) == 0 {
		return fmt.Errorf("%s asks for nothing", dashboard)
	}
	used := map[string]bool{}
	for _, e := range append(expressions, asked...) {
		e = strings.NewReplacer("$__rate_interval", "5m", "$host", ".*").Replace(e)
		expr, err := p.ParseExpr(e)
		if err != nil {
			return fmt.Errorf("%s: %w", e, err)
		}
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			if v, ok := n.(*parser.VectorSelector); ok {
				used[v.Name] = true
			}
			return nil
		})
	}
	for name := range used {
		fmt.Println(name)
	}
	return nil
}

// expressionsOf returns every "expr" of a dashboard.
func expressionsOf(v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if e, ok := inner.(string); ok && key == "expr" {
				all = append(all, e)
				continue
			}
			all = append(all, expressionsOf(inner)...)
		}
	case []any:
		for _, inner := range v {
			all = append(all, expressionsOf(inner)...)
		}
	}
	return all
}
