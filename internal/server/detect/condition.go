package detect

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/kokkuri/kokkuri/internal/event"
)

// What a condition may cost. There are no loops in it (no predicates, no ranges), so the number of its nodes bounds
// its steps, and a pattern is matched in time linear in the text, which a parser cut to 512 bytes.
const (
	maxCondition      = 1000 // bytes
	maxConditionNodes = 100
	maxPattern        = 256
	conditionMemory   = 10_000 // as expr counts it: elements and bytes that are made
)

// conditionAllowed is what an error says of conditions.
const conditionAllowed = `a condition over service, kind, source, source_port, account, method, resource, host, attempts, hour, minute, weekday, ` +
	`such as account == "root" and not in_network(source, "10.0.0.0/8")`

// Condition is what must moreover hold of an event for a rule to count it: an expression in the language of
// https://expr-lang.org, without its loops. It is compiled once and may be shared.
type Condition struct {
	text    string
	program *vm.Program
}

// conditionEnv is what a condition sees.
type conditionEnv struct {
	Service    string `expr:"service"`
	Kind       string `expr:"kind"`
	Source     string `expr:"source"` // address; empty where the event has none
	SourcePort int    `expr:"source_port"`
	Account    string `expr:"account"`
	Method     string `expr:"method"`
	Resource   string `expr:"resource"`
	Host       string `expr:"host"`
	Attempts   int    `expr:"attempts"`
	Hour       int    `expr:"hour"` // in UTC, as the next two
	Minute     int    `expr:"minute"`
	Weekday    int    `expr:"weekday"` // Monday is 1, Sunday is 7
}

// Faults of a condition.
var (
	errConditionLong   = fmt.Errorf("it is longer than %d bytes", maxCondition)
	errConditionBroken = errors.New("it can't be compiled")
)

// NewCondition compiles a condition. What could run away is refused: loops, ranges, patterns that are not
// written out, more than 100 nodes.
func NewCondition(text string) (c *Condition, err error) {
	if len(text) > maxCondition {
		return nil, errConditionLong
	}
	// The compiler works out constants and may fail at it in ways of its own.
	defer func() {
		if r := recover(); r != nil {
			c, err = nil, fmt.Errorf("%w: %v", errConditionBroken, r)
		}
	}()
	bounds := &boundsVisitor{}
	program, err := expr.Compile(text,
		expr.Env(conditionEnv{}), expr.AsBool(), expr.MaxNodes(maxConditionNodes),
		expr.DisableAllBuiltins(), expr.EnableBuiltin("len"), expr.EnableBuiltin("lower"), expr.EnableBuiltin("upper"), expr.EnableBuiltin("trim"),
		expr.Function("in_network", inNetwork, new(func(string, string) bool)),
		expr.Patch(bounds),
	)
	if fault, ok := errors.AsType[*file.Error](err); ok {
		return nil, fmt.Errorf("column %d: %s", fault.Column+1, fault.Message) //nolint:err113 // the compiler's words
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", errConditionBroken, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if bounds.fault != "" {
		return nil, fmt.Errorf("%w: %s", errConditionBroken, bounds.fault)
	}
	return &Condition{text: text, program: program}, nil
}

func (c *Condition) String() string {
	if c == nil {
		return ""
	}
	return c.text
}

// boundsVisitor finds what could cost more than its place in the text says.
type boundsVisitor struct{ fault string }

// Visit implements ast.Visitor.
func (v *boundsVisitor) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "..":
			v.fault = "ranges are not allowed"
		case "matches":
			if p, ok := n.Right.(*ast.StringNode); !ok || len(p.Value) > maxPattern {
				v.fault = fmt.Sprintf("after matches comes a pattern in quotes, of at most %d bytes", maxPattern)
			}
		}
	case *ast.PredicateNode, *ast.PointerNode:
		v.fault = "loops are not allowed"
	case *ast.CallNode:
		name, ok := n.Callee.(*ast.IdentifierNode)
		if !ok || name.Value != "in_network" || len(n.Arguments) != 2 {
			return
		}
		network, ok := n.Arguments[1].(*ast.StringNode)
		if !ok {
			v.fault = "the second argument of in_network is a network in quotes"
			return
		}
		if _, err := netip.ParsePrefix(network.Value); err != nil {
			v.fault = fmt.Sprintf("%q is no network such as 10.0.0.0/8", network.Value)
		}
	}
}

// inNetwork says whether an address is in a network.
func inNetwork(args ...any) (any, error) {
	source, _ := args[0].(string)
	network, _ := args[1].(string)
	a, err := netip.ParseAddr(source)
	if err != nil {
		return false, nil //nolint:nilerr // an event without a source is in no network
	}
	p, err := netip.ParsePrefix(network)
	if err != nil {
		return false, fmt.Errorf("in_network: %w", err)
	}
	return p.Contains(a), nil
}

// evaluator runs a condition; it is for one goroutine.
type evaluator struct {
	machine vm.VM
	env     conditionEnv
}

// holds says whether a condition holds of an event. One that can't be answered does not hold.
func (v *evaluator) holds(c *Condition, e event.Event) (bool, error) {
	v.env = conditionEnv{
		Service: string(e.Service), Kind: string(e.Kind), SourcePort: int(e.SourcePort), Account: e.Account, Method: e.Method,
		Resource: e.Resource, Host: e.Host, Attempts: e.Attempts,
	}
	if e.Source.IsValid() {
		v.env.Source = e.Source.String()
	}
	at := e.Time.UTC()
	v.env.Hour, v.env.Minute, v.env.Weekday = at.Hour(), at.Minute(), weekday(at)
	v.machine.MemoryBudget = conditionMemory
	out, err := v.machine.Run(c.program, &v.env)
	if err != nil {
		return false, fmt.Errorf("condition %q: %w", c.text, err)
	}
	yes, _ := out.(bool)
	return yes, nil
}

func weekday(t time.Time) int {
	if t.Weekday() == time.Sunday {
		return 7
	}
	return int(t.Weekday())
}
