package lab

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/gate"
)

// Down removes the lab and all that it made; images stay. It may be called again, and after an Up that
// came only half way. It goes on past what fails and returns all that did.
func (l *Lab) Down(ctx context.Context) error {
	s := &steps{l: l, n: 4}
	var errs []error
	errs = append(errs,
		s.do("stop node and server", func() error {
			return errors.Join(l.Node().Stop(ctx), l.Server().Stop(ctx))
		}),
		s.do("remove pots, and the node's namespace and rules", func() error { return l.removeNode(ctx) }),
		s.do("remove machines and networks", func() error { return l.removeMachines(ctx) }),
		s.do("remove files", l.removeState),
	)
	return errors.Join(errs...)
}

func (l *Lab) removeMachines(ctx context.Context) error {
	if err := l.reach(ctx); err != nil {
		return err
	}
	errs := []error{l.removeLabelled(ctx, labelLab)}
	for _, n := range networks() {
		errs = append(errs, l.removeNetwork(ctx, n))
	}
	return errors.Join(append(errs, removeBridges())...)
}

func (l *Lab) removeState() error {
	if err := os.RemoveAll(l.o.StateDir); err != nil {
		return fmt.Errorf("remove %s: %w", l.o.StateDir, err)
	}
	return nil
}

// removeNode removes what a node leaves on the machine for its next start: pots, namespace, rules.
func (l *Lab) removeNode(ctx context.Context) error {
	if err := l.reach(ctx); err != nil {
		return err
	}
	err := honeypot.Cleanup(ctx, honeypot.Options{Name: NodeName, Engine: l.o.Engine, Table: gate.DefaultTable, Log: l.log})
	if err != nil {
		return fmt.Errorf("clean up after the node: %w", err)
	}
	return nil
}
